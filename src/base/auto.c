/* SPDX-License-Identifier: Apache-2.0 */
#include "base/auto.h"

#include <stdio.h>
#include <string.h>

#include "base/slice.h"

void mem_abort(size_t bytes)
{
    fprintf(stderr, "perigee: out of memory (%zu bytes)\n", bytes);
    abort();
}

void *mem_alloc(size_t bytes)
{
    void *memory = malloc(bytes ? bytes : 1);
    if (!memory)
        mem_abort(bytes);
    return memory;
}

void *mem_zalloc(size_t bytes)
{
    void *memory = calloc(1, bytes ? bytes : 1);
    if (!memory)
        mem_abort(bytes);
    return memory;
}

void *mem_resize(void *old, size_t count, size_t bytes)
{
    size_t all;
    if (__builtin_mul_overflow(count, bytes, &all))
        mem_abort((size_t)-1);
    void *memory = realloc(old, all ? all : 1);
    if (!memory)
        mem_abort(all);
    return memory;
}

void *mem_move_wiped(void *old, size_t used, size_t bytes)
{
    void *memory = mem_alloc(bytes);
    if (used) {
        memcpy(memory, old, used);
        explicit_bzero(old, used);
    }
    free(old);
    return memory;
}

char *mem_string(struct slice text)
{
    char *copy = mem_alloc(text.size + 1);
    if (text.size)
        memcpy(copy, text.data, text.size);
    copy[text.size] = '\0';
    return copy;
}
