/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dns_metrics.h -- the region of the DNS server's counters: one slice of base/metrics.h, made by
 * the supervisor, written by the server, read by the agent, which prints it on the admin port. It
 * outlives the server's processes.
 */
#pragma once

#include "base/metrics.h"

#define DNS_REGION_BYTES (UINT64_C(256) << 10)

/* X(id, name, type, unit, labels, buckets, help) */
/* clang-format off */
#define DNS_METRICS(X)                                                                              \
    X(DNS_ANSWERS, "perigee_dns_answers_total", METRIC_COUNTER, METRIC_ONE,                         \
      "transport,rcode", NULL, "DNS questions answered, over udp or tcp, by the answer's code.")    \
    X(DNS_DROPPED, "perigee_dns_dropped_total", METRIC_COUNTER, METRIC_ONE,                         \
      "", NULL, "DNS messages that nothing was answered to: no whole head, or answers themselves.") \
    X(DNS_TRUNCATED, "perigee_dns_truncated_total", METRIC_COUNTER, METRIC_ONE,                     \
      "reason", NULL, "DNS answers that say to ask again over TCP: size (of what the asker takes), " \
      "rate (its prefix asks too often, without a cookie).")                                        \
    X(DNS_LIMITED, "perigee_dns_limited_total", METRIC_COUNTER, METRIC_ONE,                         \
      "", NULL, "DNS questions above the rate of their prefix and without a cookie.")               \
    X(DNS_SUBNETS, "perigee_dns_client_subnets_total", METRIC_COUNTER, METRIC_ONE,                  \
      "", NULL, "DNS questions that say their client's subnet (RFC 7871).")                         \
    X(DNS_COOKIES, "perigee_dns_cookies_total", METRIC_COUNTER, METRIC_ONE,                         \
      "state", NULL, "DNS questions with a cookie (RFC 7873): right, new (or not ours).")           \
    X(DNS_NOWHERE, "perigee_dns_nowhere_total", METRIC_COUNTER, METRIC_ONE,                         \
      "reason", NULL, "Questions for an endpoint that no PoP may or can serve, by the extended "    \
      "error: prohibited, not_ready, other.")                                                       \
    X(DNS_UNSENT, "perigee_dns_unsent_total", METRIC_COUNTER, METRIC_ONE,                           \
      "", NULL, "DNS answers that the kernel did not take.")                                        \
    X(DNS_CONNECTIONS, "perigee_dns_connections", METRIC_GAUGE, METRIC_ONE,                         \
      "", NULL, "Open DNS connections (TCP).")                                                      \
    X(DNS_CLOSED, "perigee_dns_connections_closed_total", METRIC_COUNTER, METRIC_ONE,               \
      "reason", NULL, "DNS connections closed: done (by the client), idle, slow (a message or an "  \
      "answer took too long), full (it made room for another), away (there was none), wrong.")      \
    X(DNS_TABLE, "perigee_dns_table_number", METRIC_GAUGE, METRIC_ONE,                              \
      "", NULL, "The number of the table that DNS answers from.")
/* clang-format on */

METRICS_DECLARE(dns_metrics, DNS_METRICS)
