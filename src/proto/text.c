/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/text.h"

#include <stdlib.h>

#include "base/auto.h"
#include "proto/number.h"

#define TEXT_FIRST_BYTES 512

void text_deinit(struct text *text)
{
    free(text->data);
    *text = (struct text){};
}

void text_grow(struct text *text, size_t bytes)
{
    size_t wanted = text->size + bytes;
    size_t capacity = text->capacity ? text->capacity : TEXT_FIRST_BYTES;

    if (wanted < bytes)
        mem_abort(bytes);
    while (capacity < wanted)
        capacity = capacity > SIZE_MAX / 2 ? wanted : capacity * 2;
    text->data = mem_resize(text->data, capacity, 1);
    text->capacity = capacity;
}

void text_u64(struct text *text, uint64_t value)
{
    text->size += number_write_u64(text_room(text, NUMBER_OUT_MAX), value);
}

void text_i64(struct text *text, int64_t value)
{
    text->size += number_write_i64(text_room(text, NUMBER_OUT_MAX), value);
}

static void escape(struct text *text, unsigned char c)
{
    static const char hex[] = "0123456789abcdef";
    char *out = text_room(text, 6);

    out[0] = '\\';
    out[1] = c == '\n' ? 'n' : c == '\r' ? 'r' : c == '\t' ? 't' : (char)c;
    text->size += 2;
    if (c == '"' || c == '\\' || out[1] != (char)c)
        return;
    memcpy(out + 1, "u00", 3);
    out[4] = hex[c >> 4];
    out[5] = hex[c & 15];
    text->size += 4;
}

void text_json_string(struct text *text, struct slice value)
{
    size_t first = slice_plain(value);

    if (first == value.size) {
        char *out = text_room(text, value.size + 2);
        out[0] = '"';
        if (value.size) /* its data may be NULL */
            memcpy(out + 1, value.data, value.size);
        out[value.size + 1] = '"';
        text->size += value.size + 2;
        return;
    }
    text_char(text, '"');
    for (size_t i = first, plain = 0; i <= value.size; i++) {
        unsigned char c = i < value.size ? (unsigned char)value.data[i] : 0;
        size_t length = 1;

        if (c >= 0x80) {
            length = utf8_length((struct slice){ value.data + i, value.size - i });
            if (length > 0) {
                i += length - 1;
                continue;
            }
        } else if (c >= 0x20 && c != '"' && c != '\\' && c != 0x7f) {
            continue;
        }
        text_append(text, (struct slice){ value.data + plain, i - plain });
        plain = i + 1;
        if (i == value.size)
            break;
        if (length == 0)
            TEXT_LITERAL(text, "\xef\xbf\xbd"); /* U+FFFD */
        else
            escape(text, c);
    }
    text_char(text, '"');
}

void text_json_comma(struct text *text)
{
    char last = text->size ? text->data[text->size - 1] : '[';

    if (last != '[' && last != '{' && last != ':')
        text_char(text, ',');
}

void text_json_key(struct text *text, const char *key)
{
    size_t size = strlen(key);

    text_json_comma(text);
    char *out = text_room(text, size + 3);
    out[0] = '"';
    memcpy(out + 1, key, size);
    memcpy(out + 1 + size, "\":", 2);
    text->size += size + 3;
}

void text_json_field(struct text *text, const char *key, struct slice value)
{
    text_json_key(text, key);
    text_json_string(text, value);
}

void text_json_field_u64(struct text *text, const char *key, uint64_t value)
{
    text_json_key(text, key);
    text_u64(text, value);
}

void text_json_field_bool(struct text *text, const char *key, bool value)
{
    text_json_key(text, key);
    text_append(text, value ? SLICE("true") : SLICE("false"));
}
