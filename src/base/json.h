/* SPDX-License-Identifier: Apache-2.0 */
/*
 * json.h -- JSON, thin over yyjson: bounded reading, members with errors that name them, writing.
 *
 * A value read is a `yyjson_val *` and is looked at with yyjson's own functions (yyjson_is_obj,
 * yyjson_obj_iter_init ...); it lives as long as the arena it was read into. Strings may hold NUL:
 * take them as slices. Nothing here recurses on a value that json_parse() or yaml_parse() let
 * through unbounded: depth is bounded on reading. One thread at a time per arena.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <yyjson.h>

#include "base/slice.h"

struct arena;
struct err;

#define JSON_DEPTH_MAX 128 /* no limit below may be higher: some walks recurse */

struct json_limits {
    size_t bytes_max;        /* of text; 0: 16 MiB */
    size_t memory_max;       /* of the tree; 0: 16 times bytes_max */
    uint32_t depth_max;      /* 0: 64; at most JSON_DEPTH_MAX. `[]` is 1 deep */
    bool duplicates_allowed; /* else two members of one name are an error */
    bool big_numbers_raw; /* numbers that do not fit 64 bits or a double stay text (raw values) */
};

/* `limits` NULL: all as by default. Errors say "line 3, column 7 (byte 41): ...". ERR_TOO_LARGE
 * above bytes_max, memory_max; everything else ERR_BAD_INPUT. */
[[nodiscard]] int json_parse(struct arena *arena, struct slice text,
                             const struct json_limits *limits, yyjson_val **ret_root,
                             struct err *err);

/* --- looking at values ------------------------------------------------------------------- */

const char *json_kind(yyjson_val *value);   /* "a string", "an integer", "nothing" for NULL ... */
struct slice json_slice(yyjson_val *value); /* of a string; {} otherwise */
yyjson_val *json_member(yyjson_val *object, const char *key); /* NULL when absent or no object */

/* Members of an object by name. 1: *ret is set. 0: absent (only with JSON_OPTIONAL), *ret is
 * untouched. Negative: "'limit' must be a string, not an integer", "'limit' is missing". */
enum json_need { JSON_REQUIRED, JSON_OPTIONAL };
int json_get_string(yyjson_val *object, const char *key, enum json_need need, struct slice *ret,
                    struct err *err);
int json_get_bool(yyjson_val *object, const char *key, enum json_need need, bool *ret,
                  struct err *err);
int json_get_i64(yyjson_val *object, const char *key, enum json_need need, int64_t *ret,
                 struct err *err);
int json_get_u64(yyjson_val *object, const char *key, enum json_need need, uint64_t *ret,
                 struct err *err);
int json_get_double(yyjson_val *object, const char *key, enum json_need need, double *ret,
                    struct err *err); /* integers count */
int json_get_object(yyjson_val *object, const char *key, enum json_need need, yyjson_val **ret,
                    struct err *err);
int json_get_array(yyjson_val *object, const char *key, enum json_need need, yyjson_val **ret,
                   struct err *err);

/* Refuses members that are not in `known` (NULL-terminated), naming the nearest known one. */
[[nodiscard]] int json_check_keys(yyjson_val *object, const char *const *known, struct err *err);

/* Two members of one name anywhere below `root`: an error that names it. `root` lies flat, as all
 * trees read here do, and holds `count` values. */
[[nodiscard]] int json_check_duplicates(yyjson_val *root, size_t count, struct err *err);

/* The one of `known` that `word` was probably meant to be, or NULL. */
const char *json_nearest(struct slice word, const char *const *known);
/* Optimal string alignment distance, or max + 1 when it is more than `max`. At most 64 bytes. */
unsigned json_distance(struct slice a, struct slice b, unsigned max);

/* --- writing ------------------------------------------------------------------------------- */

enum { JSON_PRETTY = 1, JSON_NEWLINE = 2 };

struct slice json_print(struct arena *arena, yyjson_val *value, unsigned flags);
struct slice json_print_mut(struct arena *arena, const yyjson_mut_val *value, unsigned flags);

/* A writer appends to a buffer in its arena; commas and colons come by themselves. Nesting up to
 * JSON_DEPTH_MAX; calls out of order are faults of ours (assert). What it leaves behind as it grows
 * goes with the arena: keys are written, and read, in a secret one.
 *
 *     struct json_writer w;
 *     json_begin(&w, arena, 0);
 *     json_object_begin(&w);
 *     json_key(&w, "name");  json_string(&w, name);
 *     json_object_end(&w);
 *     struct slice body = json_end(&w);
 */
struct json_writer {
    struct arena *arena; /* borrowed */
    char *data;
    size_t size, room;
    uint32_t depth;
    unsigned flags;
    bool keyed; /* a key stands and waits for its value */
    struct {
        bool object, more;
    } levels[JSON_DEPTH_MAX + 1];
};

void json_begin(struct json_writer *writer, struct arena *arena, unsigned flags);
struct slice json_end(struct json_writer *writer); /* terminated as well; the writer is done */

void json_object_begin(struct json_writer *writer);
void json_object_end(struct json_writer *writer);
void json_array_begin(struct json_writer *writer);
void json_array_end(struct json_writer *writer);
void json_key(struct json_writer *writer, const char *key);
void json_key_slice(struct json_writer *writer, struct slice key);

void json_null(struct json_writer *writer);
void json_bool(struct json_writer *writer, bool value);
void json_i64(struct json_writer *writer, int64_t value);
void json_u64(struct json_writer *writer, uint64_t value);
void json_double(struct json_writer *writer, double value); /* shortest; NaN, infinity: null */
void json_float(struct json_writer *writer, float value);   /* shortest that reads back as it */
void json_string(struct json_writer *writer, struct slice text); /* not UTF-8: U+FFFD */
void json_text(struct json_writer *writer, const char *text);    /* NULL: null */
void json_raw(struct json_writer *writer, struct slice json);    /* one value, trusted */
void json_value(struct json_writer *writer, yyjson_val *value);

/* One member of an object. */
void json_member_text(struct json_writer *writer, const char *key, const char *text);
void json_member_string(struct json_writer *writer, const char *key, struct slice text);
void json_member_bool(struct json_writer *writer, const char *key, bool value);
void json_member_i64(struct json_writer *writer, const char *key, int64_t value);
void json_member_u64(struct json_writer *writer, const char *key, uint64_t value);
void json_member_double(struct json_writer *writer, const char *key, double value);
/* The same, and null for what is empty, or not there. */
void json_member_string_or_null(struct json_writer *writer, const char *key, struct slice text);
void json_member_raw_or_null(struct json_writer *writer, const char *key, struct slice json);
void json_member_u64_or_null(struct json_writer *writer, const char *key, bool there,
                             uint64_t value);
void json_member_double_or_null(struct json_writer *writer, const char *key, bool there,
                                double value);

/* Shortest text of a number into `buffer`; returns its length. Finite only. */
#define JSON_NUMBER_BYTES 40
size_t json_double_text(char buffer[static JSON_NUMBER_BYTES], double value);
size_t json_float_text(char buffer[static JSON_NUMBER_BYTES], float value);
