/* SPDX-License-Identifier: Apache-2.0 */
/*
 * decision.h -- what a request's way was decided by, kept for `perigee explain REQUEST_ID`
 * (contract/decision.h). Loop thread only.
 */
#pragma once

struct decision_record;
struct request;
struct route_endpoint;
struct route_pops;
struct route_query;
struct table_head;

/* It was chosen so, because of `why`; the last one counts. `pops` are the rows of `table`. */
void decision_note(struct request *request, const struct table_head *table,
                   const struct route_pops *pops, const struct route_endpoint *endpoint,
                   const struct route_query *query, const char *why);
/* That alone which the choice is made of. */
void decision_keep(struct decision_record *decision, const struct table_head *table,
                   const struct route_pops *pops, const struct route_endpoint *endpoint,
                   const struct route_query *query);
/* It has ended: into the ring, unless nothing of it may be written here. */
void decision_close(struct request *request);
