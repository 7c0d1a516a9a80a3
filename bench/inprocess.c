/* SPDX-License-Identifier: Apache-2.0 */
/*
 * inprocess.c -- the limit: ONNX Runtime called straight from C.
 *
 *     bench_inprocess LIBRARY MODEL INPUT_FILE CALLERS SECONDS [OUTPUT_FILE]
 *
 * Each caller is a thread with a session of its own (one intra-op and one inter-op thread, as a
 * replica's), all run at once. INPUT_FILE holds the FP32 numbers of the one input, whose first
 * dimension is what is left over. Prints one line of JSON like load.c, and session_ms: what the
 * first session's creation took. With SECONDS 0 that is all that is done, and where INPUT_FILE is
 * not empty one run, the first: first_run_ms. OUTPUT_FILE gets the bytes of the
 * FP32 outputs.
 */
#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include <onnxruntime_c_api.h>

#include "base/auto.h"
#include "samples.h"
#include "tool.h"

enum { OUTPUTS_MAX = 16, RANK_MAX = 8, CALLERS_MAX = 64, API = 21 };

static const OrtApi *ort;
static pthread_barrier_t together; /* callers and main */
static atomic_bool counting, ending;

struct caller {
    pthread_t thread;
    OrtSession *session;
    OrtAllocator *allocator;
    char *input, *outputs[OUTPUTS_MAX];
    size_t output_count;
    OrtValue *value;
    struct samples samples;
    uint64_t served;
};

static void check(OrtStatus *status)
{
    if (!status)
        return;
    fprintf(stderr, "bench_inprocess: %s\n", ort->GetErrorMessage(status));
    exit(1);
}

static void input_make(struct caller *caller, struct slice bytes)
{
    OrtTypeInfo *type;
    const OrtTensorTypeAndShapeInfo *tensor;
    OrtMemoryInfo *memory;
    int64_t dims[RANK_MAX], row = 1;
    size_t rank;
    check(ort->SessionGetInputName(caller->session, 0, caller->allocator, &caller->input));
    check(ort->SessionGetInputTypeInfo(caller->session, 0, &type));
    check(ort->CastTypeInfoToTensorInfo(type, &tensor));
    check(ort->GetDimensionsCount(tensor, &rank));
    if (rank < 1 || rank > RANK_MAX)
        exit(1);
    check(ort->GetDimensions(tensor, dims, rank));
    for (size_t i = 1; i < rank; i++)
        row *= dims[i];
    dims[0] = (int64_t)(bytes.size / sizeof(float)) / row;
    check(ort->CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &memory));
    check(ort->CreateTensorWithDataAsOrtValue(memory, (void *)(uintptr_t)bytes.data, bytes.size,
                                              dims, rank, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT,
                                              &caller->value));
}

static OrtEnv *library_open(const char *library)
{
    OrtEnv *env;
    void *handle = dlopen(library, RTLD_NOW);
    if (!handle) {
        fprintf(stderr, "bench_inprocess: %s\n", dlerror());
        exit(1);
    }
    setenv("ORT_DISABLE_TELEMETRY", "1", 1);
    const OrtApiBase *(*base)(void) = (const OrtApiBase *(*)(void))dlsym(handle, "OrtGetApiBase");
    ort = base()->GetApi(API);
    check(ort->CreateEnv(ORT_LOGGING_LEVEL_ERROR, "bench", &env));
    return env;
}

static double session_make(struct caller *caller, OrtEnv *env, const char *model)
{
    OrtSessionOptions *options;
    int64_t begin_ns = tool_now_ns();
    check(ort->CreateSessionOptions(&options));
    check(ort->SetIntraOpNumThreads(options, 1));
    check(ort->SetInterOpNumThreads(options, 1));
    check(ort->CreateSession(env, model, options, &caller->session));
    double took_ms = (double)(tool_now_ns() - begin_ns) / 1e6;
    check(ort->GetAllocatorWithDefaultOptions(&caller->allocator));
    check(ort->SessionGetOutputCount(caller->session, &caller->output_count));
    if (caller->output_count > OUTPUTS_MAX)
        exit(1);
    for (size_t i = 0; i < caller->output_count; i++)
        check(
            ort->SessionGetOutputName(caller->session, i, caller->allocator, &caller->outputs[i]));
    return took_ms;
}

static void outputs_write(OrtValue *const *outputs, size_t count, const char *path)
{
    FILE *file = fopen(path, "wb");
    if (!file)
        tool_fail(path);
    for (size_t i = 0; i < count; i++) {
        OrtTensorTypeAndShapeInfo *info;
        ONNXTensorElementDataType type;
        size_t elements;
        void *data;
        check(ort->GetTensorTypeAndShape(outputs[i], &info));
        check(ort->GetTensorElementType(info, &type));
        if (type != ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT)
            continue;
        check(ort->GetTensorShapeElementCount(info, &elements));
        check(ort->GetTensorMutableData(outputs[i], &data));
        if (fwrite(data, sizeof(float), elements, file) != elements)
            tool_fail(path);
    }
    if (fclose(file) != 0)
        tool_fail(path);
}

static void run_once(struct caller *caller, const char *output_path)
{
    OrtValue *outputs[OUTPUTS_MAX] = {};
    const char *inputs[] = { caller->input };
    const OrtValue *values[] = { caller->value };
    check(ort->Run(caller->session, NULL, inputs, values, 1, (const char *const *)caller->outputs,
                   caller->output_count, outputs));
    if (output_path)
        outputs_write(outputs, caller->output_count, output_path);
    for (size_t i = 0; i < caller->output_count; i++)
        ort->ReleaseValue(outputs[i]);
}

static void *caller_main(void *data)
{
    struct caller *caller = data;
    pthread_barrier_wait(&together);
    int64_t last_ns = tool_now_ns();
    while (!ending) {
        run_once(caller, NULL);
        int64_t then_ns = tool_now_ns();
        caller->served++;
        if (counting)
            samples_add(&caller->samples, then_ns - last_ns);
        last_ns = then_ns;
    }
    return NULL;
}

static void wait_ns(int64_t ns)
{
    struct timespec left = { ns / 1'000'000'000, ns % 1'000'000'000 };
    while (nanosleep(&left, &left) < 0)
        ;
}

static double cpu_us(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1e6 +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

/* All callers at once, a tenth of the time as warm-up. */
static void measure(struct caller *callers, unsigned count, double seconds, double session_ms)
{
    struct samples all = {};
    uint64_t served = 0;
    int64_t wanted_ns = (int64_t)(seconds * 1e9);
    pthread_barrier_init(&together, NULL, count + 1);
    for (unsigned i = 0; i < count; i++)
        if (pthread_create(&callers[i].thread, NULL, caller_main, &callers[i]) != 0)
            tool_fail("pthread_create");
    double cpu_before = cpu_us();
    pthread_barrier_wait(&together);
    wait_ns(wanted_ns / 10);
    counting = true;
    int64_t begin_ns = tool_now_ns();
    wait_ns(wanted_ns);
    counting = false;
    double took = (double)(tool_now_ns() - begin_ns) / 1e9;
    ending = true;
    for (unsigned i = 0; i < count; i++) {
        pthread_join(callers[i].thread, NULL);
        served += callers[i].served;
        for (size_t j = 0; j < callers[i].samples.count; j++)
            samples_add(&all, callers[i].samples.ns[j]);
    }
    double cpu = cpu_us() - cpu_before;
    samples_sort(&all);
    printf("{\"requests\": %zu, \"served\": %llu, \"errors\": 0, \"seconds\": %.6f, \"p50_us\": "
           "%.2f, \"p99_us\": %.2f, \"cpu_us\": %.2f, \"session_ms\": %.3f}\n",
           all.count, (unsigned long long)served, took, samples_us(&all, 0.5),
           samples_us(&all, 0.99), cpu / (double)(served ? served : 1), session_ms);
}

/* What a request at zero cannot do without. */
static void measure_first(struct caller *caller, struct slice input, double session_ms)
{
    double first_ms = 0;
    if (input.size) {
        int64_t begin_ns = tool_now_ns();
        input_make(caller, input);
        run_once(caller, NULL);
        first_ms = (double)(tool_now_ns() - begin_ns) / 1e6;
    }
    printf("{\"session_ms\": %.3f, \"first_run_ms\": %.3f}\n", session_ms, first_ms);
}

int main(int argc, char **argv)
{
    static struct caller callers[CALLERS_MAX];
    if (argc != 6 && argc != 7) {
        fprintf(stderr, "usage: bench_inprocess LIBRARY MODEL INPUT_FILE CALLERS SECONDS "
                        "[OUTPUT_FILE]\n");
        return 2;
    }
    unsigned long count = strtoul(argv[4], NULL, 10);
    double seconds = strtod(argv[5], NULL);
    if (count < 1 || count > CALLERS_MAX || !(seconds >= 0 && seconds < 600))
        return 2;
    OrtEnv *env = library_open(argv[1]);
    double session_ms = session_make(&callers[0], env, argv[2]);
    struct slice input = tool_file(argv[3]);
    if (seconds == 0) {
        measure_first(&callers[0], input, session_ms);
        return 0;
    }
    for (unsigned i = 0; i < count; i++) {
        if (i > 0)
            (void)session_make(&callers[i], env, argv[2]);
        input_make(&callers[i], input);
        run_once(&callers[i], i == 0 && argc == 7 ? argv[6] : NULL);
    }
    measure(callers, (unsigned)count, seconds, session_ms);
    return 0;
}
