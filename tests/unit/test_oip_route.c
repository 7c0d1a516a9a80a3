/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/oip.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/arena.h"
#include "base/err.h"

static const struct {
    const char *method, *path;
    int code;
    enum oip_call call;
    const char *model;
    uint64_t version;
    const char *allow;
} rows[] = {
    { "GET", "/v2", 0, OIP_SERVER_METADATA, "", 0, NULL },
    { "GET", "/v2/", 0, OIP_SERVER_METADATA, "", 0, NULL },
    { "HEAD", "/v2/health/live", 0, OIP_SERVER_LIVE, "", 0, NULL },
    { "GET", "/v2/health/ready", 0, OIP_SERVER_READY, "", 0, NULL },
    { "POST", "/v2/health/ready", ERR_BAD_METHOD, 0, "", 0, "GET, HEAD" },
    { "GET", "/v2/models/stats", 0, OIP_MODEL_STATS, "", 0, NULL },
    { "GET", "/v2/models/digits", 0, OIP_MODEL_METADATA, "digits", 0, NULL },
    { "GET", "/v2/models/digits/", 0, OIP_MODEL_METADATA, "digits", 0, NULL },
    { "GET", "/v2/models/digits/versions/3", 0, OIP_MODEL_METADATA, "digits", 3, NULL },
    { "GET", "/v2/models/digits/versions/3/ready", 0, OIP_MODEL_READY, "digits", 3, NULL },
    { "GET", "/v2/models/digits/ready", 0, OIP_MODEL_READY, "digits", 0, NULL },
    { "GET", "/v2/models/digits/config", 0, OIP_MODEL_CONFIG, "digits", 0, NULL },
    { "GET", "/v2/models/digits/versions/12/stats", 0, OIP_MODEL_STATS, "digits", 12, NULL },
    { "POST", "/v2/models/digits/infer", 0, OIP_INFER, "digits", 0, NULL },
    { "POST", "/v2/models/digits/versions/7/infer", 0, OIP_INFER, "digits", 7, NULL },
    { "GET", "/v2/models/digits/infer", ERR_BAD_METHOD, 0, "", 0, "POST" },
    { "DELETE", "/v2/models/digits", ERR_BAD_METHOD, 0, "", 0, "GET, HEAD" },
    { "POST", "/v2/models/digits/versions/latest/infer", ERR_NOT_FOUND, 0, "", 0, NULL },
    { "POST", "/v2/models/digits/versions/0/infer", ERR_NOT_FOUND, 0, "", 0, NULL },
    { "POST", "/v2/models/digits/versions/99999999999999999999/infer", ERR_NOT_FOUND, 0, "", 0,
      NULL },
    { "POST", "/v2/models/org%2FResNet_50.v2/infer", 0, OIP_INFER, "org/ResNet_50.v2", 0, NULL },
    { "POST", "/v2/models/org/ResNet_50.v2/infer", 0, OIP_INFER, "org/ResNet_50.v2", 0, NULL },
    { "GET", "/v2/models/a/b/versions/2/config", 0, OIP_MODEL_CONFIG, "a/b", 2, NULL },
    { "GET", "/v2/models/%C3%A9", 0, OIP_MODEL_METADATA, "\xc3\xa9", 0, NULL },
    { "GET", "/v2/models/a%2", ERR_BAD_INPUT, 0, "", 0, NULL },
    { "GET", "/v2/models/a%zz", ERR_BAD_INPUT, 0, "", 0, NULL },
    { "GET", "/v2/models/a%00b", ERR_BAD_INPUT, 0, "", 0, NULL },
    { "GET", "/v2/models//ready", ERR_NOT_FOUND, 0, "", 0, NULL },
    { "GET", "/v2/models", ERR_NOT_FOUND, 0, "", 0, NULL },
    { "GET", "/v3", ERR_NOT_FOUND, 0, "", 0, NULL },
    { "GET", "/", ERR_NOT_FOUND, 0, "", 0, NULL },
    { "GET", "", ERR_NOT_FOUND, 0, "", 0, NULL },
    { "POST", "/v2/repository/index", 0, OIP_REPOSITORY_INDEX, "", 0, NULL },
    { "POST", "/v2/repository/models/digits/load", 0, OIP_REPOSITORY_LOAD, "digits", 0, NULL },
    { "POST", "/v2/repository/models/a/b/unload", 0, OIP_REPOSITORY_UNLOAD, "a/b", 0, NULL },
    { "GET", "/v2/repository/index", ERR_BAD_METHOD, 0, "", 0, "POST" },
    { "GET", "/v2/systemsharedmemory/status", 0, OIP_SHM_STATUS, "", 0, NULL },
    { "GET", "/v2/cudasharedmemory/region/r/status", 0, OIP_SHM_STATUS, "", 0, NULL },
    { "POST", "/v2/systemsharedmemory/region/r/register", 0, OIP_UNSUPPORTED, "", 0, NULL },
    { "POST", "/v2/cudasharedmemory/unregister", 0, OIP_UNSUPPORTED, "", 0, NULL },
    { "GET", "/v2/trace/setting", 0, OIP_UNSUPPORTED, "", 0, NULL },
    { "POST", "/v2/models/digits/trace/setting", 0, OIP_UNSUPPORTED, "digits", 0, NULL },
    { "POST", "/v2/logging", 0, OIP_UNSUPPORTED, "", 0, NULL },
    { "PUT", "/v2/logging", ERR_BAD_METHOD, 0, "", 0, "GET, HEAD, POST" },
    { "GET", "", ERR_NOT_FOUND, 0, "", 0, NULL },
    { "GET", "v2", 0, OIP_SERVER_METADATA, "", 0, NULL },
    { "GET", "/v2/models/%", ERR_BAD_INPUT, 0, "", 0, NULL },
    { "GET", "/v2/models/%zz", ERR_BAD_INPUT, 0, "", 0, NULL },
    { "GET", "/v2/models/%4z", ERR_BAD_INPUT, 0, "", 0, NULL },
    { "GET", "/v2/models/%00", ERR_BAD_INPUT, 0, "", 0, NULL },
    { "GET", "/v2/models/%4A%4b%2d%3D", 0, OIP_MODEL_METADATA, "JK-=", 0, NULL },
    { "GET", "/v2/models/a/b/c/d/e/f/g/h/i/j/k/l/m/n/o/p/q/r/s/t/u/v/w/x/y/z/1/2/3/4/5/6/7/8/9",
      ERR_NOT_FOUND, 0, "", 0, NULL },
};

static void test_routes(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct arena *arena = arena_new();
        struct oip_route route = {};
        const char *allow = NULL;
        struct err err = {};
        int r = oip_route_find(arena, slice_of(rows[i].method), slice_of(rows[i].path), &route,
                               &allow, &err);

        print_message("  %s %s: %s\n", rows[i].method, rows[i].path, err.message);
        assert_int_equal(r, rows[i].code);
        if (r == 0) {
            assert_int_equal(route.call, rows[i].call);
            assert_true(slice_is(route.model, rows[i].model));
            assert_int_equal(route.version, rows[i].version);
            assert_int_equal(route.unsupported != NULL, route.call == OIP_UNSUPPORTED);
        }
        if (rows[i].allow)
            assert_string_equal(allow, rows[i].allow);
        arena_free(arena);
    }
}

static const struct tensor_meta image = { .name = { "image", 5 },
                                          .type = TENSOR_FP32,
                                          .shape = { 2, { -1, 64 } } };
static const struct tensor_meta label = { .name = { "label", 5 },
                                          .type = TENSOR_BYTES,
                                          .shape = { 1, { -1 } } };
static const uint64_t versions[] = { 1, 3 };
static const struct oip_model digits = { .name = { "digits", 6 },
                                         .platform = { "onnxruntime_onnx", 16 },
                                         .backend = { "onnxruntime", 11 },
                                         .versions = versions,
                                         .version_count = 2,
                                         .batch_max = 16,
                                         .inputs = &image,
                                         .outputs = &label,
                                         .input_count = 1,
                                         .output_count = 1 };

static void expect(struct text *text, const char *wanted)
{
    text_char(text, '\0');
    assert_string_equal(text->data, wanted);
    text_deinit(text);
}

static void test_descriptions(void **state)
{
    struct oip_model fixed = digits;
    struct text text = {};

    (void)state;
    oip_write_model(&text, &digits);
    expect(&text,
           "{\"name\":\"digits\",\"versions\":[\"1\",\"3\"],\"platform\":\"onnxruntime_onnx\","
           "\"inputs\":[{\"name\":\"image\",\"datatype\":\"FP32\",\"shape\":[-1,64]}],"
           "\"outputs\":[{\"name\":\"label\",\"datatype\":\"BYTES\",\"shape\":[-1]}]}");
    oip_write_config(&text, &digits);
    text_char(&text, '\0');
    assert_non_null(strstr(text.data, "\"max_batch_size\":16"));
    assert_non_null(strstr(text.data, "\"data_type\":\"TYPE_FP32\",\"format\":\"FORMAT_NONE\","
                                      "\"dims\":[64]"));
    assert_non_null(strstr(text.data, "\"data_type\":\"TYPE_STRING\",\"dims\":[]"));
    text_deinit(&text);
    fixed.batch_max = 0;
    oip_write_config(&text, &fixed);
    text_char(&text, '\0');
    assert_non_null(strstr(text.data, "\"max_batch_size\":0"));
    assert_non_null(strstr(text.data, "\"dims\":[-1,64]"));
    text_deinit(&text);
    oip_write_error(&text, SLICE("a \"b\"\n\x01\xff\x7f\xc3\xa9"));
    expect(&text, "{\"error\":\"a \\\"b\\\"\\n\\u0001\xef\xbf\xbd\\u007f\xc3\xa9\"}");
    oip_write_index(&text, &(struct oip_index_row){ SLICE("digits"), 3, OIP_READY, SLICE("") }, 1);
    expect(&text, "[{\"name\":\"digits\",\"version\":\"3\",\"state\":\"READY\",\"reason\":\"\"}]");
    oip_write_index(&text, NULL, 0);
    expect(&text, "[]");
}

static void test_stats(void **state)
{
    const struct oip_batch_stats batch = { 4, { 1, 2 }, { 3, 4 }, { 5, 6 } };
    const struct oip_stats stats = { .name = SLICE("digits"),
                                     .version = 3,
                                     .inference_count = 4,
                                     .execution_count = 1,
                                     .success = { 4, 1000 },
                                     .batches = &batch,
                                     .batch_count = 1 };
    struct text text = {};

    (void)state;
    oip_write_stats(&text, &stats, 1);
    expect(&text,
           "{\"model_stats\":[{\"name\":\"digits\",\"version\":\"3\",\"last_inference\":0,"
           "\"inference_count\":4,\"execution_count\":1,\"inference_stats\":{"
           "\"success\":{\"count\":4,\"ns\":1000},\"fail\":{\"count\":0,\"ns\":0},"
           "\"queue\":{\"count\":0,\"ns\":0},\"compute_input\":{\"count\":0,\"ns\":0},"
           "\"compute_infer\":{\"count\":0,\"ns\":0},\"compute_output\":{\"count\":0,\"ns\":0},"
           "\"cache_hit\":{\"count\":0,\"ns\":0},\"cache_miss\":{\"count\":0,\"ns\":0}},"
           "\"response_stats\":{},\"batch_stats\":[{\"batch_size\":4,"
           "\"compute_input\":{\"count\":1,\"ns\":2},\"compute_infer\":{\"count\":3,\"ns\":4},"
           "\"compute_output\":{\"count\":5,\"ns\":6}}],\"memory_usage\":[]}]}");
}

static void test_repository_bodies(void **state)
{
    struct arena *arena = arena_new();
    bool ready = true;
    struct err err;

    (void)state;
    assert_int_equal(oip_index_parse(arena, SLICE(""), &ready, &err), 0);
    assert_false(ready);
    assert_int_equal(oip_index_parse(arena, SLICE("{\"ready\": true}"), &ready, &err), 0);
    assert_true(ready);
    assert_int_equal(oip_index_parse(arena, SLICE("{\"ready\": 1}"), &ready, &err), ERR_BAD_INPUT);
    assert_int_equal(oip_load_parse(arena, SLICE(" \t"), &err), 0);
    assert_int_equal(oip_load_parse(arena, SLICE("{}"), &err), 0);
    assert_int_equal(
        oip_load_parse(arena, SLICE("{\"parameters\":{\"unload_dependents\":false}}"), &err), 0);
    assert_int_equal(oip_load_parse(arena, SLICE("{\"parameters\":{\"config\":\"{}\"}}"), &err),
                     ERR_NOT_SUPPORTED);
    assert_int_equal(oip_load_parse(arena, SLICE("{}}"), &err), ERR_BAD_INPUT);
    assert_int_equal(oip_load_parse(arena, SLICE("[]"), &err), ERR_BAD_INPUT);
    assert_int_equal(oip_load_parse(arena, SLICE("{\"a\":nul}"), &err), ERR_BAD_INPUT);
    assert_int_equal(oip_load_parse(arena, SLICE("{\"a\":[1,{}]}"), &err), 0);
    assert_int_equal(oip_load_parse(arena, SLICE("{\"parameters\":7}"), &err), ERR_BAD_INPUT);
    assert_int_equal(
        oip_load_parse(arena, SLICE("{\"parameters\":{\"unload_dependents\":nul}}"), &err),
        ERR_BAD_INPUT);
    assert_int_equal(oip_index_parse(arena, SLICE("[]"), &ready, &err), ERR_BAD_INPUT);
    assert_int_equal(oip_index_parse(arena, SLICE("{\"ready\":1}"), &ready, &err), ERR_BAD_INPUT);
    assert_int_equal(oip_index_parse(arena, SLICE("{\"a\":1}}"), &ready, &err), ERR_BAD_INPUT);
    assert_int_equal(oip_index_parse(arena, SLICE("{\"a\":1}"), &ready, &err), 0);
    arena_free(arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_routes),
        cmocka_unit_test(test_descriptions),
        cmocka_unit_test(test_stats),
        cmocka_unit_test(test_repository_bodies),
    };
    return cmocka_run_group_tests_name("oip_route", tests, NULL, NULL);
}
