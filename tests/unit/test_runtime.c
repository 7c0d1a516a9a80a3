/* SPDX-License-Identifier: Apache-2.0 */
#include "runtime/runtime.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h> /* after the four above */

#include "base/err.h"
#include "base/slice.h"
#include "contract/ring.h"
#include "runtime/answer.h"
#include "runtime/batch.h"
#include "runtime/model_writer.h"
#include "base/spin.h"
#include "runtime/task.h"
#include "runtime/usage.h"

#define SLOT_BYTES (PERIGEE_ANSWER_BYTES + 1024)

static void test_placing(void **state)
{
    char *slot = aligned_alloc(4096, 16384);
    struct answer answer;
    struct runtime_job job = { .status = PERIGEE_DONE };
    static const int64_t dims[] = { 5 };

    (void)state;
    answer_begin(&answer, slot, SLOT_BYTES);
    assert_int_equal(answer_room(&answer), 1024);
    char *first = answer_place(&answer, 5);
    char *second = answer_place(&answer, 64);
    assert_ptr_equal(first, slot + PERIGEE_ANSWER_BYTES);
    assert_ptr_equal(second, first + 64);
    assert_int_equal(answer_room(&answer), 1024 - 128);
    assert_null(answer_place(&answer, 1024 - 127));
    assert_null(answer_place(&answer, UINT64_MAX));
    answer_again(&answer);
    assert_ptr_equal(answer_place(&answer, 5), first);
    assert_ptr_equal(answer_place(&answer, 1024 - 64), second);
    assert_int_equal(answer_room(&answer), 0);
    assert_non_null(answer_place(&answer, 0));
    assert_null(answer_place(&answer, 1));

    answer_add(&answer, 3, PERIGEE_UINT8, dims, 1, first, 5);
    answer_finish(&answer, &job);
    const struct perigee_answer *head = (const struct perigee_answer *)(const void *)slot;
    struct err err = {};
    assert_int_equal(head->output_count, 1);
    assert_int_equal(head->message_bytes, 0);
    assert_int_equal(head->outputs[0].index, 3);
    assert_int_equal(tensor_check(&head->outputs[0], SLOT_BYTES, &err), 0);
    free(slot);
}

static void test_messages(void **state)
{
    char *slot = aligned_alloc(4096, 16384), text[2000];
    const struct perigee_answer *head = (const struct perigee_answer *)(const void *)slot;
    struct answer answer;
    struct runtime_job job = {};

    (void)state;
    answer_begin(&answer, slot, SLOT_BYTES);
    job_fail(&job, PERIGEE_FAULT, "a\x1b[31m\nb\xff%s\n", "c");
    answer_finish(&answer, &job);
    assert_int_equal(head->output_count, 0);
    assert_int_equal(head->message_bytes, 10);
    assert_memory_equal(head->message, "a [31m b c", 10);

    for (size_t i = 0; i < sizeof text - 2; i += 2) /* cut inside a character */
        memcpy(text + i, "\xc3\xa9", 2);
    text[sizeof text - 2] = 0;
    job_fail(&job, PERIGEE_FAULT, "x%s", text);
    answer_finish(&answer, &job);
    assert_true(head->message_bytes > 1000 && head->message_bytes <= sizeof head->message);
    assert_true(utf8_valid((struct slice){ head->message, head->message_bytes }));

    answer_too_large(&answer, &job, "y", 99999);
    assert_int_equal(job.status, PERIGEE_TOO_LARGE);
    assert_non_null(strstr(job.message, "output_bytes_max"));
    free(slot);
}

static void test_model(void **state)
{
    struct model_writer *writer = model_writer_new();
    const struct perigee_model *model = NULL;
    struct model_io io = {
        .name = "image", .datatype = PERIGEE_FP32, .rank = 2, .dims = { -7, 64 }, .symbols = { "n" }
    };
    struct err err = {};
    size_t bytes = 0;
    char *huge = malloc(PERIGEE_MODEL_BYTES_MAX + 1);

    (void)state;
    memset(huge, 'x', PERIGEE_MODEL_BYTES_MAX);
    huge[PERIGEE_MODEL_BYTES_MAX] = 0;
    assert_int_equal(model_platform(writer, "test", &err), 0);
    assert_int_equal(model_input(writer, &io, &err), 0);
    assert_int_equal(model_output(writer, &io, &err), 0);
    assert_int_equal(model_property(writer, "key", "value", &err), 0);
    assert_true(model_property(writer, "key", "\xff", &err) < 0);
    assert_true(model_property(writer, "key", huge, &err) < 0);
    model_batch(writer, 4);
    assert_int_equal(model_writer_finish(writer, &model, &bytes, &err), 0);
    assert_int_equal(model->property_count, 1);
    assert_int_equal(model->inputs[0].dims[0], -1);
    assert_int_equal(model->inputs[0].symbols[0].bytes, 1);
    assert_int_equal(model->inputs[0].symbols[1].bytes, 0);

    io.rank = 17;
    assert_true(model_input(writer, &io, &err) < 0);
    io.rank = 1;
    io.name = huge;
    assert_true(model_input(writer, &io, &err) < 0);
    io.name = "image"; /* twice: found at the end */
    assert_int_equal(model_input(writer, &io, &err), 0);
    assert_true(model_writer_finish(writer, &model, &bytes, &err) < 0);
    for (unsigned i = 2; i < PERIGEE_TENSORS_MAX; i++)
        assert_int_equal(model_input(writer, &io, &err), 0);
    assert_true(model_input(writer, &io, &err) < 0);
    model_writer_free(writer);
    model_writer_free(NULL);
    free(huge);
}

/* ---- batches --------------------------------------------------------------------------------- */

/* A request in a word: its rows, then what tells signatures apart. "4" has four rows; "4w" is wider
 * in its second dimension, "4o" wants another output, "4t" lacks the second input, "4i" has another
 * datatype there; "0" has no rows, "x" is refused. */
static void task_make(struct task *task, const char *word, struct list *waiting)
{
    *task = (struct task){ .job = { .status = PERIGEE_DONE,
                                    .inputs = task->inputs,
                                    .input_count = 2,
                                    .outputs_wanted = 1 } };
    int64_t rows = atoi(word);
    char how = word[strlen(word) - 1];
    for (uint32_t i = 0; i < 2; i++)
        task->inputs[i] = (struct perigee_tensor){
            .index = i, .datatype = PERIGEE_FP32, .rank = 2, .dims = { rows, how == 'w' ? 9 : 8 }
        };
    task->job.input_count -= how == 't';
    task->job.outputs_wanted += how == 'o';
    if (how == 'i')
        task->inputs[1].datatype = PERIGEE_INT32;
    if (how == 'x')
        task->job.status = PERIGEE_BAD_INPUT;
    task->job.rows = (uint64_t)rows;
    list_append(waiting, &task->link);
}

static void test_batches(void **state)
{
    /* Who waits, and the batches that come of it: one bracket each. */
    static const struct {
        const char *name, *waiting;
        uint64_t rows_max;
        const char *batches;
    } rows[] = {
        { "one", "1", 8, "[1]" },
        { "all there is room for", "1 1 1", 8, "[1 1 1]" },
        { "no more than there is room for", "1 1 1 1 1", 2, "[1 1][1 1][1]" },
        { "never together", "1 1 1", 1, "[1][1][1]" },
        { "none said", "1 1", 0, "[1][1]" },
        { "rows are counted", "3 4 1 1", 8, "[3 4 1][1]" },
        { "exactly full", "4 4 1", 8, "[4 4][1]" },
        { "more rows than there may be", "9 1 1", 8, "[9][1 1]" },
        { "one that does not fit is not passed", "3 6 1", 8, "[3][6 1]" },
        { "unequal dimensions", "1 1w 1 1w", 8, "[1 1][1w 1w]" },
        { "unequal outputs", "1 1o 1", 8, "[1 1][1o]" },
        { "unequal inputs", "1 1t 1i 1", 8, "[1 1][1t][1i]" },
        { "the oldest first", "1w 1 1 1w 1", 2, "[1w 1w][1 1][1]" },
        { "without rows", "0 0 1 1", 8, "[0][0][1 1]" },
        { "refused", "1 x 1 x", 8, "[1 1][x][x]" },
        { "large numbers", "1 9223372036854775807 1", 1024, "[1][9223372036854775807][1]" },
    };
    static struct task tasks[16];
    static struct batch batch;

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char text[128], *words[16], *rest = text, got[128] = "";
        struct list waiting;
        size_t count = 0;
        list_init(&waiting);
        (void)snprintf(text, sizeof text, "%s", rows[i].waiting);
        while ((words[count] = strtok_r(rest, " ", &rest)) != NULL) {
            task_make(&tasks[count], words[count], &waiting);
            if (strlen(words[count]) > 9) /* atoi */
                tasks[count].job.rows = INT64_MAX;
            count++;
        }
        while (!list_empty(&waiting)) {
            batch_form(&waiting, rows[i].rows_max, &batch);
            for (size_t j = 0; j < batch.count; j++) {
                assert_ptr_equal(batch.jobs[j], &batch.tasks[j]->job);
                strcat(strcat(got, j == 0 ? "[" : " "), words[batch.tasks[j] - tasks]);
                list_remove(&batch.tasks[j]->link);
            }
            strcat(got, "]");
        }
        print_message("  %s\n", rows[i].name);
        assert_string_equal(got, rows[i].batches);
    }
}

static void test_batch_says_whether_to_wait(void **state)
{
    static const struct {
        const char *waiting;
        uint64_t rows_max, rows;
        bool full, others;
    } rows[] = {
        { "1", 4, 1, false, false },  { "1 2", 4, 3, false, false }, { "1 3", 4, 4, true, false },
        { "2 3", 4, 2, true, false }, { "1 1w", 4, 1, false, true }, { "5", 4, 5, true, false },
        { "x", 4, 1, true, false },   { "1 x", 4, 1, false, true },
    };
    static struct task tasks[16];
    static struct batch batch;

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char text[128], *rest = text, *word;
        struct list waiting;
        size_t count = 0;
        list_init(&waiting);
        (void)snprintf(text, sizeof text, "%s", rows[i].waiting);
        while ((word = strtok_r(rest, " ", &rest)) != NULL) {
            task_make(&tasks[count], word, &waiting);
            tasks[count].submission.deadline_ns = count == 1 ? 500 : 0;
            count++;
        }
        batch_form(&waiting, rows[i].rows_max, &batch);
        print_message("  %s\n", rows[i].waiting);
        assert_int_equal(batch.rows, rows[i].rows);
        assert_int_equal(batch.full, rows[i].full);
        assert_int_equal(batch.others, rows[i].others);
        assert_true(batch.due_ns_min == (batch.count > 1 ? 500 : UINT64_MAX));
    }
}

static void test_rows_of_a_request(void **state)
{
    static const struct {
        const char *name;
        uint32_t batch_rows_max, input_count;
        struct perigee_tensor inputs[2];
        uint64_t rows;
    } rows[] = {
        { "one input", 8, 1, { { .rank = 2, .dims = { 3, 4 } } }, 3 },
        { "inputs that agree",
          8,
          2,
          { { .rank = 1, .dims = { 3 } }, { .rank = 1, .dims = { 3 } } },
          3 },
        { "inputs that differ",
          8,
          2,
          { { .rank = 1, .dims = { 3 } }, { .rank = 1, .dims = { 2 } } },
          0 },
        { "a scalar", 8, 2, { { .rank = 1, .dims = { 3 } }, { .rank = 0 } }, 0 },
        { "no row", 8, 1, { { .rank = 1, .dims = { 0 } } }, 0 },
        { "no input", 8, 0, {}, 0 },
        { "a model without batches", 0, 1, { { .rank = 1, .dims = { 3 } } }, 0 },
        { "an optional input",
          8,
          2,
          { { .rank = 1, .dims = { 3 } }, { .index = 2, .rank = 1, .dims = { 3 } } },
          0 },
    };
    static struct perigee_model model;

    (void)state;
    model.inputs[2].flags = PERIGEE_IO_OPTIONAL;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct runtime_job job = { .inputs = rows[i].inputs, .input_count = rows[i].input_count };
        model.batch_rows_max = rows[i].batch_rows_max;
        print_message("  %s\n", rows[i].name);
        assert_int_equal(batch_rows(&model, &job), rows[i].rows);
    }
}

/* Waits, one after the other: how long until work comes, and how long a look takes meanwhile; then
 * whether it spun, and whether that found the work. 200 us may be spun. */
static void test_spins_where_it_pays(void **state)
{
    static const struct {
        uint32_t wait_us, look_ns;
        bool spun, found;
        uint32_t rest_us; /* before it may spin again */
    } rows[] = {
        { 1000, 500, false, false, 0 }, /* nothing is known yet */
        { 100, 500, false, false, 0 },  /* the last wait was long */
        { 100, 500, true, true, 0 },    /* it was short */
        { 150, 500, true, true, 0 },
        { 5000, 500, true, false, 1000 }, /* in vain: it rests, and waits were long anyway */
        { 100, 500, false, false, 1000 },
        { 100, 500, true, true, 500 },      /* rested */
        { 150, 30'000, true, false, 1000 }, /* the core was taken away */
        { 100, 500, false, false, 1000 },   /* rests */
        { 100, 500, false, false, 1000 },
    };
    struct spin spin = { .ns_max = 200'000 };
    uint64_t now = 1'000'000'000;

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        uint64_t comes = now + rows[i].wait_us * UINT64_C(1000);
        bool spun = spin_begin(&spin, now), found = false;
        print_message("  wait %zu\n", i);
        assert_int_equal(spun, rows[i].spun);
        while (spun && !(found = now >= comes)) {
            now += rows[i].look_ns;
            if (!spin_goes_on(&spin, now))
                break;
        }
        assert_int_equal(found, rows[i].found);
        now = now > comes ? now : comes;
        spin_end(&spin, now, found);
        assert_int_equal(spin.rest_ns, rows[i].rest_us * 1000);
        now += 10'000; /* it runs */
        if (i == 5)
            now += 1'000'000;
    }
}

static void test_spins_in_vain_cost_little(void **state)
{
    struct spin spin = { .ns_max = 200'000 };
    uint64_t now = 1, spent = 0, began = now;

    (void)state;
    /* Short waits, and always somebody else on the core. */
    for (unsigned i = 0; i < 100'000; i++) {
        if (spin_begin(&spin, now)) {
            now += 100'000;
            spent += 100'000;
            assert_false(spin_goes_on(&spin, now));
        }
        now += 50'000;
        spin_end(&spin, now, false);
    }
    assert_true(spent * 1000 < now - began);
    struct spin never = {};
    assert_false(spin_begin(&never, now));
}

/* ---- CPU ------------------------------------------------------------------------------------- */

/* Runs of a known cost, some of which lost the core for a while: the wall sees more than was used.
 */
static void test_cpu_told_is_cpu_used(void **state)
{
    struct usage usage;
    uint64_t now = 1'000'000, cpu = 77, told = 0, used = 0;
    unsigned readings = 0, runs = 0;

    (void)state;
    usage_begin(&usage, now, cpu);
    while (runs++ < 10'000) {
        uint64_t cost = 1'000 + runs % 7 * 300, away = runs % 50 == 0 ? 20'000 : 0;
        now += 500 + cost + away; /* between two runs: the later one's */
        cpu += 500 + cost;
        used += 500 + cost;
        if (usage_read_due(&usage, now)) {
            told += usage_read(&usage, now, cpu);
            readings++;
        } else {
            told += usage_guess(&usage, cost + away);
        }
        assert_true(told < used + USAGE_READ_NS);
    }
    told += usage_read(&usage, now, cpu + 100'000); /* a long one makes up for what is owed */
    assert_int_equal(told, used + 100'000);
    assert_in_range(readings, 10, runs / 100);
}

static void test_a_run_of_its_own_is_read(void **state)
{
    struct usage usage;

    (void)state;
    usage_begin(&usage, 0, 1'000);
    assert_false(usage_read_due(&usage, USAGE_READ_NS - 1));
    assert_int_equal(usage_guess(&usage, 700), 700);
    assert_true(usage_read_due(&usage, USAGE_READ_NS));
    assert_int_equal(usage_read(&usage, USAGE_READ_NS, 1'900), 200);
    /* Told too much: the next ones are told less, and none is told less than nothing. */
    assert_int_equal(usage_guess(&usage, 5'000), 5'000);
    assert_int_equal(usage_read(&usage, 2 * USAGE_READ_NS, 3'900), 0);
    assert_int_equal(usage_read(&usage, 3 * USAGE_READ_NS, 8'900), 2'000);
    /* What was spent on looking for work is nobody's, and what is owed is owed still. */
    assert_int_equal(usage_guess(&usage, 3'000), 3'000);
    usage_skip(&usage, 50'000);
    assert_int_equal(usage_read(&usage, 4 * USAGE_READ_NS, 60'900), 0);
    assert_int_equal(usage_read(&usage, 5 * USAGE_READ_NS, 61'900), 0);
    assert_int_equal(usage_read(&usage, 6 * USAGE_READ_NS, 62'900), 1'000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_placing),
        cmocka_unit_test(test_messages),
        cmocka_unit_test(test_model),
        cmocka_unit_test(test_batches),
        cmocka_unit_test(test_batch_says_whether_to_wait),
        cmocka_unit_test(test_rows_of_a_request),
        cmocka_unit_test(test_spins_where_it_pays),
        cmocka_unit_test(test_spins_in_vain_cost_little),
        cmocka_unit_test(test_cpu_told_is_cpu_used),
        cmocka_unit_test(test_a_run_of_its_own_is_read),
    };
    return cmocka_run_group_tests_name("runtime", tests, NULL, NULL);
}
