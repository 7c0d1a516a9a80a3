/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <stdint.h>

#include "base/err.h"
#include "proto/codec_gzip.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The first byte: the coding, and how much is given at a time. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    enum { BYTES_MAX = 1 << 16, ROOM = 512 };
    struct inflater *inflater;
    size_t piece, total = 0;
    char out[ROOM];
    struct err err;
    int64_t n = 0;

    if (size < 1)
        return 0;
    piece = (size_t)(data[0] >> 1) + 1;
    inflater = inflater_new(data[0] & 1 ? CODEC_GZIP : CODEC_DEFLATE, BYTES_MAX);
    for (size_t at = 1; at < size && n >= 0; at += piece) {
        struct slice in = { (const char *)data + at, size - at < piece ? size - at : piece };

        do {
            n = inflater_run(inflater, &in, out, ROOM, &err);
            total += n > 0 ? (size_t)n : 0;
            assert(total <= BYTES_MAX);
        } while (n == ROOM);
        assert(n < 0 || in.size == 0);
    }
    (void)!inflater_finish(inflater, &err);
    inflater_free(inflater);
    return 0;
}
