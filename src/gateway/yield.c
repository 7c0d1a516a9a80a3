/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/yield.h"

#define TAKEN_NS INT64_C(500'000) /* short runs of a full ring are over sooner; a slice is not */
#define REST_NS_MIN INT64_C(10'000'000)
#define REST_NS_MAX INT64_C(1'000'000'000)

bool yield_due(const struct yield *yield, int64_t now_ns)
{
    return now_ns >= yield->rest_until_ns;
}

void yield_done(struct yield *yield, int64_t began_ns, int64_t now_ns)
{
    if (now_ns - began_ns < TAKEN_NS) {
        yield->rest_ns /= 2;
        return;
    }
    yield->rest_ns = yield->rest_ns < REST_NS_MIN / 2 ? REST_NS_MIN : yield->rest_ns * 2;
    if (yield->rest_ns > REST_NS_MAX)
        yield->rest_ns = REST_NS_MAX;
    yield->rest_until_ns = now_ns + yield->rest_ns;
}
