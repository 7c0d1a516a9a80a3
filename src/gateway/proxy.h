/* SPDX-License-Identifier: Apache-2.0 */
/*
 * proxy.h -- a request of an endpoint whose replicas speak HTTP: passed on to one of them as it is,
 * and its answer passed back. Internal; loop thread only.
 *
 * It is admitted as an inference is: a place at a ready target (target.h), or a wait in the
 * endpoint's queue, in which nothing of its body is read. Then body and answer are streamed
 * (http/relay.h). What is tried again, and when: proxy_try.c. Which headers go along:
 * proxy_head.c.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/slice.h"
#include "proto/http.h"

struct err;
struct gateway_loop;
struct proxies;
struct request;
struct target;

/* What a loop has for it: connections, and those under way. */
struct proxies *proxies_new(struct gateway_loop *gl);
void proxies_free(struct proxies *proxies); /* NULL is allowed. The loop's server is gone by then */
/* The loop has another table: what may not be here by that is ended, who waits is served. */
void proxies_table(struct gateway_loop *gl);

void proxies_inside(struct gateway_loop *gl, int fd); /* the way into containers' networks; taken */

/* Its revision is known, nothing of its body was read. */
void proxy_begin(struct request *request);
void proxy_start(struct request *request, struct target *target); /* whose place it has */

/* Of a request with `proxy`: the exchange's callbacks, and its end. */
void proxy_space(struct request *request, struct iovec *ret_space);
void proxy_filled(struct request *request, size_t bytes);
void proxy_body_ended(struct request *request, const struct err *err);
void proxy_cancel(struct request *request); /* it was answered otherwise, or its client is gone */
void proxy_closed(struct request *request); /* the exchange has ended */

/* ---- proxy_head.c --------------------------------------------------------------------------- */
/* In the request's arena. ERR_BAD_INPUT: it came from here, by its upstream. */
[[nodiscard]] int proxy_request_headers(struct request *request, bool upgrade,
                                        struct http_headers *ret, struct err *err);
/* As it goes to a server, whatever the form it came in. */
struct slice proxy_target(struct request *request);
bool proxy_upgrades(const struct http_request *http);   /* to what is passed on: a WebSocket */
bool proxy_idempotent(const struct http_request *http); /* may be sent twice: RFC 9110 9.2.2 */
/* What an application had of it, it may have acted upon: it is not sent to another one again. */
bool proxy_once(const struct http_request *http);
/* With room for `more`. */
struct http_headers proxy_answer_headers(struct request *request,
                                         const struct http_headers *headers, size_t more);
