/* SPDX-License-Identifier: Apache-2.0 */
/*
 * json_scan.h -- reads JSON from left to right, without a tree.
 *
 * For inference requests, where a tree of 150,000 numbers would cost more than the inference. The
 * caller asks for what it expects; whatever else stands there is an error that names the byte.
 * The text is borrowed; strings that hold escapes are decoded into the arena. One thread.
 *
 * `end` is the place of the text's last character, which must be the closing '}': so it can be
 * read without a check, and ends every number. What is behind it was seen to be spaces.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"

struct arena;
struct err;

#define JSON_SCAN_DEPTH_MAX 32
#define JSON_SCAN_KEYS_MAX 64 /* in an object: they are compared with each other */

struct json_scan {
    const char *start, *at, *end;
    struct arena *arena;
};

struct json_keys { /* of an object that is being read */
    struct slice seen[JSON_SCAN_KEYS_MAX];
    uint32_t count;
};

/* The text must be one object; ends on the last '}'. */
[[nodiscard]] int json_scan_begin(struct json_scan *scan, struct arena *arena, struct slice text,
                                  struct err *err);
/* After the object: nothing is left. */
[[nodiscard]] int json_scan_finish(struct json_scan *scan, struct err *err);

/* ERR_BAD_INPUT, "JSON, byte N: <what>". */
int json_scan_fail(const struct json_scan *scan, const char *at, const char *what, struct err *err);

static inline void json_scan_space(struct json_scan *scan)
{
    while (scan->at < scan->end &&
           (*scan->at == ' ' || *scan->at == '\n' || *scan->at == '\t' || *scan->at == '\r'))
        scan->at++;
}

/* The next character that is no space; '}' at the end of the text. */
static inline char json_scan_peek(struct json_scan *scan)
{
    json_scan_space(scan);
    return *scan->at;
}

/* Objects: enter, then next until 0; a key twice is an error. 1: *ret_key's value comes next. */
[[nodiscard]] int json_scan_object(struct json_scan *scan, struct json_keys *keys, struct err *err);
[[nodiscard]] int json_scan_key(struct json_scan *scan, struct json_keys *keys,
                                struct slice *ret_key, struct err *err);

/* Arrays: enter, then next until 0. 1: an element comes next. */
[[nodiscard]] int json_scan_array(struct json_scan *scan, bool *first, struct err *err);
[[nodiscard]] int json_scan_element(struct json_scan *scan, bool *first, struct err *err);

[[nodiscard]] int json_scan_string(struct json_scan *scan, struct slice *ret, struct err *err);
[[nodiscard]] int json_scan_bool(struct json_scan *scan, bool *ret, struct err *err);
[[nodiscard]] int json_scan_u64(struct json_scan *scan, uint64_t *ret, struct err *err);
[[nodiscard]] int json_scan_i64(struct json_scan *scan, int64_t *ret, struct err *err);

/* A string's content, decoded to `out`, which has room for *ret_size as found by a first call with
 * NULL. Both advance the scan. */
[[nodiscard]] int json_scan_decode(struct json_scan *scan, char *out, size_t *ret_size,
                                   struct err *err);

/* Any value, checked as strictly as one that is used. */
[[nodiscard]] int json_scan_skip(struct json_scan *scan, struct err *err);

/* An array whose content will be read later: only brackets and strings are looked at, quickly. */
[[nodiscard]] int json_scan_extent(struct json_scan *scan, struct slice *ret, struct err *err);
