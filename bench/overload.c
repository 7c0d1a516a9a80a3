/* SPDX-License-Identifier: Apache-2.0 */
/*
 * overload.c -- requests at a rate that does not depend on the answers (an open loop), each answer
 * checked.
 *
 *     bench_overload ADDRESS PORT CONNECTIONS RATE SECONDS FOLDER
 *
 * FOLDER holds request-0, expected-0, request-1, ...: requests of the binary form and the FP32
 * output each must get, to 1e-5. They are sent in turn, so that an answer meant for another is
 * seen. A request for which no connection is free is skipped, and counted. Prints one line of JSON.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "http_load.h"
#include "samples.h"
#include "tool.h"

enum { CONNECTIONS_MAX = 4096, CASES_MAX = 64, BODY_BYTES = 1 << 16, REFUSAL_MS_MAX = 100 };

static const float tolerance = 1e-5F;

static struct {
    struct slice requests[CASES_MAX], expected[CASES_MAX];
    size_t case_count, next;
    struct http_load_connection *idle[CONNECTIONS_MAX];
    size_t idle_count;
    struct samples right_times, refused_times;
    uint64_t sent, skipped, right, wrong, refused, refused_bare, refused_late, other, lost;
    int other_status;
} run;

static bool answer_right(const struct http_load_connection *c)
{
    const struct slice *expected = c->data;
    struct slice length = http_load_header(c, "Inference-Header-Content-Length");
    size_t head = length.size ? strtoul(length.data, NULL, 10) : c->body_bytes;
    if (head > c->body_bytes || c->body_bytes - head != expected->size)
        return false;
    for (size_t at = 0; at < expected->size; at += sizeof(float)) {
        float got, wanted;
        memcpy(&got, c->body + head + at, sizeof got);
        memcpy(&wanted, expected->data + at, sizeof wanted);
        if (!(fabsf(got - wanted) <= tolerance * fmaxf(fabsf(wanted), 1)))
            return false;
    }
    return true;
}

static void on_refused(const struct http_load_connection *c)
{
    int64_t took_ns = c->ended_ns - c->began_ns;
    run.refused++;
    run.refused_bare += http_load_header(c, "Retry-After").size == 0;
    run.refused_late += took_ns > REFUSAL_MS_MAX * INT64_C(1'000'000);
    samples_add(&run.refused_times, took_ns);
}

static void on_answer(struct http_load_connection *c)
{
    if (c->status == 503 || c->status == 429) {
        on_refused(c);
    } else if (c->status != 200) {
        run.other++;
        run.other_status = c->status;
    } else if (answer_right(c)) {
        run.right++;
        samples_add(&run.right_times, c->ended_ns - c->began_ns);
    } else {
        run.wrong++;
    }
    run.idle[run.idle_count++] = c;
}

static void on_lost(struct http_load_connection *c)
{
    run.lost++;
    run.idle[run.idle_count++] = c;
}

static void send_next(void)
{
    if (run.idle_count == 0) {
        run.skipped++;
        return;
    }
    struct http_load_connection *c = run.idle[--run.idle_count];
    size_t which = run.next++ % run.case_count;
    c->data = &run.expected[which];
    run.sent++;
    http_load_send(c, run.requests[which]);
}

static bool cases_read(const char *folder)
{
    for (; run.case_count < CASES_MAX; run.case_count++) {
        char path[4096];
        (void)snprintf(path, sizeof path, "%s/request-%zu", folder, run.case_count);
        FILE *file = fopen(path, "rb");
        if (!file)
            break;
        fclose(file);
        run.requests[run.case_count] = tool_file(path);
        (void)snprintf(path, sizeof path, "%s/expected-%zu", folder, run.case_count);
        run.expected[run.case_count] = tool_file(path);
    }
    return run.case_count > 0;
}

static void print(double seconds)
{
    samples_sort(&run.right_times);
    samples_sort(&run.refused_times);
    printf("{\"seconds\": %.3f, \"sent\": %llu, \"skipped\": %llu, \"right\": %llu, "
           "\"wrong\": %llu, \"refused\": %llu, \"refused_without_retry_after\": %llu, "
           "\"refused_late\": %llu, \"other\": %llu, \"other_status\": %d, \"lost\": %llu, "
           "\"right_p50_us\": %.1f, \"right_p99_us\": %.1f, \"refused_p50_us\": %.1f, "
           "\"refused_p99_us\": %.1f, \"refused_max_us\": %.1f}\n",
           seconds, (unsigned long long)run.sent, (unsigned long long)run.skipped,
           (unsigned long long)run.right, (unsigned long long)run.wrong,
           (unsigned long long)run.refused, (unsigned long long)run.refused_bare,
           (unsigned long long)run.refused_late, (unsigned long long)run.other, run.other_status,
           (unsigned long long)run.lost, samples_us(&run.right_times, 0.5),
           samples_us(&run.right_times, 0.99), samples_us(&run.refused_times, 0.5),
           samples_us(&run.refused_times, 0.99), samples_us(&run.refused_times, 1));
}

static void connections_open(struct http_load *load, size_t count)
{
    struct http_load_connection *connections = mem_zalloc(count * sizeof *connections);
    for (size_t i = 0; i < count; i++) {
        struct http_load_connection *c = &connections[i];
        c->body = mem_alloc(BODY_BYTES);
        c->body_room = BODY_BYTES;
        http_load_connect(load, c);
        run.idle[run.idle_count++] = c;
    }
}

int main(int argc, char **argv)
{
    struct http_load load = { .on_answer = on_answer, .on_lost = on_lost };
    if (argc != 7) {
        fprintf(stderr, "usage: bench_overload ADDRESS PORT CONNECTIONS RATE SECONDS FOLDER\n");
        return 2;
    }
    unsigned long count = strtoul(argv[3], NULL, 10);
    double rate = strtod(argv[4], NULL), seconds = strtod(argv[5], NULL);
    if (count < 1 || count > CONNECTIONS_MAX || !(rate >= 1 && rate <= 1e6) ||
        !(seconds > 0 && seconds < 3600) || !cases_read(argv[6])) {
        fprintf(stderr,
                "bench_overload: 1 to %d connections, a rate from 1 to 1000000, seconds, and a "
                "folder with request-0\n",
                CONNECTIONS_MAX);
        return 2;
    }
    load.address = argv[1];
    load.port = argv[2];
    http_load_open(&load);
    connections_open(&load, count);
    int64_t begin_ns = tool_now_ns(), now_ns = begin_ns;
    int64_t end_ns = begin_ns + (int64_t)(seconds * 1e9);
    for (uint64_t due = 0; now_ns < end_ns; now_ns = tool_now_ns()) {
        uint64_t by_now = (uint64_t)((double)(now_ns - begin_ns) / 1e9 * rate);
        for (; due < by_now; due++)
            send_next();
        http_load_poll(&load, 1);
    }
    while (run.idle_count < count && tool_now_ns() < end_ns + INT64_C(60'000'000'000))
        http_load_poll(&load, 100);
    run.lost += count - run.idle_count; /* never answered */
    print(seconds);
    return 0;
}
