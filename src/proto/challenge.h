/* SPDX-License-Identifier: Apache-2.0 */
/*
 * challenge.h -- what a server that answers 401 wants to be shown (WWW-Authenticate, RFC 9110 11.3;
 * Bearer as registries have it: RFC 6750 3, distribution's token specification). Pure; any thread.
 */
#pragma once

#include "base/slice.h"

struct arena;
struct err;

enum { CHALLENGE_VALUE_MAX = 2048 }; /* bytes of one parameter that is kept */

struct challenge { /* text lies in the arena; empty: not said */
    struct slice realm, service, scope, error;
};

/* The first challenge of this scheme in a header's value, which may have several. 1: *ret is it.
 * 0: there is none. ERR_BAD_INPUT: the value is not well-formed up to its end. */
[[nodiscard]] int challenge_find(struct arena *arena, struct slice header, const char *scheme,
                                 struct challenge *ret, struct err *err);
