/* SPDX-License-Identifier: Apache-2.0 */
/*
 * decided.h -- what a gateway's choice came to, of what it kept of it (contract/decision.h): the
 * figures of policy/route.h, computed when somebody asks. Totals have the client's way to this PoP
 * as well, which the choice had no need of: it is the same for all. Pure; any thread.
 */
#pragma once

#include <stddef.h>

#include "contract/decision.h"
#include "policy/route.h"

/* One row for each PoP that was kept, the best first: what is allowed, then what is placed, then
 * the others, each by its time. `pop` is an index into decision->pops. Returns how many. */
size_t decided_rows(const struct decision_record *decision,
                    struct route_choice ret_rows[static DECISION_POPS_MAX]);
