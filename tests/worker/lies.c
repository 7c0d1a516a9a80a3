/* SPDX-License-Identifier: Apache-2.0 */
/* What a gateway must not believe: completions, answers, the status page, the rings' counters. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "contract/ring.h"
#include "runtime/answer.h"
#include "runtime/runtime.h"
#include "runtime/task.h"
#include "worker/misbehave.h"

/* The region begins with this process's status page; which slot this is nobody has told us. */
static char *region_of(const struct runtime_job *job)
{
    char *page = job->answer->slot - PERIGEE_SLOTS_OFFSET;

    while (((struct perigee_status *)(void *)page)->magic != PERIGEE_WORKER_MAGIC ||
           ((struct perigee_status *)(void *)page)->pid != getpid())
        page -= job->answer->slot_bytes;
    return page;
}

/* The lane in use: the one whose submissions were taken last. */
static struct perigee_completion_lane *lane_of(const struct runtime_job *job)
{
    struct perigee_completion_lane *lanes =
        (struct perigee_completion_lane *)(void *)(region_of(job) + PERIGEE_COMPLETIONS_OFFSET);
    size_t at = 0;

    for (size_t i = 0; i < PERIGEE_LANES_MAX; i++) {
        if (atomic_load(&lanes[i].taken) > atomic_load(&lanes[i].head))
            at = i;
    }
    return &lanes[at];
}

static void publish(const struct runtime_job *job, const struct perigee_completion *completion)
{
    struct perigee_completion_lane *lane = lane_of(job);
    uint64_t head = atomic_load(&lane->head);

    completion_publish(lane, &head, completion);
}

/* The worker library would repair the index with the true answer: the gateway is to look before. */
static void show_lie(void)
{
    for (int fd = 3; fd < 64; fd++)
        (void)!write(fd, "", 1);
    clock_nanosleep(CLOCK_MONOTONIC, 0, &(struct timespec){ 0, 200'000'000 }, NULL);
}

static void do_lie_ticket(struct speech *speech)
{
    publish(speech->job,
            &(struct perigee_completion){ .ticket = 0x7fffffff00000001, .batch_rows = 1 });
    show_lie();
    SAY(speech, "done");
}

static void do_lie_jump(struct speech *speech)
{
    atomic_fetch_add(&lane_of(speech->job)->head, 1'000'000);
    show_lie();
    SAY(speech, "done");
}

static void do_lie_phase(struct speech *speech)
{
    struct perigee_status *status = (struct perigee_status *)(void *)region_of(speech->job);

    atomic_store(&status->phase, 77);
    memset(status->reason, 0xff, sizeof status->reason);
    SAY(speech, "done");
}

static void do_lie_offset(struct speech *speech)
{
    static const int64_t dims[] = { 1 };
    struct answer *answer = speech->job->answer;

    answer_add(answer, 0, PERIGEE_BYTES, dims, 1, answer->slot + answer->slot_bytes * 4, 64);
}

static void do_lie_shape(struct speech *speech)
{
    static const int64_t dims[] = { INT64_C(1) << 40 };
    struct answer *answer = speech->job->answer;

    answer_add(answer, 0, PERIGEE_BYTES, dims, 1, answer_place(answer, 64), 64);
}

static void do_lie_datatype(struct speech *speech)
{
    static const int64_t dims[] = { 16 };
    struct answer *answer = speech->job->answer;

    answer_add(answer, 0, PERIGEE_FP32, dims, 1, answer_place(answer, 64), 64);
}

static void do_lie_length(struct speech *speech)
{
    static const int64_t dims[] = { 1 };
    struct answer *answer = speech->job->answer;
    char *place = answer_place(answer, 64);

    memset(place, 0xff, 64);
    answer_add(answer, 0, PERIGEE_BYTES, dims, 1, place, 64);
}

static void do_lie_count(struct speech *speech)
{
    speech->job->answer->output_count = PERIGEE_TENSORS_MAX;
}

static void do_lie_status(struct speech *speech)
{
    speech->job->status = 99;
}

/* ---- any field ------------------------------------------------------------------------------- */

struct field {
    const char *name;
    size_t offset, size;
};
#define FIELD(type, field)                                                                         \
    {                                                                                              \
#field, offsetof(struct type, field), sizeof((struct type *)NULL)->field                   \
    }

/* "NAME VALUE" or "NAME +VALUE". Says false when there is no such field. */
static bool set_field(char *argument, const struct field *fields, size_t count, void *object)
{
    char *value = strchr(argument, ' ');

    if (!value)
        return false;
    *value++ = 0;
    for (size_t i = 0; i < count; i++) {
        uint64_t number = strtoull(value + (*value == '+'), NULL, 0), before = 0;
        char *at = (char *)object + fields[i].offset;
        if (strcmp(fields[i].name, argument) != 0)
            continue;
        if (fields[i].size > sizeof number) { /* text */
            memset(at, (int)number, fields[i].size);
            return true;
        }
        memcpy(&before, at, fields[i].size);
        number += *value == '+' ? before : 0;
        memcpy(at, &number, fields[i].size);
        return true;
    }
    return false;
}

static void say_done(struct speech *speech, bool done)
{
    SAY(speech, "%s", done ? "done" : "no such field");
}

static bool lie_page(char *argument, char *region)
{
    static const struct field fields[] = {
        FIELD(perigee_status, magic),
        FIELD(perigee_status, version),
        FIELD(perigee_status, phase),
        FIELD(perigee_status, sleeping),
        FIELD(perigee_status, pid),
        FIELD(perigee_status, signal),
        FIELD(perigee_status, syscall),
        FIELD(perigee_status, walls),
        FIELD(perigee_status, landlock_abi),
        FIELD(perigee_status, model_bytes),
        FIELD(perigee_status, memory_loaded_bytes),
        FIELD(perigee_status, load_ns),
        FIELD(perigee_status, warm_ns),
        FIELD(perigee_status, reason),
        FIELD(perigee_status, walls_ns),
    };

    return set_field(argument, fields, sizeof fields / sizeof *fields, region);
}

#define IO_FIELDS(ios)                                                                             \
    FIELD(perigee_model, ios), FIELD(perigee_model, ios[0].name),                                  \
        FIELD(perigee_model, ios[0].name.bytes), FIELD(perigee_model, ios[0].datatype),            \
        FIELD(perigee_model, ios[0].rank), FIELD(perigee_model, ios[0].flags),                     \
        FIELD(perigee_model, ios[0].reserved), FIELD(perigee_model, ios[0].dims[0]),               \
        FIELD(perigee_model, ios[0].symbols[0])

static bool lie_model(char *argument, char *region)
{
    static const struct field fields[] = {
        FIELD(perigee_model, platform),
        FIELD(perigee_model, input_count),
        FIELD(perigee_model, output_count),
        FIELD(perigee_model, property_count),
        FIELD(perigee_model, batch_rows_max),
        FIELD(perigee_model, properties),
        IO_FIELDS(inputs),
        IO_FIELDS(outputs),
    };

    return set_field(argument, fields, sizeof fields / sizeof *fields,
                     region + PERIGEE_MODEL_OFFSET);
}

static void do_lie_page(struct speech *speech)
{
    say_done(speech, lie_page(speech->argument, region_of(speech->job)));
}

static void do_lie_model(struct speech *speech)
{
    say_done(speech, lie_model(speech->argument, region_of(speech->job)));
}

bool lie_before_ready(char *line, char *region)
{
    static const char page[] = "lie-page ", model[] = "lie-model ";

    if (strncmp(line, page, sizeof page - 1) == 0)
        return lie_page(line + sizeof page - 1, region);
    return strncmp(line, model, sizeof model - 1) == 0 &&
           lie_model(line + sizeof model - 1, region);
}

static void do_lie_lane(struct speech *speech)
{
    static const struct field fields[] = {
        FIELD(perigee_completion_lane, head),
        FIELD(perigee_completion_lane, taken),
    };

    say_done(speech, set_field(speech->argument, fields, sizeof fields / sizeof *fields,
                               lane_of(speech->job)));
    show_lie();
}

enum { UNTOLD = 99 };

/* What this request's completion would be, and an answer that holds; its slot is where we write. */
static struct perigee_completion honest(struct runtime_job *job)
{
    struct answer *answer = job->answer;
    static const int64_t dims[] = { 1 };
    const char *slots = region_of(job) + PERIGEE_SLOTS_OFFSET;
    char *place = answer_place(answer, 64);

    memset(place, 0, 64);
    answer_add(answer, 0, PERIGEE_BYTES, dims, 1, place, sizeof(uint32_t));
    answer_finish(answer, job);
    return (struct perigee_completion){
        .slot = (uint32_t)((uint64_t)(answer->slot - slots) / answer->slot_bytes),
        .output_count = 1,
        .batch_rows = 1,
    };
}

/* The library shows no ticket to a runtime, but its copy of the submission lies around the job: a
 * hostile worker finds it. */
static uint64_t ticket_of(const struct runtime_job *job)
{
    return LIST_OWNER((void *)(uintptr_t)job, struct task, job)->submission.ticket;
}

/* The lie goes first; the library's own completion follows: the same ticket once more. */
static void tell(struct speech *speech, struct perigee_completion *completion, bool known)
{
    if (!known)
        _exit(UNTOLD); /* the test hears of it: what it asked for was not done */
    publish(speech->job, completion);
    show_lie();
}

static void do_lie_completion(struct speech *speech)
{
    static const struct field fields[] = {
        FIELD(perigee_completion, ticket),       FIELD(perigee_completion, start_ns),
        FIELD(perigee_completion, input_ns),     FIELD(perigee_completion, infer_ns),
        FIELD(perigee_completion, output_ns),    FIELD(perigee_completion, cpu_ns),
        FIELD(perigee_completion, slot),         FIELD(perigee_completion, status),
        FIELD(perigee_completion, output_count), FIELD(perigee_completion, batch_rows),
    };
    struct perigee_completion completion = honest(speech->job);

    completion.ticket = ticket_of(speech->job);
    bool known = completion.ticket != 0 &&
                 set_field(speech->argument, fields, sizeof fields / sizeof *fields, &completion);
    tell(speech, &completion, known);
}

static void do_lie_answer(struct speech *speech)
{
    static const struct field head[] = {
        FIELD(perigee_answer, output_count),
        FIELD(perigee_answer, message_bytes),
        FIELD(perigee_answer, message),
    };
    static const struct field tensor[] = {
        FIELD(perigee_tensor, index),  FIELD(perigee_tensor, datatype),
        FIELD(perigee_tensor, rank),   FIELD(perigee_tensor, reserved),
        FIELD(perigee_tensor, offset), FIELD(perigee_tensor, bytes),
        FIELD(perigee_tensor, dims),
    };
    struct perigee_completion completion = honest(speech->job);
    struct perigee_answer *answer = (struct perigee_answer *)(void *)speech->job->answer->slot;
    char *space = strchr(speech->argument, ' ');
    char kept = space ? *space : 0;

    completion.ticket = ticket_of(speech->job);
    bool known = completion.ticket != 0 &&
                 set_field(speech->argument, head, sizeof head / sizeof *head, answer);
    if (!known && space) {
        *space = kept; /* the first try has cut it */
        known = set_field(speech->argument, tensor, sizeof tensor / sizeof *tensor,
                          &answer->outputs[0]);
    }
    tell(speech, &completion, known);
}

/* So many slots full: memory that counts as nobody's private. */
static void do_fill_slots(struct speech *speech)
{
    size_t bytes = (size_t)atol(speech->argument) * speech->job->answer->slot_bytes;
    char *slots = region_of(speech->job) + PERIGEE_SLOTS_OFFSET;

    memset(slots, 1, bytes);
    SAY(speech, "%zu", bytes);
}

/* Everything right, but twice. */
static void do_twice(struct speech *speech)
{
    struct perigee_completion completion = honest(speech->job);

    completion.ticket = ticket_of(speech->job);
    tell(speech, &completion, completion.ticket != 0);
}

const struct command lies[] = {
    { "lie-ticket", do_lie_ticket, false },
    { "lie-jump", do_lie_jump, false },
    { "lie-phase", do_lie_phase, false },
    { "lie-offset", do_lie_offset, true },
    { "lie-shape", do_lie_shape, true },
    { "lie-datatype", do_lie_datatype, true },
    { "lie-length", do_lie_length, true },
    { "lie-count", do_lie_count, true },
    { "lie-status", do_lie_status, true },
    { "lie-page", do_lie_page, false },
    { "lie-model", do_lie_model, false },
    { "lie-lane", do_lie_lane, false },
    { "lie-completion", do_lie_completion, true },
    { "lie-answer", do_lie_answer, true },
    { "twice", do_twice, true },
    { "fill-slots", do_fill_slots, false },
};
const size_t lie_count = sizeof lies / sizeof *lies;
