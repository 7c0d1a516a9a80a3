/* SPDX-License-Identifier: Apache-2.0 */
#include "base/arena.h"

#include <assert.h>
#include <stdalign.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "base/auto.h"

enum { CHUNK_BYTES_FIRST = 1024, CHUNK_BYTES_MAX = 64 * 1024, PAGE = 4096 };

struct chunk {
    struct chunk *next;
    size_t size, used;
    alignas(max_align_t) char bytes[];
};

struct deferred {
    struct deferred *next;
    void (*fn)(void *data);
    void *data;
};

struct arena {
    struct chunk *chunks; /* the first is the one in use */
    struct deferred *deferred;
    size_t bytes;
    bool secret;
    struct chunk first; /* in the same piece of memory */
};

/* ---- where chunks come from ------------------------------------------------------------------ */

static void *pages_new(size_t bytes)
{
    void *pages = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED)
        mem_abort(bytes);
    (void)madvise(pages, bytes, MADV_DONTDUMP); /* without it a core would have it: no more */
    return pages;
}

/* Of secret arenas whole pages: *bytes becomes as many as they have. */
static void *memory_new(bool secret, size_t *bytes)
{
    if (!secret)
        return mem_alloc(*bytes);
    if (*bytes > SIZE_MAX - PAGE)
        mem_abort(*bytes);
    *bytes = (*bytes + PAGE - 1) & ~(size_t)(PAGE - 1);
    return pages_new(*bytes);
}

static void memory_free(bool secret, void *memory, size_t bytes)
{
    if (secret)
        (void)munmap(memory, bytes);
    else
        free(memory);
}

/* ---- pieces --------------------------------------------------------------------------------- */

static struct chunk *chunk_add(struct arena *arena, size_t need)
{
    size_t size = arena->chunks->size * 2;
    if (size > CHUNK_BYTES_MAX)
        size = CHUNK_BYTES_MAX;
    bool apart = need > size / 2; /* a big piece gets a chunk of its own, behind the one in use */
    if (apart)
        size = need;
    size_t all = sizeof(struct chunk) + size;
    struct chunk *chunk = memory_new(arena->secret, &all);
    chunk->size = all - sizeof *chunk;
    chunk->used = 0;
    arena->bytes += all;
    if (apart) {
        chunk->next = arena->chunks->next;
        arena->chunks->next = chunk;
    } else {
        chunk->next = arena->chunks;
        arena->chunks = chunk;
    }
    return chunk;
}

static struct arena *begin(bool secret, size_t bytes)
{
    size_t all = sizeof(struct arena) + bytes;
    struct arena *arena = memory_new(secret, &all);

    *arena = (struct arena){ .chunks = &arena->first, .bytes = all, .secret = secret };
    arena->first = (struct chunk){ .size = all - sizeof(struct arena) };
    return arena;
}

struct arena *arena_new(void)
{
    return begin(false, CHUNK_BYTES_FIRST);
}

struct arena *arena_new_for(size_t bytes)
{
    return begin(false, bytes);
}

struct arena *arena_new_secret(void)
{
    return begin(true, CHUNK_BYTES_FIRST);
}

bool arena_secret(const struct arena *arena)
{
    return arena->secret;
}

void arena_free(struct arena *arena)
{
    if (!arena)
        return;
    for (struct deferred *d = arena->deferred; d; d = d->next)
        d->fn(d->data);
    for (struct chunk *chunk = arena->chunks, *next; chunk; chunk = next) {
        next = chunk->next;
        if (chunk != &arena->first)
            memory_free(arena->secret, chunk, sizeof *chunk + chunk->size);
    }
    memory_free(arena->secret, arena, sizeof *arena + arena->first.size);
}

void *arena_alloc(struct arena *arena, size_t bytes)
{
    size_t need;
    if (__builtin_add_overflow(bytes, alignof(max_align_t) - 1, &need))
        mem_abort(bytes);
    need &= ~(alignof(max_align_t) - 1);

    struct chunk *chunk = arena->chunks;
    if (chunk->size - chunk->used < need)
        chunk = chunk_add(arena, need);
    void *piece = chunk->bytes + chunk->used;
    chunk->used += need;
    return memset(piece, 0, bytes);
}

void *arena_calloc(struct arena *arena, size_t count, size_t bytes)
{
    size_t all;
    if (__builtin_mul_overflow(count, bytes, &all))
        mem_abort(SIZE_MAX);
    return arena_alloc(arena, all);
}

struct slice arena_copy(struct arena *arena, struct slice bytes)
{
    char *copy = arena_alloc(arena, bytes.size + 1);
    if (bytes.size)
        memcpy(copy, bytes.data, bytes.size);
    return (struct slice){ copy, bytes.size };
}

char *arena_string(struct arena *arena, struct slice text)
{
    return (char *)arena_copy(arena, text).data;
}

char *arena_lower(struct arena *arena, struct slice text)
{
    char *lower = arena_string(arena, text);
    for (size_t i = 0; i < text.size; i++)
        if (lower[i] >= 'A' && lower[i] <= 'Z')
            lower[i] = (char)(lower[i] + ('a' - 'A'));
    return lower;
}

char *arena_format(struct arena *arena, const char *format, ...)
{
    va_list arguments, again;
    assert(format); /* gcc with UBSan asks */
    va_start(arguments, format);
    va_copy(again, arguments);
    int size = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    assert(size >= 0);
    char *text = arena_alloc(arena, (size_t)size + 1);
    vsnprintf(text, (size_t)size + 1, format, again);
    va_end(again);
    return text;
}

void arena_defer(struct arena *arena, void (*fn)(void *data), void *data)
{
    struct deferred *deferred = ARENA_NEW(arena, struct deferred);
    *deferred = (struct deferred){ arena->deferred, fn, data };
    arena->deferred = deferred;
}

size_t arena_bytes(const struct arena *arena)
{
    return arena->bytes;
}
