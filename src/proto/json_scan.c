/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/json_scan.h"

#include <string.h>

#include "base/arena.h"
#include "base/err.h"
#include "proto/number.h"

int json_scan_fail(const struct json_scan *scan, const char *at, const char *what, struct err *err)
{
    if (at >= scan->end)
        return err_set(err, ERR_BAD_INPUT, "JSON, byte %zu: %s; the text ends there",
                       (size_t)(scan->end - scan->start), what);
    return err_set(err, ERR_BAD_INPUT, "JSON, byte %zu, at '%s': %s", (size_t)(at - scan->start),
                   err_text((char[ERR_TEXT_BYTES]){}, at,
                            scan->end - at < 12 ? (size_t)(scan->end - at) + 1 : 12),
                   what);
}

static bool is_space(char c)
{
    return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

int json_scan_begin(struct json_scan *scan, struct arena *arena, struct slice text, struct err *err)
{
    while (text.size > 0 && is_space(text.data[text.size - 1]))
        text.size--;
    if (text.size == 0)
        return err_set(err, ERR_BAD_INPUT, "the body is empty; a JSON object is expected");
    size_t first = 0;
    while (is_space(text.data[first]))
        first++;
    if (text.data[first] != '{')
        return err_set(err, ERR_BAD_INPUT,
                       "JSON, byte %zu: a JSON object is expected, and this begins with '%s'",
                       first,
                       err_text((char[ERR_TEXT_BYTES]){}, text.data + first,
                                text.size - first < 12 ? text.size - first : 12));
    if (text.data[text.size - 1] != '}')
        return err_set(err, ERR_BAD_INPUT,
                       "JSON, byte %zu: the text does not end with the '}' of an object",
                       text.size - 1);
    *scan = (struct json_scan){
        .start = text.data, .at = text.data, .end = text.data + text.size - 1, .arena = arena
    };
    return 0;
}

int json_scan_finish(struct json_scan *scan, struct err *err)
{
    if (scan->at <= scan->end)
        return json_scan_fail(scan, scan->at, "nothing is expected behind the object", err);
    return 0;
}

/* --- objects and arrays --------------------------------------------------------------------- */

int json_scan_object(struct json_scan *scan, struct json_keys *keys, struct err *err)
{
    if (json_scan_peek(scan) != '{')
        return json_scan_fail(scan, scan->at, "an object is expected", err);
    scan->at++;
    keys->count = 0;
    return 0;
}

/* Past the last '}' there may be nothing to read: only the outermost object may end there. */
static int past_end(const struct json_scan *scan, struct err *err)
{
    return scan->at > scan->end ? json_scan_fail(scan, scan->at, "a value is not closed", err) : 0;
}

int json_scan_key(struct json_scan *scan, struct json_keys *keys, struct slice *ret_key,
                  struct err *err)
{
    const char *at;
    struct slice key;
    int r = past_end(scan, err);

    if (r < 0)
        return r;
    if (json_scan_peek(scan) == '}') {
        scan->at++;
        return 0;
    }
    if (keys->count > 0) {
        if (*scan->at != ',')
            return json_scan_fail(scan, scan->at, "',' or '}' is expected", err);
        scan->at++;
        json_scan_space(scan);
    }
    at = scan->at;
    if (*at != '"')
        return json_scan_fail(scan, at, "a key in quotes is expected", err);
    r = json_scan_string(scan, &key, err);
    if (r < 0)
        return r;
    for (uint32_t i = 0; i < keys->count; i++)
        if (slice_equal(keys->seen[i], key))
            return json_scan_fail(scan, at, "this key stands here twice", err);
    if (keys->count == JSON_SCAN_KEYS_MAX)
        return json_scan_fail(scan, at, "an object may have 64 keys", err);
    keys->seen[keys->count++] = key;
    if (json_scan_peek(scan) != ':')
        return json_scan_fail(scan, scan->at, "':' is expected", err);
    scan->at++;
    *ret_key = key;
    return 1;
}

int json_scan_array(struct json_scan *scan, bool *first, struct err *err)
{
    if (json_scan_peek(scan) != '[')
        return json_scan_fail(scan, scan->at, "an array is expected", err);
    scan->at++;
    *first = true;
    return 0;
}

int json_scan_element(struct json_scan *scan, bool *first, struct err *err)
{
    int r = past_end(scan, err);

    if (r < 0)
        return r;
    if (json_scan_peek(scan) == ']') {
        scan->at++;
        return 0;
    }
    if (!*first) {
        if (*scan->at != ',')
            return json_scan_fail(scan, scan->at, "',' or ']' is expected", err);
        scan->at++;
        if (json_scan_peek(scan) == ']')
            return json_scan_fail(scan, scan->at, "a value is expected behind ','", err);
    }
    *first = false;
    return 1;
}

/* --- strings -------------------------------------------------------------------------------- */

static int hex4(const struct json_scan *scan, const char *at, uint32_t *ret)
{
    uint32_t value = 0;

    if (scan->end - at < 4)
        return -1;
    for (int i = 0; i < 4; i++) {
        char c = at[i];
        int digit = c >= '0' && c <= '9'   ? c - '0'
                    : c >= 'a' && c <= 'f' ? c - 'a' + 10
                    : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                           : -1;

        if (digit < 0)
            return -1;
        value = value << 4 | (uint32_t)digit;
    }
    *ret = value;
    return 0;
}

/* At the backslash. Returns the bytes written, or an error; moves scan->at. */
static int unescape(struct json_scan *scan, char out[static 4], struct err *err)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    const char *at = scan->at, *found;
    uint32_t code, low;

    if (at[1] != 'u') {
        found = at[1] ? strchr(from, at[1]) : NULL;
        if (!found)
            return json_scan_fail(scan, at, "no such escape", err);
        out[0] = to[found - from];
        scan->at += 2;
        return 1;
    }
    if (hex4(scan, at + 2, &code) < 0)
        return json_scan_fail(scan, at, "four hexadecimal digits are expected", err);
    scan->at += 6;
    if (code >= 0xd800 && code < 0xe000) {
        if (code >= 0xdc00 || scan->end - scan->at < 6 || scan->at[0] != '\\' ||
            scan->at[1] != 'u' || hex4(scan, scan->at + 2, &low) < 0 || low < 0xdc00 ||
            low >= 0xe000)
            return json_scan_fail(scan, at, "half of a surrogate pair", err);
        scan->at += 6;
        code = 0x10000 + ((code & 0x3ff) << 10) + (low & 0x3ff);
    }
    return (int)utf8_write(out, code);
}

/* The end of a run of characters that need no decoding; checks UTF-8. */
static const char *plain_run(const struct json_scan *scan, const char *at)
{
    while (at < scan->end) {
        at += slice_plain((struct slice){ at, (size_t)(scan->end - at) });
        if (at == scan->end)
            break;
        unsigned char c = (unsigned char)*at;

        if (c >= 0x80) {
            size_t length = utf8_length((struct slice){ at, (size_t)(scan->end - at) });

            if (length == 0)
                break;
            at += length;
        } else if (c == 0x7f) {
            at++;
        } else {
            break;
        }
    }
    return at;
}

int json_scan_decode(struct json_scan *scan, char *out, size_t *ret_size, struct err *err)
{
    const char *open = scan->at;
    size_t size = 0;

    if (scan->at >= scan->end || *open != '"')
        return json_scan_fail(scan, open, "a string is expected", err);
    scan->at++;
    for (;;) {
        const char *run = scan->at;
        char decoded[4];
        int r;

        scan->at = plain_run(scan, run);
        if (out)
            memcpy(out + size, run, (size_t)(scan->at - run));
        size += (size_t)(scan->at - run);
        if (scan->at >= scan->end)
            return json_scan_fail(scan, open, "this string is not closed", err);
        if (*scan->at == '"')
            break;
        if (*scan->at != '\\')
            return json_scan_fail(scan, scan->at,
                                  (unsigned char)*scan->at < 0x20
                                      ? "a control character in a string must be escaped"
                                      : "this is not UTF-8",
                                  err);
        r = unescape(scan, decoded, err);
        if (r < 0)
            return r;
        if (out)
            memcpy(out + size, decoded, (size_t)r);
        size += (size_t)r;
    }
    scan->at++;
    *ret_size = size;
    return 0;
}

int json_scan_string(struct json_scan *scan, struct slice *ret, struct err *err)
{
    const char *open;
    size_t size;
    int r;

    json_scan_space(scan);
    open = scan->at;
    r = json_scan_decode(scan, NULL, &size, err);
    if (r < 0)
        return r;
    if (size == (size_t)(scan->at - open) - 2) { /* no escapes */
        *ret = (struct slice){ open + 1, size };
        return 0;
    }
    char *copy = arena_alloc(scan->arena, size);
    scan->at = open;
    r = json_scan_decode(scan, copy, &size, err);
    *ret = (struct slice){ copy, size };
    return r;
}

/* --- scalars -------------------------------------------------------------------------------- */

static bool word(struct json_scan *scan, struct slice expected)
{
    if ((size_t)(scan->end - scan->at) < expected.size ||
        memcmp(scan->at, expected.data, expected.size) != 0)
        return false;
    scan->at += expected.size;
    return true;
}

int json_scan_bool(struct json_scan *scan, bool *ret, struct err *err)
{
    json_scan_space(scan);
    if (word(scan, SLICE("true")))
        *ret = true;
    else if (word(scan, SLICE("false")))
        *ret = false;
    else
        return json_scan_fail(scan, scan->at, "true or false is expected", err);
    return 0;
}

static int scan_number(struct json_scan *scan, struct number *ret, struct err *err)
{
    const char *after;

    json_scan_space(scan);
    after = number_scan(scan->at, scan->end, ret);
    if (!after)
        return json_scan_fail(scan, scan->at, "a number is expected", err);
    scan->at = after;
    return 0;
}

int json_scan_u64(struct json_scan *scan, uint64_t *ret, struct err *err)
{
    struct number number;
    int r = scan_number(scan, &number, err);

    if (r == 0 && !number_u64(&number, ret))
        return json_scan_fail(scan, number.text, "an integer from 0 to 2^64-1 is expected", err);
    return r;
}

int json_scan_i64(struct json_scan *scan, int64_t *ret, struct err *err)
{
    struct number number;
    int r = scan_number(scan, &number, err);

    if (r == 0 && !number_i64(&number, ret))
        return json_scan_fail(scan, number.text, "an integer of 64 bits is expected", err);
    return r;
}

/* --- skipping ------------------------------------------------------------------------------- */

static int skip(struct json_scan *scan, int depth, struct err *err);

static int skip_object(struct json_scan *scan, int depth, struct err *err)
{
    struct json_keys keys = { .count = 0 };
    struct slice key;
    int r = json_scan_object(scan, &keys, err);

    while (r >= 0 && (r = json_scan_key(scan, &keys, &key, err)) > 0)
        r = skip(scan, depth + 1, err);
    return r;
}

static int skip_array(struct json_scan *scan, int depth, struct err *err)
{
    bool first = true;
    int r = json_scan_array(scan, &first, err);

    while (r >= 0 && (r = json_scan_element(scan, &first, err)) > 0)
        r = skip(scan, depth + 1, err);
    return r;
}

static int skip(struct json_scan *scan, int depth, struct err *err)
{
    struct number number;
    size_t size;
    bool ignored;

    if (depth > JSON_SCAN_DEPTH_MAX)
        return json_scan_fail(scan, scan->at, "this is nested too deeply", err);
    switch (json_scan_peek(scan)) {
    case '{':
        return skip_object(scan, depth, err);
    case '[':
        return skip_array(scan, depth, err);
    case '"':
        return json_scan_decode(scan, NULL, &size, err);
    case 't':
    case 'f':
        return json_scan_bool(scan, &ignored, err);
    case 'n':
        if (word(scan, SLICE("null")))
            return 0;
        return json_scan_fail(scan, scan->at, "a value is expected", err);
    default:
        return scan_number(scan, &number, err);
    }
}

int json_scan_skip(struct json_scan *scan, struct err *err)
{
    return skip(scan, 0, err);
}

/* Eight characters without one of "[]{}, of which numbers need none. */
static bool dull(const char *at)
{
    uint64_t word8, quotes;

    memcpy(&word8, at, sizeof word8);
    quotes = word8 ^ 0x2222222222222222;
    quotes = (quotes - 0x0101010101010101) & ~quotes;
    return ((quotes & 0x8080808080808080) | (word8 & 0x4040404040404040)) == 0;
}

/* The same of 64, in the registers that any processor of 64 bits has for 16. */
static bool dull64(const char *at)
{
    typedef unsigned char bytes16 __attribute__((vector_size(16)));
    bytes16 odd = {};
    uint64_t halves[2];

    for (int i = 0; i < 4; i++) {
        bytes16 part;
        memcpy(&part, at + i * 16, sizeof part);
        odd |= (part & 0x40) | (bytes16)(part == '"');
    }
    memcpy(halves, &odd, sizeof halves);
    return (halves[0] | halves[1]) == 0;
}

int json_scan_extent(struct json_scan *scan, struct slice *ret, struct err *err)
{
    const char *open;
    int depth = 0;

    if (json_scan_peek(scan) != '[')
        return json_scan_fail(scan, scan->at, "an array is expected", err);
    open = scan->at;
    do {
        size_t size;
        int r;

        while (scan->end - scan->at >= 64 && dull64(scan->at))
            scan->at += 64;
        while (scan->end - scan->at >= 8 && dull(scan->at))
            scan->at += 8;
        if (scan->at >= scan->end)
            return json_scan_fail(scan, open, "this array is not closed", err);
        switch (*scan->at) {
        case '[':
            if (++depth > JSON_SCAN_DEPTH_MAX)
                return json_scan_fail(scan, open, "this is nested too deeply", err);
            break;
        case ']':
            depth--;
            break;
        case '"':
            r = json_scan_decode(scan, NULL, &size, err);
            if (r < 0)
                return r;
            scan->at--; /* as if at its last quote */
            break;
        case '{':
        case '}':
            return json_scan_fail(scan, scan->at, "a tensor holds no objects", err);
        }
        scan->at++;
    } while (depth > 0);
    *ret = (struct slice){ open, (size_t)(scan->at - open) };
    return 0;
}
