/* SPDX-License-Identifier: Apache-2.0 */
/*
 * arena.h -- memory of one request (or command, or parse): allocated piece by piece, freed at once.
 *
 * The owner is who called arena_new(). One thread at a time. arena_alloc() never returns NULL:
 * malloc failing aborts (base/auto.h), and a caller that takes sizes from outside bounds them
 * first.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/slice.h"

struct arena;

struct arena *arena_new(void);
struct arena *arena_new_for(size_t bytes); /* so much comes of one allocation: what is usual */
/* For keys: pages of its own, which no core file has, and which go back to the kernel when it is
 * freed, with whatever a writer or a parser left in them. Each costs system calls. */
struct arena *arena_new_secret(void);
bool arena_secret(const struct arena *arena);
void arena_free(struct arena *arena); /* NULL is allowed; runs what was deferred, last first */

/* Aligned for anything; zeroed; lives as long as the arena. */
[[gnu::malloc, gnu::alloc_size(2), gnu::returns_nonnull]] void *arena_alloc(struct arena *arena,
                                                                            size_t bytes);
[[gnu::returns_nonnull]] void *arena_calloc(struct arena *arena, size_t count,
                                            size_t bytes); /* aborts on overflow */
#define ARENA_NEW(arena, type) ((type *)arena_alloc((arena), sizeof(type)))
#define ARENA_ARRAY(arena, type, count) ((type *)arena_calloc((arena), (count), sizeof(type)))

char *arena_string(struct arena *arena, struct slice text);       /* a terminated copy */
struct slice arena_copy(struct arena *arena, struct slice bytes); /* a copy, terminated as well */
char *arena_lower(struct arena *arena, struct slice text); /* likewise, of small letters (ASCII) */
[[gnu::format(printf, 2, 3)]] char *arena_format(struct arena *arena, const char *format, ...);

/* fn(data) runs in arena_free: for what is not memory. */
void arena_defer(struct arena *arena, void (*fn)(void *data), void *data);

size_t arena_bytes(const struct arena *arena); /* taken from malloc so far */
