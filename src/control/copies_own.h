/* SPDX-License-Identifier: Apache-2.0 */
/*
 * copies_own.h -- what the files of copies share: struct copy. copies.c has the loop's part,
 * copy_run.c what a thread does, copy_end.c what the store hears. Loop thread only, but for what a
 * run's job is given.
 */
#pragma once

#include <stdatomic.h>

#include "base/err.h"
#include "control/abroad_own.h"
#include "policy/pace.h"

struct blob_upload;
struct store_endpoint;
struct store_event;

struct copy {
    struct control *control; /* borrowed */
    struct arena *arena;     /* its own: of the texts */
    struct slice digest, host, repository;
    uint64_t bytes;
    struct list link; /* of abroad->running */
    bool needed;
    uint64_t turn; /* whose is the smallest comes first */
    unsigned failures;
    int64_t next_ms; /* the loop's clock */
    struct err why;  /* the last failure; code 0: none */
    bool lasting;
    _Atomic uint64_t done; /* bytes that are here */

    /* of a run */
    struct job job;
    struct arena *run_arena;
    struct abroad_ask ask;
    atomic_bool stop; /* it ends within a second; why: */
    enum { STOP_NOT, STOP_UNNEEDED, STOP_STALLED, STOP_SLOW } why_stop;
    struct pace pace;           /* while it receives */
    _Atomic bool receiving;     /* it waits for the registry, not for our own disk */
    struct blob_upload *upload; /* sealed, without its name */
    struct elsewhere_trouble trouble;
    struct err body_err;
    int64_t now_ns;
    _Atomic uint64_t brought;
    /* what its end touches */
    struct snapshot **snapshots;
    size_t snapshot_count;
    struct store_event *events;
    size_t event_count;
};

/* A JOB_COPY: the blob, up to its seal. */
[[nodiscard]] int copy_run(struct job *job, struct store *store, struct err *err);
/* JOB_WRITE: it is here; it failed. */
[[nodiscard]] int copy_end_run(struct job *job, struct store *store, struct err *err);
[[nodiscard]] int copy_failure_run(struct job *job, struct store *store, struct err *err);
/* Among those that either keeps; there is room for it. */
void copy_add_event(struct copy *copy, const struct store_endpoint *row, const char *kind,
                    const char *message);
