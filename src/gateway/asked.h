/* SPDX-License-Identifier: Apache-2.0 */
/*
 * asked.h -- from where inferences are asked for, coarsely (contract/asked.h): counted for each
 * endpoint at the gateway that the client reached, whatever becomes of the request, unless its head
 * alone forbids it (residency, a forged hop, a foreign page); the agent is told every
 * gateway_asked_ms, while there is something to tell.
 */
#pragma once

#include <stdatomic.h>

#include "contract/asked.h"

struct gateway;
struct request;

/* Of one endpoint; any loop adds, the main thread takes. A cell that nobody came from since the
 * last time gives its place up: who counts there in this very moment may be counted elsewhere. */
struct asked {
    _Atomic asked_cell cells[ASKED_CELLS_MAX]; /* 0: free */
    _Atomic uint32_t counts[ASKED_CELLS_MAX];
    _Atomic uint32_t somewhere; /* those without a place, and those that found none here */
};

void asked_add(struct asked *asked, asked_cell cell, uint32_t count);
/* Up to ASKED_CELLS_MAX + 1 of them, each with its count; begins anew. Main thread. */
unsigned asked_take(struct asked *asked, asked_cell ret_cells[static ASKED_CELLS_MAX + 1],
                    uint32_t ret_counts[static ASKED_CELLS_MAX + 1]);

void asked_count(struct request *request); /* its endpoint is known; loop thread */
void asked_tell(void *gateway);            /* main thread */
