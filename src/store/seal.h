/* SPDX-License-Identifier: Apache-2.0 */
/*
 * seal.h -- secrets as text that may lie in a database or a file: AES-256-GCM by a key in a file of
 * its own (0600). Control's (HOME/control/seal.key) is made when the first secret is sealed.
 *
 * What is sealed is bound to what it is for: moved to another row it cannot be opened. Keys and
 * what is opened lie in secret arenas (base/arena.h). Any thread; seal_key_load() blocks.
 */
#pragma once

#include <stdbool.h>

#include "base/slice.h"

struct arena;
struct err;
struct seal_key; /* immutable; any number of threads may use one */

#define SEAL_KEY_FILE "control/seal.key" /* in the home */

/* What is sealed here is for one of these, and whose it is: they are its name, too. */
#define SEAL_FOR_SECRET "secret "     /* PROJECT/NAME */
#define SEAL_FOR_PASSWORD "registry " /* HOST */

enum { SEAL_TEXT_MAX = 64 << 10, SEAL_KEY_BYTES = 32 };

/* Of a file, in `secret`, an arena_new_secret(). `make`: a new one where there is none.
 * ERR_PRECONDITION: it is not there, or none; the message says what to do. */
[[nodiscard]] int seal_key_load(const char *path, bool make, struct arena *secret,
                                const struct seal_key **ret, struct err *err);
/* The same of bytes that were read, or drawn: SEAL_KEY_BYTES. `path` is for messages. */
const struct seal_key *seal_key_of(const unsigned char *bytes, const char *path,
                                   struct arena *secret);

/* "1:KEY:HEX" in the arena; KEY says which key, not what it is. */
[[nodiscard]] int seal_close(const struct seal_key *key, struct slice purpose, struct slice text,
                             struct arena *arena, struct slice *ret, struct err *err);
/* In `secret`, terminated. ERR_PRECONDITION: it was sealed with another key; the message says what
 * to do. ERR_INTERNAL: somebody has changed what was sealed. */
[[nodiscard]] int seal_open(const struct seal_key *key, struct slice purpose, struct slice sealed,
                            struct arena *secret, struct slice *ret, struct err *err);
bool seal_key_same(const struct seal_key *a, const struct seal_key *b); /* NULL: no key is */
/* Is the key in that file, and the one that it was sealed with? */
bool seal_has_key(const char *path, struct slice sealed);
