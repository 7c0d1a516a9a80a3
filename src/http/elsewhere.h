/* SPDX-License-Identifier: Apache-2.0 */
/*
 * elsewhere.h -- calls of another registry (OCI distribution-spec 1.1), blocking: its challenges
 * are answered by Basic or by a token (RFC 7617, RFC 6750, distribution's token specification), its
 * redirects followed. Credentials go to the registry and to the token's issuer that it names, and
 * nowhere else. A registry that is spoken to by plain http leads to its own host so, and nowhere
 * else; one by https never: what comes by plain http may be anybody's on the way.
 *
 * Any thread; a struct elsewhere by one at a time. It keeps its token for its next call.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"

struct arena;
struct err;
struct fetch_answer;

struct elsewhere_registry {
    const char *host;                /* "ghcr.io", as references have it */
    bool plain;                      /* by http */
    struct slice username, password; /* in a secret arena; username empty: none */
    struct slice ca;                 /* PEM; empty: the system's authorities */
};

struct elsewhere {
    struct elsewhere_registry registry; /* what it points at is borrowed */
    const char *repository;             /* or NULL: calls of the registry as such */
    const atomic_bool *stop;            /* or NULL */
    struct arena *secret;
    const char *authorization; /* a header; NULL: none is asked for, as far as is known */
};

struct elsewhere_call {
    const char *path;          /* "manifests/v1", below the repository; "" of the registry */
    const char *const *accept; /* "Accept: TYPE", NULL-terminated; or NULL */
    uint64_t from;             /* from this byte on */
    uint64_t answer_bytes_max; /* of what is collected; 0: 64 KiB */
    int64_t timeout_ms;        /* in all, over redirects and tokens; 0: none */
    int64_t idle_ms;           /* as fetch.h has it */
    /* Instead of collecting it: pieces of a whole answer, or with `from` of its rest. */
    bool (*on_body)(struct slice bytes, void *data);
    void *data;
};

/* Of a call that failed: will the same again do no good, until somebody has changed something? */
struct elsewhere_trouble {
    bool lasting;
    int64_t retry_ms; /* it says so itself; 0: it does not */
};

void elsewhere_open(struct elsewhere *elsewhere, const struct elsewhere_registry *registry,
                    const char *repository, const atomic_bool *stop);
void elsewhere_close(struct elsewhere *elsewhere);

/* Status 200 or 206. Errors name the host, never credentials. With `from` a registry that knows no
 * ranges answers 200, and nothing comes to on_body. */
[[nodiscard]] int elsewhere_call(struct elsewhere *elsewhere, const struct elsewhere_call *call,
                                 struct arena *arena, struct fetch_answer *ret,
                                 struct elsewhere_trouble *ret_trouble, struct err *err);

/* "localhost", 127.0.0.0/8, [::1], with or without a port. */
bool elsewhere_is_loopback(struct slice host);
