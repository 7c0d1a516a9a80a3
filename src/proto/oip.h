/* SPDX-License-Identifier: Apache-2.0 */
/*
 * oip.h -- the Open Inference Protocol v2 over HTTP: bytes to structs and back.
 *
 * Nothing here does I/O, waits, or knows a clock. A model's description is borrowed and must
 * outlive the requests read against it. What a request holds lives in the arena it was read with;
 * only the JSON text of inputs not yet converted is borrowed from the body. Any thread.
 *
 * One inference, from head to answer:
 *   1. oip_route_find()       which call, which model, which version.
 *   2. oip_request_parse()    the JSON (the body, or Inference-Header-Content-Length bytes of it):
 *                             everything is checked but the elements; each input knows its bytes
 *                             and its offset in one block of `block_bytes`.
 *   3. oip_request_convert()  JSON data to its place; binary inputs are read from the socket to
 *                             theirs, in the order of inputs[] (`binary` ones only).
 *   4. oip_request_check()    what only the bytes can show (BYTES lengths).
 *   5. oip_answer_write()     outputs in memory that others may write, to JSON and a list of parts.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/slice.h"
#include "proto/tensor.h"
#include "proto/text.h"

struct arena;
struct err;

/* --- what a model is ---------------------------------------------------------------------- */

struct oip_model {
    struct slice name;
    struct slice platform;    /* "onnxruntime_onnx" */
    struct slice backend;     /* "onnxruntime" */
    const uint64_t *versions; /* those kept, ascending */
    uint32_t version_count;
    uint32_t batch_max; /* the spec's batch.max, for config; 0: none */
    const struct tensor_meta *inputs, *outputs;
    uint32_t input_count, output_count;
};

/* Every input and output has a first dimension of any size: rows are independent of each other. */
bool oip_model_batched(const struct oip_model *model);

/* --- calls -------------------------------------------------------------------------------- */

enum oip_call {
    OIP_SERVER_METADATA = 1, /* GET v2 */
    OIP_SERVER_LIVE,         /* GET v2/health/live */
    OIP_SERVER_READY,        /* GET v2/health/ready */
    OIP_MODEL_METADATA,      /* GET v2/models/M[/versions/V] */
    OIP_MODEL_READY,         /* GET .../ready */
    OIP_MODEL_CONFIG,        /* GET .../config */
    OIP_MODEL_STATS,         /* GET .../stats; v2/models/stats: of all, `model` is empty */
    OIP_INFER,               /* POST .../infer */
    OIP_REPOSITORY_INDEX,    /* POST v2/repository/index */
    OIP_REPOSITORY_LOAD,     /* POST v2/repository/models/M/load */
    OIP_REPOSITORY_UNLOAD,   /* POST v2/repository/models/M/unload */
    OIP_SHM_STATUS,          /* GET v2/{system,cuda}sharedmemory[/region/R]/status: [] */
    OIP_UNSUPPORTED,         /* trace, log, shared memory: 501, `unsupported` names it */
};

struct oip_route {
    enum oip_call call;
    struct slice model;      /* decoded; empty where the call has none */
    uint64_t version;        /* 0: none given */
    const char *unsupported; /* OIP_UNSUPPORTED: "tracing" ... */
};

/* `path` is the target's path as received, percent-encoded, without the query. HEAD is as GET.
 * ERR_NOT_FOUND: no such call; ERR_BAD_METHOD: *ret_allow is the Allow header's value;
 * ERR_BAD_INPUT: broken percent-encoding. A model's name may hold '/', encoded or not. */
[[nodiscard]] int oip_route_find(struct arena *arena, struct slice method, struct slice path,
                                 struct oip_route *ret, const char **ret_allow, struct err *err);

/* --- an inference request ----------------------------------------------------------------- */

#define OIP_BYTES_UNKNOWN UINT64_MAX

struct oip_input {
    uint32_t index; /* in the model's inputs */
    enum tensor_type type;
    struct tensor_shape shape;
    uint64_t elements, bytes;
    uint64_t offset;   /* in the request's block; a multiple of 64 */
    bool binary;       /* the bytes follow the JSON, in the order of inputs[] */
    struct slice data; /* JSON of the elements, unless binary; borrowed from the body */
};

struct oip_wanted {   /* an output the client asked for */
    uint32_t index;   /* in the model's outputs */
    uint32_t classes; /* 0, or so many best classes in its place */
    bool binary;
};

struct oip_request {
    const struct oip_model *model; /* borrowed */
    struct slice id;
    bool has_id, has_priority, has_timeout;
    uint64_t priority; /* 1 is highest */
    uint64_t timeout_us;
    struct oip_input *inputs; /* in the request's order */
    uint32_t input_count;
    struct oip_wanted *wanted; /* in the request's order; all outputs when it names none */
    uint32_t wanted_count;
    uint64_t block_bytes;  /* memory for all inputs */
    uint64_t binary_bytes; /* what follows the JSON */
};

struct oip_limits {
    uint64_t json_bytes_max;   /* of a request's JSON; 0: 16 MiB */
    uint64_t block_bytes_max;  /* of a request's inputs; 0: 1 TiB */
    uint64_t answer_bytes_max; /* of an answer's JSON; 0: 64 MiB */
};
#define OIP_JSON_BYTES_MAX (UINT64_C(16) << 20)
#define OIP_ANSWER_BYTES_MAX (UINT64_C(64) << 20)

/* `following`: bytes after the JSON (OIP_BYTES_UNKNOWN in a chunked body; 0 without the header
 * Inference-Header-Content-Length). `text` must stay until the last conversion. */
[[nodiscard]] int oip_request_parse(struct arena *arena, const struct oip_model *model,
                                    struct slice text, uint64_t following,
                                    const struct oip_limits *limits, struct oip_request *ret,
                                    struct err *err);

/* Inference-Header-Content-Length: 0: the body is the one input's bytes. */
[[nodiscard]] int oip_request_raw(struct arena *arena, const struct oip_model *model,
                                  uint64_t body_bytes, const struct oip_limits *limits,
                                  struct oip_request *ret, struct err *err);

/* Writes all inputs that came as JSON to block + offset. The block is 64-byte aligned. */
[[nodiscard]] int oip_request_convert(const struct oip_request *request, void *block,
                                      struct err *err);

/* Binary inputs, once they are in the block: BYTES lengths add up. Bits of BOOL are left alone. */
[[nodiscard]] int oip_request_check(const struct oip_request *request, const void *block,
                                    struct err *err);

/* Body of v2/repository/index: {"ready": true} asks for the ready ones alone. May be empty. */
[[nodiscard]] int oip_index_parse(struct arena *arena, struct slice text, bool *ret_ready_only,
                                  struct err *err);

/* Body of load and unload; overrides of a config or of files are refused. May be empty. */
[[nodiscard]] int oip_load_parse(struct arena *arena, struct slice text, struct err *err);

/* --- an inference answer ------------------------------------------------------------------ */

struct oip_output {
    uint32_t index; /* in the model's outputs */
    enum tensor_type type;
    struct tensor_shape shape;
    const void *data; /* may be written by another process while we read */
    uint64_t bytes;
};

struct oip_answer {
    struct slice json;   /* in the arena: the whole body, or what stands before the parts */
    bool binary;         /* send Inference-Header-Content-Length: json.size */
    struct iovec *parts; /* in the arena; they point into outputs' memory, uncopied */
    uint32_t part_count;
    uint64_t bytes; /* json and parts */
};

/* `outputs`: what the replica gave, any order; each that `request` wants must be among them, its
 * bytes within readable memory. That bytes, shape and type agree is checked here; ERR_INTERNAL
 * when they do not (the replica answered nonsense). BYTES that are no UTF-8 in a JSON answer, and
 * a JSON answer above the limit, are ERR_BAD_INPUT and ERR_TOO_LARGE with a hint at binary_data. */
[[nodiscard]] int oip_answer_write(struct arena *arena, const struct oip_request *request,
                                   uint64_t version, const struct oip_output *outputs,
                                   uint32_t output_count, const struct oip_limits *limits,
                                   struct oip_answer *ret, struct err *err);

/* --- other answers (all JSON, appended) ----------------------------------------------------- */

struct oip_times {
    uint64_t count, ns;
};

struct oip_batch_stats {
    uint64_t batch_size;
    struct oip_times compute_input, compute_infer, compute_output;
};

struct oip_stats {
    struct slice name;
    uint64_t version;
    uint64_t last_inference_ms; /* since 1970; 0: never */
    uint64_t inference_count, execution_count;
    struct oip_times success, fail, queue, compute_input, compute_infer, compute_output;
    const struct oip_batch_stats *batches;
    uint32_t batch_count;
};

enum oip_state { OIP_UNKNOWN, OIP_READY, OIP_UNAVAILABLE, OIP_LOADING, OIP_UNLOADING };

struct oip_index_row {
    struct slice name;
    uint64_t version; /* 0: none */
    enum oip_state state;
    struct slice reason;
};

void oip_write_live(struct text *text, bool live);
void oip_write_ready(struct text *text, bool ready);
void oip_write_server(struct text *text, struct slice version); /* name, version, extensions */
void oip_write_model_ready(struct text *text, struct slice name, bool ready);
void oip_write_model(struct text *text, const struct oip_model *model);
void oip_write_config(struct text *text, const struct oip_model *model);
void oip_write_stats(struct text *text, const struct oip_stats *stats, size_t count);
void oip_write_index(struct text *text, const struct oip_index_row *rows, size_t count);
void oip_write_error(struct text *text, struct slice message); /* {"error": "..."} */
