/* SPDX-License-Identifier: Apache-2.0 */
/*
 * blob_send.h -- a blob's file as the answer: read on the disk's threads, a piece at a time, as
 * fast as the client takes it. Range and HEAD are looked after. Loop thread only.
 */
#pragma once

#include <stdint.h>

#include "control/request.h"

struct blob_send {
    int fd; /* its own, from the start on; -1 before */
    uint64_t bytes, offset, end;
    char *piece;
    size_t piece_bytes;
};

/* Answers with 200, 206 or 416. `headers` go with it; Content-Range is added. The last thing that a
 * handler does; q->on_closed must be, or call, blob_send_closed(). */
void blob_send_start(struct request *q, struct blob_send *send, const struct http_header *headers,
                     size_t count);
void blob_send_closed(struct request *q, struct blob_send *send);
