/* SPDX-License-Identifier: Apache-2.0 */
/*
 * seal.h -- secrets as text that may lie in a database: AES-256-GCM by a key in a file of its own
 * (HOME/control/seal.key, 0600), made when the first secret is sealed.
 *
 * What is sealed is bound to what it is for: moved to another row it cannot be opened. Keys and
 * what is opened lie in secret arenas (base/arena.h). Calls block; any thread, as each reads the
 * file.
 */
#pragma once

#include <stdbool.h>

#include "base/slice.h"

struct arena;
struct err;

#define SEAL_KEY_FILE "control/seal.key" /* in the home */

enum { SEAL_TEXT_MAX = 16 << 10, SEAL_KEY_BYTES = 32 };

/* "1:KEY:HEX" in the arena; KEY says which key, not what it is. */
[[nodiscard]] int seal_close(const char *home, struct slice purpose, struct slice text,
                             struct arena *arena, struct slice *ret, struct err *err);
/* In `secret`, an arena_new_secret(), terminated. ERR_PRECONDITION: the key is not here, or it is
 * another one; the message says what to do. ERR_INTERNAL: somebody has changed what was sealed. */
[[nodiscard]] int seal_open(const char *home, struct slice purpose, struct slice sealed,
                            struct arena *secret, struct slice *ret, struct err *err);
/* Is the key there, and the one that it was sealed with? */
bool seal_has_key(const char *home, struct slice sealed);
