/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/grpc.h"

#include <string.h>

#include "base/err.h"

#define DIGITS_MAX 8

int grpc_timeout_parse(struct slice text, uint64_t *ret_ns, struct err *err)
{
    static const char units[] = "HMSmun";
    static const uint64_t unit_ns[] = { 3'600'000'000'000, 60'000'000'000, 1'000'000'000,
                                        1'000'000,         1'000,          1 };
    struct slice digits = { text.data, text.size ? text.size - 1 : 0 };
    const char *unit = text.size ? memchr(units, text.data[text.size - 1], sizeof units - 1) : NULL;
    uint64_t count;

    if (!unit || digits.size == 0 || digits.size > DIGITS_MAX || !slice_u64(digits, &count))
        return err_set(err, ERR_BAD_INPUT,
                       "'%s' is no timeout: 1 to 8 digits and one of H, M, S, m, u, n (as in 500m, "
                       "milliseconds)",
                       ERR_SLICE(text));
    if (__builtin_mul_overflow(count, unit_ns[unit - units], ret_ns))
        *ret_ns = UINT64_MAX;
    return 0;
}
