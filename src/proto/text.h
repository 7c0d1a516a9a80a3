/* SPDX-License-Identifier: Apache-2.0 */
/*
 * text.h -- bytes that grow while they are written, and the pieces of JSON.
 *
 * The owner calls text_init() and text_deinit(), or takes `data` (from malloc) away with
 * text_take(). Not terminated. One thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"

struct text {
    char *data;
    size_t size, capacity;
};

static inline void text_init(struct text *text)
{
    *text = (struct text){};
}
void text_deinit(struct text *text);

void text_grow(struct text *text, size_t bytes);

/* Room for `bytes` more; write there and add to `size`. */
static inline char *text_room(struct text *text, size_t bytes)
{
    if (text->capacity - text->size < bytes)
        text_grow(text, bytes);
    return text->data + text->size;
}

static inline struct slice text_slice(const struct text *text)
{
    return (struct slice){ text->data, text->size };
}

static inline void text_append(struct text *text, struct slice bytes)
{
    if (bytes.size == 0)
        return;
    memcpy(text_room(text, bytes.size), bytes.data, bytes.size);
    text->size += bytes.size;
}

static inline void text_char(struct text *text, char c)
{
    *text_room(text, 1) = c;
    text->size++;
}

#define TEXT_LITERAL(text, literal) text_append((text), SLICE(literal))

void text_u64(struct text *text, uint64_t value);
void text_i64(struct text *text, int64_t value);

/* Quoted and escaped; bytes that are no UTF-8 become U+FFFD. */
void text_json_string(struct text *text, struct slice value);

/* `"key":`, with a comma before unless an opening bracket is what stands last. */
void text_json_key(struct text *text, const char *key);
void text_json_comma(struct text *text);
void text_json_field(struct text *text, const char *key, struct slice value);
void text_json_field_u64(struct text *text, const char *key, uint64_t value);
void text_json_field_bool(struct text *text, const char *key, bool value);
