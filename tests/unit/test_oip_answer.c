/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/oip.h"

#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "base/arena.h"
#include "base/err.h"

static const struct slice labels[] = { { "zero", 4 }, { "on\"e", 4 } };
static const struct oip_limits limits = {};

/* A model that has one output of `type`, and the same as input, [-1,3] each. */
struct fixture {
    struct tensor_meta metas[2];
    struct oip_model model;
    struct oip_wanted wanted[2];
    struct oip_request request;
};

static void setup(struct fixture *fixture, enum tensor_type type)
{
    *fixture = (struct fixture){};
    for (int i = 0; i < 2; i++)
        fixture->metas[i] = (struct tensor_meta){ .name = i ? SLICE("b") : SLICE("a"),
                                                  .type = type,
                                                  .shape = { 2, { -1, 3 } },
                                                  .labels = labels,
                                                  .label_count = 2 };
    fixture->model = (struct oip_model){ .name = SLICE("m"),
                                         .inputs = fixture->metas,
                                         .input_count = 1,
                                         .outputs = fixture->metas,
                                         .output_count = 2 };
    fixture->wanted[1].index = 1;
    fixture->request = (struct oip_request){ .model = &fixture->model,
                                             .wanted = fixture->wanted,
                                             .wanted_count = 1 };
}

static int answer(struct arena *arena, struct fixture *fixture, const void *data, size_t bytes,
                  const struct tensor_shape *shape, struct oip_answer *ret, struct err *err)
{
    struct oip_output output = {
        .type = fixture->metas[0].type, .shape = *shape, .data = data, .bytes = bytes
    };

    return oip_answer_write(arena, &fixture->request, 7, &output, 1, &limits, ret, err);
}

#define HEAD                                                                                       \
    "{\"model_name\":\"m\",\"model_version\":\"7\",\"outputs\":[{\"name\":\"a\",\"datatype\":"
#define SHAPE3 "\"shape\":[1,3],\"data\":"

static const struct {
    enum tensor_type type;
    size_t bytes;
    const char *data;
    const char *wanted;
} rows[] = {
    { TENSOR_BOOL, 3, "\0\1\2", "\"BOOL\"," SHAPE3 "[false,true,true]}]}" },
    { TENSOR_UINT8, 3, "\0\377\1", "\"UINT8\"," SHAPE3 "[0,255,1]}]}" },
    { TENSOR_INT8, 3, "\200\177\377", "\"INT8\"," SHAPE3 "[-128,127,-1]}]}" },
    { TENSOR_UINT16, 6, "\377\377\0\0\1\0", "\"UINT16\"," SHAPE3 "[65535,0,1]}]}" },
    { TENSOR_INT16, 6, "\0\200\377\177\1\0", "\"INT16\"," SHAPE3 "[-32768,32767,1]}]}" },
    { TENSOR_UINT32, 12, (const char *)(const uint32_t[]){ UINT32_MAX, 0, 10 },
      "\"UINT32\"," SHAPE3 "[4294967295,0,10]}]}" },
    { TENSOR_INT32, 12, (const char *)(const int32_t[]){ INT32_MIN, INT32_MAX, -5 },
      "\"INT32\"," SHAPE3 "[-2147483648,2147483647,-5]}]}" },
    { TENSOR_UINT64, 24,
      (const char *)(const uint64_t[]){ UINT64_MAX, 0, UINT64_C(9007199254740993) },
      "\"UINT64\"," SHAPE3 "[18446744073709551615,0,9007199254740993]}]}" },
    { TENSOR_INT64, 24, (const char *)(const int64_t[]){ INT64_MIN, INT64_MAX, -1 },
      "\"INT64\"," SHAPE3 "[-9223372036854775808,9223372036854775807,-1]}]}" },
    { TENSOR_FP32, 12, (const char *)(const float[]){ 0.1f, NAN, -INFINITY },
      "\"FP32\"," SHAPE3 "[0.1,null,null]}]}" },
    { TENSOR_FP64, 24, (const char *)(const double[]){ 0.1, INFINITY, 1e300 },
      "\"FP64\"," SHAPE3 "[0.1,null,1e300]}]}" },
    { TENSOR_FP16, 6, "\0\74\0\174\146\56", "\"FP16\"," SHAPE3 "[1.0,null,0.1]}]}" },
    { TENSOR_BF16, 6, "\200\77\300\177\315\75", "\"BF16\"," SHAPE3 "[1.0,null,0.1]}]}" },
    { TENSOR_BYTES, 15, "\3\0\0\0\303\251\"\0\0\0\0\0\0\0\0",
      "\"BYTES\"," SHAPE3 "[\"\303\251\\\"\",\"\",\"\"]}]}" },
};

static void test_json(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct arena *arena = arena_new();
        struct fixture fixture;
        struct oip_answer got;
        struct err err;
        char wanted[512];

        setup(&fixture, rows[i].type);
        print_message("  %s\n", tensor_type_name(rows[i].type));
        assert_int_equal(answer(arena, &fixture, rows[i].data, rows[i].bytes,
                                &(struct tensor_shape){ 2, { 1, 3 } }, &got, &err),
                         0);
        snprintf(wanted, sizeof wanted, "%s%s", HEAD, rows[i].wanted);
        if (!slice_is(got.json, wanted))
            fail_msg("%.*s", SLICE_FMT(got.json));
        assert_false(got.binary);
        assert_int_equal(got.bytes, got.json.size);
        arena_free(arena);
    }
}

/* ---- what a hostile or broken replica says --------------------------------------------------- */

static const struct {
    const char *name;
    enum tensor_type type;
    size_t bytes;
    const char *data;
    struct tensor_shape shape;
    bool binary;
    int code;
    const char *message;
} wrong[] = {
    { "too few bytes", TENSOR_FP32, 8, "12345678", { 2, { 1, 3 } }, false, ERR_INTERNAL, "agree" },
    { "a negative shape", TENSOR_FP32, 8, "12345678", { 2, { -1, -2 } }, true, ERR_INTERNAL, "" },
    { "an overflow", TENSOR_FP32, 8, "", { 2, { INT64_MAX, 3 } }, true, ERR_INTERNAL, "shape" },
    { "a rank too high", TENSOR_FP32, 8, "", { 17, {} }, true, ERR_INTERNAL, "shape" },
    { "a huge rank", TENSOR_FP32, 8, "", { UINT32_MAX, {} }, true, ERR_INTERNAL, "shape" },
    { "more strings than bytes",
      TENSOR_BYTES,
      4,
      "\0\0\0\0",
      { 1, { 2 } },
      false,
      ERR_INTERNAL,
      "more strings" },
    { "a length too long",
      TENSOR_BYTES,
      8,
      "\5\0\0\0abcd",
      { 1, { 1 } },
      false,
      ERR_INTERNAL,
      "longer" },
    { "a length of 4 GiB",
      TENSOR_BYTES,
      8,
      "\377\377\377\377abcd",
      { 1, { 1 } },
      true,
      ERR_INTERNAL,
      "says it has" },
    { "left over", TENSOR_BYTES, 8, "\3\0\0\0abcd", { 1, { 1 } }, false, ERR_INTERNAL, "left" },
    { "no UTF-8",
      TENSOR_BYTES,
      5,
      "\1\0\0\0\377",
      { 1, { 1 } },
      false,
      ERR_BAD_INPUT,
      "binary_data: true" },
};

static void test_wrong_answers(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct arena *arena = arena_new();
        struct oip_answer got = {};
        struct fixture fixture;
        struct err err = {};

        setup(&fixture, wrong[i].type);
        fixture.wanted[0].binary = wrong[i].binary;
        assert_int_equal(
            answer(arena, &fixture, wrong[i].data, wrong[i].bytes, &wrong[i].shape, &got, &err),
            wrong[i].code);
        print_message("  %s: %s\n", wrong[i].name, err.message);
        assert_non_null(strstr(err.message, wrong[i].message));
        assert_null(got.json.data);
        arena_free(arena);
    }

    struct arena *arena = arena_new();
    struct oip_output output = { .type = TENSOR_INT32, .data = "1234", .bytes = 4 };
    struct oip_answer got;
    struct fixture fixture;
    struct err err;

    setup(&fixture, TENSOR_FP32);
    assert_int_equal(oip_answer_write(arena, &fixture.request, 1, &output, 1, &limits, &got, &err),
                     ERR_INTERNAL);
    assert_non_null(strstr(err.message, "datatype"));
    assert_int_equal(oip_answer_write(arena, &fixture.request, 1, &output, 0, &limits, &got, &err),
                     ERR_INTERNAL);
    assert_non_null(strstr(err.message, "missing"));
    arena_free(arena);
}

static void test_too_large(void **state)
{
    static uint64_t many[3 * 4096];
    const struct oip_limits small = { .answer_bytes_max = 4096 };
    struct oip_output output = {
        .type = TENSOR_UINT64, .shape = { 2, { 4096, 3 } }, .data = many, .bytes = sizeof many
    };
    struct arena *arena = arena_new();
    struct oip_answer got;
    struct fixture fixture;
    struct err err;

    (void)state;
    setup(&fixture, TENSOR_UINT64);
    assert_int_equal(oip_answer_write(arena, &fixture.request, 1, &output, 1, &small, &got, &err),
                     ERR_TOO_LARGE);
    assert_non_null(strstr(err.message, "binary_data: true"));
    fixture.wanted[0].classes = 3;
    assert_int_equal(oip_answer_write(arena, &fixture.request, 1, &output, 1, &small, &got, &err),
                     ERR_TOO_LARGE);
    fixture.wanted[0] = (struct oip_wanted){ .binary = true };
    assert_int_equal(oip_answer_write(arena, &fixture.request, 1, &output, 1, &small, &got, &err),
                     0);
    arena_free(arena);
}

/* What a model calls its classes is its owner's: long names do not take the gateway's memory. */
static void test_long_labels(void **state)
{
    static char name[100'000];
    static uint64_t many[3 * 1000];
    const struct slice long_labels[] = { { name, sizeof name }, { name, sizeof name } };
    const struct oip_limits some = { .answer_bytes_max = 1 << 20 };
    struct oip_output output = {
        .type = TENSOR_UINT64, .shape = { 2, { 1000, 3 } }, .data = many, .bytes = sizeof many
    };
    struct arena *arena = arena_new();
    struct oip_answer got;
    struct fixture fixture;
    struct err err;

    (void)state;
    memset(name, 'x', sizeof name);
    setup(&fixture, TENSOR_UINT64);
    fixture.metas[0].labels = long_labels;
    fixture.wanted[0].classes = 1;
    assert_int_equal(oip_answer_write(arena, &fixture.request, 1, &output, 1, &some, &got, &err),
                     ERR_TOO_LARGE);
    assert_non_null(strstr(err.message, "names"));
    assert_in_range(arena_bytes(arena), 0, 4 << 20);
    arena_free(arena);
}

/* Another process writes while we read: whatever comes out, nothing beyond the bytes is touched. */
struct flipper {
    _Atomic bool stop;
    volatile unsigned char *data;
};

static void *flip(void *data)
{
    struct flipper *flipper = data;

    for (unsigned i = 0; !flipper->stop; i++) {
        flipper->data[1] = (unsigned char)(i & 1 ? 0xff : 0);   /* the length: 3 or 65283 */
        flipper->data[4] = (unsigned char)(i & 2 ? 0xff : 'a'); /* UTF-8 or not */
    }
    return NULL;
}

static void test_memory_that_changes(void **state)
{
    const struct tensor_shape shape = { 1, { 1 } };
    unsigned char *data = malloc(7);
    struct flipper flipper = { .data = data };
    struct fixture fixture;
    pthread_t thread;

    (void)state;
    memcpy(data, "\3\0\0\0abc", 7);
    setup(&fixture, TENSOR_BYTES);
    assert_int_equal(pthread_create(&thread, NULL, flip, &flipper), 0);
    for (int i = 0; i < 20000; i++) {
        struct arena *arena = arena_new();
        struct oip_answer got = {};
        struct err err;

        fixture.wanted[0].binary = i & 1;
        if (answer(arena, &fixture, data, 7, &shape, &got, &err) == 0)
            assert_true(utf8_valid(got.json));
        arena_free(arena);
    }
    flipper.stop = true;
    (void)pthread_join(thread, NULL);
    free(data);
}

/* ---- binary, and both in one answer ---------------------------------------------------------- */

static void test_binary_parts(void **state)
{
    static const float values[] = { 1, 2, 3, 4, 5, 6 };
    const struct oip_output outputs[] = {
        { .index = 1, .type = TENSOR_FP32, .shape = { 2, { 1, 3 } }, .data = values, .bytes = 12 },
        { .index = 0, .type = TENSOR_FP32, .shape = { 2, { 2, 3 } }, .data = values, .bytes = 24 },
    };
    struct arena *arena = arena_new();
    struct oip_answer got;
    struct fixture fixture;
    struct err err;

    (void)state;
    setup(&fixture, TENSOR_FP32);
    fixture.request.wanted_count = 2;
    fixture.request.has_id = true;
    fixture.request.id = SLICE("x\n");
    fixture.wanted[0].binary = true;
    assert_int_equal(oip_answer_write(arena, &fixture.request, 7, outputs, 2, &limits, &got, &err),
                     0);
    assert_true(slice_is(got.json,
                         "{\"id\":\"x\\n\",\"model_name\":\"m\",\"model_version\":\"7\","
                         "\"outputs\":[{\"name\":\"a\",\"datatype\":\"FP32\",\"shape\":[2,3],"
                         "\"parameters\":{\"binary_data_size\":24}},{\"name\":\"b\","
                         "\"datatype\":\"FP32\",\"shape\":[1,3],\"data\":[1.0,2.0,3.0]}]}"));
    assert_true(got.binary);
    assert_int_equal(got.part_count, 1);
    assert_ptr_equal(got.parts[0].iov_base, values); /* not a copy */
    assert_int_equal(got.parts[0].iov_len, 24);
    assert_int_equal(got.bytes, got.json.size + 24);

    struct oip_output empty[] = { outputs[0], outputs[1] };
    empty[1].shape.dims[0] = 0;
    empty[1].bytes = 0;
    assert_int_equal(oip_answer_write(arena, &fixture.request, 7, empty, 2, &limits, &got, &err),
                     0);
    assert_true(got.binary && got.part_count == 0);
    arena_free(arena);
}

/* ---- classification -------------------------------------------------------------------------- */

static const struct {
    const char *name;
    bool batched;
    uint32_t k;
    float values[6];
    const char *wanted;
} classes[] = {
    { "the best of each row",
      true,
      1,
      { .1f, .7f, .2f, 5, 4, 3 },
      "\"shape\":[2,1],\"data\":[\"0.700000:1:on\\\"e\",\"5.000000:0:zero\"]}]}" },
    { "in order",
      true,
      2,
      { .1f, .7f, .2f, 5, 4, 3 },
      "\"shape\":[2,2],\"data\":[\"0.700000:1:on\\\"e\",\"0.200000:2\",\"5.000000:0:zero\","
      "\"4.000000:1:on\\\"e\"]}]}" },
    { "no batches: one row",
      false,
      2,
      { .1f, .7f, .2f, 5, 4, 3 },
      "\"shape\":[2],\"data\":[\"5.000000:3\",\"4.000000:4\"]}]}" },
    { "more than there are",
      true,
      9,
      { 1, 1, 1, NAN, -INFINITY, INFINITY },
      "\"shape\":[2,3],\"data\":[\"1.000000:0:zero\",\"1.000000:1:on\\\"e\",\"1.000000:2\","
      "\"inf:2\",\"-inf:1:on\\\"e\",\"nan:0:zero\"]}]}" },
};

static void test_classification(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++) {
        struct arena *arena = arena_new();
        struct oip_answer got;
        struct fixture fixture;
        struct err err;
        char wanted[512];

        setup(&fixture, TENSOR_FP32);
        if (!classes[i].batched)
            fixture.metas[0].shape.dims[0] = 2;
        fixture.wanted[0].classes = classes[i].k;
        assert_int_equal(answer(arena, &fixture, classes[i].values, 24,
                                &(struct tensor_shape){ 2, { 2, 3 } }, &got, &err),
                         0);
        print_message("  %s\n", classes[i].name);
        snprintf(wanted, sizeof wanted, "%s\"BYTES\",%s", HEAD, classes[i].wanted);
        if (!slice_is(got.json, wanted))
            fail_msg("%.*s", SLICE_FMT(got.json));
        arena_free(arena);
    }
}

static void test_classification_binary(void **state)
{
    static const int64_t values[] = { INT64_MAX - 1, INT64_MAX, INT64_MIN };
    static const char wanted[] = "\x1a\0\0\0"
                                 "9223372036854775807:1:on\"e";
    struct arena *arena = arena_new();
    struct oip_answer got;
    struct fixture fixture;
    struct err err;

    (void)state;
    setup(&fixture, TENSOR_INT64);
    fixture.wanted[0] = (struct oip_wanted){ .classes = 1, .binary = true };
    assert_int_equal(
        answer(arena, &fixture, values, 24, &(struct tensor_shape){ 2, { 1, 3 } }, &got, &err), 0);
    assert_int_equal(got.part_count, 1);
    assert_int_equal(got.parts[0].iov_len, sizeof wanted - 1);
    assert_memory_equal(got.parts[0].iov_base, wanted, sizeof wanted - 1);
    arena_free(arena);
}

/* ---- out and in again: the same bits --------------------------------------------------------- */

static uint64_t random_state = 7;

static uint64_t random_next(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state * UINT64_C(0x2545f4914f6cdd1d);
}

/* JSON cannot say NaN and infinities: their exponent is made smaller. */
static void make_finite(enum tensor_type type, unsigned char *value, size_t size)
{
    if ((type == TENSOR_FP16 || type == TENSOR_FP32 || type == TENSOR_FP64 ||
         type == TENSOR_BF16) &&
        (value[size - 1] & 0x7c) == 0x7c)
        value[size - 1] &= 0xbf;
}

static size_t fill(enum tensor_type type, size_t count, unsigned char *out)
{
    size_t size = tensor_type_bytes(type), at = 0;

    for (size_t i = 0; i < count; i++) {
        uint64_t bits = random_next();

        if (type == TENSOR_BYTES) { /* 1 to 3 characters of 1 to 3 bytes */
            uint32_t length = 0, characters = (uint32_t)(bits % 4);

            for (uint32_t j = 0; j < characters; j++) {
                uint32_t code = (uint32_t)(random_next() % (j == 0 ? 0x80 : 0x800));

                if (code >= 0x80)
                    out[at + 4 + length++] = (unsigned char)(0xc0 | code >> 6);
                out[at + 4 + length++] = (unsigned char)(code < 0x80 ? code : 0x80 | (code & 0x3f));
            }
            memcpy(out + at, &length, 4);
            at += 4 + length;
            continue;
        }
        memcpy(out + at, &bits, size);
        if (type == TENSOR_BOOL)
            out[at] &= 1;
        make_finite(type, out + at, size);
        at += size;
    }
    return at;
}

static void round_trip(enum tensor_type type, int64_t rows_count)
{
    static unsigned char data[3 * 2000 * 16];
    struct arena *arena = arena_new();
    size_t bytes = fill(type, 3 * (size_t)rows_count, data);
    struct oip_request request;
    struct oip_answer got;
    struct fixture fixture;
    struct text text = {};
    struct slice body;
    struct err err;
    void *block;

    setup(&fixture, type);
    assert_int_equal(answer(arena, &fixture, data, bytes,
                            &(struct tensor_shape){ 2, { rows_count, 3 } }, &got, &err),
                     0);
    body = (struct slice){ got.json.data + sizeof HEAD - 1, got.json.size - sizeof HEAD + 1 };
    TEXT_LITERAL(&text, "{\"inputs\":[{\"name\":\"a\",\"datatype\":");
    text_append(&text, body);
    if (oip_request_parse(arena, &fixture.model, text_slice(&text), 0, &limits, &request, &err) < 0)
        fail_msg("%s", err.message);
    assert_int_equal(request.inputs[0].bytes, bytes);
    block = aligned_alloc(64, request.block_bytes + 64);
    assert_int_equal(oip_request_convert(&request, block, &err), 0);
    assert_memory_equal(block, data, bytes);
    free(block);
    text_deinit(&text);
    arena_free(arena);
}

static void test_round_trips(void **state)
{
    (void)state;
    for (int type = TENSOR_BOOL; type < TENSOR_TYPE_COUNT; type++) {
        print_message("  %s\n", tensor_type_name((enum tensor_type)type));
        for (int64_t rows_count = 0; rows_count < 20; rows_count++)
            round_trip((enum tensor_type)type, rows_count);
        round_trip((enum tensor_type)type, 2000);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_json),
        cmocka_unit_test(test_wrong_answers),
        cmocka_unit_test(test_memory_that_changes),
        cmocka_unit_test(test_too_large),
        cmocka_unit_test(test_long_labels),
        cmocka_unit_test(test_binary_parts),
        cmocka_unit_test(test_classification),
        cmocka_unit_test(test_classification_binary),
        cmocka_unit_test(test_round_trips),
    };
    return cmocka_run_group_tests_name("oip_answer", tests, NULL, NULL);
}
