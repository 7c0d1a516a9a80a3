/* SPDX-License-Identifier: Apache-2.0 */
/* Range and Content-Range: a part lies within the whole. */
#include <stdlib.h>

#include "base/err.h"
#include "proto/range.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint64_t sizes[] = { 0, 1, 100, UINT64_MAX };
    struct slice text = { (const char *)data, size };
    struct range range;
    struct err err;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        if (range_of(text, sizes[i], &range) == RANGE_PART &&
            (range.first > range.last || range.last >= sizes[i]))
            abort();
    if (range_of_chunk(text, &range, &err) == 0 && range.first > range.last)
        abort();
    return 0;
}
