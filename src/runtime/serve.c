/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lanes are looked at in turn, so that no loop starves another. What is taken goes through
 * collect(), which is where batches will be formed: it sees all lanes, and run() takes several
 * jobs.
 */
#include "runtime/serve.h"

#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/slice.h"
#include "contract/ring.h"
#include "runtime/answer.h"
#include "runtime/replica.h"
#include "runtime/runtime.h"
#include "sys/clock.h"
#include "sys/shm.h"

#define JOBS_MAX 1
#define PUNCH_BYTES_MIN (UINT64_C(1) << 20) /* smaller slots keep their pages */
#define IDLE_NS INT64_C(10'000'000'000)     /* so long without work: big answers' pages go back */

struct lane {
    uint64_t seen, own_head;
};

/* A job, and where it came from. */
struct task {
    uint32_t lane;
    struct perigee_submission submission;
    uint64_t start_ns;
    struct perigee_tensor inputs[PERIGEE_TENSORS_MAX]; /* in the model's order */
    struct answer answer;
};

struct server {
    struct replica *replica;
    struct runtime_model *model;
    const struct perigee_model *description;
    struct perigee_completion_lane *answers;
    struct lane lanes[PERIGEE_LANES_MAX];
    uint32_t next_lane;
    uint64_t slot_used[PERIGEE_SLOTS_MAX]; /* bytes of the slot that may have pages */
    struct task tasks[JOBS_MAX];
    struct runtime_job jobs[JOBS_MAX];
};

static struct slice io_name(const struct perigee_model *model, const struct perigee_io *io)
{
    return (struct slice){ (const char *)model + io->name.offset, io->name.bytes };
}

/* ---- taking ---------------------------------------------------------------------------------- */

static bool take(struct server *server, struct task *task)
{
    struct replica *replica = server->replica;

    for (uint32_t i = 0; i < replica->clone.lanes; i++) {
        uint32_t at = (server->next_lane + i) % replica->clone.lanes;
        int r =
            submission_take(&replica->page->lanes[at], &server->lanes[at].seen, &task->submission);
        if (r < 0)
            replica_fail(replica, "lane %" PRIu32 ": the gateway's index jumped", at);
        if (r == 0)
            continue;
        atomic_store_explicit(&server->answers[at].taken, server->lanes[at].seen,
                              memory_order_release);
        task->lane = at;
        task->start_ns = clock_monotonic_ns();
        server->next_lane = at + 1;
        return true;
    }
    return false;
}

/* How many tasks were taken: 0 when nothing waits. */
static size_t collect(struct server *server)
{
    size_t count = 0;

    while (count < JOBS_MAX && take(server, &server->tasks[count]))
        count++;
    return count;
}

/* ---- checking -------------------------------------------------------------------------------- */

static int check_input(const struct perigee_model *model, const struct perigee_tensor *tensor,
                       struct err *err)
{
    const struct perigee_io *io = &model->inputs[tensor->index];

    if (tensor->datatype != io->datatype)
        return err_set(err, ERR_BAD_INPUT, "input '%s' is %s, not %s",
                       ERR_SLICE(io_name(model, io)), datatype_name(io->datatype),
                       datatype_name(tensor->datatype));
    if (tensor->rank != io->rank)
        return err_set(err, ERR_BAD_INPUT, "input '%s' has %" PRIu32 " dimensions, not %" PRIu32,
                       ERR_SLICE(io_name(model, io)), io->rank, tensor->rank);
    for (uint32_t i = 0; i < io->rank; i++) {
        if (io->dims[i] >= 0 && io->dims[i] != tensor->dims[i])
            return err_set(err, ERR_BAD_INPUT,
                           "input '%s': dimension %" PRIu32 " is %" PRId64 ", not %" PRId64,
                           ERR_SLICE(io_name(model, io)), i, io->dims[i], tensor->dims[i]);
    }
    return 0;
}

/* Copies the request's description once, checks all of it, and leaves it in the model's order. */
static int read_request(struct server *server, struct task *task, struct runtime_job *job,
                        struct err *err)
{
    const struct perigee_submission *submission = &task->submission;
    const struct perigee_model *model = server->description;
    uint64_t arena_bytes = server->replica->clone.arena_bytes, offset = submission->request_offset;
    uint64_t given = 0;
    struct perigee_request head;

    if (offset % PERIGEE_TENSOR_ALIGN != 0 || submission->request_bytes < sizeof head ||
        offset > arena_bytes || submission->request_bytes > arena_bytes - offset)
        return err_set(err, ERR_BAD_INPUT, "the request is outside the arena");
    job->block = server->replica->arena + offset;
    memcpy(&head, job->block, sizeof head);
    if (head.input_count > PERIGEE_TENSORS_MAX ||
        sizeof head + head.input_count * sizeof(struct perigee_tensor) > submission->request_bytes)
        return err_set(err, ERR_BAD_INPUT, "%" PRIu32 " inputs", head.input_count);

    for (uint32_t i = 0; i < head.input_count; i++) {
        struct perigee_tensor tensor;
        memcpy(&tensor, job->block + sizeof head + i * sizeof tensor, sizeof tensor);
        int r = tensor_check(&tensor, submission->request_bytes, err);
        if (r < 0)
            return r;
        if (tensor.index >= model->input_count || (given & UINT64_C(1) << tensor.index))
            return err_set(err, ERR_BAD_INPUT, "no input %" PRIu32 ", or twice", tensor.index);
        r = check_input(model, &tensor, err);
        if (r < 0)
            return r;
        given |= UINT64_C(1) << tensor.index;
        task->inputs[tensor.index] = tensor;
    }
    uint32_t count = 0;
    for (uint32_t i = 0; i < model->input_count; i++) {
        if (given & UINT64_C(1) << i)
            task->inputs[count++] = task->inputs[i];
        else if (!(model->inputs[i].flags & PERIGEE_IO_OPTIONAL))
            return err_set(err, ERR_BAD_INPUT, "input '%s' is missing",
                           ERR_SLICE(io_name(model, &model->inputs[i])));
    }
    uint64_t all =
        model->output_count >= 64 ? ~UINT64_C(0) : (UINT64_C(1) << model->output_count) - 1;
    if ((head.outputs_wanted & ~all) != 0 || head.outputs_wanted == 0)
        return err_set(err, ERR_BAD_INPUT, "an output is wanted that the model does not have");
    job->inputs = task->inputs;
    job->input_count = count;
    job->outputs_wanted = head.outputs_wanted;
    return 0;
}

/* A job that is not to be run has a status other than DONE. */
static void prepare(struct server *server, struct task *task, struct runtime_job *job)
{
    const struct perigee_clone *clone = &server->replica->clone;
    struct err err = {};

    job->status = PERIGEE_DONE;
    job->ready_ns = job->ran_ns = task->start_ns;
    job->answer = &task->answer;
    answer_begin(&task->answer,
                 server->replica->output +
                     region_slot_offset(task->submission.slot, clone->slot_bytes),
                 clone->slot_bytes);
    if (task->submission.deadline_ns > 0 && task->start_ns > (uint64_t)task->submission.deadline_ns)
        job_fail(job, PERIGEE_CANCELED, "the deadline passed before it ran");
    else if (read_request(server, task, job, &err) < 0)
        job_fail(job, PERIGEE_BAD_INPUT, "%s", err.message);
}

/* ---- answering ------------------------------------------------------------------------------- */

/* What an earlier, larger answer left behind this one is not needed again soon. */
static void give_back_tail(struct server *server, const struct task *task)
{
    uint64_t *used = &server->slot_used[task->submission.slot];
    uint64_t end = (task->answer.used + 4095) & ~UINT64_C(4095);

    if (*used > end && *used - end >= PUNCH_BYTES_MIN) {
        shm_punch(task->answer.slot + end, *used - end);
        *used = end;
    } else if (*used < end) {
        *used = end;
    }
}

static void give_back_idle(struct server *server)
{
    const struct perigee_clone *clone = &server->replica->clone;

    for (uint32_t slot = 0; slot < clone->slots; slot++) {
        uint64_t released = atomic_load(&server->replica->page->released[slot / 64]);
        if (server->slot_used[slot] < PUNCH_BYTES_MIN || !(released & UINT64_C(1) << slot % 64))
            continue;
        shm_punch(server->replica->output + region_slot_offset(slot, clone->slot_bytes),
                  server->slot_used[slot]);
        server->slot_used[slot] = 0;
    }
}

static void complete(struct server *server, struct task *task, const struct runtime_job *job,
                     uint64_t cpu_ns, uint32_t batch_rows)
{
    uint64_t end = clock_monotonic_ns();
    struct perigee_completion completion = {
        .ticket = task->submission.ticket,
        .start_ns = task->start_ns,
        .input_ns = job->ready_ns - task->start_ns,
        .infer_ns = job->ran_ns - job->ready_ns,
        .output_ns = end - job->ran_ns,
        .cpu_ns = cpu_ns,
        .slot = task->submission.slot,
        .status = job->status,
        .output_count = job->status == PERIGEE_DONE ? task->answer.output_count : 0,
        .batch_rows = batch_rows,
    };

    completion_publish(&server->answers[task->lane], &server->lanes[task->lane].own_head,
                       &completion);
    atomic_thread_fence(memory_order_seq_cst);
    if (atomic_load_explicit(&server->replica->page->lanes[task->lane].armed, memory_order_relaxed))
        (void)!write(server->replica->fds[PERIGEE_FD_PIPES + task->lane], "", 1);
}

/* One request runs at a time, so the whole process's time is its time, pool threads included. */
static uint64_t cpu_now(const struct server *server)
{
    return server->replica->clone.threads > 1 ? clock_process_cpu_ns() : clock_thread_cpu_ns();
}

static void answer(struct server *server, size_t count)
{
    uint64_t cpu = cpu_now(server);
    size_t runnable = 0;

    for (size_t i = 0; i < count; i++) {
        struct task *task = &server->tasks[i];
        struct runtime_job *job = &server->jobs[i];
        if (task->submission.slot >= server->replica->clone.slots)
            replica_fail(server->replica, "the gateway named slot %" PRIu32 " of %" PRIu32,
                         task->submission.slot, server->replica->clone.slots);
        prepare(server, task, job);
        runnable += job->status == PERIGEE_DONE;
    }
    if (runnable == count)
        server->replica->runtime->run(server->model, server->jobs, count);
    cpu = (cpu_now(server) - cpu) / count;
    for (size_t i = 0; i < count; i++) {
        answer_finish(&server->tasks[i].answer, &server->jobs[i]);
        give_back_tail(server, &server->tasks[i]);
        complete(server, &server->tasks[i], &server->jobs[i], cpu, (uint32_t)count);
    }
}

/* ---- sleeping -------------------------------------------------------------------------------- */

/* Returns how many tasks there are after all. */
static size_t sleep_armed(struct server *server)
{
    struct replica *replica = server->replica;
    uint32_t word = atomic_load_explicit(&replica->page->wake, memory_order_acquire);
    bool big = false;

    for (uint32_t slot = 0; slot < replica->clone.slots && !big; slot++)
        big = server->slot_used[slot] >= PUNCH_BYTES_MIN;

    atomic_store_explicit(&replica->status->sleeping, 1, memory_order_relaxed);
    atomic_thread_fence(memory_order_seq_cst);
    size_t count = collect(server);
    if (count == 0) {
        uint64_t began = clock_monotonic_ns();
        submission_sleep(replica->page, word, big ? IDLE_NS : -1);
        if (big && clock_monotonic_ns() - began >= (uint64_t)IDLE_NS)
            give_back_idle(server);
    }
    atomic_store_explicit(&replica->status->sleeping, 0, memory_order_relaxed);
    return count;
}

void serve(struct replica *replica, struct runtime_model *model,
           const struct perigee_model *description)
{
    static struct server server;

    server.replica = replica;
    server.model = model;
    server.description = description;
    server.answers =
        (struct perigee_completion_lane *)(void *)(replica->output + PERIGEE_COMPLETIONS_OFFSET);
    atomic_store_explicit(&replica->status->phase, PERIGEE_PHASE_READY, memory_order_release);
    for (uint32_t i = 0; i < replica->clone.lanes; i++)
        (void)!write(replica->fds[PERIGEE_FD_PIPES + i], "", 1);
    for (;;) {
        size_t count = collect(&server);
        if (count == 0)
            count = sleep_armed(&server);
        if (count > 0)
            answer(&server, count);
    }
}
