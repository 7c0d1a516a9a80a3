/* SPDX-License-Identifier: Apache-2.0 */
/*
 * server.h -- one message to what is sent back, whatever it came by: reading, rate, cookies,
 * resolving, writing, counting. No socket and no clock. One thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/ip.h"
#include "base/metrics.h"
#include "contract/dns_metrics.h"
#include "proto/dns.h"
#include "proto/dns_cookie.h"

struct dns_memo;
struct dns_rate;
struct dns_view;
struct err;

enum { DNS_TRANSPORTS = 2, DNS_RCODES = 24 };

struct dns_server {                  /* the owner's, who sets why_from and the secret */
    const struct ip_block *why_from; /* borrowed: who may ask _why */
    size_t why_count;
    uint8_t secret[DNS_COOKIE_SECRET_BYTES]; /* of cookies */
    /* the server's own from here */
    const struct dns_view *view; /* borrowed; NULL: none yet */
    struct dns_memo *memo;
    struct dns_codec *codec;
    struct dns_rate *rate;
    struct metrics *metrics; /* borrowed */
    struct metric_series *answers[DNS_TRANSPORTS][DNS_RCODES];
    struct dns_reply reply;
};

struct dns_arrival {
    struct ip address, local; /* whose it is, and where it came to */
    bool local_known, tcp;
    int64_t now_ns; /* CLOCK_MONOTONIC */
    uint32_t wall_s;
};

/* ERR_PRECONDITION: libknot is not there. `metrics` is attached to dns_metrics. */
[[nodiscard]] int dns_server_init(struct dns_server *server, struct metrics *metrics,
                                  struct err *err);
void dns_server_deinit(struct dns_server *server);
/* Answers from this view from now on; it stays the caller's until there is another. What follows
 * the one before (follow.h) goes on with what was learned of that. */
void dns_server_set_view(struct dns_server *server, const struct dns_view *view);

/* The answer's size, at most `room` (DNS_UDP_BYTES_MAX, DNS_TCP_BYTES_MAX); 0: none. */
size_t dns_server_answer(struct dns_server *server, const struct dns_arrival *arrival,
                         const uint8_t *message, size_t bytes, uint8_t *buffer, size_t room);
/* perigee_dns_... with one label, or none (NULL). */
struct metric_series *dns_server_series(struct dns_server *server, enum dns_metrics_row row,
                                        const char *label);
