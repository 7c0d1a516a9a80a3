/* SPDX-License-Identifier: Apache-2.0 */
/*
 * replica.h -- a clone's life: walls, model, first run, serving. Inside the worker executables
 * only.
 */
#pragma once

#include <stdint.h>

#include <perigee/worker.h>

#include "sys/sandbox.h"

struct runtime;

#define REPLICA_FDS_MAX (PERIGEE_FD_PIPES + PERIGEE_LANES_MAX) /* without those of its group */

struct replica {
    const struct runtime *runtime;
    const struct sandbox *sandbox;
    struct perigee_clone clone; /* checked */
    int fds[REPLICA_FDS_MAX];   /* enum perigee_clone_fd */
    const struct perigee_submission_page *page;
    const char *arena;
    char *output;                  /* the output region */
    struct perigee_status *status; /* its first page */
    int null_fd;                   /* /dev/null, to read */
    int statm_fd;                  /* /proc/self/statm, until READY */
};

/* In the clone. Ends the process. */
[[gnu::noreturn]] void replica_run(struct replica *replica);

/* Ends the process with `reason` on the status page. */
[[gnu::noreturn, gnu::format(printf, 2, 3)]] void replica_fail(struct replica *replica,
                                                               const char *format, ...);
