/* SPDX-License-Identifier: Apache-2.0 */
#include "base/json.h"

#include <assert.h>
#include <string.h>

#include "base/arena.h"
#include "base/auto.h"
#include "base/err.h"
#include "base/map.h"

/* --- reading ------------------------------------------------------------------------------- */

/* yyjson allocates through this, so that a small text cannot become a big tree unbounded. */
struct budget {
    size_t taken, max;
    bool refused;
    struct arena *secret; /* its memory is there, and goes with it; NULL: malloc's */
};

static bool budget_take(struct budget *budget, size_t bytes)
{
    if (bytes > budget->max - budget->taken) {
        budget->refused = true;
        return false;
    }
    budget->taken += bytes;
    return true;
}

static void *budget_malloc(void *context, size_t bytes)
{
    struct budget *budget = context;
    if (!budget_take(budget, bytes))
        return NULL;
    return budget->secret ? arena_alloc(budget->secret, bytes) : mem_alloc(bytes);
}

static void *budget_realloc(void *context, void *old, size_t bytes_old, size_t bytes)
{
    struct budget *budget = context;
    if (bytes > bytes_old && !budget_take(budget, bytes - bytes_old))
        return NULL;
    if (!budget->secret)
        return mem_resize(old, bytes, 1);
    if (bytes <= bytes_old)
        return old;
    return memcpy(arena_alloc(budget->secret, bytes), old, bytes_old);
}

static void budget_free(void *context, void *memory)
{
    const struct budget *budget = context;
    if (!budget || !budget->secret)
        free(memory);
}

static void document_free(void *document)
{
    yyjson_doc_free(document);
}

static int check_depth(yyjson_val *root, size_t count, uint32_t depth_max, struct err *err)
{
    const yyjson_val *ends[JSON_DEPTH_MAX + 1];
    uint32_t depth = 0;

    assert(depth_max <= JSON_DEPTH_MAX);
    for (yyjson_val *at = root; at < root + count; at++) {
        while (depth && at >= ends[depth - 1])
            depth--;
        if (!unsafe_yyjson_is_ctn(at))
            continue;
        if (depth == depth_max)
            return err_set(err, ERR_BAD_INPUT, "nested more than %u levels deep", depth_max);
        ends[depth++] = unsafe_yyjson_get_next(at);
    }
    return 0;
}

static int check_members(yyjson_val *object, struct map *seen, struct err *err)
{
    enum { FEW = 8 };
    size_t count = yyjson_obj_size(object);
    struct slice few[FEW];
    size_t known = 0;
    yyjson_val *key;
    yyjson_obj_iter iter;

    map_clear(seen);
    yyjson_obj_iter_init(object, &iter);
    while ((key = yyjson_obj_iter_next(&iter))) {
        struct slice name = json_slice(key);
        bool twice = false;
        if (count > FEW) {
            twice = map_put(seen, name, key) != NULL;
        } else {
            for (size_t i = 0; i < known; i++)
                twice |= slice_equal(few[i], name);
            few[known++] = name;
        }
        if (twice)
            return err_set(err, ERR_BAD_INPUT, "'%s' is there twice", ERR_SLICE(name));
    }
    return 0;
}

int json_check_duplicates(yyjson_val *root, size_t count, struct err *err)
{
    struct map seen = {};
    int r = 0;

    for (yyjson_val *at = root; at < root + count && r == 0; at++)
        if (unsafe_yyjson_is_obj(at))
            r = check_members(at, &seen, err);
    map_deinit(&seen);
    return r;
}

static int read_failed(struct slice text, const yyjson_read_err *why, struct err *err)
{
    size_t line = 1, column = 1, character = 0;

    if (text.size == 0 || why->code == YYJSON_READ_ERROR_EMPTY_CONTENT)
        return err_set(err, ERR_BAD_INPUT, "no JSON: there is nothing");
    if (!yyjson_locate_pos(text.data, text.size, why->pos, &line, &column, &character))
        return err_set(err, ERR_BAD_INPUT, "byte %zu: %s", why->pos, why->msg);
    return err_set(err, ERR_BAD_INPUT, "line %zu, column %zu (byte %zu): %s", line, column,
                   why->pos, why->msg);
}

int json_parse(struct arena *arena, struct slice text, const struct json_limits *limits,
               yyjson_val **ret_root, struct err *err)
{
    static const struct json_limits none = {};
    if (!limits)
        limits = &none;
    size_t bytes_max = limits->bytes_max ? limits->bytes_max : (size_t)16 << 20;
    uint32_t depth_max = limits->depth_max ? limits->depth_max : 64;
    struct budget budget = { .max = limits->memory_max ? limits->memory_max : 16 * bytes_max,
                             .secret = arena_secret(arena) ? arena : NULL };

    if (text.size > bytes_max)
        return err_set(err, ERR_TOO_LARGE, "%zu bytes of JSON, the limit is %zu", text.size,
                       bytes_max);
    yyjson_alc allocator = { budget_malloc, budget_realloc, budget_free, &budget };
    yyjson_read_err why = {};
    yyjson_read_flag flags = limits->big_numbers_raw ? YYJSON_READ_BIGNUM_AS_RAW : 0;
    yyjson_doc *document = yyjson_read_opts((char *)(uintptr_t)(text.data ? text.data : ""),
                                            text.size, flags, &allocator, &why);

    if (!document && budget.refused)
        return err_set(err, ERR_TOO_LARGE, "this JSON takes more than %zu bytes of memory",
                       budget.max);
    if (!document)
        return read_failed(text, &why, err);
    document->alc.ctx = NULL; /* freeing does not look at the budget, which ends here */
    if (!budget.secret)
        arena_defer(arena, document_free, document);

    yyjson_val *root = yyjson_doc_get_root(document);
    size_t count = yyjson_doc_get_val_count(document);
    int r = check_depth(root, count, depth_max, err);
    if (r == 0 && !limits->duplicates_allowed)
        r = json_check_duplicates(root, count, err);
    if (r < 0)
        return r;
    *ret_root = root;
    return 0;
}

/* --- looking at values ------------------------------------------------------------------- */

const char *json_kind(yyjson_val *value)
{
    switch (yyjson_get_type(value)) {
    case YYJSON_TYPE_NULL:
        return "null";
    case YYJSON_TYPE_BOOL:
        return yyjson_get_bool(value) ? "true" : "false";
    case YYJSON_TYPE_NUM:
        return yyjson_is_int(value) ? "an integer" : "a number";
    case YYJSON_TYPE_RAW:
        return "a number";
    case YYJSON_TYPE_STR:
        return "a string";
    case YYJSON_TYPE_ARR:
        return "a list";
    case YYJSON_TYPE_OBJ:
        return "an object";
    default:
        return "nothing";
    }
}

struct slice json_slice(yyjson_val *value)
{
    if (!yyjson_is_str(value))
        return (struct slice){};
    return (struct slice){ yyjson_get_str(value), yyjson_get_len(value) };
}

yyjson_val *json_member(yyjson_val *object, const char *key)
{
    return yyjson_obj_get(object, key);
}

static int find(yyjson_val *object, const char *key, enum json_need need, yyjson_val **ret,
                struct err *err)
{
    if (!yyjson_is_obj(object))
        return err_set(err, ERR_BAD_INPUT, "must be an object, not %s", json_kind(object));
    *ret = yyjson_obj_get(object, key);
    if (*ret)
        return 1;
    if (need == JSON_OPTIONAL)
        return 0;
    return err_set(err, ERR_BAD_INPUT, "'%s' is missing", key);
}

/* The member, when it is what `is` says; else the error names what it must be. */
static int find_kind(yyjson_val *object, const char *key, enum json_need need,
                     bool (*is)(yyjson_val *value), const char *wanted, yyjson_val **ret,
                     struct err *err)
{
    yyjson_val *value;
    int r = find(object, key, need, &value, err);
    if (r <= 0)
        return r;
    if (!is(value))
        return err_set(err, ERR_BAD_INPUT, "'%s' must be %s, not %s", key, wanted,
                       json_kind(value));
    *ret = value;
    return 1;
}

int json_get_string(yyjson_val *object, const char *key, enum json_need need, struct slice *ret,
                    struct err *err)
{
    yyjson_val *value;
    int r = find_kind(object, key, need, yyjson_is_str, "a string", &value, err);
    if (r > 0)
        *ret = json_slice(value);
    return r;
}

int json_get_bool(yyjson_val *object, const char *key, enum json_need need, bool *ret,
                  struct err *err)
{
    yyjson_val *value;
    int r = find_kind(object, key, need, yyjson_is_bool, "true or false", &value, err);
    if (r > 0)
        *ret = yyjson_get_bool(value);
    return r;
}

int json_get_i64(yyjson_val *object, const char *key, enum json_need need, int64_t *ret,
                 struct err *err)
{
    yyjson_val *value;
    int r = find_kind(object, key, need, yyjson_is_int, "an integer", &value, err);
    if (r > 0 && yyjson_is_uint(value) && yyjson_get_uint(value) > INT64_MAX)
        return err_set(err, ERR_BAD_INPUT, "'%s' is above %lld", key, (long long)INT64_MAX);
    if (r > 0)
        *ret = yyjson_get_sint(value);
    return r;
}

int json_get_u64(yyjson_val *object, const char *key, enum json_need need, uint64_t *ret,
                 struct err *err)
{
    yyjson_val *value;
    int r = find_kind(object, key, need, yyjson_is_int, "an integer", &value, err);
    if (r > 0 && yyjson_is_sint(value) && yyjson_get_sint(value) < 0)
        return err_set(err, ERR_BAD_INPUT, "'%s' must not be negative", key);
    if (r > 0)
        *ret = yyjson_get_uint(value);
    return r;
}

int json_get_double(yyjson_val *object, const char *key, enum json_need need, double *ret,
                    struct err *err)
{
    yyjson_val *value;
    int r = find_kind(object, key, need, yyjson_is_num, "a number", &value, err);
    if (r > 0)
        *ret = yyjson_get_num(value);
    return r;
}

int json_get_object(yyjson_val *object, const char *key, enum json_need need, yyjson_val **ret,
                    struct err *err)
{
    return find_kind(object, key, need, yyjson_is_obj, "an object", ret, err);
}

int json_get_array(yyjson_val *object, const char *key, enum json_need need, yyjson_val **ret,
                   struct err *err)
{
    return find_kind(object, key, need, yyjson_is_arr, "a list", ret, err);
}

/* --- advice ---------------------------------------------------------------------------------- */

static unsigned least(unsigned a, unsigned b)
{
    return a < b ? a : b;
}

unsigned json_distance(struct slice a, struct slice b, unsigned max)
{
    enum { LONGEST = 64 };
    unsigned rows[3][LONGEST + 1];
    size_t apart = a.size > b.size ? a.size - b.size : b.size - a.size;

    if (a.size > LONGEST || b.size > LONGEST || apart > max)
        return max + 1;
    for (size_t j = 0; j <= b.size; j++)
        rows[0][j] = (unsigned)j;
    for (size_t i = 1; i <= a.size; i++) {
        unsigned *row = rows[i % 3], *above = rows[(i + 2) % 3], *two_above = rows[(i + 1) % 3];
        row[0] = (unsigned)i;
        for (size_t j = 1; j <= b.size; j++) {
            unsigned same = a.data[i - 1] == b.data[j - 1] ? 0 : 1;
            row[j] = least(above[j - 1] + same, 1 + least(above[j], row[j - 1]));
            if (i > 1 && j > 1 && a.data[i - 1] == b.data[j - 2] && a.data[i - 2] == b.data[j - 1])
                row[j] = least(row[j], two_above[j - 2] + 1);
        }
    }
    return least(rows[a.size % 3][b.size], max + 1);
}

const char *json_nearest(struct slice word, const char *const *known)
{
    const char *nearest = NULL;
    /* A third of the letters may be wrong; of a short word one. */
    unsigned best = word.size < 6 ? 1 : word.size < 9 ? 2 : 3;

    best++;
    for (; *known; known++) {
        unsigned distance = json_distance(word, slice_of(*known), best);
        if (distance < best) {
            best = distance;
            nearest = *known;
        }
    }
    return nearest;
}

int json_check_keys(yyjson_val *object, const char *const *known, struct err *err)
{
    yyjson_obj_iter iter;
    yyjson_val *key;

    if (!yyjson_is_obj(object))
        return err_set(err, ERR_BAD_INPUT, "must be an object, not %s", json_kind(object));
    yyjson_obj_iter_init(object, &iter);
    while ((key = yyjson_obj_iter_next(&iter))) {
        struct slice name = json_slice(key);
        const char *const *at = known;
        while (*at && !slice_is(name, *at))
            at++;
        if (*at)
            continue;
        const char *nearest = json_nearest(name, known);
        if (nearest)
            return err_set(err, ERR_BAD_INPUT, "unknown key '%s'; did you mean '%s'?",
                           ERR_SLICE(name), nearest);
        return err_set(err, ERR_BAD_INPUT, "unknown key '%s'", ERR_SLICE(name));
    }
    return 0;
}
