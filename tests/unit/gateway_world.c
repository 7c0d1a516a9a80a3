/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway_world.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h> /* after the above */

#include "base/auto.h"
#include "base/err.h"
#include "contract/gateway_metrics.h"
#include "contract/ring.h"
#include "gateway/gateway.h"
#include "sys/channel.h"
#include "sys/fd.h"
#include "sys/shm.h"

static void must(int r, const struct err *err)
{
    if (r < 0)
        fail_msg("%s", err->message);
}

/* ---- the model of every fake: image [-1, 4] to label [-1], probabilities [-1, 4] -------- */

static struct perigee_string text_put(struct perigee_model *model, size_t *used, const char *text)
{
    struct perigee_string string = { (uint32_t)*used, (uint32_t)strlen(text) };

    memcpy((char *)model + *used, text, string.bytes);
    *used += string.bytes;
    return string;
}

static size_t model_fill(struct perigee_model *model)
{
    size_t used = sizeof *model;

    memset(model, 0, sizeof *model);
    model->platform = text_put(model, &used, "onnxruntime_onnx");
    model->input_count = 1;
    model->output_count = 2;
    model->inputs[0] = (struct perigee_io){ .name = text_put(model, &used, "image"),
                                            .datatype = PERIGEE_FP32,
                                            .rank = 2,
                                            .dims = { -1, WORLD_ROW } };
    model->outputs[0] = (struct perigee_io){ .name = text_put(model, &used, "label"),
                                             .datatype = PERIGEE_INT64,
                                             .rank = 1,
                                             .dims = { -1 } };
    model->outputs[1] = (struct perigee_io){ .name = text_put(model, &used, "probabilities"),
                                             .datatype = PERIGEE_FP32,
                                             .rank = 2,
                                             .dims = { -1, WORLD_ROW } };
    return used;
}

struct slice fake_model(void)
{
    static _Alignas(8) char bytes[PERIGEE_MODEL_BYTES_MAX];

    return (struct slice){ bytes, model_fill((struct perigee_model *)(void *)bytes) };
}

/* ---- a replica ------------------------------------------------------------------------ */

static void answer_right(struct fake *fake, const struct perigee_submission *submission, bool wrong)
{
    const struct perigee_request *request =
        (const void *)(fake->arena + submission->request_offset);
    struct perigee_answer *answer =
        (void *)(fake->output + region_slot_offset(submission->slot, WORLD_SLOT_BYTES));
    char *slot = (char *)answer;
    uint64_t rows = (uint64_t)request->inputs[0].dims[0];
    const float *in = (const void *)((const char *)request + request->inputs[0].offset);
    uint64_t labels = PERIGEE_ANSWER_BYTES, rest = (labels + rows * 8 + 63) & ~UINT64_C(63);

    assert_int_equal(request->input_count, 1);
    assert_int_equal((uintptr_t)in % 64, 0);
    for (uint64_t i = 0; i < rows; i++) {
        int64_t best = 0;
        for (int64_t k = 1; k < WORLD_ROW; k++)
            if (in[i * WORLD_ROW + (uint64_t)k] > in[i * WORLD_ROW + (uint64_t)best])
                best = k;
        memcpy(slot + labels + i * 8, &best, 8);
    }
    memcpy(slot + rest, in, rows * WORLD_ROW * 4);
    answer->output_count = 2;
    answer->message_bytes = 0;
    answer->outputs[0] = (struct perigee_tensor){ .index = 0,
                                                  .datatype = PERIGEE_INT64,
                                                  .rank = 1,
                                                  .offset = labels,
                                                  .bytes = rows * 8,
                                                  .dims = { (int64_t)rows } };
    answer->outputs[1] = (struct perigee_tensor){ .index = 1,
                                                  .datatype = PERIGEE_FP32,
                                                  .rank = 2,
                                                  .offset = wrong ? WORLD_SLOT_BYTES : rest,
                                                  .bytes = rows * WORLD_ROW * 4,
                                                  .dims = { (int64_t)rows, WORLD_ROW } };
}

static void answer_words(struct fake *fake, uint32_t slot, const char *words)
{
    struct perigee_answer *answer =
        (void *)(fake->output + region_slot_offset(slot, WORLD_SLOT_BYTES));

    answer->output_count = 0;
    answer->message_bytes = (uint32_t)strlen(words);
    memcpy(answer->message, words, answer->message_bytes);
}

static void complete(struct fake *fake, unsigned loop, unsigned lane, uint64_t *head,
                     const struct perigee_completion *completion)
{
    struct perigee_completion_lane *lanes = (void *)(fake->output + PERIGEE_COMPLETIONS_OFFSET);

    *head = atomic_load(&lanes[lane].head); /* a test may have moved it */
    completion_publish(&lanes[lane], head, completion);
    atomic_thread_fence(memory_order_seq_cst);
    if (atomic_load(&fake->submission->lanes[lane].armed))
        (void)!write(fake->pipes[loop][1], "x", 1);
}

static void took(struct fake *fake)
{
    pthread_mutex_lock(&fake->lock);
    atomic_fetch_add(&fake->taken, 1);
    pthread_cond_broadcast(&fake->changed);
    pthread_mutex_unlock(&fake->lock);
}

static void held(struct fake *fake)
{
    pthread_mutex_lock(&fake->lock);
    while (atomic_load(&fake->mode) == FAKE_HELD && !atomic_load(&fake->stop))
        pthread_cond_wait(&fake->changed, &fake->lock);
    pthread_mutex_unlock(&fake->lock);
}

static void await_step(struct fake *fake)
{
    pthread_mutex_lock(&fake->lock);
    while (atomic_load(&fake->steps) == 0 && !atomic_load(&fake->stop))
        pthread_cond_wait(&fake->changed, &fake->lock);
    if (atomic_load(&fake->steps) > 0)
        atomic_fetch_sub(&fake->steps, 1);
    pthread_mutex_unlock(&fake->lock);
}

void fake_step(struct fake *fake)
{
    pthread_mutex_lock(&fake->lock);
    atomic_fetch_add(&fake->steps, 1);
    pthread_cond_broadcast(&fake->changed);
    pthread_mutex_unlock(&fake->lock);
}

/* A model that takes its time. */
static void slow(struct fake *fake)
{
    struct timespec until;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += atomic_load(&fake->slow_ms) * 1'000'000L;
    until.tv_sec += until.tv_nsec / 1'000'000'000;
    until.tv_nsec %= 1'000'000'000;
    pthread_mutex_lock(&fake->lock);
    while (!atomic_load(&fake->stop) &&
           pthread_cond_clockwait(&fake->changed, &fake->lock, CLOCK_MONOTONIC, &until) == 0)
        ;
    pthread_mutex_unlock(&fake->lock);
}

void fake_release(struct fake *fake)
{
    pthread_mutex_lock(&fake->lock);
    atomic_store(&fake->mode, FAKE_RIGHT);
    pthread_cond_broadcast(&fake->changed);
    pthread_mutex_unlock(&fake->lock);
}

void fake_await_taken(struct fake *fake, uint32_t count)
{
    struct timespec until;
    int r = 0;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += 5;
    pthread_mutex_lock(&fake->lock);
    while (atomic_load(&fake->taken) < count && r == 0)
        r = pthread_cond_clockwait(&fake->changed, &fake->lock, CLOCK_MONOTONIC, &until);
    pthread_mutex_unlock(&fake->lock);
    if (r != 0)
        fail_msg("%s has taken %u of %u", fake->name, atomic_load(&fake->taken), count);
}

static void serve(struct fake *fake, unsigned lane, uint64_t *head,
                  const struct perigee_submission *submission)
{
    struct perigee_completion_lane *lanes = (void *)(fake->output + PERIGEE_COMPLETIONS_OFFSET);
    struct perigee_completion completion = {
        .ticket = submission->ticket, .slot = submission->slot, .infer_ns = 1000, .batch_rows = 1
    };
    unsigned loop = lane % WORLD_LOOPS;

    switch ((enum fake_mode)atomic_load(&fake->mode)) {
    case FAKE_SILENT:
        return;
    case FAKE_KEEPS:
        atomic_store(&fake->mode, FAKE_RIGHT);
        return;
    case FAKE_LIAR:
        atomic_store(&lanes[lane].head, *head + 100);
        (void)!write(fake->pipes[loop][1], "x", 1);
        return;
    case FAKE_REFUSES:
        completion.status = PERIGEE_BAD_INPUT;
        answer_words(fake, submission->slot, "the model's own words");
        break;
    case FAKE_OTHER_TICKET: {
        struct perigee_completion other = completion;
        other.ticket ^= 1 << 20;
        answer_right(fake, submission, false);
        complete(fake, loop, lane, head, &other);
        return;
    }
    case FAKE_HELD:
        held(fake);
        answer_right(fake, submission, false);
        break;
    case FAKE_STEPS:
        await_step(fake);
        answer_right(fake, submission, false);
        break;
    case FAKE_SLOW:
        slow(fake);
        answer_right(fake, submission, false);
        break;
    case FAKE_FLOOD:
        while (!atomic_load(&fake->stop))
            (void)!write(fake->pipes[loop][1], "x", 1);
        return;
    case FAKE_ODD_STATUS:
        completion.status = 77;
        answer_words(fake, submission->slot, "");
        break;
    case FAKE_RIGHT:
    case FAKE_NONSENSE:
        answer_right(fake, submission, atomic_load(&fake->mode) == FAKE_NONSENSE);
        break;
    }
    completion.output_count = 2;
    atomic_fetch_add(&fake->served, 1);
    complete(fake, loop, lane, head, &completion);
}

static void *fake_run(void *data)
{
    struct fake *fake = data;
    struct perigee_completion_lane *lanes = (void *)(fake->output + PERIGEE_COMPLETIONS_OFFSET);
    struct perigee_status *status = (void *)fake->output;
    uint64_t seen[2 * WORLD_LOOPS], heads[2 * WORLD_LOOPS];

    for (unsigned i = 0; i < 2 * WORLD_LOOPS; i++) {
        seen[i] = atomic_load(&lanes[i].taken);
        heads[i] = atomic_load(&lanes[i].head);
    }
    atomic_store(&status->phase, PERIGEE_PHASE_READY);
    for (unsigned i = 0; i < WORLD_LOOPS; i++)
        (void)!write(fake->pipes[i][1], "r", 1);
    for (;;) {
        /* Read before `stop` is: fake_free() changes it after. */
        uint32_t wake = atomic_load(&fake->submission->wake);
        if (atomic_load(&fake->stop))
            return NULL;
        bool worked = false;
        for (unsigned i = 0; i < 2 * WORLD_LOOPS; i++) {
            struct perigee_submission submission;
            if (submission_take(&fake->submission->lanes[i], &seen[i], &submission) == 1) {
                atomic_store(&lanes[i].taken, seen[i]);
                took(fake);
                serve(fake, i, &heads[i], &submission);
                worked = true;
            }
        }
        if (worked)
            continue;
        atomic_store(&status->sleeping, 1);
        atomic_thread_fence(memory_order_seq_cst);
        bool empty = true;
        for (unsigned i = 0; i < 2 * WORLD_LOOPS; i++)
            if (atomic_load(&fake->submission->lanes[i].head) != seen[i])
                empty = false;
        if (empty)
            submission_sleep(fake->submission, wake, -1);
        atomic_store(&status->sleeping, 0);
    }
}

void fake_walls(struct world *world, struct fake *fake)
{
    union message message = { .as_MESSAGE_REPLICA_WALLS = MESSAGE_INIT(MESSAGE_REPLICA_WALLS) };

    message.as_MESSAGE_REPLICA_WALLS.replica = fake->id;
    world_send(world, &message, NULL, 0);
}

void fake_added(struct world *world, struct fake *fake, uint32_t concurrency)
{
    union message message = { .as_MESSAGE_REPLICA_ADDED = MESSAGE_INIT(MESSAGE_REPLICA_ADDED) };
    struct message_replica_added *added = &message.as_MESSAGE_REPLICA_ADDED;
    int fds[3 + WORLD_LOOPS];

    added->replica = fake->id;
    added->revision = fake->revision;
    added->submission_bytes = region_submission_bytes();
    added->output_bytes = region_output_bytes(WORLD_SLOTS, WORLD_SLOT_BYTES);
    added->arena_bytes = WORLD_ARENA_BYTES;
    added->slot_bytes = WORLD_SLOT_BYTES;
    added->slots = WORLD_SLOTS;
    added->concurrency = concurrency;
    added->loops = WORLD_LOOPS;
    snprintf(added->name, sizeof added->name, "%s", fake->name);
    fds[0] = fake->submission_fd;
    fds[1] = fake->output_ro_fd;
    fds[2] = fake->arena_fd;
    for (unsigned i = 0; i < WORLD_LOOPS; i++)
        fds[3 + i] = fake->pipes[i][0];
    world_send(world, &message, fds, 3 + WORLD_LOOPS);
    if (!fake->walls_later)
        fake_walls(world, fake);
}

void fake_prepare(struct world *world, struct fake *fake, uint64_t id, uint64_t revision)
{
    struct err err;
    void *memory;
    size_t submission_bytes = region_submission_bytes();
    size_t output_bytes = region_output_bytes(WORLD_SLOTS, WORLD_SLOT_BYTES);

    fake->id = id;
    fake->revision = revision;
    pthread_mutex_init(&fake->lock, NULL);
    pthread_cond_init(&fake->changed, NULL);
    snprintf(fake->name, sizeof fake->name, "fake-%llu", (unsigned long long)id);
    must(shm_create("submission", submission_bytes, &fake->submission_fd, &err), &err);
    must(shm_map(fake->submission_fd, submission_bytes, true, &memory, &err), &err);
    fake->submission = memory;
    must(shm_create("output", output_bytes, &fake->output_fd, &err), &err);
    must(shm_reopen_readonly(fake->output_fd, &fake->output_ro_fd, &err), &err);
    must(shm_map(fake->output_fd, output_bytes, true, &memory, &err), &err);
    fake->output = memory;
    fake->arena_fd = world->arena_fd;
    must(shm_map(fake->arena_fd, WORLD_ARENA_BYTES, true, &memory, &err), &err);
    fake->arena = memory;
    for (unsigned i = 0; i < WORLD_LOOPS; i++)
        assert_int_equal(pipe2(fake->pipes[i], O_CLOEXEC | O_NONBLOCK), 0);
    struct perigee_status *status = (void *)fake->output;
    status->magic = PERIGEE_WORKER_MAGIC;
    status->version = PERIGEE_WORKER_VERSION;
    status->model_bytes = (uint32_t)model_fill((void *)(fake->output + PERIGEE_MODEL_OFFSET));
}

void fake_begin(struct world *world, struct fake *fake, uint32_t concurrency)
{
    fake_added(world, fake, concurrency);
    assert_int_equal(pthread_create(&fake->thread, NULL, fake_run, fake), 0);
    fake->running = true;
}

void fake_start(struct world *world, struct fake *fake, uint64_t id, uint64_t revision,
                uint32_t concurrency)
{
    fake_prepare(world, fake, id, revision);
    fake_begin(world, fake, concurrency);
}

void fake_free(struct fake *fake)
{
    pthread_mutex_lock(&fake->lock);
    atomic_store(&fake->stop, true);
    pthread_cond_broadcast(&fake->changed);
    pthread_mutex_unlock(&fake->lock);
    (void)submission_wake(fake->submission, (const void *)fake->output, true);
    if (fake->running)
        pthread_join(fake->thread, NULL);
    pthread_cond_destroy(&fake->changed);
    pthread_mutex_destroy(&fake->lock);
    shm_unmap(fake->submission, region_submission_bytes());
    shm_unmap(fake->output, region_output_bytes(WORLD_SLOTS, WORLD_SLOT_BYTES));
    shm_unmap((void *)(uintptr_t)fake->arena, WORLD_ARENA_BYTES);
    fd_close(&fake->submission_fd);
    fd_close(&fake->output_fd);
    fd_close(&fake->output_ro_fd);
    for (unsigned i = 0; i < WORLD_LOOPS; i++) {
        fd_close(&fake->pipes[i][0]);
        fd_close(&fake->pipes[i][1]);
    }
    *fake = (struct fake){};
}

void fake_exit(struct world *world, struct fake *fake)
{
    union message message = { .as_MESSAGE_REPLICA_EXITED = MESSAGE_INIT(MESSAGE_REPLICA_EXITED) };

    message.as_MESSAGE_REPLICA_EXITED.replica = fake->id;
    message.as_MESSAGE_REPLICA_EXITED.revision = fake->revision;
    fake_free(fake);
    world_send(world, &message, NULL, 0);
}

/* ---- the gateway ---------------------------------------------------------------------- */

void world_send(struct world *world, const union message *message, const int *fds, size_t fd_count)
{
    struct err err;

    must(channel_send(world->supervisor, message, message_size(message->head.type), fds, fd_count,
                      &err),
         &err);
}

bool world_maybe(struct world *world, bool agent, uint16_t type, int ms, union message *ret)
{
    struct channel *channel = agent ? world->agent : world->supervisor;
    int fds[CHANNEL_FDS_MAX];
    size_t size, fd_count;
    struct err err;
    struct timespec begin, now;

    clock_gettime(CLOCK_MONOTONIC, &begin);
    for (;;) {
        int r = channel_receive(channel, ret, sizeof *ret, &size, fds, &fd_count, &err);
        if (r < 0)
            fail_msg("%s", err.message);
        if (r == 1 && ret->head.type == type)
            return true;
        if (r == 1)
            continue;
        clock_gettime(CLOCK_MONOTONIC, &now);
        int64_t left =
            ms - ((now.tv_sec - begin.tv_sec) * 1000 + (now.tv_nsec - begin.tv_nsec) / 1'000'000);
        if (left <= 0)
            return false;
        struct pollfd poll_fd = { channel_fd(channel), POLLIN, 0 };
        (void)poll(&poll_fd, 1, (int)left);
    }
}

void world_expect(struct world *world, bool agent, uint16_t type, union message *ret)
{
    if (!world_maybe(world, agent, type, 5000, ret))
        fail_msg("no %s came", message_name(type));
}

static void *gateway_run(void *data)
{
    struct world *world = data;

    world->exit_status = gateway_main(world->supervisor_fd, -1);
    return NULL;
}

static int listener(int *port)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), one = 1;
    struct sockaddr_in in = { .sin_family = AF_INET,
                              .sin_port = htons((uint16_t)*port),
                              .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t size = sizeof in;

    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    assert_int_equal(bind(fd, (struct sockaddr *)&in, sizeof in), 0);
    assert_int_equal(listen(fd, 64), 0);
    getsockname(fd, (struct sockaddr *)&in, &size);
    *port = ntohs(in.sin_port);
    return fd;
}

static void send_peer(struct world *world)
{
    int peer[2];
    struct err err;
    union message message = { .as_MESSAGE_PEER = MESSAGE_INIT(MESSAGE_PEER) };

    must(channel_pair(peer, &err), &err);
    world->agent = channel_new(peer[0]);
    world_send(world, &message, &peer[1], 1);
    fd_close(&peer[1]);
}

void world_agent_again(struct world *world)
{
    channel_free(take_ptr(world->agent));
    send_peer(world);
}

/* A new agent is told at once what waits; so is every change after the first one, but only each
 * second. Therefore a new one, until it hears what is wanted. */
void world_await_waiting(struct world *world, uint64_t revision, uint32_t count)
{
    union message message;
    uint32_t waiting = 0;

    for (int tries = 0; tries < 100'000; tries++) {
        world_agent_again(world);
        world_expect(world, true, MESSAGE_DEMAND, &message);
        if (message.as_MESSAGE_DEMAND.revision != revision)
            continue;
        waiting = message.as_MESSAGE_DEMAND.waiting;
        if (waiting == count)
            return;
    }
    fail_msg("%u wait, not %u", waiting, count);
}

/* A port of its own for each loop, so that a test chooses which one serves it. */
void world_start(struct world *world, uint64_t instance)
{
    int pair[2];
    struct err err;
    union message message = { .as_MESSAGE_START = MESSAGE_INIT(MESSAGE_START) };

    world->instance = instance;
    must(channel_pair(pair, &err), &err);
    world->supervisor = channel_new(pair[0]);
    world->supervisor_fd = pair[1];
    if (!world->arena_fd)
        must(shm_create("arena", WORLD_ARENA_BYTES, &world->arena_fd, &err), &err);
    if (!world->metrics_fd)
        must(shm_create("metrics", gateway_region_bytes(), &world->metrics_fd, &err), &err);
    assert_int_equal(pthread_create(&world->thread, NULL, gateway_run, world), 0);
    message.as_MESSAGE_START.role = ROLE_GATEWAY;
    (void)snprintf(message.as_MESSAGE_START.pop, sizeof message.as_MESSAGE_START.pop, "local");
    message.as_MESSAGE_START.loops = WORLD_LOOPS;
    message.as_MESSAGE_START.instance = instance;
    message.as_MESSAGE_START.flags = world->flags;
    message.as_MESSAGE_START.spin_us = world->spin_us;
    snprintf(message.as_MESSAGE_START.zone, sizeof message.as_MESSAGE_START.zone, "perigee.test");
    world_send(world, &message, NULL, 0);
    for (unsigned i = 0; i < WORLD_LOOPS; i++) {
        if (!world->listeners[i])
            world->listeners[i] = listener(&world->ports[i]);
        message = (union message){ .as_MESSAGE_LISTENER = MESSAGE_INIT(MESSAGE_LISTENER) };
        message.as_MESSAGE_LISTENER.kind = LISTENER_GATEWAY;
        message.as_MESSAGE_LISTENER.loop = i;
        world_send(world, &message, &world->listeners[i], 1);
    }
    send_peer(world);
    message = (union message){ .as_MESSAGE_METRICS = MESSAGE_INIT(MESSAGE_METRICS) };
    message.as_MESSAGE_METRICS.bytes = gateway_region_bytes();
    world_send(world, &message, &world->metrics_fd, 1);
}

void world_go(struct world *world)
{
    union message message = { .as_MESSAGE_GO = MESSAGE_INIT(MESSAGE_GO) };

    world_send(world, &message, NULL, 0);
    world_expect(world, false, MESSAGE_READY, &message);
}

void world_stop(struct world *world)
{
    union message message = { .as_MESSAGE_DRAIN = MESSAGE_INIT(MESSAGE_DRAIN) };

    message.as_MESSAGE_DRAIN.within_ms = 3000;
    world_send(world, &message, NULL, 0);
    pthread_join(world->thread, NULL);
    channel_free(take_ptr(world->supervisor));
    channel_free(take_ptr(world->agent));
}

/* ---- HTTP ----------------------------------------------------------------------------- */

static int connect_to(struct world *world, unsigned index)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in in = { .sin_family = AF_INET,
                              .sin_port = htons((uint16_t)world->ports[index]),
                              .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    struct timeval timeout = { 10, 0 };

    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
    assert_int_equal(connect(fd, (struct sockaddr *)&in, sizeof in), 0);
    return fd;
}

int world_connect(struct world *world)
{
    static _Atomic unsigned turn;

    return connect_to(world, atomic_fetch_add(&turn, 1) % WORLD_LOOPS);
}

/* Until the body that Content-Length says is there, or the end. */
struct reply world_read(int fd)
{
    struct reply reply = { .text = mem_zalloc(8 << 20) };
    size_t used = 0;

    for (;;) {
        char *body = strstr(reply.text, "\r\n\r\n");
        if (body) {
            const char *length = strcasestr(reply.text, "content-length:");
            size_t wanted = 0;
            /* Inference-Header-Content-Length ends so, too. */
            while (length && length[-1] == '-')
                length = strcasestr(length + 1, "content-length:");
            if (length)
                wanted = strtoul(length + 15, NULL, 10);
            reply.body = body + 4;
            if (used - (size_t)(reply.body - reply.text) >= wanted)
                break;
        }
        ssize_t n = read(fd, reply.text + used, (8 << 20) - 1 - used);
        if (n <= 0)
            break;
        used += (size_t)n;
    }
    if (used > 12)
        reply.status = (int)strtol(reply.text + 9, NULL, 10);
    if (!reply.body)
        reply.body = reply.text + used;
    reply.body_bytes = used - (size_t)(reply.body - reply.text);
    return reply;
}

struct reply world_ask(struct world *world, const char *request, size_t size)
{
    int fd = world_connect(world);

    for (size_t done = 0; done < size;) {
        ssize_t n = send(fd, request + done, size - done, MSG_NOSIGNAL);
        if (n <= 0)
            break;
        done += (size_t)n;
    }
    struct reply reply = world_read(fd);
    close(fd);
    return reply;
}

static void pass_over(const int *fds)
{
    static const char live[] = "GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n";

    for (unsigned i = 0; i < WORLD_LOOPS; i++) {
        assert_int_equal(send(fds[i], live, sizeof live - 1, MSG_NOSIGNAL), sizeof live - 1);
        struct reply reply = world_read(fds[i]);
        assert_int_equal(reply.status, 200);
        reply_free(&reply);
    }
}

static void pass_open(struct world *world, int *ret_fds)
{
    for (unsigned i = 0; i < WORLD_LOOPS; i++)
        ret_fds[i] = connect_to(world, i);
}

static void pass_close(const int *fds)
{
    for (unsigned i = 0; i < WORLD_LOOPS; i++)
        close(fds[i]);
}

void world_pass(struct world *world)
{
    int fds[WORLD_LOOPS];

    pass_open(world, fds);
    pass_over(fds);
    pass_close(fds);
}

/* For what has no descriptor: nobody is told when a counter in the metrics region, or the table
 * that a loop goes by, has changed. A pass of every loop is enough for most; for what the
 * gateway's own timers write (gauges, each second) it is looked at again after 10 ms, in which
 * the connection is watched: it says nothing unless the gateway ends. */
bool world_until(struct world *world, bool (*holds)(struct world *world, void *data), void *data)
{
    int fds[WORLD_LOOPS];
    struct timespec begin, now;
    bool held = holds(world, data);

    clock_gettime(CLOCK_MONOTONIC, &begin);
    pass_open(world, fds);
    do {
        struct pollfd poll_fd = { fds[0], POLLIN, 0 };
        if (held)
            break;
        pass_over(fds);
        held = holds(world, data);
        if (!held && poll(&poll_fd, 1, 10) != 0)
            break;
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while (now.tv_sec - begin.tv_sec < 10);
    pass_close(fds);
    return held;
}

void reply_free(struct reply *reply)
{
    free(reply->text);
    *reply = (struct reply){};
}
