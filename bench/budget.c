/* SPDX-License-Identifier: Apache-2.0 */
/*
 * budget.c -- where the time of one small request goes, line by line: the same functions and system
 * calls that gateway and replica make for `tiny` in JSON, each timed by itself, many times over.
 *
 *     bench_budget [PASSES]
 *
 * Medians. The reading of the clock is subtracted. Everything is done by one thread on one core,
 * but for the last lines: there a second process sleeps as a replica does, on that core and free.
 */
#include <arpa/inet.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <netinet/in.h>

#include "base/arena.h"
#include "base/auto.h"
#include "base/err.h"
#include "contract/ring.h"
#include "proto/http1.h"
#include "proto/oip.h"
#include "samples.h"
#include "sys/clock.h"
#include "tool.h"

enum { LINES_MAX = 32, HEAD_BYTES = 512, EXCHANGE_BYTES = 16384 };

static struct line {
    const char *name;
    struct samples samples;
} lines[LINES_MAX];
static size_t line_count;
static int64_t last_ns, clock_ns;

/* What was done since the last call is `name`'s. The same lines in each pass. */
static void step(size_t at, const char *name)
{
    int64_t now = tool_now_ns(), took = now - last_ns - clock_ns;
    if (name) {
        lines[at].name = name;
        line_count = at >= line_count ? at + 1 : line_count;
        samples_add(&lines[at].samples, took > 0 ? took : 0);
    }
    last_ns = tool_now_ns();
}

static void clock_measure(void)
{
    struct samples samples = {};
    for (int i = 0; i < 10'000; i++) {
        int64_t began = tool_now_ns();
        samples_add(&samples, tool_now_ns() - began);
    }
    samples_sort(&samples);
    clock_ns = (int64_t)(samples_us(&samples, 0.5) * 1000);
}

static double lines_show(size_t from, size_t to)
{
    double sum = 0;
    for (size_t i = from; i < to; i++) {
        samples_sort(&lines[i].samples);
        double us = samples_us(&lines[i].samples, 0.5);
        printf("  %-52s%8.2f us\n", lines[i].name, us);
        sum += us;
    }
    printf("  %-52s%8.2f us\n\n", "sum", sum);
    return sum;
}

static void must(int r, const struct err *err)
{
    if (r >= 0)
        return;
    fprintf(stderr, "bench_budget: %s\n", err->message);
    exit(1);
}

/* ---- what is computed ------------------------------------------------------------------------ */

static const char body[] = "{\"inputs\":[{\"name\":\"x\",\"shape\":[1, 4],\"datatype\":\"FP32\","
                           "\"data\":[0.323833,0.150849,0.650935,0.072436]}]}";
static const struct tensor_meta input = { .name = { "x", 1 },
                                          .type = TENSOR_FP32,
                                          .shape = { 2, { -1, 4 } } };
static const struct tensor_meta output = { .name = { "y", 1 },
                                           .type = TENSOR_FP32,
                                           .shape = { 2, { -1, 4 } } };
static const struct oip_model model = {
    .name = { "tiny", 4 }, .inputs = &input, .outputs = &output, .input_count = 1, .output_count = 1
};
static const struct oip_limits limits = {};
static const struct http1_limits head_limits = { 8192, 65536, 100 };
static char head[HEAD_BYTES];
static struct perigee_submission_lane submissions;
static struct perigee_completion_lane completions;
static uint64_t own_head, seen, answer_head, answer_seen;
static char block[4096] __attribute__((aligned(64)));

static size_t ring_pass(size_t at)
{
    struct perigee_submission taken, submission = { .ticket = own_head + 1 };
    struct perigee_completion completion;
    struct err err;
    if (!submission_publish(&submissions, &own_head, &completions, &submission))
        exit(1);
    step(at++, "ring: submit");
    if (submission_take(&submissions, &seen, &taken) != 1)
        exit(1);
    atomic_store(&completions.taken, seen);
    step(at++, "ring: the replica takes it");
    for (int i = 0; i < 4; i++)
        (void)clock_monotonic_ns();
    step(at++, "replica: the monotonic clock, four times");
    completion_publish(&completions, &answer_head,
                       &(struct perigee_completion){ .ticket = taken.ticket });
    step(at++, "ring: complete");
    must(completion_take(&completions, &answer_seen, own_head, &completion, &err), &err);
    atomic_store(&submissions.taken, answer_seen);
    step(at++, "ring: the loop takes the completion, and checks it");
    return at;
}

static void compute_pass(void)
{
    struct http1_head framing;
    struct http_request request;
    struct oip_route route;
    struct oip_request asked;
    struct oip_answer answer;
    struct oip_output given = {
        .type = TENSOR_FP32, .shape = { 2, { 1, 4 } }, .data = block, .bytes = 16
    };
    const struct http_header headers[] = { { { "Content-Type", 12 }, { "application/json", 16 } },
                                           { { "Content-Length", 14 }, { "128", 3 } },
                                           { { "X-Request-Id", 12 }, { "0123456789abcdef", 16 } },
                                           { { "Perigee-Revision", 16 }, { "1", 1 } },
                                           { { "Server-Timing", 13 },
                                             { "queue;dur=0.000, infer;dur=0.002", 32 } } };
    const char *allow;
    struct err err;
    size_t used, at = 0;
    last_ns = tool_now_ns();
    struct arena *arena = arena_new_for(EXCHANGE_BYTES);
    struct http1_parser *parser = http1_parser_new(arena, true, &head_limits);
    step(at++, "memory and parser for an exchange");
    must(http1_parse(parser, head, strlen(head), &used, &err), &err);
    step(at++, "head: parse");
    must(http1_request(parser, &request, &framing, &err), &err);
    step(at++, "head: check, Host, framing");
    must(oip_route_find(arena, slice_of("POST"), slice_of("/v2/models/tiny/infer"), &route, &allow,
                        &err),
         &err);
    step(at++, "route: the call and the model's name");
    must(oip_request_parse(arena, &model, slice_of(body), 0, &limits, &asked, &err), &err);
    step(at++, "JSON: parse and check against the model");
    must(oip_request_convert(&asked, block, &err), &err);
    step(at++, "JSON: four numbers to their place");
    at = ring_pass(at);
    must(oip_answer_write(arena, &asked, 1, &given, 1, &limits, &answer, &err), &err);
    step(at++, "JSON: write the answer");
    (void)http1_write_head(arena, http1_status_line(arena, 200),
                           slice_of("Date: Sat, 28 Nov 2026 12:00:00 GMT\r\n"), headers, 5);
    step(at++, "head: write the answer's");
    arena_free(arena);
    step(at++, "memory back");
}

/* ---- what the kernel does -------------------------------------------------------------------- */

static void connection_make(int ends[2])
{
    struct sockaddr_in address = { .sin_family = AF_INET };
    socklen_t size = sizeof address;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ends[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listener < 0 || ends[0] < 0 ||
        bind(listener, (struct sockaddr *)&address, sizeof address) < 0 ||
        listen(listener, 1) < 0 || getsockname(listener, (struct sockaddr *)&address, &size) < 0 ||
        connect(ends[0], (struct sockaddr *)&address, sizeof address) < 0 ||
        (ends[1] = accept4(listener, NULL, NULL, SOCK_CLOEXEC)) < 0)
        tool_fail("a connection on loopback");
    close(listener);
}

static void kernel_pass(int epoll, const int ends[2], size_t at)
{
    static const char first[230], second[130];
    static char buffer[16384];
    struct epoll_event event;
    struct iovec parts[] = { { (void *)(uintptr_t)first, sizeof first },
                             { (void *)(uintptr_t)second, sizeof second } };
    last_ns = tool_now_ns();
    if (send(ends[0], head, strlen(head), 0) < 0)
        tool_fail("send");
    step(at++, "the client's send, to the server's socket");
    if (epoll_wait(epoll, &event, 1, -1) != 1)
        tool_fail("epoll_wait");
    step(at++, "epoll_wait, ready");
    if (read(ends[1], buffer, sizeof buffer) < 0)
        tool_fail("read");
    step(at++, "read of the request");
    if (writev(ends[1], parts, 2) < 0)
        tool_fail("writev");
    step(at++, "writev of the answer, to the client's socket");
    if (recv(ends[0], buffer, sizeof buffer, 0) < 0)
        tool_fail("recv");
    step(at++, "the client's recv");
}

static void kernel_measure(long passes, size_t at)
{
    int ends[2], epoll = epoll_create1(EPOLL_CLOEXEC);
    connection_make(ends);
    struct epoll_event event = { .events = EPOLLIN };
    if (epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, ends[1], &event) < 0)
        tool_fail("epoll");
    for (long i = 0; i < passes; i++)
        kernel_pass(epoll, ends, at);
    close(ends[0]);
    close(ends[1]);
    close(epoll);
}

/* ---- waking ---------------------------------------------------------------------------------- */

static struct shared {
    struct perigee_status status;
    struct perigee_completion_lane answers;
} * shared;
static struct perigee_submission_page *page;

/* As a replica: asleep until there is work, a byte down the pipe for each. */
[[gnu::noreturn]] static void replica_run(int wake_pipe)
{
    uint64_t taken = 0, completed = 0;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (;;) {
        struct perigee_submission submission;
        uint32_t word = atomic_load(&page->wake);
        if (submission_take(&page->lanes[0], &taken, &submission) == 1) {
            atomic_store(&shared->answers.taken, taken);
            completion_publish(&shared->answers, &completed,
                               &(struct perigee_completion){ .ticket = submission.ticket });
            if (write(wake_pipe, "", 1) != 1)
                _exit(1);
            continue;
        }
        atomic_store(&shared->status.sleeping, 1);
        atomic_thread_fence(memory_order_seq_cst);
        if (atomic_load(&page->lanes[0].head) == taken)
            submission_sleep(page, word, -1);
        atomic_store(&shared->status.sleeping, 0);
    }
}

static void wake_pass(int epoll, int wake_pipe, size_t at, const char *name)
{
    struct perigee_submission submission = { .ticket = 1 };
    struct perigee_completion completion;
    struct epoll_event event;
    struct err err;
    char byte;
    while (!atomic_load(&shared->status.sleeping))
        sched_yield();
    last_ns = tool_now_ns();
    if (!submission_publish(&page->lanes[0], &own_head, &shared->answers, &submission))
        exit(1);
    submission_wake(page, &shared->status, false);
    if (epoll_wait(epoll, &event, 1, -1) != 1 || read(wake_pipe, &byte, 1) != 1)
        tool_fail("epoll_wait");
    step(at, name);
    must(completion_take(&shared->answers, &answer_seen, own_head, &completion, &err), &err);
    atomic_store(&page->lanes[0].taken, answer_seen);
}

static void wake_measure(long passes, size_t at, bool free_cores, const char *name)
{
    int ends[2], epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = { .events = EPOLLIN };
    int map = MAP_SHARED | MAP_ANONYMOUS;
    page = mmap(NULL, region_submission_bytes(), PROT_READ | PROT_WRITE, map, -1, 0);
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, map, -1, 0);
    if (page == MAP_FAILED || shared == MAP_FAILED || pipe(ends) < 0 || epoll < 0 ||
        epoll_ctl(epoll, EPOLL_CTL_ADD, ends[0], &event) < 0)
        tool_fail("memory and a pipe");
    own_head = answer_seen = 0;
    pid_t pid = fork();
    if (pid < 0)
        tool_fail("fork");
    if (pid == 0) {
        cpu_set_t all;
        memset(&all, 0xff, sizeof all);
        if (free_cores)
            (void)sched_setaffinity(0, sizeof all, &all);
        replica_run(ends[1]);
    }
    for (long i = 0; i < passes; i++)
        wake_pass(epoll, ends[0], at, name);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    close(ends[0]);
    close(ends[1]);
    close(epoll);
}

static void pin_to_this_core(void)
{
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET((size_t)sched_getcpu(), &one);
    (void)sched_setaffinity(0, sizeof one, &one);
}

int main(int argc, char **argv)
{
    long passes = argc > 1 ? strtol(argv[1], NULL, 10) : 20'000;
    if (argc > 2 || passes < 10 || passes > 10'000'000) {
        fprintf(stderr, "usage: bench_budget [PASSES]     10 to 10000000; 20000 unless told\n");
        return 2;
    }
    (void)snprintf(head, sizeof head,
                   "POST /v2/models/tiny/infer HTTP/1.1\r\nHost: localhost\r\nContent-Type: "
                   "application/json\r\nContent-Length: %zu\r\n\r\n",
                   sizeof body - 1);
    pin_to_this_core();
    clock_measure();
    for (long i = 0; i < passes; i++)
        compute_pass();
    printf("computed by gateway and replica\n");
    size_t at = line_count;
    double sum = lines_show(0, at);
    kernel_measure(passes, at);
    printf("system calls of a busy gateway, and of its client\n");
    sum += lines_show(at, line_count);
    printf("  %-52s%8.2f us\n\n", "both, without the model's run and without sleep", sum);
    at = line_count;
    wake_measure(passes, at, false, "wake the replica, be woken: on one core");
    wake_measure(passes, at + 1, true, "the same, the replica on any core");
    printf("where the replica slept\n");
    for (size_t i = at; i < line_count; i++) {
        samples_sort(&lines[i].samples);
        printf("  %-52s%8.2f us\n", lines[i].name, samples_us(&lines[i].samples, 0.5));
    }
    return 0;
}
