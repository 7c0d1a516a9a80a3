/* SPDX-License-Identifier: Apache-2.0 */
/*
 * end_to_end.h -- which header lines of a message go further than one connection (RFC 9110 7.6.1).
 * Pure; any thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "proto/http.h"

struct arena;

/* Of one connection: those that RFC 9110 and its forerunners name, and what says how long a body
 * is, which is written anew. */
bool http_hop_by_hop(struct slice name);

/* Those that go further, in their order and with room for `more` behind them: not those above, not
 * those that Connection names, and not those for which `left_out` is true. `needed` are kept though
 * Connection names them: who took them out on the way would change what the message means. Either
 * may be NULL. The slices are the message's. */
struct http_headers http_end_to_end(struct arena *arena, const struct http_headers *headers,
                                    bool (*left_out)(struct slice name),
                                    bool (*needed)(struct slice name), size_t more);

/* May stand behind a body: nothing that says how it is framed, whom it is for or who sent it. */
bool http_trailer_right(struct slice name);
/* The same of all: in the arena. */
struct http_headers http_trailers_right(struct arena *arena, const struct http_headers *trailers);
