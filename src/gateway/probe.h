/* SPDX-License-Identifier: Apache-2.0 */
/*
 * probe.h -- another PoP's agent, or this one's, asks how we are: GET PEER_LOAD_PATH, signed
 * (hop.h). The answer is what each endpoint that is placed here has to do, and could do
 * (contract/peer_load.h). To anyone else there is no such path.
 *
 * The report is made at most each PROBE_FRESH_MS, by whichever loop is asked first, and none is
 * made while nobody asks. With 300 PoPs asking once a second that is 300 small requests a second,
 * about 3 % of a core, and with each of 1,000 endpoints busy 32 KB for each of them; what has not
 * changed is not said again.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>

#include "contract/peer_load.h"
#include "gateway/core.h"

enum { PROBE_FRESH_MS = 500 };

struct exchange;

/* False: it is not that, or not for who asks; the request goes the way of all. Loop thread. */
bool probe_answer(struct gateway_loop *gl, struct exchange *x);

/* An inference was asked for on that loop, and its head did not forbid it. */
static inline void probe_arrival(struct endpoint *endpoint, unsigned loop)
{
    _Atomic uint64_t *arrivals = &endpoint->sides[loop].arrivals;
    atomic_store_explicit(arrivals, atomic_load_explicit(arrivals, memory_order_relaxed) + 1,
                          memory_order_relaxed);
}

/* Main thread; in between any. */
struct load_book *load_book_new(void);
void load_book_free(struct load_book *book);
