/* SPDX-License-Identifier: Apache-2.0 */
/*
 * watch.h -- answers that do not end: server-sent events of endpoints, events, log lines, and what
 * a PoP is to run.
 *
 * Every event has an id; Last-Event-ID goes on behind it. A reader that lets too much pile up is
 * cut and comes again. Comments (": ping") keep the line known to be alive. Loop thread only.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct arena;
struct control;
struct hub_endpoint;
struct hub_pop;
struct request;
struct slice;
struct store_event;
struct store_log;

/* Handlers: the answer begins, and goes on until the reader goes or control drains. */
void watch_endpoints_open(struct request *q);
void watch_endpoint_open(struct request *q, struct hub_endpoint *endpoint);
void watch_events_open(struct request *q, uint64_t after, bool from_end);
void watch_logs_open(struct request *q, uint64_t uid, uint64_t after, bool from_end);
void watch_pop_open(struct request *q);
void watch_pop_end(struct control *control, const struct hub_pop *pop); /* it may not any more */

/* What happened. */
void watch_endpoint(struct control *control, struct hub_endpoint *endpoint);
void watch_endpoint_gone(struct control *control, struct hub_endpoint *endpoint, uint64_t number);
void watch_pop_peers(struct control *control);
/* PoPs that run replicas, and watch, are asked (event "explain"): they, each once, in the arena;
 * and how many. */
size_t watch_pop_ask(struct control *control, struct slice question, struct arena *arena,
                     struct hub_pop ***ret_pops);
void watch_pop_keys(struct control *control);
/* What agents have not been told yet: of what the endpoint names, or (NULL) of all secrets. */
void watch_pop_secrets(struct control *control, const struct hub_endpoint *endpoint);
void watch_pop_endpoint(struct control *control, struct hub_endpoint *endpoint);
void watch_pop_gone(struct control *control, uint64_t uid, uint64_t number);
void watch_events(struct control *control, const struct store_event *events, size_t count);
void watch_logs(struct control *control, const struct store_log *logs, size_t count);

void watch_ping(struct control *control);
void watch_end_all(struct control *control); /* draining: readers come again elsewhere */
