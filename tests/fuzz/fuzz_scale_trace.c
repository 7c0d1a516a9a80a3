/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "base/err.h"
#include "sim/scale_trace.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct scale_trace trace;
    struct err err = {};

    if (scale_trace_parse(&trace, (struct slice){ (const char *)data, size }, &err) < 0)
        return 0;
    for (size_t i = 0; i < trace.count; i++)
        if (trace.requests[i].service_ns < 0 || trace.requests[i].at_ns < 0 ||
            (i > 0 && trace.requests[i].at_ns < trace.requests[i - 1].at_ns))
            abort();
    scale_trace_free(&trace);
    return 0;
}
