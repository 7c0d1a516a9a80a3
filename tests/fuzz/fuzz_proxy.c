/* SPDX-License-Identifier: Apache-2.0 */
/* What is read and written again is read as the same; a prefix never says otherwise than the whole.
 */
#include "proto/proxy.h"

#include <assert.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void same(const struct proxy_header *a, const struct proxy_header *b)
{
    assert(a->known == b->known);
    if (!a->known)
        return;
    assert(memcmp(&a->source, &b->source, sizeof a->source) == 0);
    assert(memcmp(&a->destination, &b->destination, sizeof a->destination) == 0);
    assert(a->source_port == b->source_port && a->destination_port == b->destination_port);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct proxy_header header = {}, again = {};
    char buffer[PROXY_WRITE_BYTES];
    size_t used = 0, again_used = 0;

    if (size == 0)
        return 0;
    int r = proxy_parse((const char *)data, size, &header, &used, NULL);
    assert(r != PROXY_MORE || size < PROXY_BYTES_MAX);
    for (size_t part = 1; part < size && part < 256; part++) {
        int early = proxy_parse((const char *)data, part, &again, &again_used, NULL);
        assert(early == PROXY_MORE || early == r || (early < 0 && r < 0));
    }
    if (r != PROXY_WHOLE)
        return 0;
    assert(used <= size && used <= PROXY_BYTES_MAX);
    size_t written = proxy_write2(buffer, &header);
    r = proxy_parse(buffer, written, &again, &again_used, NULL);
    assert(r == PROXY_WHOLE && again_used == written);
    same(&header, &again);
    if (header.known)
        assert(header.rtt_known == again.rtt_known && header.rtt_us == again.rtt_us);
    written = proxy_write1(buffer, &header);
    r = proxy_parse(buffer, written, &again, &again_used, NULL);
    assert(r == PROXY_WHOLE && again_used == written);
    same(&header, &again);
    return 0;
}
