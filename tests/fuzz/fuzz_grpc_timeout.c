/* SPDX-License-Identifier: Apache-2.0 */
/* A header's value, from the wire. */
#include <assert.h>

#include "base/slice.h"
#include "proto/grpc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice text = { (const char *)data, size };
    uint64_t ns = 1;

    if (grpc_timeout_parse(text, &ns, NULL) == 0)
        assert(size >= 2 && size <= 9);
    else
        assert(ns == 1);
    return 0;
}
