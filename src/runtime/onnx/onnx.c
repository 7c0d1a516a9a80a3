/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Session creation registers all kernels the first time, which costs more than a small model: the
 * template makes one session of a built-in model, so that each replica finds that done.
 */
#include "runtime/onnx/onnx.h"

#include <dlfcn.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "base/err.h"
#include "base/log.h"
#include "runtime/runtime.h"

static const OrtApi *ort;
static OrtEnv *environment;
bool onnx_log_quiet;

/* y = Relu(x), FP32 [1, 64]: IR version 8, opset 13. */
static const unsigned char relu_model[] = {
    0x08, 0x08, 0x3a, 0x3e, 0x0a, 0x0c, 0x0a, 0x01, 'x',  0x12, 0x01, 'y',  0x22, 0x04,
    'R',  'e',  'l',  'u',  0x12, 0x04, 'r',  'e',  'l',  'u',  0x5a, 0x13, 0x0a, 0x01,
    'x',  0x12, 0x0e, 0x0a, 0x0c, 0x08, 0x01, 0x12, 0x08, 0x0a, 0x02, 0x08, 0x01, 0x0a,
    0x02, 0x08, 0x40, 0x62, 0x13, 0x0a, 0x01, 'y',  0x12, 0x0e, 0x0a, 0x0c, 0x08, 0x01,
    0x12, 0x08, 0x0a, 0x02, 0x08, 0x01, 0x0a, 0x02, 0x08, 0x40, 0x42, 0x02, 0x10, 0x0d,
};

static char *after_bracket(char *at, char open, char close)
{
    unsigned depth = 0;
    for (; *at; at++) {
        depth += *at == open;
        depth -= *at == close;
        if (depth == 0)
            return at + 1;
    }
    return NULL;
}

/* "/onnxruntime_src/X.h:46 void f(A, B) [with T = C] WORDS" to "WORDS": where in its source ONNX
 * Runtime threw says nothing to people, and takes the room of what does. */
static void drop_places(char *text)
{
    char *at = text;
    while ((at = strstr(at, "/onnxruntime_src/"))) {
        char *end = strchr(at, '(');
        if (!end || end[-1] == ' ') /* a sentence's bracket, not a function's */
            return;
        end = after_bracket(end, '(', ')');
        if (end && strncmp(end, " const", 6) == 0)
            end += 6;
        if (end && strncmp(end, " [with ", 7) == 0)
            end = after_bracket(end + 1, '[', ']');
        if (!end)
            return;
        end += *end == ' ';
        memmove(at, end, strlen(end) + 1);
    }
}

int onnx_check(const struct runtime_model *model, OrtStatus *status, const char *doing,
               struct err *err)
{
    char whole[4096], text[480];

    if (!status)
        return 0;
    OrtErrorCode code = ort->GetErrorCode(status);
    (void)snprintf(whole, sizeof whole, "%s", ort->GetErrorMessage(status));
    ort->ReleaseStatus(status);
    drop_places(whole);
    (void)snprintf(text, sizeof text, "%.*s", (int)sizeof text - 1, whole);
    runtime_clean_text(text);
    if (strstr(text, "bad_alloc") || strstr(text, "Failed to allocate memory") ||
        strstr(text, "Cannot allocate memory"))
        return err_set(err, ERR_TOO_LARGE, "%sout of memory (flavor.memory is %" PRIu64 " MiB): %s",
                       doing, model ? model->memory_bytes_max >> 20 : 0, text);
    return err_set(err, code == ORT_INVALID_ARGUMENT ? ERR_BAD_INPUT : ERR_INTERNAL, "%s%s", doing,
                   text);
}

/* ---- the template ---------------------------------------------------------------------------- */

/* In our form: one line, escaped. Below a warning nothing is asked for. */
static void ORT_API_CALL on_log(void *data, OrtLoggingLevel severity, const char *category,
                                const char *log_id, const char *location, const char *message)
{
    (void)data;
    (void)category;
    (void)log_id;
    if (onnx_log_quiet)
        return;
    if (severity >= ORT_LOGGING_LEVEL_ERROR)
        log_error("onnxruntime", "said", LOG_S("at", location), LOG_S("message", message));
    else
        log_warn("onnxruntime", "said", LOG_S("at", location), LOG_S("message", message));
}

static int open_library(const char *folder, const char **ret_version, struct err *err)
{
    auto_free char *path = NULL;
    const OrtApiBase *(*get_base)(void);

    if (asprintf(&path, "%s/libonnxruntime.so.1", folder) < 0)
        mem_abort(0);
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library) /* a distribution's own, where that is what is installed */
        library = dlopen("libonnxruntime.so.1", RTLD_NOW | RTLD_LOCAL);
    if (!library)
        return err_set(err, ERR_INTERNAL, "opening ONNX Runtime: %s", dlerror());
    *(void **)&get_base = dlsym(library, "OrtGetApiBase");
    if (!get_base)
        return err_set(err, ERR_INTERNAL, "%s is no ONNX Runtime: %s", path, dlerror());
    ort = get_base()->GetApi(ORT_API_VERSION);
    if (!ort)
        return err_set(err, ERR_INTERNAL, "ONNX Runtime %s does not speak API %d; 1.%d is needed",
                       get_base()->GetVersionString(), ORT_API_VERSION, ORT_API_VERSION);
    *ret_version = get_base()->GetVersionString();
    return 0;
}

static int session_options(uint32_t threads, OrtSessionOptions **ret, struct err *err)
{
    OrtSessionOptions *options = NULL;
    OrtStatus *status = ort->CreateSessionOptions(&options);

    if (!status)
        status = ort->SetIntraOpNumThreads(options, (int)threads);
    if (!status)
        status = ort->SetInterOpNumThreads(options, 1);
    if (!status)
        status = ort->SetSessionExecutionMode(options, ORT_SEQUENTIAL);
    if (!status)
        status = ort->AddSessionConfigEntry(options, "session.intra_op.allow_spinning", "0");
    if (!status)
        status = ort->AddSessionConfigEntry(options, "session.inter_op.allow_spinning", "0");
    if (onnx_check(NULL, status, "ONNX Runtime's options: ", err) < 0)
        return ERR_INTERNAL;
    *ret = options;
    return 0;
}

static int prepare(const char *folder, char *library, size_t room, struct err *err)
{
    OrtSessionOptions *options = NULL;
    OrtSession *session = NULL;
    const char *version = NULL;

    setenv("ORT_DISABLE_TELEMETRY", "1", 1);
    int r = open_library(folder, &version, err);
    if (r < 0)
        return r;
    if (onnx_check(NULL,
                   ort->CreateEnvWithCustomLogger(on_log, NULL, ORT_LOGGING_LEVEL_WARNING, "model",
                                                  &environment),
                   "starting ONNX Runtime: ", err) < 0 ||
        onnx_check(NULL, ort->DisableTelemetryEvents(environment), "", err) < 0)
        return ERR_INTERNAL;
    r = session_options(1, &options, err);
    if (r < 0)
        return r;
    r = onnx_check(
        NULL,
        ort->CreateSessionFromArray(environment, relu_model, sizeof relu_model, options, &session),
        "trying ONNX Runtime: ", err);
    if (session)
        ort->ReleaseSession(session);
    ort->ReleaseSessionOptions(options);
    (void)snprintf(library, room, "ONNX Runtime %s", version);
    return r;
}

/* ---- a replica ------------------------------------------------------------------------------- */

static int load(const struct runtime_load *request, struct model_writer *writer,
                struct runtime_model **ret_model, struct err *err)
{
    struct runtime_model *model = mem_zalloc(sizeof *model);
    OrtSessionOptions *options = NULL;

    model->api = ort;
    model->memory_bytes_max = request->memory_bytes_max;
    int r = session_options(request->threads, &options, err);
    if (r < 0)
        return r;
    /* By its name, so that external data beside it is found, and mapped: nothing is read by us. */
    r = onnx_check(model, ort->CreateSession(environment, request->file, options, &model->session),
                   "", err);
    ort->ReleaseSessionOptions(options);
    if (r < 0)
        return r;
    if (onnx_check(model,
                   ort->CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &model->memory),
                   "", err) < 0 ||
        onnx_check(model, ort->GetAllocatorWithDefaultOptions(&model->allocator), "", err) < 0)
        return ERR_INTERNAL;
    r = onnx_describe(model, request, writer, err);
    if (r < 0)
        return r;
    *ret_model = model;
    return 0;
}

const struct runtime onnx_runtime = {
    .name = "onnx",
    .prepare = prepare,
    .load = load,
    .warm = onnx_warm,
    .run = onnx_run,
};
