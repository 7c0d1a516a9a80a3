/* SPDX-License-Identifier: Apache-2.0 */
/*
 * job.h -- blocking work off control's loop: on the store's thread, the reader's, the disk's, or
 * one that asks another registry (JOB_ASK) or copies from it (JOB_COPY), which may take its time.
 *
 * The job's memory is the caller's until `done`. Writing jobs run one at a time, in order, and
 * their ends come back in that order: what they say is newer than what came before. JOB_WRITE and
 * JOB_READ run inside a transaction; JOB_STORE writes as well, in transactions of its own.
 */
#pragma once

#include <stdbool.h>

#include "base/err.h"
#include "io/work.h"

struct control;
struct job;
struct store;

typedef int (*job_run_cb)(struct job *job, struct store *store, struct err *err);
typedef void (*job_done_cb)(struct job *job, const struct err *err); /* err NULL: it went well */

enum job_place { JOB_WRITE, JOB_READ, JOB_DISK, JOB_STORE, JOB_ASK, JOB_COPY };

struct job {
    struct work work;
    struct control *control; /* borrowed */
    enum job_place place;
    job_run_cb run;
    job_done_cb done;
    void *data;
    int result;
    bool in_doubt; /* its commit failed at the disk (store.h) */
    struct err err;
};

void job_start(struct control *control, struct job *job, enum job_place place, job_run_cb run,
               job_done_cb done, void *data);
