/* SPDX-License-Identifier: Apache-2.0 */
/*
 * blob_take.h -- a body into a blob's upload: one buffer is filled from the socket while the other
 * is hashed and written by a thread; when both are full the socket waits. Loop thread only.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "control/request.h"

struct blob_upload;

/* The first member of a handler's q->data. */
struct blob_take {
    struct blob_upload *upload; /* its own */
    /* Once, unless the client has gone, and while no thread has the upload. err NULL: the body has
     * ended, all of it is written. */
    void (*on_end)(struct request *q, const struct err *err);
    char *filling, *writing; /* buffers; writing: of the job */
    size_t filled, to_write;
    bool body_ended, ended;
    struct err why; /* code 0, or why the body failed */
};

/* Takes the exchange's handler over; q->on_closed must be, or call, blob_take_closed(). `bytes_max`
 * of the body. */
void blob_take_start(struct request *q, uint64_t bytes_max);
/* Lets go of the upload, which keeps what came, and of the buffers. */
void blob_take_end(struct blob_take *take);
void blob_take_closed(struct request *q);
