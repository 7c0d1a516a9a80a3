/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <stdio.h>

#include "base/arena.h"
#include "base/auto.h"
#include "base/json.h"
#include "base/yaml.h"
#include "base/yaml_scalar.h"

struct printer {
    char *data; /* heap */
    size_t size, room;
};

static void append(struct printer *printer, const char *bytes, size_t size)
{
    if (printer->room - printer->size < size) {
        printer->room = printer->room * 2 + size + 256;
        printer->data = mem_resize(printer->data, printer->room, 1);
    }
    if (size)
        memcpy(printer->data + printer->size, bytes, size);
    printer->size += size;
}

static void append_text(struct printer *printer, const char *text)
{
    append(printer, text, strlen(text));
}

static void append_indent(struct printer *printer, unsigned indent)
{
    for (unsigned i = 0; i < indent; i++)
        append(printer, " ", 1);
}

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* Whether `text` may stand without quotes and reads as a string, also for readers of YAML 1.1. */
static bool reads_plain(struct slice text)
{
    static const char *const words[] = { "y", "n", "yes", "no", "on", "off", NULL };
    yyjson_val value = {};

    if (text.size == 0 || text.size > 200)
        return false;
    for (const char *const *word = words; *word; word++)
        if (slice_equal_nocase(text, slice_of(*word)))
            return false;
    for (size_t i = 0; i < text.size; i++) {
        char c = text.data[i];
        bool inside = i > 0 && i + 1 < text.size;
        if (is_letter(c) || (c >= '0' && c <= '9') || c == '_' || c == '/')
            continue;
        if (i > 0 && (c == '.' || c == '+' || c == '-' || c == '@' || c == '%'))
            continue;
        if (i == 0 && c == '.' && inside == false && text.size > 1 && text.data[1] == '/')
            continue;
        if (inside && c == ':' && text.data[i + 1] != ' ')
            continue;
        if (inside && c == ' ' && is_letter(text.data[i + 1]))
            continue;
        return false;
    }
    return yaml_scalar_value(text, true, (struct slice){}, &value, NULL) == 0 &&
           yyjson_is_str(&value);
}

static uint32_t code_point(const unsigned char *at, size_t length)
{
    switch (length) {
    case 2:
        return (at[0] & 0x1fu) << 6 | (at[1] & 0x3fu);
    case 3:
        return (at[0] & 0x0fu) << 12 | (at[1] & 0x3fu) << 6 | (at[2] & 0x3fu);
    case 4:
        return (at[0] & 0x07u) << 18 | (at[1] & 0x3fu) << 12 | (at[2] & 0x3fu) << 6 |
               (at[3] & 0x3fu);
    default:
        return at[0];
    }
}

static void append_quoted(struct printer *printer, struct slice text)
{
    append(printer, "\"", 1);
    for (size_t i = 0; i < text.size;) {
        struct slice rest = { text.data + i, text.size - i };
        size_t length = utf8_length(rest);
        assert(length); /* both readers refuse what is not UTF-8 */
        uint32_t point = code_point((const unsigned char *)rest.data, length);
        char escape[12];

        if (point == '"' || point == '\\')
            append(printer, (char[]){ '\\', (char)point }, 2);
        else if (point == '\n')
            append(printer, "\\n", 2);
        else if (point < 0x20 || (point >= 0x7f && point < 0xa0) || point == 0x2028 ||
                 point == 0x2029 || point == 0xfeff || point == 0xfffe || point == 0xffff) {
            snprintf(escape, sizeof escape, "\\u%04x", (unsigned)point);
            append_text(printer, escape);
        } else {
            append(printer, rest.data, length);
        }
        i += length;
    }
    append(printer, "\"", 1);
}

static void append_string(struct printer *printer, struct slice text)
{
    if (reads_plain(text))
        append(printer, text.data, text.size);
    else
        append_quoted(printer, text);
}

static void append_scalar(struct printer *printer, yyjson_val *value)
{
    if (yyjson_is_str(value)) {
        append_string(printer, json_slice(value));
    } else if (unsafe_yyjson_is_ctn(value)) {
        append_text(printer, yyjson_is_obj(value) ? "{}" : "[]");
    } else {
        size_t size = 0;
        auto_free char *text = yyjson_val_write(value, 0, &size);
        assert(text);
        append(printer, text, size);
    }
}

static bool is_block(yyjson_val *value)
{
    return unsafe_yyjson_is_ctn(value) && unsafe_yyjson_get_len(value) > 0;
}

/* Depth is that of the tree, which its reader bounded. `indented`: the line has its indent. */
static void append_block(struct printer *printer, yyjson_val *value, unsigned indent, bool indented)
{
    bool object = yyjson_is_obj(value);
    size_t count = unsafe_yyjson_get_len(value);
    yyjson_val *at = unsafe_yyjson_get_first(value);

    for (size_t i = 0; i < count; i++) {
        if (!indented)
            append_indent(printer, indent);
        indented = false;
        if (object) {
            struct slice key = json_slice(at);
            bool simple = key.size < 150; /* a reader looks 1024 characters ahead for the colon */
            if (!simple)
                append_text(printer, "? ");
            append_string(printer, key);
            if (!simple) {
                append_text(printer, "\n");
                append_indent(printer, indent);
            }
            append_text(printer, ":");
            at = unsafe_yyjson_get_next(at);
        } else {
            append_text(printer, "-");
        }
        if (!is_block(at)) {
            append_text(printer, " ");
            append_scalar(printer, at);
            append_text(printer, "\n");
        } else if (object) {
            append_text(printer, "\n");
            append_block(printer, at, indent + 2, false);
        } else {
            append_text(printer, " ");
            append_block(printer, at, indent + 2, true);
        }
        at = unsafe_yyjson_get_next(at);
    }
}

struct slice yaml_print(struct arena *arena, yyjson_val *root)
{
    struct printer printer = {};

    if (is_block(root)) {
        append_block(&printer, root, 0, false);
    } else {
        append_scalar(&printer, root);
        append_text(&printer, "\n");
    }
    struct slice text = arena_copy(arena, (struct slice){ printer.data, printer.size });
    free(printer.data);
    return text;
}
