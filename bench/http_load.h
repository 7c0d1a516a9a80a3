/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http_load.h -- keep-alive HTTP/1.1 connections that send requests and take answers; one thread.
 *
 * The caller owns everything; a request's bytes are borrowed until its answer is whole. on_answer
 * is called once for each request, when the whole request is sent and the whole answer is there (a
 * server may answer before it has read a body); it may send the next one. Where an answer says that
 * the server closes, the connection is made anew before that. An answer must have a
 * Content-Length. What a benchmark cannot go on without ends the program with a sentence.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"

struct http_load_connection {
    int fd;
    void *data; /* the caller's */
    struct slice request;
    size_t sent;
    bool waiting, head_whole; /* a request is under way; its answer's head is there */
    char head[4096];
    size_t head_size;
    char *body; /* the caller's; what of the body has room in it is kept */
    size_t body_room, body_bytes;
    uint64_t body_left;
    int status;
    int64_t began_ns, ended_ns;
};

struct http_load {
    int epoll;
    const char *address, *port;
    void (*on_answer)(struct http_load_connection *c);
    /* The server closed while a request was under way, which is lost; the connection is already
     * made anew, as one that was idle is without a word. NULL: a close ends the program. */
    void (*on_lost)(struct http_load_connection *c);
};

void http_load_open(struct http_load *load);
void http_load_connect(struct http_load *load, struct http_load_connection *c);
void http_load_send(struct http_load_connection *c, struct slice request);

/* Waits for at most timeout_ms and does what can be done. */
void http_load_poll(struct http_load *load, int timeout_ms);

/* A header's value in the last answer's head; size 0: it is not there. */
struct slice http_load_header(const struct http_load_connection *c, const char *name);
