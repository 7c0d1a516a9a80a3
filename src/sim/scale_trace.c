/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/scale_trace.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "base/err.h"
#include "sim/draw.h"

enum {
    LLM_MS = 20,
    LLM_TOKEN_MS = 5,
    TOKENS_MAX = 1'000'000,
    AT_MS_MAX = 7 * 24 * 3600 * 1000,
    FILE_BYTES_MAX = 64 << 20,
};

static double rate(enum scale_trace_kind kind, double t, double *ret_most)
{
    switch (kind) {
#define RATE(name, now, most)                                                                      \
    case SCALE_TRACE_##name:                                                                       \
        *ret_most = (most);                                                                        \
        return (now);
        SCALE_TRACE_TABLE(RATE)
#undef RATE
    case SCALE_TRACES:
        break;
    }
    *ret_most = 0;
    return 0;
}

static void add(struct scale_trace *trace, double at_s, double service_s)
{
    if (trace->count == SCALE_REQUESTS_MAX)
        return;
    if ((trace->count & (trace->count - 1)) == 0)
        trace->requests = mem_resize(trace->requests, trace->count ? trace->count * 2 : 1,
                                     sizeof *trace->requests);
    trace->requests[trace->count++] =
        (struct scale_request){ (int64_t)(at_s * 1e9), (int64_t)(service_s * 1e9) };
}

/* Poisson arrivals of a rate that changes, by thinning (Lewis, Shedler 1979). */
void scale_trace_make(struct scale_trace *trace, enum scale_trace_kind kind, uint64_t seed)
{
    static const char *const names[] = {
#define NAME(name, rate, most) #name,
        SCALE_TRACE_TABLE(NAME)
#undef NAME
    };
    struct chance chance = { seed * 64 + (uint64_t)kind };
    double most = 0;

    *trace = (struct scale_trace){};
    snprintf(trace->name, sizeof trace->name, "%s", names[kind]);
    if (kind == SCALE_TRACE_sparse) {
        for (int at = 0; at < SCALE_HOUR_S; at += SCALE_SPARSE_S)
            add(trace, at, chance_exponential(&chance, SCALE_SERVICE_S));
        return;
    }
    (void)rate(kind, 0, &most);
    for (double t = 0;;) {
        t += chance_exponential(&chance, 1 / most);
        if (t >= SCALE_HOUR_S)
            return;
        double unused, now = rate(kind, t, &unused);
        if (chance_part(&chance) * most < now)
            add(trace, t, chance_exponential(&chance, SCALE_SERVICE_S));
    }
}

static int line_parse(struct scale_trace *trace, struct slice line, size_t number, struct err *err)
{
    uint64_t figures[3];
    size_t count = 0;

    if (slice_ends(line, SLICE("\r")))
        line.size--;
    while (count < 3 && line.data && slice_u64(slice_cut(&line, ','), &figures[count]))
        count++;
    if (count < 3 || line.data || figures[0] > AT_MS_MAX || figures[2] > TOKENS_MAX)
        return err_set(
            err, ERR_BAD_INPUT,
            "line %zu is not arrival_ms,prompt_tokens,generated_tokens within a week and "
            "a million tokens",
            number);
    if (trace->count == SCALE_REQUESTS_MAX)
        return err_set(err, ERR_BAD_INPUT, "more than %d requests", SCALE_REQUESTS_MAX);
    if (trace->count && figures[0] * 1'000'000 < (uint64_t)trace->requests[trace->count - 1].at_ns)
        return err_set(err, ERR_BAD_INPUT, "line %zu is earlier than the one before it", number);
    add(trace, (double)figures[0] / 1e3, (double)(LLM_MS + LLM_TOKEN_MS * figures[2]) / 1e3);
    return 0;
}

int scale_trace_parse(struct scale_trace *trace, struct slice text, struct err *err)
{
    int r = 0;

    *trace = (struct scale_trace){};
    (void)slice_cut(&text, '\n'); /* the head */
    for (size_t number = 2; r == 0 && text.data && text.size; number++)
        r = line_parse(trace, slice_cut(&text, '\n'), number, err);
    if (r == 0 && trace->count == 0)
        r = err_set(err, ERR_BAD_INPUT, "there are no requests in it");
    if (r < 0)
        scale_trace_free(trace);
    return r;
}

int scale_trace_read(struct scale_trace *trace, const char *path, struct err *err)
{
    const char *base = strrchr(path, '/');
    auto_free char *bytes = mem_alloc(FILE_BYTES_MAX + 1);
    FILE *file = fopen(path, "re");

    *trace = (struct scale_trace){};
    if (!file)
        return err_set(err, ERR_NOT_FOUND, "%s: %s", path, strerror(errno));
    size_t size = fread(bytes, 1, FILE_BYTES_MAX + 1, file);
    bool failed = ferror(file);
    fclose(file);
    if (failed || size > FILE_BYTES_MAX)
        return err_set(err, ERR_BAD_INPUT, "%s: cannot be read, or is above %d MiB", path,
                       FILE_BYTES_MAX >> 20);
    if (scale_trace_parse(trace, (struct slice){ bytes, size }, err) < 0)
        return err_wrap(err, "%s", path);
    snprintf(trace->name, sizeof trace->name, "%s", base ? base + 1 : path);
    if (strrchr(trace->name, '.'))
        *strrchr(trace->name, '.') = '\0';
    return 0;
}

void scale_trace_free(struct scale_trace *trace)
{
    free(trace->requests);
    trace->requests = NULL;
    trace->count = 0;
}
