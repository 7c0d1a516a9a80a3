/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The small files: state files written whole (sys/disk.c), the supervisor's run files, a model's
 * folder of links. The n-th call fails, n = 1, 2, 3 ... until none does; the process is killed at
 * each of its calls. A file is the old one or the new one, and the next try works.
 */
#include "sys/env_linux.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/err.h"
#include "faults.h"
#include "pop/agent.h"
#include "store/blobs.h"
#include "supervisor/runfiles.h"
#include "supervisor/supervisor.h"
#include "sys/home.h"

static char folder[FAULT_FOLDER_BYTES], path[192];
static struct env_linux *linux_world;

static const struct fault rows[] = { FAULTS_OF_FILES,
                                     { FAULT_MAKE, FAULT_ONCE, ENOSPC },
                                     { FAULT_LIST, FAULT_ONCE, EIO } };

/* What is tried: prepared in a fresh folder; acts; is right afterwards, the act having said `r`.
 * The check acts again, and that must work. */
struct trial {
    const char *name;
    void (*prepare)(void);
    int (*act)(struct err *err);
    void (*check)(int r);
    long syncs;   /* so many see to it that it lasts, at least */
    bool goes_on; /* a fault is no error: it goes on without, and says so in its log */
};

/* ---- a file that is replaced ----------------------------------------------------------------- */

static char old_text[5000], new_text[9000];
#define OLD ((struct slice){ old_text, sizeof old_text })
#define NEW ((struct slice){ new_text, sizeof new_text })

static void replace_prepare(void)
{
    struct err err;
    memset(old_text, 'o', sizeof old_text);
    memset(new_text, 'n', sizeof new_text);
    snprintf(path, sizeof path, "%s/state", folder);
    assert_int_equal(disk_replace(path, OLD, &err), 0);
}

static int replace_act(struct err *err)
{
    struct arena *arena = arena_new();
    struct slice bytes;
    int r = disk_read(path, sizeof new_text, arena, &bytes, err);
    if (r == 0)
        r = disk_replace(path, NEW, err);
    arena_free(arena);
    return r;
}

static void replace_check(int r)
{
    struct arena *arena = arena_new();
    struct slice bytes;
    struct err err;
    struct stat st;
    char aside[224];
    snprintf(aside, sizeof aside, "%s.new", path);
    assert_int_equal(disk_read(path, sizeof new_text, arena, &bytes, &err), 0);
    assert_true(slice_equal(bytes, NEW) || (r < 0 && slice_equal(bytes, OLD)));
    assert_int_equal(replace_act(&err), 0);
    assert_int_equal(disk_read(path, sizeof new_text, arena, &bytes, &err), 0);
    assert_true(slice_equal(bytes, NEW));
    assert_true(stat(aside, &st) < 0);
    arena_free(arena);
}

/* ---- one that is appended to ----------------------------------------------------------------- */

static int append_act(struct err *err)
{
    return disk_append(path, 100, NEW, err);
}

/* What was there stays, whatever of the rest came to be. */
static void append_check(int r)
{
    struct arena *arena = arena_new();
    struct slice bytes;
    struct err err;
    for (int again = 0; again < 2; again++) {
        assert_int_equal(disk_read(path, 1 << 16, arena, &bytes, &err), 0);
        assert_true(bytes.size >= 100 && memcmp(bytes.data, old_text, 100) == 0);
        if (r == 0)
            assert_true(bytes.size == 100 + sizeof new_text &&
                        memcmp(bytes.data + 100, new_text, sizeof new_text) == 0);
        r = append_act(&err);
        assert_int_equal(r, 0);
    }
    assert_int_equal(disk_append(path, 1 << 20, NEW, &err), ERR_BAD_INPUT);
    arena_free(arena);
}

/* ---- a PoP's ledger -------------------------------------------------------------------------- */

enum { LEDGER_BEFORE = 2 };
static uint64_t ledger_found; /* by the act; of one that was killed 0 */

static void ledger_run(struct ledger *ledger)
{
    for (int i = 0; i < 8 && (ledger->writing || !ledger_kept(ledger)); i++)
        env_linux_run(linux_world, 0);
}

static uint64_t ledger_begin(struct ledger *ledger)
{
    struct arena *arena = arena_new();
    struct ledger_marks marks;
    bool found;
    char in[224];
    snprintf(in, sizeof in, "%s/ledger", folder);
    ledger_open(ledger, env_linux_env(linux_world), in, "paris", arena, &marks, &found);
    ledger_run(ledger);
    arena_free(arena);
    return ledger->window_count;
}

static bool ledger_one(struct ledger *ledger)
{
    static struct ledger_row row = { 1, 1, { .requests = 1 } };
    struct ledger_record window = { .rows = &row, .row_count = 1 };
    ledger_keep(ledger, &window, false);
    ledger_run(ledger);
    bool kept = ledger_kept(ledger);
    ledger_close(ledger);
    return kept;
}

static void ledger_prepare(void)
{
    struct ledger ledger;
    assert_int_equal(ledger_begin(&ledger), 0);
    for (int i = 0; i < LEDGER_BEFORE; i++) {
        assert_true(ledger_one(&ledger));
        assert_int_equal(ledger_begin(&ledger), i + 1);
    }
    ledger_close(&ledger);
    ledger_found = 0;
}

static int ledger_act(struct err *err)
{
    struct ledger ledger;
    ledger_found = ledger_begin(&ledger);
    if (ledger_one(&ledger))
        return 0;
    return err_set(err, ERR_INTERNAL, "not written yet");
}

/* None is there twice; one that was said to be kept is there. Where the file could not be read,
 * another begins, and says so. */
static void ledger_check(int r)
{
    struct ledger ledger;
    struct err err;
    uint64_t least = ledger_found + (r == 0), count = ledger_begin(&ledger);
    assert_true(count >= least && count <= LEDGER_BEFORE + 1);
    assert_true(ledger_found == LEDGER_BEFORE || ledger_found == 0);
    ledger_close(&ledger);
    assert_int_equal(ledger_act(&err), 0);
    assert_int_equal(ledger_found, count);
}

/* ---- one that is removed, and a folder that is made ------------------------------------------ */

static int remove_act(struct err *err)
{
    int r = disk_remove(path, err);
    return r == ERR_NOT_FOUND ? 0 : r;
}

static void remove_check(int r)
{
    struct stat st;
    struct err err;
    bool there = stat(path, &st) == 0;
    assert_true(r < 0 || !there);
    if (there)
        assert_int_equal(st.st_size, sizeof old_text);
    assert_int_equal(remove_act(&err), 0);
    assert_true(stat(path, &st) < 0);
}

static void folder_prepare(void)
{
    snprintf(path, sizeof path, "%s/pop", folder);
}

static int folder_act(struct err *err)
{
    return disk_folder(path, err);
}

static void folder_check(int r)
{
    struct stat st;
    struct err err;
    assert_true(r < 0 || stat(path, &st) == 0);
    assert_int_equal(folder_act(&err), 0);
    assert_int_equal(stat(path, &st), 0);
}

static void list_prepare(void)
{
    struct err err;
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/%d", folder, i);
        assert_int_equal(disk_replace(path, OLD, &err), 0);
    }
}

/* All of them, or an error: never some. Beside them may lie what a replacement left. */
static int list_act(struct err *err)
{
    struct arena *arena = arena_new();
    struct slice *names;
    size_t count = 3;
    int r = disk_list(folder, arena, &names, &count, err);
    assert_in_range(count, 3, 4);
    if (r == 0)
        r = disk_replace(path, NEW, err);
    arena_free(arena);
    return r;
}

static void list_check(int)
{
    struct err err;
    assert_int_equal(list_act(&err), 0);
}

/* ---- the supervisor's ------------------------------------------------------------------------ */

static const struct supervisor_address addresses[] = {
    { .kind = LISTENER_GATEWAY, .text = "127.0.0.1:8000" },
    { .kind = LISTENER_CONTROL, .text = "127.0.0.1:8001" },
};

static void run_prepare(void)
{
    snprintf(path, sizeof path, "%s/run", folder);
    assert_int_equal(mkdir(path, 0700), 0);
    snprintf(path, sizeof path, "%s/run/addresses.json", folder);
}

static int addresses_act(struct err *err)
{
    return runfiles_addresses(folder, addresses, 2, err);
}

static void addresses_check(int r)
{
    struct arena *arena = arena_new();
    struct slice bytes;
    struct err err;
    int there = disk_read(path, 4096, arena, &bytes, &err);
    assert_true(there == ERR_NOT_FOUND ? r < 0 : slice_ends(bytes, SLICE("}\n")));
    assert_int_equal(addresses_act(&err), 0);
    assert_int_equal(disk_read(path, 4096, arena, &bytes, &err), 0);
    assert_true(slice_ends(bytes, SLICE("\"dns\": []}\n")));
    runfiles_remove(folder);
    assert_true(access(path, F_OK) < 0);
    arena_free(arena);
}

static uint64_t base;

static void instances_prepare(void)
{
    uint64_t first;
    runfiles_instances(env_linux_env(linux_world), folder, &first);
    base = UINT64_MAX;
}

static int instances_act(struct err *)
{
    runfiles_instances(env_linux_env(linux_world), folder, &base);
    return 0;
}

/* No number is given twice, whatever was believed in between. */
static void instances_check(int)
{
    uint64_t next;
    runfiles_instances(env_linux_env(linux_world), folder, &next);
    assert_true(next != base && next > 0 && base > 0);
    assert_true(base == UINT64_MAX || next > base || base > UINT32_MAX / 2);
}

static int lock_act(struct err *err)
{
    int fd = -1;
    int r = home_make(folder, err);
    if (r == 0)
        r = home_lock(folder, &fd, err);
    if (r == 0)
        close(fd);
    return r;
}

static void lock_check(int)
{
    struct err err;
    int fd, second;
    assert_int_equal(home_lock(folder, &fd, &err), 0);
    assert_int_equal(home_lock(folder, &second, &err), ERR_CONFLICT);
    close(fd);
    assert_int_equal(lock_act(&err), 0);
}

/* ---- a model's folder ------------------------------------------------------------------------ */

static struct agent agent;
static char model_digest[DIGEST_TEXT];

static void model_prepare(void)
{
    struct blobs *blobs;
    struct err err;
    snprintf(agent.start.home, sizeof agent.start.home, "%s", folder);
    list_init(&agent.pop.endpoints);
    assert_int_equal(blobs_open(folder, NULL, &blobs, &err), 0);
    assert_int_equal(blobs_put(blobs, SLICE("a model"), model_digest, &err), 0);
    blobs_close(blobs);
}

static int model_act(struct err *err)
{
    struct arena *arena = arena_new();
    const char *models, *file;
    int r = agent_model_folder(folder, slice_of(model_digest), arena, &models, &file, err);
    struct stat st;
    if (r == 0) {
        snprintf(path, sizeof path, "%s/models/%s/model.onnx", folder, model_digest + 7);
        assert_string_equal(file, "model.onnx");
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_size, 7);
    }
    arena_free(arena);
    return r;
}

/* As no endpoint wants it, whole or not it goes, and what its blobs take with it. */
static void collected_check(void)
{
    snprintf(path, sizeof path, "%s/models", folder);
    agent_models_collect(&agent);
    assert_true(rmdir(path) == 0 || errno == ENOENT);
}

static void model_check(int)
{
    struct err err;
    char fresh[192];
    struct stat st;
    collected_check();
    if (model_act(&err) < 0)
        fail_msg("%s", err.message);
    snprintf(fresh, sizeof fresh, "%s/models/.new-%s", folder, model_digest + 7);
    assert_true(stat(fresh, &st) < 0);
}

/* ---- each of them ---------------------------------------------------------------------------- */

static const struct trial trials[] = {
    { "a file replaced", replace_prepare, replace_act, replace_check, 2, false },
    { "a file appended to", replace_prepare, append_act, append_check, 1, false },
    { "a ledger", ledger_prepare, ledger_act, ledger_check, 1, true },
    { "a file removed", replace_prepare, remove_act, remove_check, 1, false },
    { "a folder made", folder_prepare, folder_act, folder_check, 1, false },
    { "a folder listed", list_prepare, list_act, list_check, 0, false },
    { "addresses.json", run_prepare, addresses_act, addresses_check, 0, false },
    { "instances", instances_prepare, instances_act, instances_check, 0, true },
    { "home and lock", run_prepare, lock_act, lock_check, 0, true },
    { "a model's folder", model_prepare, model_act, model_check, 0, false },
};

static bool one_fault(const struct trial *trial, size_t row, long n)
{
    struct err err = {};
    folder_make(folder);
    trial->prepare();
    faults_arm_one(&rows[row], n);
    int r = trial->act(&err);
    bool more = faults_end();
    assert_true(r == 0 || (more && err.message[0]));
    if (r < 0 && rows[row].error == ENOSPC && strstr(err.message, "No space"))
        assert_int_equal(err.code, ERR_OVERLOADED);
    trial->check(r);
    folder_remove(folder);
    return more;
}

static void test_the_nth_call_fails(void **state)
{
    (void)state;
    for (size_t t = 0; t < sizeof trials / sizeof *trials; t++) {
        long all = 0;
        for (size_t row = 0; row < sizeof rows / sizeof *rows; row++) {
            long n = 1;
            while (one_fault(&trials[t], row, n))
                assert_in_range(++n, 1, 100);
            if (rows[row].kind == FAULT_SYNC)
                assert_true(n > trials[t].syncs);
            all += n - 1;
        }
        print_message("  %s: %ld faults\n", trials[t].name, all);
        assert_true(all > 0);
    }
}

static void act(void *data)
{
    const struct trial *trial = data;
    struct err err = {};
    if (trial->act(&err) < 0)
        _exit(1);
}

static void test_killed_at_each_call(void **state)
{
    (void)state;
    for (size_t t = 0; t < sizeof trials / sizeof *trials; t++) {
        bool killed = true;
        long n = 0;
        while (killed) {
            folder_make(folder);
            trials[t].prepare();
            killed = faults_kill_at(++n, act, (void *)&trials[t]);
            trials[t].check(killed ? -1 : 0);
            folder_remove(folder);
        }
        print_message("  %s: %ld calls\n", trials[t].name, n - 1);
        assert_true(n > 1);
    }
}

static int set_up(void **state)
{
    struct err err;
    (void)state;
    return env_linux_new(&linux_world, &err);
}

static int tear_down(void **state)
{
    (void)state;
    env_linux_free(linux_world);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_nth_call_fails),
        cmocka_unit_test(test_killed_at_each_call),
    };
    return cmocka_run_group_tests_name("disk_faults", tests, set_up, tear_down);
}
