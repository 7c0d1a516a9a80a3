/* SPDX-License-Identifier: Apache-2.0 */
/*
 * auto.h -- heap memory that cannot fail, and scope-bound resources. Any thread.
 *
 * malloc failing ends the process in one place, mem_abort(): sizes from outside are bounded before
 * anything is allocated for them, so what is left is a machine without memory.
 */
#pragma once

#include <stddef.h>
#include <stdlib.h>

struct slice;

[[gnu::noreturn]] void mem_abort(size_t bytes);
[[gnu::malloc, gnu::alloc_size(1), gnu::returns_nonnull]] void *mem_alloc(size_t bytes);
[[gnu::malloc, gnu::alloc_size(1), gnu::returns_nonnull]] void *mem_zalloc(size_t bytes);
[[gnu::returns_nonnull]] void *mem_resize(void *old, size_t count, size_t bytes); /* frees `old` */
/* The same for what may be secret: nothing of its `used` bytes stays where they were. */
[[gnu::returns_nonnull]] void *mem_move_wiped(void *old, size_t used, size_t bytes);
[[gnu::malloc, gnu::returns_nonnull]] char *mem_string(struct slice text); /* terminated */

static inline void auto_free_run(void *pointer)
{
    free(*(void **)pointer);
}

/* auto_free char *text = ...; is freed when its scope ends. */
#define auto_free [[gnu::cleanup(auto_free_run)]]

/* Hands the value over: `return take_ptr(text);` leaves NULL behind. */
#define take_ptr(pointer)                                                                          \
    ({                                                                                             \
        typeof(pointer) taken_ = (pointer);                                                        \
        (pointer) = NULL;                                                                          \
        taken_;                                                                                    \
    })
