/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/oip.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "base/arena.h"
#include "base/err.h"

/* A model with one input of every datatype, each [-1,3], and two of other forms; all optional but
 * those that a row's text names, so that a row stays short. */
#define INPUT(number_, type_)                                                                      \
    {                                                                                              \
        .name = { #type_, sizeof #type_ - 1 }, .type = TENSOR_##type_, .shape = { 2, { -1, 3 } },  \
        .optional = true                                                                           \
    }
static const struct tensor_meta inputs[] = {
    INPUT(1, BOOL),
    INPUT(2, UINT8),
    INPUT(3, UINT16),
    INPUT(4, UINT32),
    INPUT(5, UINT64),
    INPUT(6, INT8),
    INPUT(7, INT16),
    INPUT(8, INT32),
    INPUT(9, INT64),
    INPUT(10, FP16),
    INPUT(11, FP32),
    INPUT(12, FP64),
    INPUT(13, BYTES),
    INPUT(14, BF16),
    { .name = { "scalar", 6 }, .type = TENSOR_FP32, .optional = true },
    { .name = { "deep", 4 },
      .type = TENSOR_INT64,
      .shape = { 3, { 2, -1, 2 } },
      .symbols = (const struct slice[]){ {}, { "rows", 4 }, {} },
      .optional = true },
};
static const struct tensor_meta outputs[] = {
    { .name = { "y", 1 }, .type = TENSOR_FP32, .shape = { 2, { -1, 10 } } },
    { .name = { "s", 1 }, .type = TENSOR_BYTES, .shape = { 1, { -1 } } },
};
static const struct oip_model model = { .name = { "m", 1 },
                                        .inputs = inputs,
                                        .input_count = sizeof inputs / sizeof *inputs,
                                        .outputs = outputs,
                                        .output_count = 2 };
static const struct oip_model strict = { .name = { "m", 1 },
                                         .inputs =
                                             &(const struct tensor_meta){ .name = { "x", 1 },
                                                                          .type = TENSOR_FP32,
                                                                          .shape = { 1, { -1 } } },
                                         .input_count = 1,
                                         .outputs = outputs,
                                         .output_count = 2 };
enum { TENSORS_MAX = 64 }; /* of a request; more in a model are refused */

static const struct oip_limits limits = {};

static void *block; /* of the last request that was good */

/* All of the way in, from memory of exactly the text's size, so that ASan sees a byte too far. */
static int read_request(struct arena *arena, const struct oip_model *of, const char *text,
                        uint64_t following, struct oip_request *ret, struct err *err)
{
    size_t size = strlen(text);
    char *copy = malloc(size ? size : 1);
    int r;

    memcpy(copy, text, size);
    r = oip_request_parse(arena, of, (struct slice){ copy, size }, following, &limits, ret, err);
    if (r == 0) {
        free(block);
        block = aligned_alloc(64, ret->block_bytes + 64);
        memset(block, 0xee, ret->block_bytes + 64);
        r = oip_request_convert(ret, block, err);
        for (size_t i = ret->block_bytes; r == 0 && i < ret->block_bytes + 64; i++)
            assert_int_equal(((unsigned char *)block)[i], 0xee);
    }
    free(copy);
    return r;
}

/* --- good elements ---------------------------------------------------------------------------- */

#define X3(...)                                                                                    \
    {                                                                                              \
        __VA_ARGS__                                                                                \
    }
static const struct {
    const char *type, *data, *shape;
    size_t bytes;
    unsigned char wanted[32];
} good[] = {
    { "BOOL", "[true,false,true]", "[1,3]", 3, { 1, 0, 1 } },
    { "UINT8", "[0, 255 ,\n7]", "[1,3]", 3, { 0, 255, 7 } },
    { "UINT8", "[[1,2,3],[4,5,6]]", "[2,3]", 6, { 1, 2, 3, 4, 5, 6 } },
    { "UINT8", "[1,2,3,4,5,6]", "[2,3]", 6, { 1, 2, 3, 4, 5, 6 } },
    { "UINT8", "[]", "[0,3]", 0, {} },
    { "UINT8", "[\r1\t, 2 ,\r\n\t3\r]", "[1,3]", 3, { 1, 2, 3 } },
    { "BYTES",
      "[\"\\uD83D\\uDE00\",\"\\u20AC\",\"\\u00e9\x7f\"]",
      "[1,3]",
      22,
      { 4, 0,    0,    0,    0xf0, 0x9f, 0x98, 0x80, 3,    0,    0,
        0, 0xe2, 0x82, 0xac, 3,    0,    0,    0,    0xc3, 0xa9, 0x7f } },
    { "FP32", /* spaces behind the commas, and room for a run of numbers */
      "[1.0,\n                2.0,\t  0.5                                                      ]",
      "[1,3]",
      12,
      { 0, 0, 128, 63, 0, 0, 0, 64, 0, 0, 0, 63 } },
    { "UINT16", "[65535,1,256]", "[1,3]", 6, { 255, 255, 1, 0, 0, 1 } },
    { "UINT32", "[4294967295,-0,1]", "[1,3]", 12, { 255, 255, 255, 255, 0, 0, 0, 0, 1 } },
    { "UINT64",
      "[18446744073709551615,0,9007199254740993]",
      "[1,3]",
      24,
      { 255, 255, 255, 255, 255, 255, 255, 255, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 32, 0 } },
    { "INT8", "[-128,127,-1]", "[1,3]", 3, { 128, 127, 255 } },
    { "INT16", "[-32768,32767,-1]", "[1,3]", 6, { 0, 128, 255, 127, 255, 255 } },
    { "INT32", "[-2147483648,2147483647,5]", "[1,3]", 12, { 0, 0, 0, 128, 255, 255, 255, 127, 5 } },
    { "INT64",
      "[-9223372036854775808,9223372036854775807,-9007199254740993]",
      "[1,3]",
      24,
      { 0,   0,   0,   0,   0,   0,   0,   128, 255, 255, 255, 255,
        255, 255, 255, 127, 255, 255, 255, 255, 255, 255, 223, 255 } },
    { "FP16", "[1,65504,5.9604645e-8]", "[1,3]", 6, { 0, 0x3c, 0xff, 0x7b, 1, 0 } },
    { "FP16", "[2049,2051,1e-9]", "[1,3]", 6, { 0, 0x68, 2, 0x68, 0, 0 } },
    { "BF16", "[1,3.3895314e38,-0.0]", "[1,3]", 6, { 0x80, 0x3f, 0x7f, 0x7f, 0, 0x80 } },
    { "FP32",
      "[1,0.1,-2.5e0]",
      "[1,3]",
      12,
      { 0, 0, 0x80, 0x3f, 0xcd, 0xcc, 0xcc, 0x3d, 0, 0, 0x20, 0xc0 } },
    { "FP64",
      "[1,-0,5e-324]",
      "[1,3]",
      24,
      { 0, 0, 0, 0, 0, 0, 0xf0, 0x3f, 0, 0, 0, 0, 0, 0, 0, 0x80, 1 } },
    { "BYTES",
      "[\"a\",\"\",\"\\u00e9\\n\"]",
      "[1,3]",
      16,
      { 1, 0, 0, 0, 'a', 0, 0, 0, 0, 3, 0, 0, 0, 0xc3, 0xa9, '\n' } },
    { "BYTES",
      "[[\"\\ud83d\\ude00\",\"]\",\"\\\"\"]]",
      "[1,3]",
      18,
      { 4, 0, 0, 0, 0xf0, 0x9f, 0x98, 0x80, 1, 0, 0, 0, ']', 1, 0, 0, 0, '"' } },
    { "scalar", "[1]", "[]", 4, { 0, 0, 0x80, 0x3f } },
    { "deep", "[[],[]]", "[2,0,2]", 0, {} },
    { "deep",
      "[[[1,2]],[[3,4]]]",
      "[2,1,2]",
      32,
      { 1, 0, 0, 0, 0, 0, 0, 0, 2, [16] = 3, [24] = 4 } },
};

static const char *type_of(const char *input)
{
    return strcmp(input, "scalar") == 0 ? "FP32" : strcmp(input, "deep") == 0 ? "INT64" : input;
}

static void test_good_elements(void **state)
{
    (void)state;
    for (size_t i = 0; i < 2 * (sizeof good / sizeof *good); i++) {
        size_t row = i / 2;
        struct arena *arena = arena_new();
        struct oip_request request;
        char text[512];
        struct err err;

        /* Both orders: data may stand in front of what says how to read it. */
        snprintf(text, sizeof text,
                 i % 2 ? "{\"inputs\":[{\"data\":%4$s,\"shape\":%3$s,\"name\":\"%1$s\","
                         "\"datatype\":\"%2$s\"}]}"
                       : " { \"inputs\" : [ {\"name\":\"%1$s\",\"datatype\":\"%2$s\","
                         "\"shape\":%3$s,\"data\":%4$s } ] } \n",
                 good[row].type, type_of(good[row].type), good[row].shape, good[row].data);
        if (read_request(arena, &model, text, 0, &request, &err) < 0)
            fail_msg("%s: %s", text, err.message);
        assert_int_equal(request.input_count, 1);
        assert_int_equal(request.inputs[0].bytes, good[row].bytes);
        assert_int_equal(request.block_bytes, (good[row].bytes + 63) / 64 * 64);
        assert_memory_equal(block, good[row].wanted, good[row].bytes);
        arena_free(arena);
    }
}

/* ---- bad ones -------------------------------------------------------------------------------- */

static const struct {
    const char *type, *shape, *data;
    int code;
    const char *message; /* part of it */
} bad[] = {
    { "UINT8", "[1,3]", "[1,256,3]", ERR_BAD_INPUT, "data[1]: '256' is out of range for UINT8" },
    { "UINT8", "[2,3]", "[[1,2,3],[4,-5,6]]", ERR_BAD_INPUT, "data[1][1]: '-5' is out of range" },
    { "UINT64", "[1,3]", "[18446744073709551616,1,1]", ERR_BAD_INPUT, "data[0]" },
    { "INT64", "[1,3]", "[1,1,9223372036854775808]", ERR_BAD_INPUT, "data[2]" },
    { "INT32", "[1,3]", "[1,2.0,3]", ERR_BAD_INPUT, "not written as an integer" },
    { "INT32", "[1,3]", "[1,\"2\",3]", ERR_BAD_INPUT, "is a string" },
    { "FP32", "[1,3]", "[1,\"2\",3]", ERR_BAD_INPUT, "a number is expected for FP32" },
    { "FP32", "[1,3]", "[1,NaN,3]", ERR_BAD_INPUT, "binary" },
    { "FP32", "[1,3]", "[1,-Infinity,3]", ERR_BAD_INPUT, "binary" },
    { "FP32", "[1,3]", "[1,\"NaN\",3]", ERR_BAD_INPUT, "binary" },
    { "FP32", "[1,3]", "[1,null,3]", ERR_BAD_INPUT, "data[1]" },
    { "FP32", "[1,3]", "[1,true,3]", ERR_BAD_INPUT, "data[1]" },
    { "FP32", "[1,3]", "[1,3.5e38,3]", ERR_BAD_INPUT, "out of range for FP32" },
    { "FP64", "[1,3]", "[1,1e309,3]", ERR_BAD_INPUT, "out of range for FP64" },
    { "FP16", "[1,3]", "[1,2,65520]", ERR_BAD_INPUT, "data[2]: '65520' is out of range for FP16" },
    { "BF16", "[1,3]", "[-3.4e38,1,2]", ERR_BAD_INPUT, "data[0]" },
    { "BOOL", "[1,3]", "[1,0,1]", ERR_BAD_INPUT, "neither true nor false" },
    { "BYTES", "[1,3]", "[\"a\",2,\"c\"]", ERR_BAD_INPUT, "not a string" },
    { "BYTES", "[1,3]", "[\"a\",\"\\ud800\",\"c\"]", ERR_BAD_INPUT, "surrogate" },
    { "BYTES", "[1,3]", "[\"a\",\"\\x\",\"c\"]", ERR_BAD_INPUT, "escape" },
    { "BYTES", "[1,1]", "[\"\\udc00\"]", ERR_BAD_INPUT, "surrogate" },
    { "BYTES", "[1,1]", "[\"\\ud83dxxxxxx\"]", ERR_BAD_INPUT, "surrogate" },
    { "BYTES", "[1,1]", "[\"\\ud83d\\nxxxxx\"]", ERR_BAD_INPUT, "surrogate" },
    { "BYTES", "[1,1]", "[\"\\ud83d\\uzzzz\"]", ERR_BAD_INPUT, "surrogate" },
    { "BYTES", "[1,1]", "[\"\\ud83d\\u0041\"]", ERR_BAD_INPUT, "surrogate" },
    { "BYTES", "[1,1]", "[\"\\ud83d\\ue000\"]", ERR_BAD_INPUT, "surrogate" },
    { "BYTES", "[1,1]", "[\"\\u12g4\"]", ERR_BAD_INPUT, "four hexadecimal digits" },
    { "BYTES", "[1,1]", "[\"\\u12G4\"]", ERR_BAD_INPUT, "four hexadecimal digits" },
    { "BYTES", "[1,1]", "[\"\\u12/4\"]", ERR_BAD_INPUT, "four hexadecimal digits" },
    { "BYTES", "[1,1]", "[\"\\u12:4\"]", ERR_BAD_INPUT, "four hexadecimal digits" },
    { "INT8", "[1,3]", "[1,128,3]", ERR_BAD_INPUT, "data[1]" },
    { "INT8", "[1,3]", "[1,-129,3]", ERR_BAD_INPUT, "data[1]" },
    { "INT8", "[1,3]", "[1,99999999999999999999999,3]", ERR_BAD_INPUT, "data[1]" },
    { "INT32", "[1,3]", "[1,2147483648,3]", ERR_BAD_INPUT, "data[1]" },
    { "INT32", "[1,3]", "[1,-2147483649,3]", ERR_BAD_INPUT, "data[1]" },
    { "INT64", "[1,3]", "[1,9223372036854775808,3]", ERR_BAD_INPUT, "data[1]" },
    { "UINT8", "[1,3]", "[1,256,3]", ERR_BAD_INPUT, "data[1]" },
    { "UINT64", "[1,3]", "[1,18446744073709551616,3]", ERR_BAD_INPUT, "data[1]" },
    { "UINT64", "[1,3]", "[1,-1,3]", ERR_BAD_INPUT, "data[1]" },
    { "INT8", "[1,3]", "[1,0.5e0,3]", ERR_BAD_INPUT, "data[1]" },
    { "BYTES", "[1,3]", "[\"a\",\"\xff\",\"c\"]", ERR_BAD_INPUT, "not UTF-8" },
    { "BYTES", "[1,3]", "[\"a\",\"\n\",\"c\"]", ERR_BAD_INPUT, "control character" },
    { "FP32", "[1,3]", "[1,2]", ERR_BAD_INPUT, "fewer" },
    { "FP32", "[1,3]", "[1,2,3,4]", ERR_BAD_INPUT, "more" },
    { "FP32", "[1,3]", "[1,2,]", ERR_BAD_INPUT, "behind ','" },
    { "FP32", "[1,3]", "[1,,2]", ERR_BAD_INPUT, "data[1]" },
    { "FP32", "[1,3]", "[1 2 3]", ERR_BAD_INPUT, "',' or ']'" },
    { "FP32", "[1,3]", "[01,2,3]", ERR_BAD_INPUT, "data[0]" },
    { "FP32", "[1,3]", "[0x1,2,3]", ERR_BAD_INPUT, "',' or ']'" },
    { "FP32", "[2,3]", "[[1,2,3],[4,5]]", ERR_BAD_INPUT, "data[1] has fewer" },
    { "FP32", "[2,3]", "[[1,2,3],[4,5,6,7]]", ERR_BAD_INPUT, "data[1] has more" },
    { "FP32", "[2,3]", "[[1,2,3]]", ERR_BAD_INPUT, "data has fewer" },
    { "FP32", "[2,3]", "[[1,2,3],[4,5,6],[7,8,9]]", ERR_BAD_INPUT, "data has more" },
    { "FP32", "[2,3]", "[[1,2,3],4,5,6]", ERR_BAD_INPUT, "data[1]: a list is expected" },
    { "FP32", "[1,3]", "[[[1],2,3]]", ERR_BAD_INPUT, "a list stands here" },
    { "FP32", "[1,3]", "[1,[2],3]", ERR_BAD_INPUT, "a list stands here" },
    { "FP32", "[1,3]", "1", ERR_BAD_INPUT, "array" },
    { "FP32", "[1,3]", "{\"a\":1}", ERR_BAD_INPUT, "array" },
    { "FP32", "[1,3]", "[{},1,2]", ERR_BAD_INPUT, "no objects" },
    { "FP32", "[1,3]", "[1,2,3", ERR_BAD_INPUT, "JSON" },
    { "FP32", "[-1,3]", "[1,2,3]", ERR_BAD_INPUT, "negative" },
    { "FP32", "[1.0,3]", "[1,2,3]", ERR_BAD_INPUT, "integer" },
    { "FP32", "[\"1\",3]", "[1,2,3]", ERR_BAD_INPUT, "number" },
    { "FP32", "[1,4]", "[1,2,3,4]", ERR_BAD_INPUT, "has shape [1,4]; model 'm' expects [-1,3]" },
    { "FP32", "[3]", "[1,2,3]", ERR_BAD_INPUT, "has shape [3]" },
    { "deep", "[3,1,2]", "[1,2,3,4,5,6]", ERR_BAD_INPUT, "expects [2,rows,2]" },
    { "FP32", "[4611686018427387904,3]", "[1,2,3]", ERR_TOO_LARGE, "too large" },
    { "FP32", "[99999999999999999999,3]", "[1,2,3]", ERR_BAD_INPUT, "64 bits" },
    { "FP32", "[1000000000,3]", "[1,2,3]", ERR_BAD_INPUT, "fewer" },
    { "FP32", "[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]", "[1]", ERR_BAD_INPUT, "16 dimensions" },
};

static void test_bad_elements(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct arena *arena = arena_new();
        struct oip_request request;
        char text[512];
        struct err err = {};
        int r;

        snprintf(text, sizeof text,
                 "{\"inputs\":[{\"name\":\"%s\",\"datatype\":\"%s\",\"shape\":%s,\"data\":%s}]}",
                 bad[i].type, type_of(bad[i].type), bad[i].shape, bad[i].data);
        r = read_request(arena, &model, text, 0, &request, &err);
        print_message("  %s\n", err.message);
        assert_int_equal(r, bad[i].code);
        if (!strstr(err.message, bad[i].message))
            fail_msg("'%s' is not in '%s'", bad[i].message, err.message);
        arena_free(arena);
    }
}

#define XIN "{\"name\":\"x\",\"shape\":[2],\"datatype\":\"FP32\",\"data\":[1,2]}"
#define LONG "0123456789012345678901234567890123456789012345678901234567890123456789"
#define XOTHER "{\"name\":\"x\",\"other\":[1],\"shape\":[2],\"datatype\":\"FP32\",\"data\":[1,2]}"
#define IN "{\"inputs\":[" XIN "]"

static const struct {
    const char *text;
    int code;
    const char *message;
} requests[] = {
    { "", ERR_BAD_INPUT, "empty" },
    { "[]", ERR_BAD_INPUT, "this begins with '[]'" },
    { "{}", ERR_BAD_INPUT, "no 'inputs'" },
    { "nonsense}", ERR_BAD_INPUT, "object" },
    { "{\"inputs\":[]}", ERR_BAD_INPUT, "'x' of model 'm' is missing" },
    { "{\"inputs\":[" XIN "," XIN "]}", ERR_BAD_INPUT, "twice" },
    { "{\"inputs\":[{\"name\":\"z\"}]}", ERR_BAD_INPUT, "no input 'z'; it has 'x'" },
    { "{\"inputs\":[{}]}", ERR_BAD_INPUT, "no 'name'" },
    { "{\"inputs\":[{\"name\":\"x\",\"shape\":[2],\"data\":[1,2]}]}", ERR_BAD_INPUT, "'datatype'" },
    { "{\"inputs\":[{\"name\":\"x\",\"datatype\":\"FP32\",\"data\":[1]}]}", ERR_BAD_INPUT,
      "'shape'" },
    { "{\"inputs\":[{\"name\":\"x\",\"datatype\":\"FP32\",\"shape\":[1]}]}", ERR_BAD_INPUT,
      "neither" },
    { "{\"inputs\":[{\"name\":\"x\",\"datatype\":\"INT64\",\"shape\":[1],\"data\":[1]}]}",
      ERR_BAD_INPUT, "has datatype 'INT64'; model 'm' expects FP32" },
    { "{\"inputs\":[{\"name\":\"x\",\"datatype\":\"float\",\"shape\":[1],\"data\":[1]}]}",
      ERR_BAD_INPUT, "'float'" },
    { "{\"inputs\":[{\"name\":\"x\",\"name\":\"x\"}]}", ERR_BAD_INPUT, "twice" },
    { "{\"inputs\":[" XIN "],\"inputs\":[]}", ERR_BAD_INPUT, "twice" },
    { "{\"id\":\"1\",\"i\\u0064\":\"1\","
      "\"inputs\":[" XIN "]}",
      ERR_BAD_INPUT, "twice" },
    { IN ",\"other\":{\"a\":1,\"a\":2}}", ERR_BAD_INPUT, "twice" },
    { IN ",\"id\":7}", ERR_BAD_INPUT, "string" },
    { IN ",\"id\":\"" LONG LONG LONG LONG LONG LONG LONG LONG LONG LONG LONG LONG LONG LONG LONG
         "\"}",
      ERR_TOO_LARGE, "id" },
    { IN ",\"other\":nul}", ERR_BAD_INPUT, "a value is expected" },
    { IN ",\"other\":[1,]}", ERR_BAD_INPUT, "behind ','" },
    { IN ",\"parameters\":{\"sequence_end\":nul}}", ERR_BAD_INPUT, "a value is expected" },
    { IN ",\"parameters\":{\"sequence_end\":true}}", ERR_NOT_SUPPORTED, "sequence_end" },
    { IN ",\"parameters\":{\"mine\":{}}}", ERR_BAD_INPUT, "a parameter is" },
    { IN ",\"parameters\":{\"mine\":null}}", ERR_BAD_INPUT, "a parameter is" },
    { IN ",\"parameters\":{\"shared_memory_x\":1}}", ERR_NOT_SUPPORTED, "shared_memory_x" },
    { "{\"inputs\":[{\"shape\":[-1],\"name\":\"x\"}]}", ERR_BAD_INPUT, "negative" },
    { "{\"inputs\":[{\"name\":\"x\",\"shape\":[-1]}]}", ERR_BAD_INPUT, "input 'x'" },
    { "{\"inputs\":7}", ERR_BAD_INPUT, "array" },
    { IN ",\"outputs\":[{\"name\":\"y\",\"other\":nul}]}", ERR_BAD_INPUT, "a value is expected" },
    { IN ",\"outputs\":[{\"name\":\"y\",\"parameters\":7}]}", ERR_BAD_INPUT, "object" },
    { IN "}}", ERR_BAD_INPUT, "behind the object" },
    { IN "} {}", ERR_BAD_INPUT, "behind the object" },
    { IN ",}", ERR_BAD_INPUT, "key" },
    { IN " \"id\":\"x\"}", ERR_BAD_INPUT, "',' or '}'" },
    { IN ",\"a\":{\"b\":1}", ERR_BAD_INPUT, "closed" },
    { IN ",\"parameters\":{\"sequence_id\":7}}", ERR_NOT_SUPPORTED, "sequence_id" },
    { IN ",\"parameters\":{\"sequence_start\":true}}", ERR_NOT_SUPPORTED, "sequence_start" },
    { IN ",\"parameters\":{\"triton_x\":true}}", ERR_NOT_SUPPORTED, "triton_x" },
    { IN ",\"parameters\":{\"priority\":-1}}", ERR_BAD_INPUT, "integer" },
    { IN ",\"parameters\":{\"timeout\":\"1s\"}}", ERR_BAD_INPUT, "number" },
    { IN ",\"parameters\":{\"binary_data_output\":1}}", ERR_BAD_INPUT, "true or false" },
    { IN ",\"parameters\":{\"mine\":[1]}}", ERR_BAD_INPUT, "a parameter is" },
    { IN ",\"outputs\":[{\"name\":\"q\"}]}", ERR_BAD_INPUT, "no output 'q'; it has 'y', 's'" },
    { IN ",\"outputs\":[{\"name\":\"y\"},{\"name\":\"y\"}]}", ERR_BAD_INPUT, "twice" },
    { IN ",\"outputs\":[{}]}", ERR_BAD_INPUT, "no 'name'" },
    { IN ",\"outputs\":[{\"name\":\"s\",\"parameters\":{\"classification\":2}}]}", ERR_BAD_INPUT,
      "needs numbers" },
    { IN ",\"outputs\":[{\"name\":\"y\",\"parameters\":{\"shared_memory_region\":\"r\"}}]}",
      ERR_NOT_SUPPORTED, "shared_memory_region" },
    { "{\"inputs\":[{\"name\":\"x\",\"shape\":[2],\"datatype\":\"FP32\",\"parameters\":"
      "{\"shared_memory_region\":\"r\"}}]}",
      ERR_NOT_SUPPORTED, "shared_memory_region" },
    { "{\"inputs\":[{\"name\":\"x\",\"shape\":[2],\"datatype\":\"FP32\",\"parameters\":"
      "{\"binary_data_size\":8},\"data\":[1,2]}]}",
      ERR_BAD_INPUT, "both" },
    { "{\"inputs\":[{\"name\":\"x\",\"shape\":[2],\"datatype\":\"FP32\",\"parameters\":"
      "{\"binary_data_size\":9}}]}",
      ERR_BAD_INPUT, "binary_data_size is 9; shape [2] of FP32 takes 8" },
    { "{\"inputs\":[{\"name\":\"x\",\"shape\":[2],\"datatype\":\"FP32\",\"parameters\":"
      "{\"binary_data_size\":8}}]}",
      ERR_BAD_INPUT, "0 bytes follow" },
};

static void test_bad_requests(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof requests / sizeof *requests; i++) {
        struct arena *arena = arena_new();
        struct oip_request request;
        struct err err = {};
        int r = read_request(arena, &strict, requests[i].text, 0, &request, &err);

        print_message("  %s\n", err.message);
        if (r != requests[i].code || !strstr(err.message, requests[i].message))
            fail_msg("%s: %d, '%s'", requests[i].text, r, err.message);
        arena_free(arena);
    }
}

static void test_every_cut(void **state)
{
    static const char text[] = IN ",\"id\":\"a\\u0041\",\"parameters\":{\"a\":-1.5e3,\"b\":null_}}";
    static const char whole[] =
        IN ",\"id\":\"a\\u0041\",\"parameters\":{\"a\":-1.5e3},\"outputs\":[{\"name\":\"y\"}]}";
    struct oip_request request;
    struct err err;

    (void)state;
    for (size_t i = 0; i < sizeof whole; i++) {
        struct arena *arena = arena_new();
        char cut[sizeof whole + 1];
        int r;

        memcpy(cut, whole, i);
        cut[i] = '\0';
        r = read_request(arena, &strict, cut, 0, &request, &err);
        assert_int_equal(r, i == sizeof whole - 1 ? 0 : ERR_BAD_INPUT);
        memcpy(cut + i, "}", 2); /* with an end that looks right */
        (void)!read_request(arena, &strict, cut, 0, &request, &err);
        arena_free(arena);
    }
    struct arena *arena = arena_new();
    assert_int_equal(read_request(arena, &strict, text, 0, &request, &err), ERR_BAD_INPUT);
    arena_free(arena);
}

static void test_deep(void **state)
{
    enum { DEPTH = 100000 };
    static const char *const fronts[] = { "{\"a\":", "{\"inputs\":",
                                          "{\"inputs\":[{\"name\":\"x\",\"data\":" };
    static const char brackets[] = "[{";

    (void)state;
    for (size_t i = 0; i < sizeof fronts / sizeof *fronts; i++)
        for (int j = 0; j < 2; j++) {
            struct arena *arena = arena_new();
            size_t front = strlen(fronts[i]), size = front;
            char *text = malloc(front + 5 * DEPTH + 2);
            struct oip_request request;
            struct err err;

            memcpy(text, fronts[i], front);
            for (int k = 0; k < DEPTH; k++) {
                text[size++] = brackets[j];
                if (j == 1) {
                    memcpy(text + size, "\"a\":", 4);
                    size += 4;
                }
            }
            memcpy(text + size, "}", 2);
            assert_int_equal(read_request(arena, &strict, text, 0, &request, &err), ERR_BAD_INPUT);
            print_message("  %s\n", err.message);
            free(text);
            arena_free(arena);
        }
}

static void test_many_keys(void **state)
{
    struct arena *arena = arena_new();
    struct oip_request request;
    struct text text = {};
    struct err err;

    (void)state;
    TEXT_LITERAL(&text, IN ",\"parameters\":{\"a\":1");
    for (int i = 0; i < 100000; i++) {
        TEXT_LITERAL(&text, ",\"k");
        text_u64(&text, (uint64_t)i);
        TEXT_LITERAL(&text, "\":1");
    }
    TEXT_LITERAL(&text, "}}");
    text_char(&text, '\0');
    assert_int_equal(read_request(arena, &strict, text.data, 0, &request, &err), ERR_BAD_INPUT);
    assert_non_null(strstr(err.message, "64 keys"));
    text_deinit(&text);
    arena_free(arena);
}

/* An array's end is looked for many characters at a time: each that matters, at each place. */
static void test_what_matters_anywhere(void **state)
{
    static const struct {
        const char *what, *said; /* NULL: right */
    } all[] = {
        { "1,2,3]}]}", NULL },
        { "1,\"two\",3]}]}", "a string" },
        { "1,\"]\",3]}]}", "a string" },
        { "1,[2],3]}]}", "[1]" },
        { "1,{},3]}]}", "no objects" },
        { "1,},3]}]}", "no objects" },
        { "1,2,3", "JSON" },
    };
    char body[512], spaces[256];

    (void)state;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        for (int at = 0; at < 200; at++) {
            struct arena *arena = arena_new();
            struct oip_request request;
            struct err err = {};

            memset(spaces, ' ', sizeof spaces);
            snprintf(body, sizeof body,
                     "{\"inputs\":[{\"name\":\"x\",\"shape\":[3],\"datatype\":\"FP32\",\"data\":["
                     "%.*s%s%.*s",
                     at, spaces, all[i].what, at % 64, spaces);
            int r = read_request(arena, &strict, body, 0, &request, &err);
            if (all[i].said ? r != ERR_BAD_INPUT || !strstr(err.message, all[i].said) : r != 0)
                fail_msg("%s behind %d spaces: %d, %s", all[i].what, at, r, err.message);
            arena_free(arena);
        }
}

/* ---- what a request says --------------------------------------------------------------------- */

static void test_parameters_and_outputs(void **state)
{
    struct arena *arena = arena_new();
    struct oip_request request;
    struct err err;

    (void)state;
    assert_int_equal(read_request(arena, &strict,
                                  IN ",\"id\":\"a\\u0041\",\"parameters\":{\"priority\":2,"
                                     "\"timeout\":1500,\"binary_data_output\":true,"
                                     "\"sequence_id\":0,\"mine\":\"x\",\"more\":1.5},"
                                     "\"outputs\":[{\"name\":\"s\",\"parameters\":"
                                     "{\"binary_data\":false}},{\"name\":\"y\",\"parameters\":"
                                     "{\"classification\":3}}],\"unknown\":[1,{\"a\":null}]}",
                                  0, &request, &err),
                     0);
    assert_true(request.has_id && slice_is(request.id, "aA"));
    assert_true(request.has_priority && request.priority == 2);
    assert_true(request.has_timeout && request.timeout_us == 1500);
    assert_int_equal(request.wanted_count, 2);
    assert_int_equal(request.wanted[0].index, 1);
    assert_false(request.wanted[0].binary);
    assert_int_equal(request.wanted[1].index, 0);
    assert_true(request.wanted[1].binary);
    assert_int_equal(request.wanted[1].classes, 3);

    assert_int_equal(read_request(arena, &strict, IN ",\"outputs\":[]}", 0, &request, &err), 0);
    assert_false(request.has_id || request.has_priority || request.has_timeout);
    assert_int_equal(request.wanted_count, 2);
    assert_false(request.wanted[0].binary || request.wanted[1].binary);
    arena_free(arena);
}

static void test_binary_plan(void **state)
{
    static const char text[] =
        "{\"inputs\":["
        "{\"name\":\"FP16\",\"shape\":[1,3],\"datatype\":\"FP16\","
        "\"parameters\":{\"binary_data_size\":6}},"
        "{\"name\":\"INT8\",\"shape\":[1,3],\"datatype\":\"INT8\",\"data\":[1,2,3]},"
        "{\"name\":\"BYTES\",\"shape\":[1,3],\"datatype\":\"BYTES\","
        "\"parameters\":{\"binary_data_size\":14}}]}";
    static const char strings[] = "\1\0\0\0a\0\0\0\0\1\0\0\0b",
                      lying[] = "\1\0\0\0a\0\0\0\0\2\0\0\0b";
    struct arena *arena = arena_new();
    struct oip_request request;
    struct err err;

    (void)state;
    assert_int_equal(read_request(arena, &model, text, 20, &request, &err), 0);
    assert_int_equal(request.input_count, 3);
    assert_true(request.inputs[0].binary && request.inputs[0].bytes == 6);
    assert_true(!request.inputs[1].binary && request.inputs[1].bytes == 3);
    assert_true(request.inputs[2].binary && request.inputs[2].bytes == 14);
    for (int i = 0; i < 3; i++)
        assert_int_equal(request.inputs[i].offset, 64 * i);
    assert_int_equal(request.block_bytes, 192);
    assert_int_equal(request.binary_bytes, 20);
    assert_memory_equal((char *)block + 64, "\1\2\3", 3);

    memcpy((char *)block + 128, strings, 14);
    assert_int_equal(oip_request_check(&request, block, &err), 0);
    memcpy((char *)block + 128, lying, 14);
    assert_int_equal(oip_request_check(&request, block, &err), ERR_BAD_INPUT);
    print_message("  %s\n", err.message);

    assert_int_equal(read_request(arena, &model, text, OIP_BYTES_UNKNOWN, &request, &err), 0);
    assert_int_equal(read_request(arena, &model, text, 19, &request, &err), ERR_BAD_INPUT);
    assert_int_equal(read_request(arena, &model, text, 21, &request, &err), ERR_BAD_INPUT);
    arena_free(arena);
}

static void test_limits(void **state)
{
    const struct oip_limits small = { .json_bytes_max = 20, .block_bytes_max = 64 };
    const struct oip_limits one_block = { .block_bytes_max = 64 };
    static const char big[] = "{\"inputs\":[{\"name\":\"x\",\"shape\":[17],\"datatype\":\"FP32\","
                              "\"parameters\":{\"binary_data_size\":68}}]}";
    static const char liar[] =
        "{\"inputs\":[{\"name\":\"BYTES\",\"shape\":[1,3],\"datatype\":\"BYTES\","
        "\"parameters\":{\"binary_data_size\":18446744073709551615}}]}";
    struct arena *arena = arena_new();
    struct oip_request request;
    struct err err;

    (void)state;
    assert_int_equal(oip_request_parse(arena, &strict, SLICE(IN "}"), 0, &small, &request, &err),
                     ERR_TOO_LARGE);
    assert_int_equal(
        oip_request_parse(arena, &strict, SLICE(IN "}"), 0, &one_block, &request, &err), 0);
    assert_int_equal(oip_request_parse(arena, &strict, slice_of(big), OIP_BYTES_UNKNOWN, &one_block,
                                       &request, &err),
                     ERR_TOO_LARGE);
    assert_int_equal(oip_request_parse(arena, &model, slice_of(liar), OIP_BYTES_UNKNOWN, &limits,
                                       &request, &err),
                     ERR_TOO_LARGE);
    arena_free(arena);
}

/* What is there and means nothing. */
static void test_what_is_let_through(void **state)
{
    static const char *const texts[] = {
        IN ",\"id\":\"\"}",
        IN ",\"other\":null}",
        IN ",\"other\":{\"a\":[true,false,null,1.5e3,\"b\",{}]}}",
        IN ",\"parameters\":{\"sequence_id\":0}}",
        IN ",\"parameters\":{\"sequence_id\":\"\",\"sequence_start\":false}}",
        IN ",\"parameters\":{\"mine\":1,\"yours\":\"x\",\"ours\":true}}",
        IN ",\"outputs\":[{\"name\":\"y\",\"other\":1,\"parameters\":{\"mine\":1}}]}",
        IN ",\"outputs\":[{\"name\":\"y\",\"parameters\":{\"classification\":99999999999}}]}",
        "{\"inputs\":[" XOTHER "]}",
    };
    static const struct oip_model nothing = { .name = { "m", 1 },
                                              .outputs = outputs,
                                              .output_count = 2 };
    struct arena *arena = arena_new();
    struct oip_request request;
    struct err err = {};
    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        print_message("  %s\n", texts[i]);
        assert_int_equal(read_request(arena, &strict, texts[i], 0, &request, &err), 0);
    }
    assert_int_equal(read_request(arena, &nothing, "{}", 0, &request, &err), 0);
    assert_int_equal(request.input_count, 0);
    arena_free(arena);
}

/* Of many inputs four are named; of a model with too many nothing is read. */
static void test_many_inputs(void **state)
{
    static const struct oip_model huge = { .name = { "m", 1 },
                                           .inputs = inputs,
                                           .input_count = TENSORS_MAX + 1 };
    static const struct oip_model wide = { .name = { "m", 1 },
                                           .inputs = inputs,
                                           .output_count = TENSORS_MAX + 1 };
    struct arena *arena = arena_new();
    struct oip_request request;
    struct err err;
    (void)state;
    assert_int_equal(
        read_request(arena, &model, "{\"inputs\":[{\"name\":\"z\"}]}", 0, &request, &err),
        ERR_BAD_INPUT);
    assert_non_null(strstr(err.message, "'BOOL', 'UINT8', 'UINT16', 'UINT32' ..."));
    assert_int_equal(read_request(arena, &huge, "{}", 0, &request, &err), ERR_NOT_SUPPORTED);
    assert_int_equal(read_request(arena, &wide, "{}", 0, &request, &err), ERR_NOT_SUPPORTED);
    assert_int_equal(read_request(arena, &model,
                                  "{\"inputs\":[{\"name\":\"BYTES\",\"shape\":[1,3],\"datatype\":"
                                  "\"BYTES\",\"parameters\":{\"binary_data_size\":8}}]}",
                                  8, &request, &err),
                     ERR_BAD_INPUT);
    arena_free(arena);
}

/* Bodies that are one tensor, for models of each form. */
static void test_raw_models(void **state)
{
    static const struct {
        const char *name;
        struct tensor_meta input;
        uint32_t input_count, output_count;
        uint64_t bytes;
        int code;
    } rows[] = {
        { "fixed", { .type = TENSOR_FP32, .shape = { 2, { 2, 3 } } }, 1, 2, 24, 0 },
        { "scalar", { .type = TENSOR_INT64 }, 1, 2, 8, 0 },
        { "fixed, too few",
          { .type = TENSOR_FP32, .shape = { 1, { 2 } } },
          1,
          2,
          4,
          ERR_BAD_INPUT },
        { "strings", { .type = TENSOR_BYTES, .shape = { 1, { -1 } } }, 1, 2, 4, ERR_BAD_INPUT },
        { "any rank", { .type = TENSOR_FP32, .rank_any = true }, 1, 2, 4, ERR_BAD_INPUT },
        { "no input", {}, 0, 2, 4, ERR_BAD_INPUT },
        { "many outputs", { .type = TENSOR_FP32 }, 1, TENSORS_MAX + 1, 4, ERR_BAD_INPUT },
        { "two of any size",
          { .type = TENSOR_FP32, .shape = { 2, { -1, -1 } } },
          1,
          2,
          4,
          ERR_BAD_INPUT },
        { "of nothing",
          { .type = TENSOR_FP32, .shape = { 2, { -1, 0 } } },
          1,
          2,
          4,
          ERR_BAD_INPUT },
        { "beyond all",
          { .type = TENSOR_FP32, .shape = { 2, { -1, INT64_MAX } } },
          1,
          2,
          4,
          ERR_BAD_INPUT },
        { "above the limit",
          { .type = TENSOR_FP32, .shape = { 1, { -1 } } },
          1,
          2,
          400,
          ERR_TOO_LARGE },
    };
    const struct oip_limits few = { .block_bytes_max = 64 };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct arena *arena = arena_new();
        const struct oip_model one = { .name = { "m", 1 },
                                       .inputs = &rows[i].input,
                                       .input_count = rows[i].input_count,
                                       .outputs = outputs,
                                       .output_count = rows[i].output_count };
        struct oip_request request;
        struct err err = {};
        print_message("  %s\n", rows[i].name);
        assert_int_equal(oip_request_raw(arena, &one, rows[i].bytes, &few, &request, &err),
                         rows[i].code);
        arena_free(arena);
    }
}

static void test_raw(void **state)
{
    struct arena *arena = arena_new();
    struct oip_request request;
    struct err err;

    (void)state;
    assert_int_equal(oip_request_raw(arena, &strict, 40, &limits, &request, &err), 0);
    assert_int_equal(request.inputs[0].shape.dims[0], 10);
    assert_int_equal(request.binary_bytes, 40);
    assert_true(request.wanted_count == 2 && request.wanted[0].binary);
    assert_int_equal(oip_request_raw(arena, &strict, 41, &limits, &request, &err), ERR_BAD_INPUT);
    assert_int_equal(oip_request_raw(arena, &strict, UINT64_MAX, &limits, &request, &err),
                     ERR_BAD_INPUT);
    assert_int_equal(oip_request_raw(arena, &model, 40, &limits, &request, &err), ERR_BAD_INPUT);
    arena_free(arena);
}

static int teardown(void **state)
{
    (void)state;
    free(block);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good_elements),
        cmocka_unit_test(test_bad_elements),
        cmocka_unit_test(test_bad_requests),
        cmocka_unit_test(test_every_cut),
        cmocka_unit_test(test_deep),
        cmocka_unit_test(test_many_keys),
        cmocka_unit_test(test_what_matters_anywhere),
        cmocka_unit_test(test_parameters_and_outputs),
        cmocka_unit_test(test_binary_plan),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_raw),
        cmocka_unit_test(test_what_is_let_through),
        cmocka_unit_test(test_many_inputs),
        cmocka_unit_test(test_raw_models),
    };
    return cmocka_run_group_tests_name("oip_request", tests, NULL, teardown);
}
