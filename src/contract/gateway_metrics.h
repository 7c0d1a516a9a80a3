/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gateway_metrics.h -- the region of the gateway's counters: it outlives the gateway's processes.
 *
 * The supervisor makes it and hands it to each gateway instance (writable) and the agent
 * (read-only), which prints it on the admin port. One slice of base/metrics.h for each loop and one
 * for the main thread, once for each of the two lane sets, as an old gateway may end beside a new
 * one; then a row of sums for each revision, for OIP's model statistics. Slices have one writer;
 * the revisions' rows are atomics that every loop adds to.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <perigee/worker.h>

#include "base/metrics.h"
#include "contract/decision.h"

struct arena;

/* X(id, name, type, unit, labels, buckets, help) */
/* clang-format off */
#define GATEWAY_METRICS(X)                                                                           \
    X(GATEWAY_REQUESTS, "perigee_requests_total", METRIC_COUNTER, METRIC_ONE,                        \
      "project,endpoint,code", NULL, "Requests answered, by HTTP status.")                           \
    X(GATEWAY_ERRORS, "perigee_request_errors_total", METRIC_COUNTER, METRIC_ONE,                    \
      "project,endpoint,error", NULL, "Requests answered with an error, by its name.")               \
    X(GATEWAY_TOTAL, "perigee_request_seconds", METRIC_HISTOGRAM, METRIC_SECONDS,                    \
      "project,endpoint", &metric_buckets_latency, "Inference: head in to answer's last byte out.")  \
    X(GATEWAY_QUEUE, "perigee_request_queue_seconds", METRIC_HISTOGRAM, METRIC_SECONDS,              \
      "project,endpoint", &metric_buckets_latency, "Inference: inputs in place to taken by a replica.") \
    X(GATEWAY_INFER, "perigee_request_infer_seconds", METRIC_HISTOGRAM, METRIC_SECONDS,              \
      "project,endpoint", &metric_buckets_latency, "Inference: taken by a replica to completed.")    \
    X(GATEWAY_BODY_IN, "perigee_request_body_bytes_total", METRIC_COUNTER, METRIC_BYTES,             \
      "project,endpoint", NULL, "Bytes of request bodies, as sent.")                                 \
    X(GATEWAY_BODY_OUT, "perigee_response_body_bytes_total", METRIC_COUNTER, METRIC_BYTES,           \
      "project,endpoint", NULL, "Bytes of answers' bodies, as sent.")                                \
    X(GATEWAY_COPIED, "perigee_tensor_copied_bytes_total", METRIC_COUNTER, METRIC_BYTES,             \
      "project,endpoint", NULL, "Bytes of binary tensors copied on their way in, beyond what one "   \
      "read brought with the head: chunked and compressed bodies, moves to another revision; inputs gathered " \
      "for a batch.")       \
    X(GATEWAY_QUEUED, "perigee_queue_requests", METRIC_GAUGE, METRIC_ONE,                            \
      "project,endpoint,class", NULL, "Requests that wait for a replica now, by class.")             \
    X(GATEWAY_RUNNING, "perigee_running_requests", METRIC_GAUGE, METRIC_ONE,                         \
      "project,endpoint", NULL, "Requests in replicas now.")                                         \
    X(GATEWAY_RETRIED, "perigee_requests_retried_total", METRIC_COUNTER, METRIC_ONE,                 \
      "project,endpoint", NULL, "Requests tried again after their replica died.")                    \
    X(GATEWAY_OVERLOADED, "perigee_requests_overloaded_total", METRIC_COUNTER, METRIC_ONE,           \
      "project,endpoint,reason", NULL, "Requests refused with 503 overloaded: queue (full), bytes "  \
      "(that may wait), deadline (cannot be met), displaced (by an interactive one), memory (for "   \
      "requests), unready.")                                                                         \
    X(GATEWAY_DENIED, "perigee_requests_denied_total", METRIC_COUNTER, METRIC_ONE,                   \
      "project,endpoint,reason", NULL, "Requests refused with 451 residency: client_unknown (its "   \
      "country, which the rules ask for), no_rule (for it), narrowed (by Perigee-Process-In, to "    \
      "nothing), place (not at this PoP); ended: those that were under way when it was forbidden, "  \
      "and were cut, or refused.")                                                                   \
    X(GATEWAY_SKIPPED, "perigee_requests_skipped_total", METRIC_COUNTER, METRIC_ONE,                 \
      "", NULL, "Requests a replica had and did not run: canceled, or past their deadline.")         \
    X(GATEWAY_CANCELED, "perigee_requests_canceled_total", METRIC_COUNTER, METRIC_ONE,               \
      "project,endpoint", NULL, "Requests whose client went away before the answer was out.")        \
    X(GATEWAY_CONNECTIONS, "perigee_connections", METRIC_GAUGE, METRIC_ONE,                          \
      "", NULL, "Open client connections.")                                                          \
    X(GATEWAY_ACCEPTED, "perigee_connections_total", METRIC_COUNTER, METRIC_ONE,                     \
      "", NULL, "Client connections accepted.")                                                      \
    X(GATEWAY_AWAY, "perigee_connections_sent_away_total", METRIC_COUNTER, METRIC_ONE,               \
      "reason", NULL, "Client connections answered 503 (full) or 429 (address) and closed.")         \
    X(GATEWAY_EVICTED, "perigee_connections_evicted_total", METRIC_COUNTER, METRIC_ONE,              \
      "", NULL, "Idle client connections closed to make room for a new one.")                        \
    X(GATEWAY_TIMEOUTS, "perigee_connection_timeouts_total", METRIC_COUNTER, METRIC_ONE,             \
      "waited_for", NULL, "Client connections that were too slow, by what was waited for.")          \
    X(GATEWAY_REFUSED, "perigee_requests_refused_total", METRIC_COUNTER, METRIC_ONE,                 \
      "", NULL, "Requests that were not HTTP, or above a limit of HTTP.")                            \
    X(GATEWAY_WIRE_IN, "perigee_received_bytes_total", METRIC_COUNTER, METRIC_BYTES,                 \
      "", NULL, "Bytes received from clients.")                                                      \
    X(GATEWAY_WIRE_OUT, "perigee_sent_bytes_total", METRIC_COUNTER, METRIC_BYTES,                    \
      "", NULL, "Bytes sent to clients.")                                                            \
    X(GATEWAY_DROPPED, "perigee_completions_dropped_total", METRIC_COUNTER, METRIC_ONE,              \
      "", NULL, "Completions of a ticket that was not outstanding at that replica.")                 \
    X(GATEWAY_NONSENSE, "perigee_answers_refused_total", METRIC_COUNTER, METRIC_ONE,                 \
      "project,endpoint", NULL, "Answers of replicas that contradict themselves or the model.")      \
    X(GATEWAY_KILLED, "perigee_replicas_killed_total", METRIC_COUNTER, METRIC_ONE,                   \
      "reason", NULL, "Replicas the gateway had killed: timeout, lied, stale.")                      \
    X(GATEWAY_MESSAGES_UNKNOWN, "perigee_gateway_messages_unknown_total", METRIC_COUNTER, METRIC_ONE, \
      "", NULL, "Messages of a type or form the gateway does not know.")                             \
    X(GATEWAY_TABLE, "perigee_gateway_table_number", METRIC_GAUGE, METRIC_ONE,                       \
      "", NULL, "Number of the table the gateway serves from.")                                      \
    X(GATEWAY_MEMORY, "perigee_request_memory_bytes", METRIC_GAUGE, METRIC_BYTES,                    \
      "", NULL, "Bytes of request bodies and inputs held now.")                                      \
    X(GATEWAY_KEPT, "perigee_request_memory_kept_bytes", METRIC_GAUGE, METRIC_BYTES,                 \
      "", NULL, "Free pages of input arenas that stay for the next requests.")                       \
    X(GATEWAY_STARTS, "perigee_gateway_starts_total", METRIC_COUNTER, METRIC_ONE,                    \
      "", NULL, "Gateway processes that began to serve.")                                            \
    X(GATEWAY_RTT, "perigee_client_rtt_seconds", METRIC_HISTOGRAM, METRIC_SECONDS,                   \
      "project,endpoint", &metric_buckets_latency, "Inference: round trip to the client, as a trusted proxy said or " \
      "the kernel measured; the bucket of 0.05 is the share under 50 ms.")                                  \
    X(GATEWAY_RTT_COUNTRY, "perigee_country_rtt_seconds", METRIC_HISTOGRAM, METRIC_SECONDS,          \
      "project,endpoint,country", &metric_buckets_latency, "The same by the client's country: unknown without a map " \
      "of addresses; other once half of all rows are taken.") \
    X(GATEWAY_FORWARD_REASONS, "perigee_requests_forwarded_total", METRIC_COUNTER, METRIC_ONE,       \
      "project,endpoint,reason", NULL, "Requests passed on to another PoP: away (not placed here), " \
      "place (residency wants it elsewhere), cold (no replica is ready here), overloaded, draining.") \
    X(GATEWAY_FORWARDED, "perigee_forwards_total", METRIC_COUNTER, METRIC_ONE,                       \
      "pop,result", NULL, "Tries at other PoPs: answered (what it said went to the client), upgraded (WebSocket), refused " \
      "(and asked elsewhere), lost (no byte of an answer), broken (within the answer), canceled.")   \
    X(GATEWAY_FORWARD_RETRIES, "perigee_forward_retries_total", METRIC_COUNTER, METRIC_ONE,          \
      "result", NULL, "Requests whose PoP failed: tried elsewhere, here, there over a new "        \
      "connection (renewed), or not: no_budget, too_large (the body is not held any more), unsafe (it may have been " \
      "acted upon: 502).")                                                  \
    X(GATEWAY_PROXIED, "perigee_upstream_requests_total", METRIC_COUNTER, METRIC_ONE,                \
      "project,endpoint,result", NULL, "Tries at replicas that are reached over HTTP: answered, upgraded (WebSocket), " \
      "unreached (no connection), lost (no byte of an answer), slow (none in time), wrong (it is not HTTP), " \
      "broken (within the answer), canceled (the client went away).") \
    X(GATEWAY_PROXY_RETRIES, "perigee_upstream_retries_total", METRIC_COUNTER, METRIC_ONE,           \
      "project,endpoint,result", NULL, "Failed tries of those: tried again elsewhere, or there over a new connection " \
      "(renewed); or not: no_budget, unsafe (it may have been acted upon: 502).") \
    X(GATEWAY_HOPS, "perigee_hops_total", METRIC_COUNTER, METRIC_ONE,                                \
      "pop", NULL, "Requests that other PoPs passed on to this one; refused: the header that says "  \
      "so was not signed by one.")
/* clang-format on */

METRICS_DECLARE(gateway_metrics, GATEWAY_METRICS)

#define GATEWAY_REGION_MAGIC 0x6d67654eu
#define GATEWAY_REGION_VERSION 6u
#define GATEWAY_SERIES_MAX 4096u
#define GATEWAY_SET_SLICES (PERIGEE_LOOPS_MAX + 1u) /* of a lane set; the last: the main thread's */
#define GATEWAY_SLICES (2u * GATEWAY_SET_SLICES)
#define GATEWAY_STATS_ROWS 4096u
#define GATEWAY_BATCH_SIZES 128u

/* What OIP's statistics and usage are made of. Sums of nanoseconds and counts. */
#define GATEWAY_STATS_SUMS(X)                                                                      \
    X(success)                                                                                     \
    X(success_ns)                                                                                  \
    X(rows)                                                                                        \
    X(fail)                                                                                        \
    X(fail_ns)                                                                                     \
    X(queue) X(queue_ns) X(input_ns) X(infer_ns) X(output_ns) X(last_ms) X(bytes_in) X(bytes_out)

struct gateway_stats {
    _Atomic uint64_t revision; /* uid; 0: free */
#define GATEWAY_STATS_FIELD(name) _Atomic uint64_t name;
    GATEWAY_STATS_SUMS(GATEWAY_STATS_FIELD)
#undef GATEWAY_STATS_FIELD
    struct gateway_batch_stats { /* [n - 1]: runs of n rows; the last: so many or more */
        _Atomic uint64_t runs, input_ns, infer_ns, output_ns;
    } batches[GATEWAY_BATCH_SIZES];
};

struct gateway_region {
    uint32_t magic, version;
    uint64_t slice_bytes;
    uint64_t stats_offset, decisions_offset;
    uint64_t bytes;
};

size_t gateway_region_bytes(void); /* what the supervisor makes */

/* Writer: takes over what is there when it is of this layout, else begins anew. False: too small.
 */
bool gateway_region_attach(void *memory, size_t bytes);
/* The layout is this one's. Another is not made anew under a gateway that writes there still. */
bool gateway_region_fits(const struct gateway_region *head);
/* The writer's slice: `set` is its lane set, `index` the loop, or PERIGEE_LOOPS_MAX for the main
 * thread. Its gauges begin at 0. */
void gateway_metrics_attach(struct metrics *metrics, void *region, unsigned set, unsigned index);
/* The gateway of that set has ended: its gauges say nothing any more. Main thread. */
void gateway_metrics_ended(void *region, unsigned set);

/* The row of a revision, made when missing (main threads alone make); NULL: it is full. */
struct gateway_stats *gateway_stats_get(void *region, uint64_t revision);
/* Readers: NULL: there is none, or the region is of no known layout. */
const struct gateway_stats *gateway_stats_find(const void *region, size_t bytes, uint64_t revision);
/* Frees rows of revisions for which keep() is false. Main thread. */
void gateway_stats_keep(void *region, bool (*keep)(uint64_t revision, void *data), void *data);

/* The country under which a client of it is counted: its own while there is room. */
struct slice gateway_metrics_country(const struct metrics *metrics, struct slice project,
                                     struct slice endpoint, struct slice country);

/* Of a loop. */
struct decision_ring *gateway_decisions(void *region, unsigned set, unsigned index);
/* Readers: decision_find() over all of them. */
bool gateway_decision_find(const void *region, size_t bytes, struct slice id,
                           struct decision_record *ret);

/* Readers: clients of each endpoint by their country, with round trips to them. */
struct gateway_clients {
    struct slice project, endpoint, country; /* in the arena */
    uint64_t requests, near, rtt_ns;         /* near: those under 50 ms; rtt_ns: the sum */
};
#define GATEWAY_NEAR_NS UINT64_C(50'000'000)
/* In the arena, by falling requests, at most `max`. 0 when it is of no known layout. */
size_t gateway_metrics_clients(struct arena *arena, const void *region, size_t bytes, size_t max,
                               struct gateway_clients **ret);
/* Readers: what each endpoint was asked for, since the region was made, and what is under way. */
struct gateway_activity {
    struct slice project, endpoint;        /* in the arena */
    uint64_t requests, errors;             /* answered; those of 5xx */
    uint64_t took[METRIC_BUCKETS_MAX + 1]; /* inferences, by metric_buckets_latency; the last */
    int64_t running, queued;               /* one in use: above them all. Now: in replicas, */
};                                         /* and waiting for one */
/* In the arena. 0 when it is of no known layout. */
size_t gateway_metrics_activity(struct arena *arena, const void *region, size_t bytes,
                                struct gateway_activity **ret);
/* Prometheus text of everything in the region; empty when it is of no known layout. */
struct slice gateway_metrics_print(struct arena *arena, const void *region, size_t bytes);
