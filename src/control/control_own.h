/* SPDX-License-Identifier: Apache-2.0 */
/*
 * control_own.h -- what control's files share: the one struct control. Loop thread only, but for
 * the stores, each of which belongs to its pool's thread, and blobs, which any may use.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "base/map.h"
#include "base/metrics.h"
#include "contract/messages.h"
#include "control/grace.h"
#include "control/hub.h"
#include "geo/sets.h"
#include "io/address.h"
#include "policy/regions.h"

struct abroad;
struct blobs;
struct channel;
struct env;
struct env_linux;
struct http_server;
struct keys;
struct loop;
struct request;
struct secrets;
struct store;
struct timer;
struct trust;
struct watch;
struct where_map;
struct work_pool;

#define CONTROL_METRICS(X)                                                                         \
    X(CONTROL_REQUESTS, "perigee_control_requests_total", METRIC_COUNTER, METRIC_ONE,              \
      "operation,code", NULL, "Calls of the API answered.")                                        \
    X(CONTROL_SECONDS, "perigee_control_request_seconds", METRIC_HISTOGRAM, METRIC_SECONDS,        \
      "operation", &metric_buckets_latency, "Time from a call's head to its answer.")              \
    X(CONTROL_WATCHES, "perigee_control_watches", METRIC_GAUGE, METRIC_ONE, "", NULL,              \
      "Watches open.")                                                                             \
    X(CONTROL_WATCHES_CUT, "perigee_control_watches_cut_total", METRIC_COUNTER, METRIC_ONE, "",    \
      NULL, "Watches cut because their reader was too slow.")                                      \
    X(CONTROL_WATCHES_BEGUN, "perigee_control_pop_watches_begun_total", METRIC_COUNTER,            \
      METRIC_ONE, "how", NULL,                                                                     \
      "Watches of agents begun: resumed (with what has changed), or with all: first (the agent "   \
      "has nothing yet), epoch (it has what another control told), behind, ahead.")                \
    X(CONTROL_ENDPOINTS, "perigee_control_endpoints", METRIC_GAUGE, METRIC_ONE, "", NULL,          \
      "Endpoints.")                                                                                \
    X(CONTROL_REPORTS, "perigee_control_reports_total", METRIC_COUNTER, METRIC_ONE, "pop", NULL,   \
      "Reports of PoPs taken.")                                                                    \
    X(CONTROL_REPORTS_REFUSED, "perigee_control_report_items_refused_total", METRIC_COUNTER,       \
      METRIC_ONE, "pop", NULL, "What PoPs said that is not theirs to say, and was left out.")      \
    X(CONTROL_USAGE_ROWS, "perigee_control_usage_rows_total", METRIC_COUNTER, METRIC_ONE, "pop",   \
      NULL, "Rows of PoPs' ledgers that were counted.")                                            \
    X(CONTROL_USAGE_REFUSED, "perigee_control_usage_rows_refused_total", METRIC_COUNTER,           \
      METRIC_ONE, "pop", NULL, "Rows of endpoints or revisions that never were, or not there.")    \
    X(CONTROL_BLOB_BYTES, "perigee_control_blob_bytes", METRIC_GAUGE, METRIC_BYTES, "", NULL,      \
      "Bytes of all blobs.")                                                                       \
    X(CONTROL_UPLOADED_BYTES, "perigee_control_uploaded_bytes_total", METRIC_COUNTER,              \
      METRIC_BYTES, "", NULL, "Bytes of blobs taken.")                                             \
    X(CONTROL_COPIED_BYTES, "perigee_control_copied_bytes_total", METRIC_COUNTER, METRIC_BYTES,    \
      "registry", NULL, "Bytes of blobs copied from other registries; `other`: those after 64.")   \
    X(CONTROL_COPIES_FAILED, "perigee_control_copies_failed_total", METRIC_COUNTER, METRIC_ONE,    \
      "registry", NULL, "Copies of blobs from other registries that failed, and are tried again.") \
    X(CONTROL_STORE_ERRORS, "perigee_control_store_errors_total", METRIC_COUNTER, METRIC_ONE, "",  \
      NULL, "Calls that failed because of the store or the disk.")
METRICS_DECLARE(control_metrics, CONTROL_METRICS)

enum { CONTROL_LISTENERS_MAX = 16, CONTROL_SERIES_MAX = 1024 };

/* How often the log was to say something of one kind (request.c). */
struct control_said {
    int64_t from_ms; /* the loop's clock; 0: never */
    uint64_t count;
};

struct control {
    struct message_start start;
    struct loop *loop;
    struct env_linux *env_linux;
    struct env *env;
    struct channel *channel;
    struct watch *channel_watch, *lifeline_watch;
    int lifeline_fd;
    bool serving, draining, failed, closing;
    bool anew; /* it ends, so that the next one reads the state: control_anew() */

    struct http_server *server;
    struct trust *trust; /* proxies that are believed; NULL: none */
    int listeners[CONTROL_LISTENERS_MAX];
    struct address addresses[CONTROL_LISTENERS_MAX];
    bool in_home[CONTROL_LISTENERS_MAX]; /* Unix sockets there: trusted */
    size_t listener_count;

    struct work_pool *write_pool, *read_pool, *disk_pool;
    struct store *store, *reader;
    struct blobs *blobs;
    unsigned jobs; /* under way */

    struct geo_sets sets; /* jurisdictions by name; immutable */
    struct arena *sets_arena;
    char sets_digest[DIGEST_TEXT]; /* of what they decide */
    struct region_place place;     /* of this machine's PoP */
    struct where_map *where;       /* where addresses are, for explain; NULL: not known */

    struct keys *keys;       /* keys.h */
    struct abroad *abroad;   /* abroad.h; NULL: not opened yet */
    struct secrets *secrets; /* secrets.h; likewise */
    struct hub hub;
    struct list watchers;
    struct list pasts;  /* past.c: questions under way */
    struct list goings; /* going.c: who deletes, and waits */
    size_t past_count;
    uint64_t past_number;
    size_t watcher_count;
    struct timer *tick; /* pings, silent PoPs, addresses, garbage */
    int64_t ticks, first_ticks;
    struct job *sweep;         /* under way */
    struct arena *loose_arena; /* sweep.c: digests that were let go of, to be looked at next */
    struct slice *loose;
    size_t loose_count;
    struct timer *place_timer; /* placement.c: what was decided is to be kept */
    struct job *placing;       /* under way */
    bool place_again;
    struct grace grace;
    struct job *roll; /* usage.c: old usage becomes coarser; under way */
    int64_t rolled_s;

    struct control_said said[2]; /* of failed calls: warnings, errors */
    struct metrics metrics;
    void *metrics_memory;
};

int64_t control_wall_ns(struct control *control);
/* Opens stores and blobs and fills the hub, before anything serves. */
/* What is in memory may not be what the store has: ends, and the supervisor starts another. */
void control_anew(struct control *control);
int control_open(struct control *control, struct err *err);
void control_usage_roll(struct control *control); /* once an hour */
/* going.c: that endpoint was deleted: answers with the status once no gateway serves it, soon. */
void control_going(struct request *q, uint64_t uid, int status);
void control_going_look(struct control *control); /* a PoP has said more */
void control_sweep(struct control *control);      /* garbage of blobs, on the store's thread */
/* Likewise, now: this one was just deleted, and goes where nobody else needs it. */
void control_collect(struct control *control, struct slice digest);
void control_sweep_close(struct control *control); /* after the last job */
/* So long a repository keeps what no manifest of it names: pushes go from layers to manifest. */
#define CONTROL_LAYERS_KEPT_NS (INT64_C(24) * 3600 * 1'000'000'000)

static inline struct metric_series *control_count(struct control *control, unsigned row,
                                                  const struct slice *labels)
{
    return metrics_series(&control->metrics, row, labels);
}
