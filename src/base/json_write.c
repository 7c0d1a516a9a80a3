/* SPDX-License-Identifier: Apache-2.0 */
#include "base/json.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>

#include "base/arena.h"
#include "base/auto.h"

/* --- numbers ------------------------------------------------------------------------------- */

size_t json_double_text(char buffer[static JSON_NUMBER_BYTES], double value)
{
    char memory[512];
    yyjson_alc pool;
    yyjson_val number = { .tag = YYJSON_TYPE_NUM | YYJSON_SUBTYPE_REAL, .uni = { .f64 = value } };
    size_t size = 0;

    assert(isfinite(value));
    yyjson_alc_pool_init(&pool, memory, sizeof memory);
    char *text = yyjson_val_write_opts(&number, 0, &pool, &size, NULL);
    assert(text && size < JSON_NUMBER_BYTES);
    memcpy(buffer, text, size + 1);
    return size;
}

/* 10^0 to 10^22 are exact, so that one multiplication or division by them rounds once. */
static const double tens[] = { 1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                               1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                               1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22 };

/* digits * 10^-places, as a person writes it: 0.001, 12.5, 3.0. */
static size_t decimal_text(char *buffer, bool negative, uint64_t digits, int places)
{
    char number[24];

    while (places > 0 && digits % 10 == 0) {
        digits /= 10;
        places--;
    }
    int size = snprintf(number, sizeof number, "%llu", (unsigned long long)digits);
    char *at = buffer;
    if (negative)
        *at++ = '-';
    if (places <= 0) {
        memcpy(at, number, (size_t)size);
        at += size;
        for (; places < 0; places++)
            *at++ = '0';
        *at++ = '.';
        *at++ = '0';
    } else if (size > places) {
        memcpy(at, number, (size_t)(size - places));
        at += size - places;
        *at++ = '.';
        memcpy(at, number + size - places, (size_t)places);
        at += places;
    } else {
        *at++ = '0';
        *at++ = '.';
        for (int i = size; i < places; i++)
            *at++ = '0';
        memcpy(at, number, (size_t)size);
        at += size;
    }
    *at = '\0';
    return (size_t)(at - buffer);
}

/* Halfway between two floats: reading it as a double first could round the other way. */
static bool is_midpoint(double value)
{
    uint64_t bits;

    memcpy(&bits, &value, sizeof bits);
    return (bits & 0x1fffffff) == 0x10000000;
}

/*
 * A float as a double has up to 17 digits of which 9 suffice. Try 6 to 9 digits and take the first
 * that comes back; whoever reads it as a double first and then rounds gets the same float.
 */
size_t json_float_text(char buffer[static JSON_NUMBER_BYTES], float value)
{
    double size = fabs((double)value);

    assert(isfinite(value));
    if (size >= 1e-4 && size < 1e9) {
        int exponent = (int)floor(log10(size));
        for (int precision = 6; precision <= 9; precision++) {
            int places = precision - 1 - exponent;
            double scaled = places >= 0 ? size * tens[places] : size / tens[-places];
            uint64_t digits = (uint64_t)(scaled + 0.5);
            double back =
                places >= 0 ? (double)digits / tens[places] : (double)digits * tens[-places];
            if ((float)back == (float)size && !is_midpoint(back))
                return decimal_text(buffer, value < 0, digits, places);
        }
    }
    return json_double_text(buffer, (double)value);
}

/* --- the writer ------------------------------------------------------------------------------ */

static char *reserve(struct json_writer *writer, size_t bytes)
{
    if (writer->room - writer->size < bytes + 1) {
        size_t room = writer->room * 2 > writer->size + bytes + 1 ? writer->room * 2
                                                                  : writer->size + bytes + 1;
        char *data = arena_alloc(writer->arena, room);
        if (writer->size)
            memcpy(data, writer->data, writer->size);
        writer->data = data;
        writer->room = room;
    }
    return writer->data + writer->size;
}

static void append(struct json_writer *writer, const char *bytes, size_t size)
{
    if (size == 0)
        return;
    memcpy(reserve(writer, size), bytes, size);
    writer->size += size;
}

static void append_char(struct json_writer *writer, char byte)
{
    append(writer, &byte, 1);
}

static void line_break(struct json_writer *writer)
{
    if (!(writer->flags & JSON_PRETTY))
        return;
    append_char(writer, '\n');
    for (uint32_t i = 0; i < writer->depth; i++)
        append(writer, "  ", 2);
}

void json_begin(struct json_writer *writer, struct arena *arena, unsigned flags)
{
    writer->arena = arena;
    writer->size = 0;
    writer->depth = 0;
    writer->flags = flags;
    writer->keyed = false;
    writer->levels[0].object = writer->levels[0].more = false;
    writer->room = 256;
    writer->data = arena_alloc(arena, writer->room);
}

struct slice json_end(struct json_writer *writer)
{
    assert(writer->depth == 0 && !writer->keyed && writer->levels[0].more);
    if (writer->flags & JSON_NEWLINE)
        append_char(writer, '\n');
    *reserve(writer, 0) = '\0';
    return (struct slice){ writer->data, writer->size };
}

/* What must stand before a value or a key: comma, line, nothing behind a key. */
static void separate(struct json_writer *writer)
{
    if (writer->levels[writer->depth].more)
        append_char(writer, ',');
    writer->levels[writer->depth].more = true;
    if (writer->depth)
        line_break(writer);
}

static void value_begins(struct json_writer *writer)
{
    if (writer->levels[writer->depth].object) {
        assert(writer->keyed);
        writer->keyed = false;
        return;
    }
    assert(writer->depth || !writer->levels[0].more);
    separate(writer);
}

static void open_level(struct json_writer *writer, char bracket, bool object)
{
    value_begins(writer);
    assert(writer->depth < JSON_DEPTH_MAX);
    append_char(writer, bracket);
    writer->depth++;
    writer->levels[writer->depth].object = object;
    writer->levels[writer->depth].more = false;
}

static void close_level(struct json_writer *writer, char bracket, bool object)
{
    assert(writer->depth && !writer->keyed && writer->levels[writer->depth].object == object);
    bool more = writer->levels[writer->depth--].more;
    if (more)
        line_break(writer);
    append_char(writer, bracket);
}

void json_object_begin(struct json_writer *writer)
{
    open_level(writer, '{', true);
}

void json_object_end(struct json_writer *writer)
{
    close_level(writer, '}', true);
}

void json_array_begin(struct json_writer *writer)
{
    open_level(writer, '[', false);
}

void json_array_end(struct json_writer *writer)
{
    close_level(writer, ']', false);
}

static void append_escape(struct json_writer *writer, unsigned char byte)
{
    static const char letters[] = "btn.fr"; /* of 8 to 13; 11 has none */
    char escape[8];

    if (byte == '"' || byte == '\\') {
        append(writer, (char[]){ '\\', (char)byte }, 2);
    } else if (byte >= 8 && byte <= 13 && byte != 11) {
        append(writer, (char[]){ '\\', letters[byte - 8] }, 2);
    } else {
        snprintf(escape, sizeof escape, "\\u%04x", byte);
        append(writer, escape, 6);
    }
}

static void append_string(struct json_writer *writer, struct slice text)
{
    const char *run = text.data; /* what may be copied as it is */
    size_t at = 0, begun = 0;

    append_char(writer, '"');
    while (at < text.size) {
        unsigned char byte = (unsigned char)text.data[at];
        if (byte >= 0x20 && byte < 0x80 && byte != '"' && byte != '\\') {
            at++;
            continue;
        }
        size_t length = byte < 0x80 ? 0 : utf8_length((struct slice){ run + at, text.size - at });
        if (length) {
            at += length;
            continue;
        }
        append(writer, run + begun, at - begun);
        if (byte < 0x80)
            append_escape(writer, byte);
        else
            append(writer, "\xef\xbf\xbd", 3);
        begun = ++at;
    }
    append(writer, run ? run + begun : NULL, at - begun);
    append_char(writer, '"');
}

void json_key_slice(struct json_writer *writer, struct slice key)
{
    assert(writer->levels[writer->depth].object && !writer->keyed);
    separate(writer);
    append_string(writer, key);
    append_char(writer, ':');
    if (writer->flags & JSON_PRETTY)
        append_char(writer, ' ');
    writer->keyed = true;
}

void json_key(struct json_writer *writer, const char *key)
{
    json_key_slice(writer, slice_of(key));
}

void json_raw(struct json_writer *writer, struct slice json)
{
    value_begins(writer);
    append(writer, json.data, json.size);
}

void json_null(struct json_writer *writer)
{
    json_raw(writer, SLICE("null"));
}

void json_bool(struct json_writer *writer, bool value)
{
    json_raw(writer, value ? SLICE("true") : SLICE("false"));
}

void json_u64(struct json_writer *writer, uint64_t value)
{
    char text[24];
    char *at = text + sizeof text;

    do
        *--at = (char)('0' + value % 10);
    while (value /= 10);
    json_raw(writer, (struct slice){ at, (size_t)(text + sizeof text - at) });
}

void json_i64(struct json_writer *writer, int64_t value)
{
    char text[24];
    int size = snprintf(text, sizeof text, "%lld", (long long)value);

    json_raw(writer, (struct slice){ text, (size_t)size });
}

void json_double(struct json_writer *writer, double value)
{
    char text[JSON_NUMBER_BYTES];

    if (!isfinite(value))
        json_null(writer);
    else
        json_raw(writer, (struct slice){ text, json_double_text(text, value) });
}

void json_float(struct json_writer *writer, float value)
{
    char text[JSON_NUMBER_BYTES];

    if (!isfinite(value))
        json_null(writer);
    else
        json_raw(writer, (struct slice){ text, json_float_text(text, value) });
}

void json_string(struct json_writer *writer, struct slice text)
{
    value_begins(writer);
    append_string(writer, text);
}

void json_text(struct json_writer *writer, const char *text)
{
    if (text)
        json_string(writer, slice_of(text));
    else
        json_null(writer);
}

void json_value(struct json_writer *writer, yyjson_val *value)
{
    size_t size = 0;
    auto_free char *text = yyjson_val_write(value, 0, &size);

    assert(text); /* trees read here hold only what can be written */
    json_raw(writer, (struct slice){ text, size });
}

void json_member_text(struct json_writer *writer, const char *key, const char *text)
{
    json_key(writer, key);
    json_text(writer, text);
}

void json_member_string(struct json_writer *writer, const char *key, struct slice text)
{
    json_key(writer, key);
    json_string(writer, text);
}

void json_member_bool(struct json_writer *writer, const char *key, bool value)
{
    json_key(writer, key);
    json_bool(writer, value);
}

void json_member_i64(struct json_writer *writer, const char *key, int64_t value)
{
    json_key(writer, key);
    json_i64(writer, value);
}

void json_member_u64(struct json_writer *writer, const char *key, uint64_t value)
{
    json_key(writer, key);
    json_u64(writer, value);
}

void json_member_double(struct json_writer *writer, const char *key, double value)
{
    json_key(writer, key);
    json_double(writer, value);
}

static bool there_or_null(struct json_writer *writer, const char *key, bool there)
{
    json_key(writer, key);
    if (!there)
        json_null(writer);
    return there;
}

void json_member_string_or_null(struct json_writer *writer, const char *key, struct slice text)
{
    if (there_or_null(writer, key, text.size > 0))
        json_string(writer, text);
}

void json_member_raw_or_null(struct json_writer *writer, const char *key, struct slice json)
{
    if (there_or_null(writer, key, json.size > 0))
        json_raw(writer, json);
}

void json_member_u64_or_null(struct json_writer *writer, const char *key, bool there,
                             uint64_t value)
{
    if (there_or_null(writer, key, there))
        json_u64(writer, value);
}

void json_member_double_or_null(struct json_writer *writer, const char *key, bool there,
                                double value)
{
    if (there_or_null(writer, key, there))
        json_double(writer, value);
}

/* --- whole trees ----------------------------------------------------------------------------- */

static struct slice into_arena(struct arena *arena, char *text, size_t size, unsigned flags)
{
    assert(text); /* only NaN and infinities cannot be written, and none is read */
    size_t more = flags & JSON_NEWLINE ? 1 : 0;
    char *copy = arena_alloc(arena, size + more + 1);

    memcpy(copy, text, size);
    if (more)
        copy[size] = '\n';
    free(text);
    return (struct slice){ copy, size + more };
}

static yyjson_write_flag write_flags(unsigned flags)
{
    return flags & JSON_PRETTY ? YYJSON_WRITE_PRETTY_TWO_SPACES : YYJSON_WRITE_NOFLAG;
}

struct slice json_print(struct arena *arena, yyjson_val *value, unsigned flags)
{
    size_t size = 0;
    char *text = yyjson_val_write(value, write_flags(flags), &size);

    return into_arena(arena, text, size, flags);
}

struct slice json_print_mut(struct arena *arena, const yyjson_mut_val *value, unsigned flags)
{
    size_t size = 0;
    char *text = yyjson_mut_val_write(value, write_flags(flags), &size);

    return into_arena(arena, text, size, flags);
}
