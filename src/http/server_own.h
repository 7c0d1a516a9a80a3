/* SPDX-License-Identifier: Apache-2.0 */
/*
 * server_own.h -- the inside of a server, for its connections. For http/ alone.
 */
#pragma once

#include "http/h1.h"
#include "http/server.h"

struct http_server {
    struct loop *loop;
    struct http_server_limits limits;
    struct http_server_events events;
    void *data;
    struct list connections;
    struct list listeners;
    struct list waits[WAIT_NONE]; /* each in order of deadline: one timeout a list */
    struct timer *timer;          /* of the nearest deadline, or earlier */
    int64_t timer_ms;
    struct http_server_stats stats;
    struct arena *memory;      /* of scratch: a secret one, as what is sent may be secret */
    char *scratch;             /* reads whose place is not known yet; used within one callback */
    struct crowd *crowd;       /* borrowed; NULL: addresses are not counted */
    const struct trust *trust; /* borrowed; NULL: nobody is trusted */
    struct arena *gate_arena;  /* of the last words to a connection that was sent away */
    bool draining;
    bool idle_kept; /* draining, and idle connections have limits.idle_ms left */
    void (*on_drained)(void *data);
    void *drained_data;
    struct loop_task drained;
    char date[40]; /* the header line, of second date_s */
    int64_t date_s;
};

#define WAIT_BYTES_UNKNOWN UINT64_MAX

void server_wait(struct http_server *server, struct h1 *h1, enum h1_wait wait);
/* The same wait anew, from `bytes` on. */
void server_wait_on(struct http_server *server, struct h1 *h1, uint64_t bytes);
void server_left(struct http_server *server, struct h1 *h1);
struct slice server_date(struct http_server *server);
struct http_refusal server_refusal(struct http_server *server, struct arena *arena,
                                   const struct http_request *request, const struct err *err);
