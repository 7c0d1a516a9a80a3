/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lanes are looked at in turn, so that no loop starves another. Where requests may run together,
 * all that is in the rings is taken and waits here, so that a batch sees all lanes; else one is
 * taken at a time, and the rest waits where it is.
 *
 * A busy replica finds its batches: what came while the last one ran. An idle one runs at once, but
 * for batch.delay.
 */
#include "runtime/serve.h"

#include <inttypes.h>
#include <sched.h>
#include <unistd.h>

#include "base/err.h"
#include "contract/ring.h"
#include "runtime/batch.h"
#include "runtime/replica.h"
#include "runtime/runtime.h"
#include "base/spin.h"
#include "runtime/task.h"
#include "runtime/usage.h"
#include "sys/clock.h"
#include "sys/shm.h"

#define PUNCH_BYTES_MIN (UINT64_C(1) << 20) /* smaller slots keep their pages */
#define IDLE_NS INT64_C(10'000'000'000)     /* so long without work: big answers' pages go back */
#define WAKE_NS UINT64_C(20'000)            /* runs shorter than this share a wake-up of the loop */

struct lane {
    uint64_t seen, own_head;
};

struct server {
    struct replica *replica;
    struct runtime_model *model;
    const struct perigee_model *description;
    struct perigee_completion_lane *answers;
    struct lane lanes[PERIGEE_LANES_MAX];
    uint32_t next_lane;
    uint64_t slot_used[PERIGEE_SLOTS_MAX]; /* bytes of the slot that may have pages */
    uint32_t big_slots;                    /* those with PUNCH_BYTES_MIN or more */
    struct usage usage;
    struct {
        uint32_t lanes;    /* bits: those with completions that their loop may sleep over */
        uint64_t since_ns; /* of the first of them */
    } unwoken;
    uint64_t longest_ns; /* of the last batches: a maximum that is slowly forgotten */
    uint64_t last_bytes; /* of the last batch's requests */
    uint64_t rows_max;   /* of a batch */
    int64_t delay_ns;
    struct spin spin;
    struct list waiting, unused; /* struct task */
    struct task tasks[PERIGEE_SLOTS_MAX];
    struct batch batch;
};

/* ---- taking ---------------------------------------------------------------------------------- */

static bool take(struct server *server, struct task *task)
{
    struct replica *replica = server->replica;

    for (uint32_t i = 0; i < replica->clone.lanes; i++) {
        uint32_t at = server->next_lane + i;
        at = at < replica->clone.lanes ? at : at - replica->clone.lanes;
        int r =
            submission_take(&replica->page->lanes[at], &server->lanes[at].seen, &task->submission);
        if (r < 0)
            replica_fail(replica, "lane %" PRIu32 ": the gateway's index jumped", at);
        if (r == 0)
            continue;
        atomic_store_explicit(&server->answers[at].taken, server->lanes[at].seen,
                              memory_order_release);
        if (task->submission.slot >= replica->clone.slots)
            replica_fail(replica, "the gateway named slot %" PRIu32 " of %" PRIu32,
                         task->submission.slot, replica->clone.slots);
        task->lane = at;
        task->taken_ns = clock_monotonic_ns();
        server->next_lane = at + 1 < replica->clone.lanes ? at + 1 : 0;
        return true;
    }
    return false;
}

/* A job that is not to be run has a status other than DONE. */
static void read_task(struct server *server, struct task *task)
{
    const struct perigee_clone *clone = &server->replica->clone;
    struct runtime_job *job = &task->job;
    struct err err;

    job->status = PERIGEE_DONE;
    job->rows = 0;
    job->answer = &task->answer;
    answer_begin(&task->answer,
                 server->replica->output +
                     region_slot_offset(task->submission.slot, clone->slot_bytes),
                 clone->slot_bytes);
    if (task_read(task, server->replica->arena, clone->arena_bytes, server->description, &err) < 0)
        job_fail(job, PERIGEE_BAD_INPUT, "%s", err.message);
    else
        job->rows = batch_rows(server->description, job);
    job->batch_rows = job->rows > 0 ? job->rows : 1;
}

/* Returns how many came to those that wait. */
static size_t collect(struct server *server)
{
    size_t count = 0;

    while (server->rows_max > 1 || list_empty(&server->waiting)) {
        struct task *task = LIST_FIRST(&server->unused, struct task, link);
        if (!task || !take(server, task))
            break;
        list_remove(&task->link);
        list_append(&server->waiting, &task->link);
        read_task(server, task);
        count++;
    }
    return count;
}

/* ---- answering ------------------------------------------------------------------------------- */

static void set_used(struct server *server, uint32_t slot, uint64_t bytes)
{
    server->big_slots -= server->slot_used[slot] >= PUNCH_BYTES_MIN;
    server->big_slots += bytes >= PUNCH_BYTES_MIN;
    server->slot_used[slot] = bytes;
}

/* What an earlier, larger answer left behind this one is not needed again soon. */
static void give_back_tail(struct server *server, const struct task *task)
{
    uint32_t slot = task->submission.slot;
    uint64_t used = server->slot_used[slot];
    uint64_t end = (task->answer.used + 4095) & ~UINT64_C(4095);

    if (used > end && used - end >= PUNCH_BYTES_MIN)
        shm_punch(task->answer.slot + end, used - end);
    else if (used >= end)
        return;
    set_used(server, slot, end);
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
        set_used(server, slot, 0);
    }
}

static void complete(struct server *server, struct task *task, uint64_t end, uint64_t cpu_ns)
{
    const struct runtime_job *job = &task->job;

    if (server->unwoken.lanes == 0)
        server->unwoken.since_ns = end;
    server->unwoken.lanes |= UINT32_C(1) << task->lane;
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
        .batch_rows = job->batch_rows < UINT32_MAX ? (uint32_t)job->batch_rows : UINT32_MAX,
    };

    completion_publish(&server->answers[task->lane], &server->lanes[task->lane].own_head,
                       &completion);
}

/* Loops that sleep are woken, once for all that was completed. */
static void wake_loops(struct server *server)
{
    const struct replica *replica = server->replica;
    uint32_t lanes = server->unwoken.lanes;

    if (lanes == 0)
        return;
    server->unwoken.lanes = 0;
    atomic_thread_fence(memory_order_seq_cst);
    for (; lanes != 0; lanes &= lanes - 1) {
        uint32_t at = (uint32_t)__builtin_ctz(lanes);
        if (atomic_load_explicit(&replica->page->lanes[at].armed, memory_order_relaxed))
            (void)!write(replica->fds[PERIGEE_FD_PIPES + at], "", 1);
    }
}

/* What was completed may wait for the batch of `bytes` that runs next, where that will be over
 * sooner than a wake-up is worth: the last ones were, and the last was no smaller. A model may
 * loop as long as its input says, so one long run ends this for a thousand batches. */
static void wake_loops_due(struct server *server, uint64_t now, uint64_t bytes)
{
    if (server->longest_ns >= WAKE_NS || now - server->unwoken.since_ns >= WAKE_NS ||
        bytes > server->last_bytes)
        wake_loops(server);
}

/* One batch runs at a time, so the whole process's time is its time, pool threads included. What
 * lies between two batches is the later one's: the sum is what the kernel counts. */
static uint64_t cpu_now(const struct server *server)
{
    return server->replica->clone.threads > 1 ? clock_process_cpu_ns() : clock_thread_cpu_ns();
}

static uint64_t cpu_spent(struct server *server, uint64_t start_ns, uint64_t end_ns)
{
    /* Of several threads the wall knows nothing. */
    if (server->replica->clone.threads > 1 || usage_read_due(&server->usage, end_ns))
        return usage_read(&server->usage, end_ns, cpu_now(server));
    return usage_guess(&server->usage, end_ns - start_ns);
}

static void answer(struct server *server)
{
    struct batch *batch = &server->batch;
    uint64_t start = server->rows_max > 1 ? clock_monotonic_ns() : batch->tasks[0]->taken_ns;
    uint64_t bytes = 0;

    for (size_t i = 0; i < batch->count; i++) {
        struct task *task = batch->tasks[i];
        list_remove(&task->link);
        task->start_ns = task->job.ready_ns = task->job.ran_ns = start;
        bytes += task->submission.request_bytes;
    }
    wake_loops_due(server, start, bytes);
    if (batch->jobs[0]->status == PERIGEE_DONE)
        server->replica->runtime->run(server->model, batch->jobs, batch->count);
    for (size_t i = 0; i < batch->count; i++)
        answer_finish(&batch->tasks[i]->answer, &batch->tasks[i]->job);
    uint64_t end = clock_monotonic_ns(), spent = cpu_spent(server, start, end);
    for (size_t i = 0; i < batch->count; i++) {
        struct task *task = batch->tasks[i];
        uint64_t rows = task->job.rows > 0 ? task->job.rows : 1;
        complete(server, task, end, batch->count == 1 ? spent : spent * rows / batch->rows);
        give_back_tail(server, task); /* behind the answer, which may be under way by now */
        list_prepend(&server->unused, &task->link);
    }
    server->longest_ns -= server->longest_ns >> 10;
    if (server->longest_ns < end - start)
        server->longest_ns = end - start;
    server->last_bytes = bytes;
}

/* ---- waiting --------------------------------------------------------------------------------- */

/* Until something was submitted, or `ns_max` has passed (-1: never). */
static void sleep_armed(struct server *server, int64_t ns_max)
{
    struct replica *replica = server->replica;

    wake_loops(server);
    uint32_t word = atomic_load_explicit(&replica->page->wake, memory_order_acquire);

    atomic_store_explicit(&replica->status->sleeping, 1, memory_order_relaxed);
    atomic_thread_fence(memory_order_seq_cst);
    if (collect(server) == 0)
        submission_sleep(replica->page, word, ns_max);
    atomic_store_explicit(&replica->status->sleeping, 0, memory_order_relaxed);
    (void)collect(server);
}

/* True: there is work. */
static bool look_for_work(struct server *server)
{
    bool found = false;

    if (!spin_begin(&server->spin, clock_monotonic_ns()))
        return false;
    wake_loops(server);
    uint64_t cpu = cpu_now(server);
    do {
        (void)sched_yield();
        found = collect(server) > 0;
    } while (!found && spin_goes_on(&server->spin, clock_monotonic_ns()));
    usage_skip(&server->usage, cpu_now(server) - cpu); /* looking is nobody's request */
    return found;
}

static void sleep_idle(struct server *server)
{
    if (server->big_slots == 0) {
        sleep_armed(server, -1);
        return;
    }
    uint64_t began = clock_monotonic_ns();
    sleep_armed(server, IDLE_NS);
    if (list_empty(&server->waiting) && clock_monotonic_ns() - began >= (uint64_t)IDLE_NS)
        give_back_idle(server);
}

static void wait_for_work(struct server *server)
{
    if (server->spin.ns_max == 0) {
        sleep_idle(server);
        return;
    }
    bool found = look_for_work(server);
    if (!found)
        sleep_idle(server);
    if (!list_empty(&server->waiting))
        spin_end(&server->spin, clock_monotonic_ns(), found);
}

/* ---- batches --------------------------------------------------------------------------------- */

static bool canceled(const struct server *server, const struct task *task)
{
    uint32_t index = task->submission.slot % PERIGEE_RING_ENTRIES;
    const _Atomic uint64_t *words = server->replica->page->lanes[task->lane].canceled;
    uint64_t bit = UINT64_C(1) << index % 64;

    return (atomic_load_explicit(&words[index / 64], memory_order_relaxed) & bit) != 0;
}

/* What nobody waits for any more is not run. */
static void cancel(struct server *server, uint64_t now)
{
    struct task *task;

    LIST_EACH (task, &server->waiting, struct task, link) {
        int64_t due = task->submission.deadline_ns;
        if (task->job.status != PERIGEE_DONE)
            continue;
        if (due > 0 && now > (uint64_t)due)
            job_fail(&task->job, PERIGEE_CANCELED, "the deadline passed before it ran");
        else if (canceled(server, task))
            job_fail(&task->job, PERIGEE_CANCELED, "nobody waits for it any more");
    }
}

/* The next batch. One that has room waits batch.delay for more, from when its first request was
 * taken; but not where that would pass a deadline, nor while others wait. */
static void form(struct server *server)
{
    struct batch *batch = &server->batch;
    bool each_alone = server->rows_max <= 1;
    const struct task *first = LIST_FIRST(&server->waiting, struct task, link);

    for (;;) {
        uint64_t now = each_alone ? first->taken_ns : clock_monotonic_ns();
        cancel(server, now);
        batch_form(&server->waiting, server->rows_max, batch);
        uint64_t until = first->taken_ns + (uint64_t)server->delay_ns;
        if (batch->full || batch->others || now >= until || batch->due_ns_min <= until)
            return;
        sleep_armed(server, (int64_t)(until - now));
    }
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
    server.rows_max = description->batch_rows_max;
    server.delay_ns = (int64_t)replica->clone.batch_delay_us * 1000;
    server.spin.ns_max = (uint64_t)replica->clone.spin_us * 1000;
    list_init(&server.waiting);
    list_init(&server.unused);
    for (uint32_t i = 0; i < replica->clone.slots; i++)
        list_append(&server.unused, &server.tasks[i].link);
    usage_begin(&server.usage, clock_monotonic_ns(), cpu_now(&server));
    atomic_store_explicit(&replica->status->phase, PERIGEE_PHASE_READY, memory_order_release);
    for (uint32_t i = 0; i < replica->clone.lanes; i++)
        (void)!write(replica->fds[PERIGEE_FD_PIPES + i], "", 1);
    for (;;) {
        if (collect(&server) == 0 && list_empty(&server.waiting)) {
            wait_for_work(&server);
            continue;
        }
        form(&server);
        answer(&server);
    }
}
