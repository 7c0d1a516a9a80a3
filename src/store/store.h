/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store.h -- what control must not lose: endpoints, revisions, history, events, logs, deaths,
 * audit, PoPs' last reports, the index of blobs, the registry's repositories, other registries,
 * secrets, what was used and the prices of it.
 *
 * A store is a table of functions (sqlite.c; another database fits behind it). Ownership: who
 * opened it closes it with close(). Text and arrays that come back live in the arena given. One
 * thread at a time: control has one store on a thread of its own that writes, a second one on
 * another that only reads. Calls block.
 *
 * transact() makes what its function does one unit: all of it is on disk when it returns 0, none of
 * it otherwise. Every function that changes something wants to be inside one. A full disk is
 * ERR_OVERLOADED and changes nothing; the store goes on once there is space again.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/figures.h"
#include "base/slice.h"

struct arena;
struct err;
struct store;

/* X(name, default, what it bounds) */
#define STORE_LIMITS(X)                                                                            \
    X(endpoints_max, 10000, "Endpoints, over all projects.")                                       \
    X(revisions_kept, 10, "Revisions kept per endpoint, beside those with traffic.")               \
    X(history_rows_max, 500, "Changes remembered per endpoint.")                                   \
    X(events_rows_max, 20000, "Events kept.")                                                      \
    X(log_rows_max, 4000, "Log lines kept per endpoint.")                                          \
    X(log_bytes_max, 1048576, "Bytes of log lines kept per endpoint.")                             \
    X(deaths_max, 3, "Deaths of replicas remembered per endpoint.")                                \
    X(audit_rows_max, 100000, "Audit rows kept.")                                                  \
    X(pops_max, 1000, "PoPs; and PoPs that were deleted.")                                         \
    X(registries_max, 256, "Other registries told of.")                                            \
    X(secrets_max, 1000, "Secrets told of, of all projects.")                                      \
    X(repositories_max, 10000, "Repositories of the registry.")                                    \
    X(repository_manifests_max, 20000, "Manifests of a repository.")                               \
    X(repository_tags_max, 20000, "Tags of a repository.")                                         \
    X(usage_minutes_h, 3, "Hours for which usage is kept by the minute.")                          \
    X(usage_hours_d, 40, "Days for which usage is kept by the hour.")                              \
    X(usage_days_d, 800, "Days for which usage is kept by the day; then it goes.")                 \
    X(usage_ledgers_max, 1000, "Ledgers remembered per PoP, each of which is one a home.")

struct store_limits {
#define STORE_LIMIT(name, value, text) uint64_t name;
    STORE_LIMITS(STORE_LIMIT)
#undef STORE_LIMIT
};
struct store_limits store_limits_default(void);

#define STORE_REVISION_BITS 24 /* revision uid = endpoint uid << 24 | number */

/* Times are nanoseconds since 1970, UTC. Numbers that may be absent are 0 then. */
struct store_endpoint {
    uint64_t uid; /* never given twice */
    struct slice project, name;
    struct slice spec; /* shortest JSON; what runs is the target's */
    bool stopped;
    uint64_t target, latest;   /* revisions */
    uint64_t generation;       /* counts every change */
    uint64_t serving;          /* revision that has traffic, as PoPs last said */
    uint64_t stable;           /* keeps the rest while the target is a canary; 0: none does */
    struct slice target_state; /* starting, ready, failed, or empty: nothing heard yet */
    struct slice target_message;
    int64_t created_ns, updated_ns;
};

struct store_keep { /* numbers of revisions; 0: none */
    uint64_t numbers[8];
};

struct store_revision {
    uint64_t endpoint_uid, number;
    /* Immutable. */
    struct slice spec;   /* what runs, defaults written out */
    struct slice digest; /* sha256:HEX of spec */
    struct slice runtime;
    struct slice model; /* sha256:HEX; empty: none */
    uint64_t model_bytes;
    struct slice image; /* JSON for PoPs (control/pinned.h); empty: none */
    struct slice source;
    struct slice created_by;
    int64_t created_ns;
    /* As PoPs said. */
    struct slice state; /* new, starting, ready, failed */
    struct slice message;
    struct slice metadata; /* JSON, once known: set one time */
};

struct store_history {
    uint64_t id, endpoint_uid, generation, revision;
    int64_t at_ns;
    struct slice who;
    struct slice diff; /* JSON: [{key, old, new}] */
};

struct store_event {
    uint64_t id, endpoint_uid;
    int64_t at_ns;
    struct slice kind, project, endpoint, pop, replica, message;
};

struct store_log {
    uint64_t id, endpoint_uid;
    int64_t at_ns;
    struct slice pop; /* empty: not known, it is older than that */
    struct slice replica, stream, line;
};

struct store_death {
    uint64_t id, endpoint_uid, revision;
    int64_t at_ns;
    struct slice replica, reason;
    struct slice log; /* JSON: ["line", ...] */
};

struct store_audit {
    uint64_t id;
    int64_t at_ns;
    struct slice who, action, from, request_id, project, endpoint;
    struct slice before, after; /* digests of the spec; empty where there was none */
};

struct store_pop {
    struct slice name;
    /* As its agent said; empty before. */
    uint64_t instance, seq; /* what was taken over already */
    int64_t reported_ns;
    struct slice report; /* JSON: the last state */
    /* As an operator said. */
    struct slice spec;   /* JSON (spec/pop.h); empty: it came by itself, with `up` */
    struct slice wanted; /* "drained", "retired"; or empty */
    struct slice token;  /* hex of the SHA-256 of what it joins with; empty: none, or used */
    int64_t token_until_ns;
    struct slice secret; /* likewise, of what its agent shows; empty: it has not joined */
    int64_t created_ns;
    struct slice tombstone; /* the secret of the one of this name that was deleted last; or empty */
    int64_t retired_ns;
};

/* An endpoint on one PoP, as that last said. */
struct store_pop_endpoint {
    uint64_t endpoint_uid;
    struct slice pop;
    uint64_t serving, target;
    struct slice state, message; /* of the target: starting, ready, failed */
};

struct store_placement {
    uint64_t endpoint_uid;
    struct slice pop;
    uint64_t replicas;
    int64_t since_ns;
};

struct store_blob {
    struct slice digest; /* sha256:HEX */
    uint64_t bytes;
    int64_t created_ns;
};

/* A manifest in a repository; its bytes are the blob of its digest. */
struct store_manifest {
    struct slice digest, media_type;
    struct slice artifact_type; /* empty: none */
    struct slice subject;       /* a digest; empty: none */
    uint64_t bytes;
    int64_t created_ns;
};

struct store_registry { /* another one */
    struct slice host;
    struct slice username; /* empty: none */
    struct slice sealed;   /* its password (seal.h); empty: none */
    struct slice ca;       /* PEM; empty: the system's */
    bool plain;            /* spoken to by http */
    int64_t created_ns, updated_ns;
};

struct store_secret {
    struct slice project, name;
    struct slice sealed; /* seal.h */
    int64_t created_ns, updated_ns;
};

/* Where a blob is to be had that a revision needs and that is not here yet. */
struct store_origin {
    struct slice digest;
    uint64_t bytes;
    struct slice host, repository;
    int64_t created_ns;
    uint64_t number; /* origin_of: of the revision */
};

struct store_ledger {    /* how far one was counted */
    struct slice ledger; /* 32 hexadecimal digits */
    struct slice pop;    /* whose it is */
    uint64_t counted;    /* the number of the last window */
    struct slice digest; /* of it; 32 hexadecimal digits */
    int64_t seen_ns;
};

struct store_usage { /* what an endpoint's revision used at a PoP from then on */
    uint64_t endpoint_uid, revision;
    struct slice pop;
    int64_t start_s;
    uint64_t period_s; /* at least so exact: 60, 3600 or 86400 */
    struct figures figures;
};

/* Which usage, and what makes it different: what is not asked for is empty or 0 in the answer. */
struct store_usage_query {
    int64_t from_s,
        to_s; /* the begin of a row's time is not before the one, and before the other */
    struct slice project, endpoint, pop; /* empty: any */
    bool by_project, by_endpoint, by_revision, by_pop;
    uint64_t by_s; /* of such times: 3600 or 86400; 0: of all of it */
    uint32_t limit;
};

struct store_usage_sum {
    uint64_t endpoint_uid, revision;
    struct slice project, endpoint, pop; /* names */
    int64_t start_s;                     /* of by_s */
    uint64_t period_s;                   /* the coarsest row in it */
    struct figures figures;
};

#define STORE_PAGE_MAX 1000
/* Rows with an id above `after`, oldest first; from_end: the last `limit` ones instead. */
struct store_page {
    uint64_t after;
    uint32_t limit; /* at most STORE_PAGE_MAX; 0: that */
    bool from_end;
};

/* Which rows: 0 and empty are "any". */
struct store_filter {
    uint64_t endpoint_uid;
    struct slice project, endpoint, replica;
};

typedef int (*store_transaction_cb)(struct store *store, void *data, struct err *err);

struct store {
    const char *name;
    void (*close)(struct store *self); /* frees self */
    bool in_doubt;                     /* see transact; the thread's that writes */
    /* `fn` fails: nothing was done. Not nested. Where the commit itself fails at the disk, what it
     * wrote may come to light later (SQLite reads its log anew): in_doubt is set, and whoever keeps
     * a copy of the state in memory reads all of it again. */
    int (*transact)(struct store *self, store_transaction_cb fn, void *data, struct err *err);

    int (*project_ensure)(struct store *self, struct slice name, int64_t now_ns, struct err *err);

    /* ERR_NOT_FOUND without a message when there is none. */
    int (*endpoint_get)(struct store *self, uint64_t uid, struct arena *arena,
                        struct store_endpoint *ret, struct err *err);
    int (*endpoint_find)(struct store *self, struct slice project, struct slice name,
                         struct arena *arena, struct store_endpoint *ret, struct err *err);
    int (*endpoint_list)(struct store *self, const struct store_page *page /* after: uid */,
                         struct arena *arena, struct store_endpoint **ret, size_t *ret_count,
                         struct err *err);
    /* Sets endpoint->uid. ERR_CONFLICT when the name is taken, ERR_TOO_LARGE above the limit. */
    int (*endpoint_add)(struct store *self, struct store_endpoint *endpoint, struct err *err);
    /* Writes spec, stopped, target, latest, serving, stable, target_*, generation, updated_ns.
     * ERR_PRECONDITION when the one stored is not of generation `before`. */
    int (*endpoint_update)(struct store *self, const struct store_endpoint *endpoint,
                           uint64_t before, struct err *err);
    int (*endpoint_delete)(struct store *self, uint64_t uid, struct err *err); /* all but events */

    /* A revision with the blobs it needs (model, and a folder's files). */
    int (*revision_add)(struct store *self, const struct store_revision *revision,
                        const struct slice *blobs, size_t blob_count, struct err *err);
    /* ERR_NOT_FOUND without a message: no revision kept has this blob. */
    int (*revision_needs)(struct store *self, uint64_t endpoint_uid, struct slice digest,
                          struct err *err);
    int (*revision_get)(struct store *self, uint64_t endpoint_uid, uint64_t number,
                        struct arena *arena, struct store_revision *ret, struct err *err);
    int (*revision_list)(struct store *self, uint64_t endpoint_uid, struct arena *arena,
                         struct store_revision **ret, size_t *ret_count, struct err *err);
    /* State and message; metadata where none is known yet (empty: leaves it). */
    int (*revision_report)(struct store *self, uint64_t endpoint_uid, uint64_t number,
                           struct slice state, struct slice message, struct slice metadata,
                           struct err *err);
    /* Keeps the newest by the limit, and those. */
    int (*revision_prune)(struct store *self, uint64_t endpoint_uid, const struct store_keep *keep,
                          struct err *err);

    int (*history_add)(struct store *self, const struct store_history *row, struct err *err);
    int (*history_list)(struct store *self, uint64_t endpoint_uid, const struct store_page *page,
                        struct arena *arena, struct store_history **ret, size_t *ret_count,
                        struct err *err);
    /* The adding ones set ->id. */
    int (*event_add)(struct store *self, struct store_event *row, struct err *err);
    int (*event_list)(struct store *self, const struct store_filter *filter,
                      const struct store_page *page, struct arena *arena, struct store_event **ret,
                      size_t *ret_count, struct err *err);
    int (*log_add)(struct store *self, struct store_log *row, struct err *err);
    int (*log_list)(struct store *self, const struct store_filter *filter,
                    const struct store_page *page, struct arena *arena, struct store_log **ret,
                    size_t *ret_count, struct err *err);
    int (*death_add)(struct store *self, struct store_death *row, struct err *err);
    int (*death_list)(struct store *self, uint64_t endpoint_uid, struct arena *arena,
                      struct store_death **ret, size_t *ret_count, struct err *err);
    int (*audit_add)(struct store *self, const struct store_audit *row, struct err *err);
    int (*audit_list)(struct store *self, const struct store_page *page, struct arena *arena,
                      struct store_audit **ret, size_t *ret_count, struct err *err);

    /* What its agent said; a PoP that is not there is made. */
    int (*pop_report)(struct store *self, const struct store_pop *pop, struct err *err);
    /* ERR_CONFLICT when the name is taken by one made like this that was not deleted, ERR_TOO_LARGE
     * above the limit, which those deleted do not count in. */
    int (*pop_add)(struct store *self, const struct store_pop *pop, struct err *err);
    /* Writes spec, wanted, token, token_until_ns, secret, created_ns, tombstone, retired_ns. Of
     * those retired the last ones stay, as many as there may be others. */
    int (*pop_update)(struct store *self, const struct store_pop *pop, struct err *err);
    int (*pop_delete)(struct store *self, struct slice name, struct err *err);
    int (*pop_get)(struct store *self, struct slice name, struct arena *arena,
                   struct store_pop *ret, struct err *err); /* ERR_NOT_FOUND */
    int (*pop_by_token)(struct store *self, struct slice token, struct arena *arena,
                        struct store_pop *ret, struct err *err); /* likewise */
    int (*pop_list)(struct store *self, struct arena *arena, struct store_pop **ret,
                    size_t *ret_count, struct err *err);
    int (*pop_endpoint_put)(struct store *self, const struct store_pop_endpoint *row,
                            struct err *err);
    int (*pop_endpoint_of)(struct store *self, struct slice pop, struct arena *arena,
                           struct store_pop_endpoint **ret, size_t *ret_count, struct err *err);
    /* Of an endpoint that is not placed there any more. */
    int (*pop_endpoint_delete)(struct store *self, uint64_t endpoint_uid, struct slice pop,
                               struct err *err);
    int (*pop_endpoint_list)(struct store *self, uint64_t endpoint_uid, struct arena *arena,
                             struct store_pop_endpoint **ret, size_t *ret_count, struct err *err);
    /* Puts these in the place of all that the endpoint has. */
    int (*placement_set)(struct store *self, uint64_t endpoint_uid,
                         const struct store_placement *rows, size_t count, struct err *err);
    int (*placement_list)(struct store *self, struct arena *arena, struct store_placement **ret,
                          size_t *ret_count, struct err *err); /* by endpoint, then PoP */

    /* ERR_NOT_FOUND without a message. */
    int (*ledger_get)(struct store *self, struct slice ledger, struct arena *arena,
                      struct store_ledger *ret, struct err *err);
    int (*ledger_put)(struct store *self, const struct store_ledger *row, struct err *err);
    /* 1: there is such an endpoint, with that revision or a later one, or there was one; and it was
     * placed at that PoP (empty: wherever). */
    int (*usage_placed)(struct store *self, uint64_t endpoint_uid, uint64_t revision,
                        struct slice pop, struct err *err);
    /* To what there is of that time already; in a coarser row where such ones are gone. */
    int (*usage_add)(struct store *self, const struct store_usage *row, int64_t now_s,
                     struct err *err);
    /* Sums up what is older than the limits, and lets go of what is too old. */
    int (*usage_roll)(struct store *self, int64_t now_s, struct err *err);
    /* By time, then project, endpoint, revision, PoP. ERR_TOO_LARGE above the limit. */
    int (*usage_sum)(struct store *self, const struct store_usage_query *query, struct arena *arena,
                     struct store_usage_sum **ret, size_t *ret_count, struct err *err);
    int (*prices_get)(struct store *self, struct arena *arena, struct slice *ret_list,
                      struct err *err); /* empty: there is none */
    int (*prices_put)(struct store *self, struct slice list, int64_t now_ns, struct err *err);

    /* Needed by somebody for a while: a row made anew, or young again. */
    int (*blob_put)(struct store *self, const struct store_blob *blob, struct err *err);
    int (*blob_delete)(struct store *self, struct slice digest, struct err *err);
    /* A file found on disk: a row where it has none. Those that only repositories held stay as old
     * as they were. */
    int (*blob_index)(struct store *self, const struct store_blob *blob, struct err *err);
    /* Blobs that neither a revision kept nor a repository needs, made before `before_ns`. */
    int (*blob_garbage)(struct store *self, int64_t before_ns, struct arena *arena,
                        struct slice **ret_digests, size_t *ret_count, struct err *err);
    /* Is this one of them? ERR_NOT_FOUND without a message: no. */
    int (*blob_loose)(struct store *self, struct slice digest, int64_t before_ns, struct err *err);

    /* ---- the registry; a repository is known by its id. ERR_NOT_FOUND without a message ---- */
    int (*repository_find)(struct store *self, struct slice project, struct slice name,
                           uint64_t *ret_id, struct err *err);
    /* Makes it, and its project, where there is none. ERR_TOO_LARGE above the limit. */
    int (*repository_ensure)(struct store *self, struct slice project, struct slice name,
                             int64_t now_ns, uint64_t *ret_id, struct err *err);
    /* Those that are empty go, and what no manifest of its repository names and was not touched
     * since. */
    int (*repository_prune)(struct store *self, int64_t before_ns, struct err *err);
    int (*repository_blob_find)(struct store *self, uint64_t id, struct slice digest,
                                uint64_t *ret_bytes, struct err *err);
    int (*repository_blob_any)(struct store *self, struct slice digest, uint64_t *ret_bytes,
                               struct err *err); /* in any repository */
    /* With its row in the index of blobs. */
    int (*repository_blob_put)(struct store *self, uint64_t id, struct slice digest, uint64_t bytes,
                               int64_t now_ns, struct err *err);
    int (*repository_blob_delete)(struct store *self, uint64_t id, struct slice digest,
                                  struct err *err);
    /* `parts`: digests that it names. The same again changes nothing. */
    int (*manifest_put)(struct store *self, uint64_t id, const struct store_manifest *manifest,
                        const struct slice *parts, size_t count, struct err *err);
    int (*manifest_find)(struct store *self, uint64_t id, struct slice digest, struct arena *arena,
                         struct store_manifest *ret, struct err *err);
    int (*manifest_tagged)(struct store *self, uint64_t id, struct slice tag, struct arena *arena,
                           struct store_manifest *ret, struct err *err);
    /* With its tags. What it named counts as touched at `touched_ns`. */
    int (*manifest_delete)(struct store *self, uint64_t id, struct slice digest, int64_t touched_ns,
                           struct err *err);
    /* By digest, those after `after`; artifact_type empty: all. */
    int (*referrer_list)(struct store *self, uint64_t id, struct slice subject,
                         struct slice artifact_type, struct slice after, uint32_t limit,
                         struct arena *arena, struct store_manifest **ret, size_t *ret_count,
                         struct err *err);
    int (*tag_put)(struct store *self, uint64_t id, struct slice tag, struct slice digest,
                   int64_t now_ns, struct err *err);
    int (*tag_delete)(struct store *self, uint64_t id, struct slice tag, struct err *err);
    int (*tag_list)(struct store *self, uint64_t id, struct slice after, uint32_t limit,
                    struct arena *arena, struct slice **ret, size_t *ret_count, struct err *err);

    /* ---- other registries ---- */
    /* By host. ERR_TOO_LARGE above the limit. created_ns stays as it was. */
    int (*registry_put)(struct store *self, const struct store_registry *row, struct err *err);
    int (*registry_delete)(struct store *self, struct slice host, struct err *err);
    int (*registry_list)(struct store *self, struct arena *arena, struct store_registry **ret,
                         size_t *ret_count, struct err *err);
    /* The last one told stands. */
    int (*origin_put)(struct store *self, const struct store_origin *row, struct err *err);
    /* ERR_NOT_FOUND without a message. */
    int (*origin_find)(struct store *self, struct slice digest, struct arena *arena,
                       struct store_origin *ret, struct err *err);
    int (*origin_delete)(struct store *self, struct slice digest, struct err *err);
    /* Of blobs that no revision needs any more. */
    int (*origin_prune)(struct store *self, struct err *err);
    int (*origin_list)(struct store *self, struct arena *arena, struct store_origin **ret,
                       size_t *ret_count, struct err *err);
    /* Of an endpoint's revisions, by their numbers. */
    int (*origin_of)(struct store *self, uint64_t endpoint_uid, struct arena *arena,
                     struct store_origin **ret, size_t *ret_count, struct err *err);
    /* Endpoints of which a revision needs this blob. */
    int (*origin_endpoints)(struct store *self, struct slice digest, struct arena *arena,
                            uint64_t **ret, size_t *ret_count, struct err *err);

    /* ---- secrets ---- */
    /* ERR_TOO_LARGE above the limit. created_ns stays as it was. */
    int (*secret_put)(struct store *self, const struct store_secret *row, struct err *err);
    int (*secret_delete)(struct store *self, struct slice project, struct slice name,
                         struct err *err);
    /* By project, then name. */
    int (*secret_list)(struct store *self, struct arena *arena, struct store_secret **ret,
                       size_t *ret_count, struct err *err);
    /* What is kept of one; empty: there is none. */
    int (*secret_sealed)(struct store *self, struct slice project, struct slice name,
                         struct arena *arena, struct slice *ret, struct err *err);
    int (*secret_names)(struct store *self, struct slice project, struct arena *arena,
                        struct slice **ret, size_t *ret_count, struct err *err);
    /* Endpoints of which a kept revision names it. */
    int (*secret_endpoints)(struct store *self, struct slice project, struct slice name,
                            struct arena *arena, uint64_t **ret, size_t *ret_count,
                            struct err *err);
};

/* ---- sqlite --------------------------------------------------------------------------------- */

enum store_mode {
    STORE_WRITE, /* makes the file, migrates it forward after a copy, checks it whole */
    STORE_READ,  /* a second connection; the file must be there, at this program's schema */
};

/* `path` is a file's; its folder must exist. A newer schema, a file that is damaged or none of ours
 * is refused with a message that says what to do. */
[[nodiscard]] int store_sqlite_open(const char *path, enum store_mode mode,
                                    const struct store_limits *limits, struct store **ret_store,
                                    struct err *err);
unsigned store_schema(void);     /* the schema this program writes */
const char *store_library(void); /* "SQLite 3.40.1" */

#define STORE_FILE "control/store.db" /* in the home */

/* "HOME/control/store.db" after making the folder (0700). */
[[nodiscard]] int store_path(const char *home, struct arena *arena, const char **ret_path,
                             struct err *err);