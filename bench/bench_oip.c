/* SPDX-License-Identifier: Apache-2.0 */
/* What a number of JSON costs, in and out, beside strtod, printf and yyjson: one image for
 * squeezenet (150,528 numbers), the best of some runs. */
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <yyjson.h>

#include "base/arena.h"
#include "base/err.h"
#include "proto/number.h"
#include "proto/oip.h"

#define COUNT 150528
#define RUNS 15

static const struct tensor_meta image = { .name = { "x", 1 },
                                          .type = TENSOR_FP32,
                                          .shape = { 4, { -1, 3, 224, 224 } } };
static const struct oip_model model = {
    .name = { "m", 1 }, .inputs = &image, .outputs = &image, .input_count = 1, .output_count = 1
};
static const struct oip_limits limits = {};
static float values[COUNT];
static _Alignas(64) float block[COUNT];
static char json[8 << 20];
static volatile double sink;

static double now_ns(void)
{
    struct timespec at;

    (void)clock_gettime(CLOCK_MONOTONIC, &at);
    return (double)at.tv_sec * 1e9 + (double)at.tv_nsec;
}

/* Six decimals, or the 17 digits that Python writes for a float it holds as a double. */
static size_t body_write(bool precise)
{
    size_t size = (size_t)snprintf(json, sizeof json,
                                   "{\"inputs\":[{\"name\":\"x\",\"shape\":[1,3,224,224],"
                                   "\"datatype\":\"FP32\",\"data\":[");

    for (int i = 0; i < COUNT; i++) {
        size += (size_t)snprintf(json + size, sizeof json - size, precise ? "%.17g" : "%.6f",
                                 (double)values[i]);
        json[size++] = ',';
    }
    memcpy(json + size - 1, "]}]}", 5);
    return size + 3;
}

static void run_request(size_t size)
{
    struct arena *arena = arena_new();
    struct oip_request request;
    struct err err;

    if (oip_request_parse(arena, &model, (struct slice){ json, size }, 0, &limits, &request, &err) <
            0 ||
        oip_request_convert(&request, block, &err) < 0) {
        (void)fprintf(stderr, "%s\n", err.message);
        exit(1);
    }
    arena_free(arena);
}

static void run_strtod(size_t size)
{
    char *at = strstr(json, "\"data\":[") + 8;

    (void)size;
    for (int i = 0; i < COUNT; i++) {
        block[i] = (float)strtod(at, &at);
        at++;
    }
}

static void run_yyjson(size_t size)
{
    yyjson_doc *doc = yyjson_read(json, size, 0);
    yyjson_val *inputs = yyjson_obj_get(yyjson_doc_get_root(doc), "inputs"), *value;
    yyjson_arr_iter iter;

    (void)yyjson_arr_iter_init(yyjson_obj_get(yyjson_arr_get(inputs, 0), "data"), &iter);
    for (int i = 0; (value = yyjson_arr_iter_next(&iter)) != NULL; i++)
        block[i] = (float)yyjson_get_num(value);
    yyjson_doc_free(doc);
}

static void run_answer(size_t size)
{
    struct oip_wanted wanted = {};
    struct oip_request request = { .model = &model, .wanted = &wanted, .wanted_count = 1 };
    struct oip_output output = { .type = TENSOR_FP32,
                                 .shape = { 4, { 1, 3, 224, 224 } },
                                 .data = values,
                                 .bytes = sizeof values };
    struct arena *arena = arena_new();
    struct oip_answer answer;
    struct err err;

    (void)size;
    if (oip_answer_write(arena, &request, 1, &output, 1, &limits, &answer, &err) < 0)
        exit(1);
    sink = (double)answer.bytes;
    arena_free(arena);
}

static void run_printf(size_t size)
{
    size = 0;
    for (int i = 0; i < COUNT; i++)
        size += (size_t)snprintf(json + size, sizeof json - size, "%.9g,", (double)values[i]);
}

static void measure(const char *name, void (*run)(size_t size), size_t size)
{
    double best = INFINITY;

    for (int i = 0; i < RUNS; i++) {
        double start = now_ns(), took;

        run(size);
        took = now_ns() - start;
        best = took < best ? took : best;
    }
    printf("%-36s %8.2f ms %8.1f ns a number\n", name, best / 1e6, best / COUNT);
}

int main(void)
{
    /* Signs and lengths that no branch can foresee, as of an image's or a sound's numbers. */
    uint64_t random = 7;
    for (int i = 0; i < COUNT; i++) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        values[i] = (float)(round(((double)(random >> 11) / 0x1p53 * 4.6 - 2) * 1e6) / 1e6);
    }
    for (size_t i = 0; i < 2; i++) {
        size_t size = body_write(i == 1);

        printf("in, %s, %zu bytes\n", i == 1 ? "17 digits" : "6 decimals", size);
        measure("  oip_request_parse and _convert", run_request, size);
        measure("  yyjson, and a loop", run_yyjson, size);
        measure("  strtod alone", run_strtod, size);
    }
    printf("out\n");
    measure("  oip_answer_write, shortest", run_answer, 0);
    measure("  printf %.9g", run_printf, 0);
    return 0;
}
