/* SPDX-License-Identifier: Apache-2.0 */
/*
 * load.c -- the same request over N keep-alive connections, each sent when the answer before it is
 * whole (a closed loop), or at RATE a second whatever the answers do (an open loop; times are from
 * when a request was due, so that one that waits for a connection is not hidden).
 *
 *     bench_load ADDRESS PORT CONNECTIONS SECONDS REQUEST_FILE [RATE]
 *
 * Prints one line of JSON: requests (counted), served (the warm-up's as well, for CPU time per
 * request), errors (not 200), seconds, p50_us, p99_us. A tenth of the time before, and at least one
 * answer on a connection where that takes less than the time itself, is warm-up. It ends when all
 * that was asked is answered, so that the next measurement finds the server idle.
 */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/auto.h"
#include "http_load.h"
#include "samples.h"
#include "tool.h"

enum { CONNECTIONS_MAX = 1024 };
#define END_NS_MAX INT64_C(60'000'000'000)

static struct {
    struct slice request;
    struct samples samples;
    uint64_t served, errors;
    bool counting, ending;
    long busy;   /* connections with a request under way */
    double rate; /* 0: a closed loop */
    struct http_load_connection *idle[CONNECTIONS_MAX];
    long idle_count;
    int64_t due_ns; /* when the next one is */
} run;

static void on_answer(struct http_load_connection *c)
{
    int64_t due_ns = run.rate > 0 ? (int64_t)(intptr_t)c->data : c->began_ns;
    run.served++;
    run.errors += c->status != 200;
    if (run.counting && due_ns)
        samples_add(&run.samples, c->ended_ns - due_ns);
    if (run.ending)
        run.busy--;
    else if (run.rate > 0)
        run.idle[run.idle_count++] = c;
    else
        http_load_send(c, run.request);
}

/* What is due by now, as far as connections are free. */
static int due_send(void)
{
    int64_t now = tool_now_ns(), each = (int64_t)(1e9 / run.rate);
    while (run.due_ns <= now && run.idle_count) {
        struct http_load_connection *c = run.idle[--run.idle_count];
        c->data = (void *)(intptr_t)run.due_ns;
        http_load_send(c, run.request);
        run.due_ns += each;
    }
    return run.idle_count ? (int)((run.due_ns - now) / 1'000'000) : 100;
}

static void run_until(struct http_load *load, int64_t until_ns, uint64_t served)
{
    while (tool_now_ns() < until_ns && run.served < served)
        http_load_poll(load, run.rate > 0 ? due_send() : 100);
}

int main(int argc, char **argv)
{
    struct http_load load = { .on_answer = on_answer };
    if (argc != 6 && argc != 7) {
        fprintf(stderr, "usage: bench_load ADDRESS PORT CONNECTIONS SECONDS REQUEST_FILE [RATE]\n");
        return 2;
    }
    long count = strtol(argv[3], NULL, 10);
    double seconds = strtod(argv[4], NULL);
    if (count < 1 || count > CONNECTIONS_MAX || !(seconds > 0 && seconds < 600)) {
        fprintf(stderr, "bench_load: 1 to %d connections, up to 600 seconds\n", CONNECTIONS_MAX);
        return 2;
    }
    run.rate = argc == 7 ? strtod(argv[6], NULL) : 0;
    if (run.rate < 0 || run.rate > 1e6) {
        fprintf(stderr, "bench_load: up to a million requests a second\n");
        return 2;
    }
    load.address = argv[1];
    load.port = argv[2];
    run.request = tool_file(argv[5]);
    http_load_open(&load);
    struct http_load_connection *connections = mem_zalloc((size_t)count * sizeof *connections);
    for (long i = 0; i < count; i++) {
        http_load_connect(&load, &connections[i]);
        http_load_send(&connections[i], run.request);
    }
    int64_t wanted_ns = (int64_t)(seconds * 1e9), begin_ns = tool_now_ns();
    run.due_ns = begin_ns;
    run_until(&load, begin_ns + wanted_ns / 10, UINT64_MAX);
    run_until(&load, begin_ns + wanted_ns, (uint64_t)count);
    run.counting = true;
    begin_ns = run.due_ns = tool_now_ns();
    run_until(&load, begin_ns + wanted_ns, UINT64_MAX);
    double took = (double)(tool_now_ns() - begin_ns) / 1e9;
    run.counting = false;
    run.ending = true;
    run.busy = count - run.idle_count;
    while (run.busy && tool_now_ns() < begin_ns + wanted_ns + END_NS_MAX)
        http_load_poll(&load, 100);
    if (run.busy) {
        fprintf(stderr, "bench_load: %ld requests were never answered\n", (long)run.busy);
        return 1;
    }
    samples_sort(&run.samples);
    printf("{\"requests\": %zu, \"served\": %llu, \"errors\": %llu, \"seconds\": %.6f, "
           "\"p50_us\": %.2f, \"p99_us\": %.2f}\n",
           run.samples.count, (unsigned long long)run.served, (unsigned long long)run.errors, took,
           samples_us(&run.samples, 0.5), samples_us(&run.samples, 0.99));
    return 0;
}
