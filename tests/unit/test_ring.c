/* SPDX-License-Identifier: Apache-2.0 */
#include "contract/ring.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <cmocka.h> /* after the four above */

#include "base/err.h"

static void test_datatypes(void **state)
{
    (void)state;
    for (uint32_t i = 1; i < PERIGEE_DATATYPES_END; i++)
        assert_int_equal(datatype_of(datatype_name(i), strlen(datatype_name(i))), i);
    assert_int_equal(datatype_bytes(PERIGEE_BF16), 2);
    assert_int_equal(datatype_bytes(PERIGEE_BYTES), 0);
    assert_int_equal(datatype_bytes(99), 0);
    assert_string_equal(datatype_name(0), "?");
    assert_string_equal(datatype_name(99), "?");
    assert_int_equal(datatype_of("FP3", 3), 0);
}

static void test_tensor(void **state)
{
    /* clang-format off */
    static const struct {
        const char *name;
        struct perigee_tensor tensor;
        int wanted;
    } rows[] = {
        { "scalar", { .datatype = PERIGEE_FP32, .bytes = 4 }, 0 },
        { "matrix", { .datatype = PERIGEE_INT64, .rank = 2, .dims = { 2, 3 }, .bytes = 48 }, 0 },
        { "empty", { .datatype = PERIGEE_FP64, .rank = 2, .dims = { 0, 9 }, .offset = 128 }, 0 },
        { "to the end", { .datatype = PERIGEE_UINT8, .rank = 1, .dims = { 64 }, .bytes = 64, .offset = 64 }, 0 },
        { "past the end", { .datatype = PERIGEE_UINT8, .rank = 1, .dims = { 65 }, .bytes = 65, .offset = 64 }, ERR_BAD_INPUT },
        { "begins past the end", { .datatype = PERIGEE_UINT8, .rank = 1, .dims = { 0 }, .offset = 192 }, ERR_BAD_INPUT },
        { "offset wraps", { .datatype = PERIGEE_UINT8, .rank = 1, .dims = { 64 }, .bytes = 64, .offset = UINT64_MAX - 63 }, ERR_BAD_INPUT },
        { "not aligned", { .datatype = PERIGEE_FP32, .bytes = 4, .offset = 4 }, ERR_BAD_INPUT },
        { "negative", { .datatype = PERIGEE_FP32, .rank = 1, .dims = { -1 }, .bytes = 4 }, ERR_BAD_INPUT },
        { "product overflows", { .datatype = PERIGEE_FP32, .rank = 3, .dims = { INT64_MAX, INT64_MAX, 4 }, .bytes = 4 }, ERR_BAD_INPUT },
        { "product overflows beside zero", { .datatype = PERIGEE_FP32, .rank = 4, .dims = { 0, INT64_MAX, INT64_MAX, 4 } }, ERR_BAD_INPUT },
        { "bytes overflow", { .datatype = PERIGEE_FP64, .rank = 1, .dims = { INT64_C(1) << 61 }, .bytes = 0 }, ERR_BAD_INPUT },
        { "too few", { .datatype = PERIGEE_FP32, .rank = 1, .dims = { 3 }, .bytes = 8 }, ERR_BAD_INPUT },
        { "rank", { .datatype = PERIGEE_FP32, .rank = 17, .bytes = 4 }, ERR_BAD_INPUT },
        { "no datatype", { .datatype = 0, .bytes = 4 }, ERR_BAD_INPUT },
        { "high datatype", { .datatype = 15, .bytes = 4 }, ERR_BAD_INPUT },
        { "high index", { .index = 64, .datatype = PERIGEE_FP32, .bytes = 4 }, ERR_BAD_INPUT },
        { "strings", { .datatype = PERIGEE_BYTES, .rank = 1, .dims = { 2 }, .bytes = 11 }, 0 },
        { "strings too short", { .datatype = PERIGEE_BYTES, .rank = 1, .dims = { 2 }, .bytes = 7 }, ERR_BAD_INPUT },
    };
    /* clang-format on */
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct err err = {};
        print_message("  %s\n", rows[i].name);
        assert_int_equal(tensor_check(&rows[i].tensor, 128, &err), rows[i].wanted);
    }
}

/* ---- rings ---- */

static struct perigee_submission_page page;
static struct perigee_completion_lane answers;

static void test_full_and_jump(void **state)
{
    struct perigee_submission_lane *lane = &page.lanes[0];
    uint64_t head = 0, seen = 0, answer_head = 0, answer_seen = 0;
    struct perigee_submission submission = {}, taken;
    struct perigee_completion completion;
    struct err err = {};

    (void)state;
    memset(&page, 0, sizeof page);
    memset(&answers, 0, sizeof answers);
    for (uint64_t i = 0; i < PERIGEE_RING_ENTRIES; i++) {
        submission.ticket = i + 1;
        assert_true(submission_publish(lane, &head, &answers, &submission));
    }
    assert_false(submission_publish(lane, &head, &answers, &submission));
    atomic_store(&answers.taken, 1'000'000); /* a lie makes no room */
    assert_false(submission_publish(lane, &head, &answers, &submission));
    assert_int_equal(submission_take(lane, &seen, &taken), 1);
    assert_int_equal(taken.ticket, 1);
    atomic_store(&answers.taken, seen);
    assert_true(submission_publish(lane, &head, &answers, &submission));
    atomic_store(&lane->head, head + PERIGEE_RING_ENTRIES);
    assert_int_equal(submission_take(lane, &seen, &taken), ERR_BAD_INPUT);

    assert_int_equal(completion_take(&answers, &answer_seen, head, &completion, &err), 0);
    completion_publish(&answers, &answer_head, &(struct perigee_completion){ .ticket = 7 });
    assert_int_equal(completion_take(&answers, &answer_seen, 0, &completion, &err), ERR_BAD_INPUT);
    assert_int_equal(completion_take(&answers, &answer_seen, head, &completion, &err), 1);
    assert_int_equal(completion.ticket, 7);
    atomic_store(&answers.head, 0); /* back */
    assert_int_equal(completion_take(&answers, &answer_seen, head, &completion, &err),
                     ERR_BAD_INPUT);
    atomic_store(&answers.head, 400); /* further than a ring, than what was asked */
    assert_int_equal(completion_take(&answers, &answer_seen, 1000, &completion, &err),
                     ERR_BAD_INPUT);
    assert_int_equal(completion_take(&answers, &answer_seen, 300, &completion, &err),
                     ERR_BAD_INPUT);
}

/* Two threads and a read-only mapping: a lost wake-up would hang this for ever. */
#define ROUNDS 200'000u

struct pair {
    struct perigee_submission_page *writable;
    const struct perigee_submission_page *readable;
    struct perigee_status status;
    struct perigee_completion_lane answers;
};

static void *answer_all(void *data)
{
    struct pair *pair = data;
    uint64_t seen = 0, head = 0;

    while (seen < ROUNDS) {
        struct perigee_submission submission;
        uint32_t wake = atomic_load(&pair->readable->wake);
        int r = submission_take(&pair->readable->lanes[0], &seen, &submission);
        if (r == 0) {
            atomic_store(&pair->status.sleeping, 1);
            atomic_thread_fence(memory_order_seq_cst);
            r = submission_take(&pair->readable->lanes[0], &seen, &submission);
            if (r == 0)
                submission_sleep(pair->readable, wake, -1);
            atomic_store(&pair->status.sleeping, 0);
        }
        if (r == 0)
            continue;
        atomic_store_explicit(&pair->answers.taken, seen, memory_order_release);
        completion_publish(&pair->answers, &head,
                           &(struct perigee_completion){ .ticket = submission.ticket,
                                                         .cpu_ns = submission.ticket * 3 });
    }
    return NULL;
}

/* ThreadSanitizer takes two mappings of one page for two places, and misses what they order. */
#if defined(__has_feature)
#define THREADS_ARE_WATCHED __has_feature(thread_sanitizer)
#elif defined(__SANITIZE_THREAD__)
#define THREADS_ARE_WATCHED 1
#else
#define THREADS_ARE_WATCHED 0
#endif

static void test_two_threads(void **state)
{
    size_t bytes = region_submission_bytes();
    int fd = memfd_create("ring", MFD_CLOEXEC);
    static struct pair pair;
    pthread_t thread;
    uint64_t head = 0, seen = 0;
    struct err err = {};

    (void)state;
    assert_int_equal(ftruncate(fd, (off_t)bytes), 0);
    pair.writable = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    pair.readable = mmap(NULL, bytes, PROT_READ, MAP_SHARED, fd, 0);
    if (THREADS_ARE_WATCHED) {
        munmap((void *)(uintptr_t)pair.readable, bytes);
        pair.readable = pair.writable;
    }
    assert_int_equal(pthread_create(&thread, NULL, answer_all, &pair), 0);
    while (seen < ROUNDS) {
        struct perigee_completion completion;
        if (head < ROUNDS &&
            head - seen < 1 + head % 7) { /* often empty: the sleeper is tried too */
            struct perigee_submission submission = { .ticket = head + 1 };
            if (submission_publish(&pair.writable->lanes[0], &head, &pair.answers, &submission))
                (void)submission_wake(pair.writable, &pair.status, false);
        }
        int r = completion_take(&pair.answers, &seen, head, &completion, &err);
        assert_true(r >= 0);
        if (r == 1) {
            assert_int_equal(completion.ticket, seen);
            assert_int_equal(completion.cpu_ns, seen * 3);
        }
    }
    pthread_join(thread, NULL);
    if (pair.readable != pair.writable)
        munmap((void *)(uintptr_t)pair.readable, bytes);
    munmap(pair.writable, bytes);
    close(fd);
}

/* ---- metadata ---- */

static struct {
    struct perigee_model model;
    char text[64];
} good;

static void make_good(void)
{
    const uint32_t base = sizeof good.model;

    memset(&good, 0, sizeof good);
    memcpy(good.text, "onnxximageprobkeyvalue", 22);
    good.model.platform = (struct perigee_string){ base, 4 };
    good.model.input_count = 1;
    good.model.inputs[0] = (struct perigee_io){
        .name = { base + 5, 5 }, .datatype = PERIGEE_FP32, .rank = 2, .dims = { -1, 64 }
    };
    good.model.output_count = 2;
    good.model.outputs[0] =
        (struct perigee_io){ .name = { base + 10, 4 }, .datatype = PERIGEE_FP32 };
    good.model.outputs[1] =
        (struct perigee_io){ .name = { base + 5, 5 }, .datatype = PERIGEE_BYTES };
    good.model.property_count = 1;
    good.model.properties[0] = (struct perigee_property){ { base + 14, 3 }, { base + 17, 5 } };
}

static void lie_input_count(struct perigee_model *m)
{
    m->input_count = 65;
}
static void lie_output_count(struct perigee_model *m)
{
    m->output_count = UINT32_MAX;
}
static void lie_property_count(struct perigee_model *m)
{
    m->property_count = 65;
}
static void lie_no_name(struct perigee_model *m)
{
    m->inputs[0].name.bytes = 0;
}
static void lie_name_outside(struct perigee_model *m)
{
    m->inputs[0].name.offset = UINT32_MAX;
}
static void lie_name_wraps(struct perigee_model *m)
{
    m->inputs[0].name.bytes = UINT32_MAX;
}
static void lie_name_inside_struct(struct perigee_model *m)
{
    m->inputs[0].name.offset = 0;
}
static void lie_same_name(struct perigee_model *m)
{
    m->outputs[1].name = m->outputs[0].name;
}
static void lie_datatype(struct perigee_model *m)
{
    m->outputs[0].datatype = 15;
}
static void lie_rank(struct perigee_model *m)
{
    m->outputs[0].rank = 17;
}
static void lie_dim(struct perigee_model *m)
{
    m->inputs[0].dims[1] = -2;
}
static void lie_symbol(struct perigee_model *m)
{
    m->inputs[0].symbols[0] = (struct perigee_string){ 3, 3 };
}
static void lie_utf8(struct perigee_model *m)
{
    (void)m;
    good.text[6] = '\xff';
}
static void lie_nul(struct perigee_model *m)
{
    (void)m;
    good.text[6] = 0;
}
static void lie_value(struct perigee_model *m)
{
    m->properties[0].value.bytes = 1000;
}

static void test_model(void **state)
{
    static void (*const lies[])(struct perigee_model *) = {
        lie_input_count,
        lie_output_count,
        lie_property_count,
        lie_no_name,
        lie_name_outside,
        lie_name_wraps,
        lie_name_inside_struct,
        lie_same_name,
        lie_datatype,
        lie_rank,
        lie_dim,
        lie_symbol,
        lie_utf8,
        lie_nul,
        lie_value,
    };
    struct err err = {};

    (void)state;
    make_good();
    assert_int_equal(model_check(&good.model, sizeof good, &err), 0);
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
        make_good();
        lies[i](&good.model);
        assert_int_equal(model_check(&good.model, sizeof good, &err), ERR_BAD_INPUT);
    }
}

static void test_model_copy(void **state)
{
    size_t bytes = region_output_bytes(1, 4096), copied = 0;
    char *region = calloc(1, bytes);
    struct perigee_model *model = malloc(PERIGEE_MODEL_BYTES_MAX);
    struct perigee_status *status = (struct perigee_status *)region;
    struct err err = {};

    (void)state;
    make_good();
    memcpy(region + PERIGEE_MODEL_OFFSET, &good, sizeof good);
    assert_int_equal(model_copy(region, bytes, model, PERIGEE_MODEL_BYTES_MAX, &copied, &err),
                     ERR_BAD_INPUT);
    status->model_bytes = UINT32_MAX;
    assert_int_equal(model_copy(region, bytes, model, PERIGEE_MODEL_BYTES_MAX, &copied, &err),
                     ERR_BAD_INPUT);
    status->model_bytes = sizeof good;
    assert_int_equal(model_copy(region, bytes, model, sizeof good - 1, &copied, &err),
                     ERR_BAD_INPUT);
    assert_int_equal(model_copy(region, 4096, model, PERIGEE_MODEL_BYTES_MAX, &copied, &err),
                     ERR_BAD_INPUT);
    assert_int_equal(model_copy(region, bytes, model, PERIGEE_MODEL_BYTES_MAX, &copied, &err), 0);
    assert_int_equal(copied, sizeof good);
    assert_memory_equal(model, &good, sizeof good);
    free(model);
    free(region);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_datatypes),     cmocka_unit_test(test_tensor),
        cmocka_unit_test(test_full_and_jump), cmocka_unit_test(test_two_threads),
        cmocka_unit_test(test_model),         cmocka_unit_test(test_model_copy),
    };
    return cmocka_run_group_tests_name("ring", tests, NULL, NULL);
}
