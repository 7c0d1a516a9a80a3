/* SPDX-License-Identifier: Apache-2.0 */
#include "base/yaml.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h> /* after the four above */

#include "base/arena.h"
#include "base/err.h"
#include "base/json.h"

static void test_scalars(void **state)
{
    static const struct {
        const char *yaml, *json; /* json NULL: an error */
    } rows[] = {
        { "on", "\"on\"" },
        { "yes", "\"yes\"" },
        { "NO", "\"NO\"" },
        { "~", NULL }, /* an empty document: left out */
        { "[~, null, Null, ]", "[null,null,null]" },
        { "[true, False, TRUE]", "[true,false,true]" },
        { "[0, 012, +7, -3, 0o17, 0x1F]", "[0,12,7,-3,15,31]" },
        { "[18446744073709551615, -9223372036854775808]",
          "[18446744073709551615,-9223372036854775808]" },
        { "[1.5, .5, 1., 1e3, -2E-2, +1.25]", "[1.5,0.5,1.0,1000.0,-0.02,1.25]" },
        { "[1_000, 0b1, 1:30, 0x, 1e, ., +, 12e03x, 64MiB]",
          "[\"1_000\",\"0b1\",\"1:30\",\"0x\",\"1e\",\".\",\"+\",\"12e03x\",\"64MiB\"]" },
        { "['12', \"true\", !!str 5, ! 6]", "[\"12\",\"true\",\"5\",\"6\"]" },
        { "!!int '5'", "5" },
        { "!!int x", NULL },
        { "!mine x", NULL },
        { "!!set {a, b}", NULL },
        { ".inf", NULL },
        { "1e999", NULL },
        { "{1: a, on: b, null: c}", "{\"1\":\"a\",\"on\":\"b\",\"null\":\"c\"}" },
        { "a: |\n  x\n  y\nb: >\n  x\n  y\n", "{\"a\":\"x\\ny\\n\",\"b\":\"x y\\n\"}" },
        { "a: &x {b: 1}\nc: *x\nd: [*x, *x]",
          "{\"a\":{\"b\":1},\"c\":{\"b\":1},\"d\":[{\"b\":1},{\"b\":1}]}" },
        { "k: &k name\n*k : 5", "{\"k\":\"name\",\"name\":5}" },
        { "%YAML 1.2\n---\na: 1", "{\"a\":1}" },
        { "{\"a\": [1, {\"b\": \"\\u00e9\"}]}", "{\"a\":[1,{\"b\":\"\xc3\xa9\"}]}" },
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct arena *arena = arena_new();
        struct err err = {};
        struct yaml_documents docs = {};
        print_message("  %s\n", rows[i].yaml);
        int r = yaml_parse(arena, slice_of(rows[i].yaml), NULL, &docs, &err);
        if (rows[i].json) {
            if (r < 0)
                fail_msg("%s", err.message);
            assert_int_equal(docs.count, 1);
            assert_string_equal(json_print(arena, docs.items[0].root, 0).data, rows[i].json);
        } else {
            assert_true(r < 0 || docs.count == 0);
        }
        arena_free(arena);
    }
}

static void test_errors(void **state)
{
    static const struct {
        const char *yaml, *message;
        int code;
    } rows[] = {
        { "a: 1\nb: [", "line 3", ERR_BAD_INPUT },
        { "a: 1\n\tb: 2", "line 2", ERR_BAD_INPUT },
        { "a: 1\nb: 2\na: 3", "lines 1 to 3: 'a' is there twice", ERR_BAD_INPUT },
        { "x:\n  a: 1\n  a: 2\ny: 1", "lines 2 to 3: 'a' is there twice", ERR_BAD_INPUT },
        { "a: 1\nb: *none", "line 2: no anchor '&none' before", ERR_BAD_INPUT },
        { "a: &a [1, *a]", "line 1: '*a' stands inside itself", ERR_BAD_INPUT },
        { "? [a]\n: b", "line 1: a key must be text", ERR_BAD_INPUT },
        { "? {a: b}\n: b", "line 1: a key must be text", ERR_BAD_INPUT },
        { "a:\n b: .nan", "line 2: '.nan' has no place here", ERR_BAD_INPUT },
        { "[[[[[[[[[1]]]]]]]]]", "more than 8 levels", ERR_BAD_INPUT },
        { "a: &a [[[[1]]]]\nb: [[[[*a]]]]", "line 2: nested more than 8", ERR_BAD_INPUT },
        { "a: &a [1,2,3,4,5,6,7,8,9]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\n"
          "c: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: [*c,*c,*c,*c,*c,*c,*c,*c,*c]",
          "more than 1000 values", ERR_TOO_LARGE },
        { "\xff\xfe", "UTF-8", ERR_BAD_INPUT },
        { "1\n--- 2\n--- 3\n--- 4\n", "more than 3 documents", ERR_TOO_LARGE },
    };
    struct yaml_limits limits = { .depth_max = 8, .nodes_max = 1000, .documents_max = 3 };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct arena *arena = arena_new();
        struct err err = {};
        struct yaml_documents docs = {};
        print_message("  %s\n", rows[i].yaml);
        assert_int_equal(yaml_parse(arena, slice_of(rows[i].yaml), &limits, &docs, &err),
                         rows[i].code);
        if (!strstr(err.message, rows[i].message))
            fail_msg("'%s' lacks '%s'", err.message, rows[i].message);
        arena_free(arena);
    }
}

static void test_documents(void **state)
{
    struct arena *arena = arena_new();
    struct err err;
    struct yaml_documents docs;
    struct slice text =
        SLICE("# nothing\n---\nname: a\nlist:\n  - 1\n  - x: 2\n---\n---\nname: b\n");

    (void)state;
    assert_int_equal(yaml_parse(arena, text, NULL, &docs, &err), 0);
    assert_int_equal(docs.count, 2);
    yyjson_val *list = json_member(docs.items[0].root, "list");
    assert_int_equal(yaml_line(&docs.items[0], list), 5);
    assert_int_equal(yaml_line(&docs.items[0], yyjson_arr_get(list, 1)), 6);
    assert_int_equal(yaml_line(&docs.items[1], json_member(docs.items[1].root, "name")), 9);
    assert_int_equal(yaml_line(&docs.items[1], list), 0);
    assert_int_equal(yaml_parse(arena, SLICE(""), NULL, &docs, &err), 0);
    assert_int_equal(docs.count, 0);

    /* Deep beyond every limit: an error, soon. */
    char *deep = arena_alloc(arena, 100'001);
    memset(deep, '[', 100'000);
    assert_int_equal(yaml_parse(arena, (struct slice){ deep, 100'000 }, NULL, &docs, &err),
                     ERR_BAD_INPUT);
    assert_string_equal(err.message, "line 1: nested more than 32 levels deep");
    arena_free(arena);
}

static void test_print(void **state)
{
    static const struct {
        const char *json, *yaml;
    } rows[] = {
        { "{\"a\":1,\"b\":{\"c\":[1,2.5,{\"d\":true,\"e\":[]}],\"f\":{}}}",
          "a: 1\nb:\n  c:\n    - 1\n    - 2.5\n    - d: true\n      e: []\n  f: {}\n" },
        { "[[1,[2]],[]]", "- - 1\n  - - 2\n- []\n" },
        { "{\"s\":[\"x\",\"\",\"5\",\"true\",\"no\",\"~\",\"1e3\",\"64MiB\",\"a: b\",\"a b\","
          "\"#x\",\"a #b\",\"- a\",\"x:\",\"http://h:1\",\"\\n\",\"./m.onnx\",\"\xc3\xa9\"]}",
          "s:\n  - x\n  - \"\"\n  - \"5\"\n  - \"true\"\n  - \"no\"\n  - \"~\"\n  - \"1e3\"\n"
          "  - 64MiB\n  - \"a: b\"\n  - a b\n  - \"#x\"\n  - \"a #b\"\n  - \"- a\"\n"
          "  - \"x:\"\n  - http://h:1\n  - \"\\n\"\n  - ./m.onnx\n  - \"\xc3\xa9\"\n" },
        { "\"\\u0000\\u007f\\u0085\\u2028\\ufeff\\uffff\\t\\\"\"",
          "\"\\u0000\\u007f\\u0085\\u2028\\ufeff\\uffff\\u0009\\\"\"\n" },
        { "5", "5\n" },
        { "{\"1\":{\"true\":-0.0}}", "\"1\":\n  \"true\": -0.0\n" },
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct arena *arena = arena_new();
        struct err err;
        yyjson_val *root;
        struct yaml_documents docs = {};
        print_message("  %s\n", rows[i].json);
        assert_int_equal(json_parse(arena, slice_of(rows[i].json), NULL, &root, &err), 0);
        struct slice yaml = yaml_print(arena, root);
        assert_string_equal(yaml.data, rows[i].yaml);
        if (yaml_parse(arena, yaml, NULL, &docs, &err) < 0)
            fail_msg("%s", err.message);
        assert_true(yyjson_equals(root, docs.items[0].root));
        arena_free(arena);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scalars),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_documents),
        cmocka_unit_test(test_print),
    };
    return cmocka_run_group_tests_name("yaml", tests, NULL, NULL);
}
