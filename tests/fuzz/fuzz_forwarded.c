/* SPDX-License-Identifier: Apache-2.0 */
/* Lines of Forwarded and X-Forwarded-For as a proxy may pass them on: '\n' ends one, the first byte
 * of each says which. What is taken is no trusted address unless all of the list are. */
#include "proto/forwarded.h"

#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool trusts(const struct ip *ip, void *data)
{
    unsigned *asked = data;
    ++*asked;
    return ip->bytes[12] == 10;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct http_header lines[8];
    struct http_headers headers = { lines, 0 };
    struct slice rest = { (const char *)data, size };
    struct forwarded client = {};
    unsigned asked = 0;

    while (rest.size && headers.count < 8) {
        struct slice line = slice_cut(&rest, '\n');
        bool plain = line.size && (line.data[0] & 1);
        if (line.size)
            line = (struct slice){ line.data + 1, line.size - 1 };
        if (!http_value_valid(line))
            continue;
        lines[headers.count++] =
            (struct http_header){ plain ? SLICE("X-Forwarded-For") : SLICE("Forwarded"), line };
    }
    int r = forwarded_client(&headers, trusts, &asked, &client, NULL);
    assert(asked <= 2 * FORWARDED_HOPS_MAX);
    assert(r < 0 || client.kind != FORWARDED_IP || asked > 0);
    return 0;
}
