/* SPDX-License-Identifier: Apache-2.0 */
#include "base/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h> /* after the four above */

#include "base/arena.h"
#include "base/auto.h"
#include "base/err.h"

static void test_parse(void **state)
{
    static const struct {
        const char *text;
        int code;
        const char *message; /* a part of it */
    } rows[] = {
        { "{\"a\":[1,2,{\"b\":null}]}", 0, NULL },
        { "18446744073709551615", 0, NULL },
        { "", ERR_BAD_INPUT, "there is nothing" },
        { "{\"a\":1,}", ERR_BAD_INPUT, "line 1, column 7 (byte 6): " },
        { "{\n\"a\": x}", ERR_BAD_INPUT, "line 2, column 6" },
        { "{\"a\":1} x", ERR_BAD_INPUT, "byte 8" },
        { "\"\xff\"", ERR_BAD_INPUT, "UTF-8" },
        { "[NaN]", ERR_BAD_INPUT, "byte 1" },
        { "[1e999]", ERR_BAD_INPUT, "" },
        { "{\"a\":1,\"a\":2}", ERR_BAD_INPUT, "'a' is there twice" },
        { "[{\"\\u0061\":1,\"b\":2,\"a\":2}]", ERR_BAD_INPUT, "'a' is there twice" },
        { "{\"1\":0,\"2\":0,\"3\":0,\"4\":0,\"5\":0,\"6\":0,\"7\":0,\"8\":0,\"9\":0,\"3\":0}",
          ERR_BAD_INPUT, "'3' is there twice" },
        { "{\"a\":{\"a\":1},\"b\":{\"a\":1}}", 0, NULL },
        { "[[[[[[[[]]]]]]]]", 0, NULL },
        { "[[[[[[[[[]]]]]]]]]", ERR_BAD_INPUT, "more than 8 levels" },
        { "[[1],[2],[3],[4],[5],[6],[7],[8],[9]]", 0, NULL },
        { "\"12345678901234567890123456789012345678901234567890123456789012345678901234567890\"",
          ERR_TOO_LARGE, "82 bytes of JSON, the limit is 80" },
    };
    struct json_limits limits = { .bytes_max = 80, .depth_max = 8, .memory_max = 1 << 16 };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct arena *arena = arena_new();
        struct err err = {};
        yyjson_val *root = NULL;
        print_message("  %s\n", rows[i].text);
        assert_int_equal(json_parse(arena, slice_of(rows[i].text), &limits, &root, &err),
                         rows[i].code);
        if (rows[i].message && !strstr(err.message, rows[i].message))
            fail_msg("'%s' lacks '%s'", err.message, rows[i].message);
        assert_int_equal(root != NULL, rows[i].code == 0);
        arena_free(arena);
    }
}

/* 100,000 levels: an error, whichever bracket, closed or not. */
static void test_deep(void **state)
{
    enum { LEVELS = 100'000 };
    struct arena *arena = arena_new();
    char *text = arena_alloc(arena, LEVELS * 6 + 1);
    struct err err;
    yyjson_val *root;
    size_t size = 0;

    (void)state;
    for (int i = 0; i < LEVELS; i++)
        text[size++] = '[';
    assert_int_equal(json_parse(arena, (struct slice){ text, size }, NULL, &root, &err),
                     ERR_BAD_INPUT);
    for (int i = 0; i < LEVELS; i++)
        text[size++] = ']';
    assert_int_equal(json_parse(arena, (struct slice){ text, size }, NULL, &root, &err),
                     ERR_BAD_INPUT);
    assert_string_equal(err.message, "nested more than 64 levels deep");
    size = 0;
    for (int i = 0; i < LEVELS; i++, size += 5)
        memcpy(text + size, "{\"a\":", 5);
    text[size++] = '1';
    memset(text + size, '}', LEVELS);
    assert_int_equal(json_parse(arena, (struct slice){ text, size + LEVELS }, NULL, &root, &err),
                     ERR_BAD_INPUT);
    arena_free(arena);
}

static void test_memory(void **state)
{
    struct arena *arena = arena_new();
    struct json_limits limits = { .bytes_max = 1 << 20, .memory_max = 1 << 20 };
    char *text = arena_alloc(arena, 1 << 20);
    struct err err;
    yyjson_val *root;

    (void)state;
    memset(text, ',', 200'001);
    for (size_t i = 1; i < 200'000; i += 2)
        text[i] = '1';
    text[0] = '[';
    text[200'000] = ']';
    assert_int_equal(json_parse(arena, (struct slice){ text, 200'001 }, &limits, &root, &err),
                     ERR_TOO_LARGE);
    limits.memory_max = 16 << 20;
    assert_int_equal(json_parse(arena, (struct slice){ text, 200'001 }, &limits, &root, &err), 0);
    assert_int_equal(yyjson_arr_size(root), 100'000);
    arena_free(arena);
}

static void test_members(void **state)
{
    struct arena *arena = arena_new();
    struct err err;
    yyjson_val *root;
    struct slice text;
    uint64_t u;
    int64_t i;
    bool b;
    double d;

    (void)state;
    assert_int_equal(json_parse(arena,
                                SLICE("{\"s\":\"x\\u0000y\",\"u\":18446744073709551615,"
                                      "\"i\":-9223372036854775808,\"b\":true,\"d\":1}"),
                                NULL, &root, &err),
                     0);
    assert_int_equal(json_get_string(root, "s", JSON_REQUIRED, &text, &err), 1);
    assert_int_equal(text.size, 3);
    assert_int_equal(json_get_u64(root, "u", JSON_REQUIRED, &u, &err), 1);
    assert_true(u == UINT64_MAX);
    assert_int_equal(json_get_i64(root, "u", JSON_REQUIRED, &i, &err), ERR_BAD_INPUT);
    assert_int_equal(json_get_i64(root, "i", JSON_REQUIRED, &i, &err), 1);
    assert_true(i == INT64_MIN);
    assert_int_equal(json_get_u64(root, "i", JSON_REQUIRED, &u, &err), ERR_BAD_INPUT);
    assert_string_equal(err.message, "'i' must not be negative");
    assert_int_equal(json_get_bool(root, "b", JSON_REQUIRED, &b, &err), 1);
    assert_int_equal(json_get_double(root, "d", JSON_REQUIRED, &d, &err), 1);
    assert_int_equal(json_get_string(root, "none", JSON_OPTIONAL, &text, &err), 0);
    assert_int_equal(json_get_string(root, "none", JSON_REQUIRED, &text, &err), ERR_BAD_INPUT);
    assert_string_equal(err.message, "'none' is missing");
    assert_int_equal(json_get_string(root, "b", JSON_REQUIRED, &text, &err), ERR_BAD_INPUT);
    assert_string_equal(err.message, "'b' must be a string, not true");
    assert_int_equal(json_check_keys(root, (const char *[]){ "s", "u", "i", "b", "e", NULL }, &err),
                     ERR_BAD_INPUT);
    assert_string_equal(err.message, "unknown key 'd'; did you mean 's'?");
    arena_free(arena);
}

static void test_nearest(void **state)
{
    static const char *const known[] = { "scale", "queue", "timeout", "concurrency", NULL };
    static const struct {
        const char *word, *wanted;
    } rows[] = {
        { "scael", "scale" },
        { "queu", "queue" },
        { "timeuot", "timeout" },
        { "tiemuot", "timeout" },
        { "concurency", "concurrency" },
        { "zebra", NULL },
        { "", NULL },
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const char *nearest = json_nearest(slice_of(rows[i].word), known);
        print_message("  %s\n", rows[i].word);
        if (rows[i].wanted)
            assert_string_equal(nearest, rows[i].wanted);
        else
            assert_null(nearest);
    }
    assert_int_equal(json_distance(SLICE("ab"), SLICE("ba"), 3), 1);
    assert_int_equal(json_distance(SLICE("kitten"), SLICE("sitting"), 3), 3);
    assert_int_equal(json_distance(SLICE("kitten"), SLICE("sitting"), 2), 3);
}

static void test_write(void **state)
{
    struct arena *arena = arena_new();
    struct json_writer w;

    (void)state;
    json_begin(&w, arena, 0);
    json_object_begin(&w);
    json_member_string(&w, "a\"", SLICE("\x01\n\t\v\\ \xc3\xa9 \xff."));
    json_member_u64(&w, "u", UINT64_MAX);
    json_member_i64(&w, "i", INT64_MIN);
    json_key(&w, "list");
    json_array_begin(&w);
    json_double(&w, 0.1);
    json_double(&w, 1.0 / 0.0);
    json_float(&w, 0.1f);
    json_bool(&w, true);
    json_null(&w);
    json_object_begin(&w);
    json_object_end(&w);
    json_array_end(&w);
    json_member_text(&w, "none", NULL);
    json_object_end(&w);
    struct slice text = json_end(&w);
    assert_string_equal(text.data, "{\"a\\\"\":\"\\u0001\\n\\t\\u000b\\\\ \xc3\xa9 \xef\xbf\xbd.\","
                                   "\"u\":18446744073709551615,\"i\":-9223372036854775808,"
                                   "\"list\":[0.1,null,0.1,true,null,{}],\"none\":null}");
    assert_int_equal(strlen(text.data), text.size);

    yyjson_val *root;
    struct err err;
    assert_int_equal(json_parse(arena, text, NULL, &root, &err), 0);
    json_begin(&w, arena, JSON_PRETTY | JSON_NEWLINE);
    json_array_begin(&w);
    json_value(&w, json_member(root, "list"));
    json_array_begin(&w);
    json_array_end(&w);
    json_array_end(&w);
    assert_string_equal(json_end(&w).data, "[\n  [0.1,null,0.1,true,null,{}],\n  []\n]\n");
    assert_int_equal(json_print(arena, root, 0).size, text.size);
    arena_free(arena);
}

static void test_null_for_what_is_not_there(void **state)
{
    struct arena *arena = arena_new();
    struct json_writer w;

    (void)state;
    json_begin(&w, arena, 0);
    json_object_begin(&w);
    json_member_string_or_null(&w, "a", SLICE("x"));
    json_member_string_or_null(&w, "b", (struct slice){});
    json_member_raw_or_null(&w, "c", SLICE("[1]"));
    json_member_raw_or_null(&w, "d", (struct slice){});
    json_member_u64_or_null(&w, "e", true, 0);
    json_member_u64_or_null(&w, "f", false, 7);
    json_member_double_or_null(&w, "g", true, 0.5);
    json_member_double_or_null(&w, "h", false, 0.5);
    json_object_end(&w);
    assert_string_equal(json_end(&w).data, "{\"a\":\"x\",\"b\":null,\"c\":[1],\"d\":null,"
                                           "\"e\":0,\"f\":null,\"g\":0.5,\"h\":null}");
    arena_free(arena);
}

static void test_floats(void **state)
{
    static const struct {
        float value;
        const char *text;
    } rows[] = {
        { 0.0f, "0.0" },
        { 1.0f, "1.0" },
        { -2.5f, "-2.5" },
        { 0.1f, "0.1" },
        { 16777216.0f, "16777216.0" },
        { 3.14159274f, "3.1415927" },
        { 1e-3f, "0.001" },
        { 123456.789f, "123456.79" },
    };
    char text[JSON_NUMBER_BYTES];
    uint32_t bits = 1;

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        assert_int_equal(json_float_text(text, rows[i].value), strlen(rows[i].text));
        assert_string_equal(text, rows[i].text);
    }
    for (int i = 0; i < 300'000; i++) {
        float value, as_float, as_double;
        bits = bits * 1664525 + 1013904223;
        memcpy(&value, &bits, 4);
        if (value != value || value - value != 0)
            continue;
        size_t size = json_float_text(text, value);
        as_float = strtof(text, NULL);
        as_double = (float)strtod(text, NULL);
        assert_int_equal(size, strlen(text));
        assert_memory_equal(&as_float, &value, 4);
        assert_memory_equal(&as_double, &value, 4);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse),   cmocka_unit_test(test_deep),
        cmocka_unit_test(test_memory),  cmocka_unit_test(test_members),
        cmocka_unit_test(test_nearest), cmocka_unit_test(test_write),
        cmocka_unit_test(test_floats),  cmocka_unit_test(test_null_for_what_is_not_there),
    };
    return cmocka_run_group_tests_name("json", tests, NULL, NULL);
}
