/* SPDX-License-Identifier: Apache-2.0 */
/*
 * inprocess.c -- the limit: ONNX Runtime called straight from C, one thread, one session.
 *
 *     inprocess LIBRARY MODEL ROWS SECONDS
 *
 * One FP32 input whose first dimension becomes ROWS; it is filled with ones, outputs are ONNX
 * Runtime's own. Prints one line of JSON like load.c.
 */
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <onnxruntime_c_api.h>

#include "base/auto.h"

enum { SAMPLES_MAX = 8'000'000, OUTPUTS_MAX = 16, API = 21 };

static const OrtApi *ort;

static void check(OrtStatus *status)
{
    if (!status)
        return;
    fprintf(stderr, "inprocess: %s\n", ort->GetErrorMessage(status));
    exit(1);
}

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1'000'000'000) + now.tv_nsec;
}

static int by_size(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

struct model {
    OrtSession *session;
    OrtAllocator *allocator;
    char *input, *outputs[OUTPUTS_MAX];
    size_t output_count;
    OrtValue *value;
};

static void input_make(struct model *model, int64_t rows)
{
    OrtTypeInfo *type;
    const OrtTensorTypeAndShapeInfo *tensor;
    int64_t dims[8];
    size_t rank, elements = 1;
    float *data;
    check(ort->SessionGetInputName(model->session, 0, model->allocator, &model->input));
    check(ort->SessionGetInputTypeInfo(model->session, 0, &type));
    check(ort->CastTypeInfoToTensorInfo(type, &tensor));
    check(ort->GetDimensionsCount(tensor, &rank));
    if (rank > 8)
        exit(1);
    check(ort->GetDimensions(tensor, dims, rank));
    for (size_t i = 0; i < rank; i++) {
        if (dims[i] < 0)
            dims[i] = i == 0 ? rows : 1;
        elements *= (size_t)dims[i];
    }
    check(ort->CreateTensorAsOrtValue(model->allocator, dims, rank,
                                      ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, &model->value));
    check(ort->GetTensorMutableData(model->value, (void **)&data));
    for (size_t i = 0; i < elements; i++)
        data[i] = 1;
}

static void model_load(struct model *model, const char *library, const char *path, int64_t rows)
{
    OrtEnv *env;
    OrtSessionOptions *options;
    void *handle = dlopen(library, RTLD_NOW);
    if (!handle) {
        fprintf(stderr, "inprocess: %s\n", dlerror());
        exit(1);
    }
    setenv("ORT_DISABLE_TELEMETRY", "1", 1);
    const OrtApiBase *(*base)(void) = (const OrtApiBase *(*)(void))dlsym(handle, "OrtGetApiBase");
    ort = base()->GetApi(API);
    check(ort->CreateEnv(ORT_LOGGING_LEVEL_ERROR, "bench", &env));
    check(ort->CreateSessionOptions(&options));
    check(ort->SetIntraOpNumThreads(options, 1));
    check(ort->SetInterOpNumThreads(options, 1));
    check(ort->CreateSession(env, path, options, &model->session));
    check(ort->GetAllocatorWithDefaultOptions(&model->allocator));
    check(ort->SessionGetOutputCount(model->session, &model->output_count));
    if (model->output_count > OUTPUTS_MAX)
        exit(1);
    for (size_t i = 0; i < model->output_count; i++)
        check(ort->SessionGetOutputName(model->session, i, model->allocator, &model->outputs[i]));
    input_make(model, rows);
}

static void model_run(struct model *model)
{
    OrtValue *outputs[OUTPUTS_MAX] = {};
    const char *inputs[] = { model->input };
    const OrtValue *values[] = { model->value };
    check(ort->Run(model->session, NULL, inputs, values, 1, (const char *const *)model->outputs,
                   model->output_count, outputs));
    for (size_t i = 0; i < model->output_count; i++)
        ort->ReleaseValue(outputs[i]);
}

int main(int argc, char **argv)
{
    struct model model = {};
    if (argc != 5) {
        fprintf(stderr, "usage: inprocess LIBRARY MODEL ROWS SECONDS\n");
        return 2;
    }
    model_load(&model, argv[1], argv[2], strtol(argv[3], NULL, 10));
    uint32_t *samples = mem_alloc(sizeof *samples * SAMPLES_MAX);
    int64_t wanted_ns = (int64_t)(strtod(argv[4], NULL) * 1e9), begin_ns = now_ns();
    while (now_ns() - begin_ns < wanted_ns / 10)
        model_run(&model);
    size_t count = 0;
    begin_ns = now_ns();
    int64_t last_ns = begin_ns;
    while (last_ns - begin_ns < wanted_ns && count < SAMPLES_MAX) {
        model_run(&model);
        int64_t then_ns = now_ns();
        samples[count++] = (uint32_t)(then_ns - last_ns);
        last_ns = then_ns;
    }
    double seconds = (double)(last_ns - begin_ns) / 1e9;
    qsort(samples, count, sizeof *samples, by_size);
    printf("{\"requests\": %zu, \"errors\": 0, \"seconds\": %.6f, \"p50_us\": %.2f, \"p99_us\": "
           "%.2f}\n",
           count, seconds, samples[count / 2] / 1000.0,
           samples[(size_t)((double)count * 0.99)] / 1000.0);
    return 0;
}
