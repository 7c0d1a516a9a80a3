/* SPDX-License-Identifier: Apache-2.0 */
/*
 * retry.h -- how many failed requests may be tried again, so that a fault is not answered by a
 * flood: a part of those that came, and a few a second for whoever has few. Pure; one thread at a
 * time for each.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define RETRY_PART 0.2f       /* of the requests */
#define RETRY_PER_S 10.0f     /* beside them */
#define RETRY_SAVED_MAX 50.0f /* what a quiet time may save up */

/* All 0: as after a long quiet time. */
struct retry_budget {
    float left;
    int64_t at_ns; /* of the last look; 0: none yet */
};

void retry_request(struct retry_budget *budget, int64_t now_ns); /* one came */
/* True: one may be tried again, and it has been taken from what is left. */
bool retry_take(struct retry_budget *budget, int64_t now_ns);
