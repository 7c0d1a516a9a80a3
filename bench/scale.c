/* SPDX-License-Identifier: Apache-2.0 */
/*
 * scale.c -- our autoscaler and Knative's over the same traces in the same simulated time: what the
 * replicas cost (seconds, from the command to start one until it is gone), how long requests wait.
 *
 *     bench_scale [--seed N] [--json] [--svg DIR] [TRACE.csv ...]
 *     ninja -C build bench/bench_scale && build/bench/bench_scale
 *
 * Six traces are made from the seed, files are recorded ones (arrival_ms,prompt_tokens,
 * generated_tokens). Concurrency 4, 500 ms to start, idle 10 s. Knative's with a grace of 0 and of
 * 30 s before zero, of which the cheaper counts. Exit 1 where a bar is missed.
 */
#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/err.h"
#include "sim/scale_compare.h"
#include "sim/scale_picture.h"
#include "tool.h"

enum { TRACES_MAX = 32 };

struct options {
    uint64_t seed;
    bool json;
    const char *svg;
};

static void picture(const struct options *options, const struct scale_trace *trace,
                    const struct scale_result *kpa, const struct scale_result *ours)
{
    char path[4096], title[96];
    const struct scale_line lines[] = { { "Knative's", "#c8443c", kpa },
                                        { "ours", "#1a7f5a", ours } };

    if (mkdir(options->svg, 0755) < 0 && errno != EEXIST)
        tool_fail(options->svg);
    snprintf(path, sizeof path, "%s/scale-%s.svg", options->svg, trace->name);
    snprintf(title, sizeof title, "%s: traffic and replicas", trace->name);
    FILE *out = fopen(path, "we");
    if (!out)
        tool_fail(path);
    scale_svg(out, title, lines, 2);
    if (fclose(out))
        tool_fail(path);
}

static struct scale_row compare(const struct options *options, const struct scale_trace *trace)
{
    static struct scale_both both;
    struct scale_row row;

    scale_compare(trace, &row, &both);
    if (options->svg)
        picture(options, trace, &both.kpa, &both.ours);
    return row;
}

/* ---- what came of it ------------------------------------------------------------------------- */

static void print_json(const struct options *options, const struct scale_row *rows, size_t count,
                       const struct scale_sum *sum)
{
    printf("{\"seed\": %llu, \"traces\": [", (unsigned long long)options->seed);
    for (size_t i = 0; i < count; i++)
        printf("%s\n {\"name\": \"%s\", \"requests\": %zu, \"kpa_replica_s\": %.1f, "
               "\"kpa_grace_replica_s\": %.1f, \"replica_s\": %.1f, \"ratio\": %.4f, "
               "\"kpa_p99_ms\": %.1f, \"p99_ms\": %.1f, \"kpa_starts\": %llu, \"starts\": %llu}",
               i ? "," : "", rows[i].name, rows[i].requests, rows[i].kpa_s, rows[i].kpa_grace_s,
               rows[i].ours_s, rows[i].ratio, rows[i].kpa_p99_ms, rows[i].ours_p99_ms,
               (unsigned long long)rows[i].kpa_starts, (unsigned long long)rows[i].ours_starts);
    printf("],\n \"geometric_mean\": %.4f, \"sums\": %.4f, \"worse_p99\": %u, \"met\": %s}\n",
           sum->mean, sum->sums, sum->worse, sum->met ? "true" : "false");
}

static void print_table(const struct scale_row *rows, size_t count, const struct scale_sum *sum)
{
    printf("  %-20s %8s %8s %8s %6s %13s %11s\n", "replica-seconds", "requests", "Knative", "ours",
           "ratio", "p99 wait, ms", "starts");
    for (size_t i = 0; i < count; i++)
        printf("  %-20.20s %8zu %8.0f %8.0f %6.2f %6.0f %6.0f %5llu %5llu\n", rows[i].name,
               rows[i].requests, fmin(rows[i].kpa_s, rows[i].kpa_grace_s), rows[i].ours_s,
               rows[i].ratio, rows[i].kpa_p99_ms, rows[i].ours_p99_ms,
               (unsigned long long)rows[i].kpa_starts, (unsigned long long)rows[i].ours_starts);
    printf("\n  geometric mean of the ratios %.3f (at most %.2f), of the sums %.3f (%.2f);\n"
           "  p99 of the wait worse on %u of %zu (at most %d), none above %.1f times: %s\n",
           sum->mean, SCALE_BAR_MEAN, sum->sums, SCALE_BAR_SUM, sum->worse, count, SCALE_WORSE_MAX,
           SCALE_BAR_WAIT, sum->met ? "met" : "MISSED");
}

static int usage(void)
{
    fprintf(stderr, "usage: bench_scale [--seed N] [--json] [--svg DIR] [TRACE.csv ...]\n");
    return 2;
}

int main(int argc, char **argv)
{
    struct options options = { .seed = 1 };
    static struct scale_row rows[TRACES_MAX];
    struct scale_trace trace;
    struct err err = {};
    size_t count = 0;
    int at = 1;

    for (; at < argc && strncmp(argv[at], "--", 2) == 0; at++) {
        if (strcmp(argv[at], "--json") == 0)
            options.json = true;
        else if (strcmp(argv[at], "--svg") == 0 && at + 1 < argc)
            options.svg = argv[++at];
        else if (strcmp(argv[at], "--seed") != 0 || at + 1 == argc ||
                 !slice_u64(slice_of(argv[++at]), &options.seed))
            return usage();
    }
    if (argc - at > TRACES_MAX - SCALE_TRACES)
        return usage();
    for (int kind = 0; kind < SCALE_TRACES; kind++) {
        scale_trace_make(&trace, (enum scale_trace_kind)kind, options.seed);
        rows[count++] = compare(&options, &trace);
        scale_trace_free(&trace);
    }
    for (; at < argc; at++) {
        if (scale_trace_read(&trace, argv[at], &err) < 0) {
            fprintf(stderr, "bench: %s\n", err.message);
            return 1;
        }
        rows[count++] = compare(&options, &trace);
        scale_trace_free(&trace);
    }
    struct scale_sum sum = scale_judge(rows, count);
    if (options.json)
        print_json(&options, rows, count, &sum);
    else
        print_table(rows, count, &sum);
    return sum.met ? 0 : 1;
}
