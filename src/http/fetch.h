/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fetch.h -- one HTTP request, blocking, by libcurl: for the command line and for pulls from
 * outside.
 *
 * libcurl is opened (dlopen) by this file alone and on the first call: linked, it would cost every
 * process 7 ms of start and 2 MiB. Any thread, one call at a time each. Redirects are not followed:
 * whoever has credentials decides who gets them. What libcurl has of headers and bodies is wiped;
 * with a secret arena so is the rest.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"

struct arena;
struct err;

struct fetch_request {
    const char *method; /* "GET" ... */
    const char *url;    /* http:// or https:// */
    const char
        *unix_path;     /* or NULL: connect there instead; the URL's host is only the Host line */
    const char *source; /* the address that it comes from; NULL: the system's choice */
    const char *const *headers; /* "Name: value", NULL-terminated; or NULL */
    struct slice body;          /* or */
    int body_fd;                /* a file to send from `body_offset`; -1: none */
    uint64_t body_offset, body_bytes;
    int64_t connect_ms, timeout_ms; /* 0: 5 s; 0: none */
    int64_t idle_ms;                /* no byte for so long (whole seconds) breaks it; 0: never */
    uint64_t answer_bytes_max;      /* of the answer's body when it is collected; 0: 64 MiB */
    /* Instead of collecting the body: pieces as they come; false ends the transfer without an
     * error. The body of a status of 400 and more is collected all the same. */
    bool (*on_body)(struct slice bytes, void *data);
    int body_status; /* with on_body: it is for this status alone, any other ends the transfer
                        before its body; 0: any below 400 */
    void (*on_progress)(uint64_t sent, uint64_t total, void *data);
    void *data;
    const atomic_bool *stop; /* once set, it ends within a second: ERR_CANCELED; or NULL */
    const char *shown;       /* what errors call the other side; NULL: the URL */
    struct slice ca;         /* PEM: believed beside the system's authorities */
    bool proxied;            /* by the proxy that the environment names, where it names one */
};

struct fetch_header {
    struct slice name, value;
};

struct fetch_answer { /* all in the arena */
    int status;       /* 0: not one byte came */
    struct fetch_header *headers;
    size_t header_count;
    struct slice body;
};

[[nodiscard]] int fetch(struct arena *arena, const struct fetch_request *request,
                        struct fetch_answer *ret, struct err *err);
struct slice fetch_header_get(const struct fetch_answer *answer, const char *name); /* {}: none */

struct fetch_url {      /* text lies in the arena */
    const char *url;    /* whole, without user and fragment */
    const char *origin; /* "https://host:port": who it is */
    const char *host;   /* without port; small letters */
    bool plain;         /* http */
};
/* A URL, or one relative to `base` (NULL: none). ERR_BAD_INPUT: it is none, has a user in it, or is
 * neither http nor https. */
[[nodiscard]] int fetch_url(struct arena *arena, const char *base, const char *text,
                            struct fetch_url *ret, struct err *err);
/* "libcurl/7.88.1 OpenSSL/3.0"; NULL when it cannot be loaded. */
const char *fetch_library(void);
