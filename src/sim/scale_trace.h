/* SPDX-License-Identifier: Apache-2.0 */
/*
 * scale_trace.h -- what arrives in the benchmark of autoscaling: hours made from a seed (Poisson
 * arrivals, exponential service), and recorded ones. Owns its requests; pure but for one file.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"

struct err;

/* X(name, rate in requests a second at `t` seconds, its most). */
#define SCALE_TRACE_TABLE(X)                                                                       \
    X(constant, 20, 20)                                                                            \
    X(ramp, t / 60, 60)                                                                            \
    X(spike, t >= 1200 && t < 1320 ? 100 : 5, 100)                                                 \
    X(diurnal, 20 * (1 + sin(2 * M_PI * t / 1800)), 40)                                            \
    X(sparse, 0, 0) /* one each 180 s */                                                           \
    X(on_off, fmod(t, 300) < 60 ? 40 : 0, 40)

enum scale_trace_kind {
#define SCALE_TRACE(name, rate, most) SCALE_TRACE_##name,
    SCALE_TRACE_TABLE(SCALE_TRACE)
#undef SCALE_TRACE
        SCALE_TRACES
};

enum { SCALE_REQUESTS_MAX = 1 << 20, SCALE_HOUR_S = 3600, SCALE_SPARSE_S = 180 };
#define SCALE_SERVICE_S 0.2

struct scale_request {
    int64_t at_ns, service_ns;
};

struct scale_trace {
    char name[32];
    struct scale_request *requests; /* by time; from malloc */
    size_t count;
};

void scale_trace_make(struct scale_trace *trace, enum scale_trace_kind kind, uint64_t seed);
/* CSV with arrival_ms,prompt_tokens,generated_tokens after a head: 20 ms and 5 ms a generated token
 * each. Its name is the file's, without folder and ending. */
[[nodiscard]] int scale_trace_parse(struct scale_trace *trace, struct slice text, struct err *err);
[[nodiscard]] int scale_trace_read(struct scale_trace *trace, const char *path, struct err *err);
void scale_trace_free(struct scale_trace *trace);
