/* SPDX-License-Identifier: Apache-2.0 */
/*
 * change.h -- everything that changes an endpoint, in one transaction: read, decide, write.
 *
 * What runs changed: a new revision, which becomes the target. Only how it is governed: the same
 * revision, the generation grows. Nothing changed: nothing is written. The spec kept is always the
 * target's what-runs with the present governance. On a store's thread; pure but for the store and
 * the look at blobs.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "control/hub.h"
#include "store/store.h"

struct abroad_found;
struct arena;
struct blobs;
struct err;
struct geo_sets;
struct region_place;

enum change_kind {
    CHANGE_PUT,
    CHANGE_PATCH,
    CHANGE_STOP,
    CHANGE_START,
    CHANGE_ROLLBACK,
    CHANGE_DELETE
};

enum { CHANGE_EVENTS_MAX = 4 };

struct change {
    /* What is wanted. */
    enum change_kind kind;
    struct arena *arena;   /* borrowed; also the results' */
    struct blobs *blobs;   /* borrowed */
    const char *libdir;    /* where the workers are; NULL: any runtime will do (tests) */
    const char *walls_off; /* walls between projects that do not stand; NULL: all do, or may */
    const struct geo_sets *sets;     /* borrowed; NULL: those built in */
    const struct region_place *pops; /* where replicas may come to be; none: not known */
    size_t pop_count;
    const struct slice *hosts; /* by which this registry is named: `model: oci://HOST/...` */
    size_t host_count;
    struct abroad_found *found; /* what another registry was asked for it; NULL: none is named */
    struct slice project, name;
    struct slice body;     /* PUT: a spec; PATCH: a merge-patch; JSON text */
    uint64_t revision;     /* ROLLBACK */
    struct slice if_match; /* as in the header; empty: none */
    bool only_create;      /* If-None-Match: * */
    bool dry_run;
    struct store_audit audit; /* who, from where; time */

    /* What came of it. */
    bool created, changed, new_revision;
    struct spec_changes diff;
    struct snapshot *snapshot; /* the caller's; NULL after DELETE and dry runs */
    uint64_t uid;
    struct store_event events[CHANGE_EVENTS_MAX];
    size_t event_count;
};

[[nodiscard]] int change_run(struct change *change, struct store *store, struct err *err);

/* Also for tests: a spec with another's what-runs part (JSON of the revision). */
[[nodiscard]] int change_merge(struct arena *arena, const struct endpoint_spec *governed,
                               struct slice what_runs, struct endpoint_spec *ret, struct err *err);
bool change_if_match(struct slice header, uint64_t generation);
