/* SPDX-License-Identifier: Apache-2.0 */
/* What is read can be written again, and is then the same but for the MAC, which is right. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "proto/hop.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const unsigned char key[HOP_KEY_BYTES] = "a key";
    static const struct hop_request request = { SLICE("GET"), SLICE("/"), {}, {} };
    struct slice text = { (const char *)data, size };
    char again[HOP_BYTES_MAX];
    struct hop hop, other;
    struct err err;
    if (hop_parse(text, &hop, &err) < 0)
        return 0;
    (void)hop_verify(&hop, &request, key);
    int length = hop_print(&hop, &request, key, again, &err);
    if (length != (int)size || memcmp(again, data, size - HOP_MAC_HEX) != 0 ||
        hop_parse(slice_of(again), &other, &err) < 0 || !hop_verify(&other, &request, key))
        abort();
    return 0;
}
