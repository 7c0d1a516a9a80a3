/* SPDX-License-Identifier: Apache-2.0 */
/*
 * guard.h -- web pages must not reach in (SECURITY.md, Open loopback): which Host, Origin and
 * Content-Type a call over TCP may have. Pure; any thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/slice.h"
#include "io/address.h"

struct err;
struct http_request;

struct guard {
    const char *zone, *api_host;     /* borrowed; may be empty */
    const struct address *addresses; /* where control listens */
    size_t address_count;
};

/* ERR_MISDIRECTED: a host that is not ours. */
[[nodiscard]] int guard_host(const struct guard *guard, const struct http_request *head,
                             struct err *err);
/* ERR_FORBIDDEN: a page of another origin asks. */
[[nodiscard]] int guard_origin(const struct http_request *head, struct err *err);
/* 415: `types`, by comma, are what a body may be. */
[[nodiscard]] int guard_type(const struct http_request *head, const char *types, struct err *err);
