/* SPDX-License-Identifier: Apache-2.0 */
/*
 * backup and restore while the disk fails at its n-th call, n = 1, 2, 3 ... until none does, and
 * killed at each of their calls. A backup is whole or not there; a restore did everything or
 * nothing, and what it replaced is kept with all that was ever promised of it.
 */
#include "store/backup.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/err.h"
#include "faults.h"
#include "store/blobs.h"
#include "store/store.h"

static char folder[FAULT_FOLDER_BYTES], content[9000];
static char home[96], old[96], target[96], archive[96], tried[96];
static char digest[DIGEST_TEXT];

static const struct fault rows[] = {
    FAULTS_OF_FILES,
    { FAULT_TRUNCATE, FAULT_ONCE, EIO },
    { FAULT_MAKE, FAULT_STAYS, ENOSPC },
    { FAULT_MMAP, FAULT_ONCE, ENOMEM },
};
enum { ROWS = sizeof rows / sizeof *rows };

/* ---- two homes ------------------------------------------------------------------------------- */

struct filling {
    const char *name;
    struct slice blob;
};

static int fill(struct store *s, void *data, struct err *err)
{
    struct filling *filling = data;
    struct store_endpoint e = { .project = SLICE("default"),
                                .name = slice_of(filling->name),
                                .spec = SLICE("{}"),
                                .target = 1,
                                .latest = 1,
                                .generation = 1 };
    int r = s->project_ensure(s, SLICE("default"), 1, err);
    if (r == 0)
        r = s->endpoint_add(s, &e, err);
    struct store_revision revision = { .endpoint_uid = e.uid,
                                       .number = 1,
                                       .spec = SLICE("{}"),
                                       .digest = SLICE("d"),
                                       .model = filling->blob,
                                       .state = SLICE("new") };
    return r < 0 ? r : s->revision_add(s, &revision, &filling->blob, filling->blob.size > 0, err);
}

static int open_state(const char *of, struct store **ret, struct err *err)
{
    struct arena *arena = arena_new();
    const char *path;
    int r = store_path(of, arena, &path, err);
    if (r == 0)
        r = store_sqlite_open(path, STORE_WRITE, NULL, ret, err);
    arena_free(arena);
    return r;
}

static void add(const char *to, const char *name, struct slice blob, bool dies)
{
    struct err err;
    struct store *store;
    struct filling filling = { name, blob };
    if (open_state(to, &store, &err) < 0 || store->transact(store, fill, &filling, &err) < 0)
        fail_msg("%s", err.message);
    if (dies)
        _exit(0);
    store->close(store);
}

static void write_file(const char *of, const char *name, const char *text)
{
    char path[320];
    snprintf(path, sizeof path, "%s/%s", of, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static const char *const pop_files[] = { "table", "table.key", "desired.json", "secrets" };
enum { POP_FILES = sizeof pop_files / sizeof *pop_files };

/* `home` has endpoint "new" with a blob; `old` has "old", the last change of which is in its log
 * alone, as a process leaves it that is killed, and what a PoP keeps of it. */
static int set_up(void **state)
{
    struct blobs *blobs;
    struct err err;
    char path[160];
    (void)state;
    faults_in_sqlite();
    for (size_t i = 0; i < sizeof content; i++)
        content[i] = (char)(i * 2654435761u >> 11);
    folder_make(folder);
    snprintf(home, sizeof home, "%s/home", folder);
    snprintf(old, sizeof old, "%s/old", folder);
    snprintf(target, sizeof target, "%s/target", folder);
    snprintf(archive, sizeof archive, "%s/backup.tar", folder);
    snprintf(tried, sizeof tried, "%s/tried.tar", folder);
    assert_int_equal(mkdir(home, 0700), 0);
    assert_int_equal(mkdir(old, 0700), 0);
    snprintf(path, sizeof path, "%s/pop", old);
    assert_int_equal(mkdir(path, 0700), 0);
    for (int i = 0; i < POP_FILES; i++) {
        snprintf(path, sizeof path, "pop/%s", pop_files[i]);
        write_file(old, path, "old");
    }
    assert_int_equal(blobs_open(home, NULL, &blobs, &err), 0);
    assert_int_equal(blobs_put(blobs, (struct slice){ content, sizeof content }, digest, &err), 0);
    blobs_close(blobs);
    add(home, "new", slice_of(digest), false);
    pid_t child = fork();
    if (child == 0)
        add(old, "old", (struct slice){}, true);
    assert_int_equal(waitpid(child, NULL, 0), child);
    struct backup_result result;
    assert_int_equal(store_backup(home, archive, false, 5, &result, &err), 0);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    folder_remove(folder);
    return 0;
}

static bool has(struct store *store, const char *name)
{
    struct arena *arena = arena_new();
    struct store_endpoint e;
    struct err err;
    int r = store->endpoint_find(store, SLICE("default"), slice_of(name), arena, &e, &err);
    arena_free(arena);
    assert_true(r == 0 || r == ERR_NOT_FOUND);
    return r == 0;
}

/* The home is all new or all old; which. */
static bool check_home(const char *of)
{
    struct store *store;
    struct blobs *blobs;
    struct err err;
    if (open_state(of, &store, &err) < 0)
        fail_msg("%s", err.message);
    bool new = has(store, "new");
    assert_true(new != has(store, "old"));
    store->close(store);
    if (!new)
        return false;
    char *data;
    size_t bytes;
    assert_int_equal(blobs_open(of, NULL, &blobs, &err), 0);
    assert_int_equal(blobs_load(blobs, slice_of(digest), sizeof content, &data, &bytes, &err), 0);
    assert_int_equal(bytes, sizeof content);
    assert_memory_equal(data, content, bytes);
    free(data);
    blobs_close(blobs);
    return true;
}

static unsigned left_over(const char *of, const char *prefix)
{
    unsigned count = 0;
    DIR *dir = opendir(of);
    for (const struct dirent *entry; dir && (entry = readdir(dir));)
        count += strncmp(entry->d_name, prefix, strlen(prefix)) == 0;
    if (dir)
        closedir(dir);
    return count;
}

/* ---- backup ---------------------------------------------------------------------------------- */

static void check_archive(const char *file)
{
    struct backup_result result;
    struct err err;
    if (store_restore(target, file, false, 6, &result, &err) < 0)
        fail_msg("%s", err.message);
    assert_true(check_home(target));
    folder_remove(target);
}

static bool one_backup(size_t row, long n)
{
    struct backup_result result;
    struct err err = {};
    faults_arm_one(&rows[row], n);
    int r = store_backup(home, tried, false, 5, &result, &err);
    bool more = faults_end();
    bool there = access(tried, F_OK) == 0;
    assert_true(r == 0 || (more && err.message[0]));
    assert_int_equal(there, r == 0);
    if (r < 0 && rows[row].kind == FAULT_WRITE && rows[row].error == ENOSPC)
        assert_int_equal(err.code, ERR_OVERLOADED);
    if (r < 0) {
        int again = store_backup(home, tried, false, 5, &result, &err);
        if (again < 0)
            fail_msg("the next try: %s", err.message);
    }
    check_archive(tried);
    assert_int_equal(unlink(tried), 0);
    if (rows[row].kind != FAULT_REMOVE || !more) /* then the next one takes it away */
        assert_int_equal(left_over(home, "backup-"), 0);
    return more;
}

static void test_backup_when_a_call_fails(void **state)
{
    (void)state;
    for (size_t row = 0; row < ROWS; row++) {
        long n = 1;
        while (one_backup(row, n))
            assert_in_range(n += FAULT_STEP, 1, 500);
        print_message("  %ld calls may fail of %s\n", n - 1, fault_calls(rows[row].kind));
    }
    check_home(home);
}

/* The second of its renames gives the archive its name; NFS would say the same to it. */
static void test_backup_where_a_rename_always_replaces(void **state)
{
    struct backup_result result;
    struct err err = {};
    (void)state;
    faults_arm(FAULT_RENAME, 2, FAULT_ONCE, EINVAL);
    int r = store_backup(home, tried, false, 5, &result, &err);
    assert_true(faults_end());
    if (r < 0)
        fail_msg("%s", err.message);
    check_archive(tried);
    assert_int_equal(left_over(folder, "tried.tar"), 1);
    assert_int_equal(unlink(tried), 0);
}

/* A name that only who takes it finds taken: with a rename, and with a link. */
static void test_backup_over_nothing(void **state)
{
    struct backup_result result;
    struct err err = {};
    (void)state;
    assert_int_equal(symlink("nowhere", tried), 0);
    assert_int_equal(store_backup(home, tried, false, 5, &result, &err), ERR_CONFLICT);
    faults_arm(FAULT_RENAME, 2, FAULT_ONCE, EINVAL);
    assert_int_equal(store_backup(home, tried, false, 5, &result, &err), ERR_CONFLICT);
    assert_true(faults_end());
    assert_int_equal(left_over(folder, "tried.tar"), 1);
    assert_int_equal(left_over(folder, "nowhere"), 0);
    assert_int_equal(unlink(tried), 0);
}

static void back_up(void *data)
{
    struct backup_result result;
    struct err err;
    (void)data;
    if (store_backup(home, tried, false, 5, &result, &err) < 0)
        _exit(1);
}

static void test_backup_killed_at_each_call(void **state)
{
    struct backup_result result;
    struct err err;
    bool killed = true;
    long n = 1 - FAULT_STEP;
    (void)state;
    while (killed) {
        killed = faults_kill_at(n += FAULT_STEP, back_up, NULL);
        if (access(tried, F_OK) < 0 && store_backup(home, tried, false, 5, &result, &err) < 0)
            fail_msg("after the kill: %s", err.message);
        check_archive(tried);
        assert_int_equal(unlink(tried), 0);
    }
    /* What the killed ones left in the home goes with the next one. */
    back_up(NULL);
    assert_int_equal(unlink(tried), 0);
    assert_int_equal(left_over(home, "backup-"), 0);
    print_message("  %ld calls\n", n - 1);
    assert_true(n > 20);
    check_home(home);
}

/* ---- restore --------------------------------------------------------------------------------- */

/* The state that was replaced is beside, whole. */
static void check_replaced(void)
{
    char path[160], kept[512] = "";
    struct store *store;
    struct err err;
    snprintf(path, sizeof path, "%s/control", target);
    DIR *dir = opendir(path);
    assert_non_null(dir);
    for (const struct dirent *entry; (entry = readdir(dir));)
        if (strstr(entry->d_name, ".replaced-") && !strstr(entry->d_name, "-wal"))
            snprintf(kept, sizeof kept, "%s/%s", path, entry->d_name);
    closedir(dir);
    assert_true(kept[0] != '\0');
    if (store_sqlite_open(kept, STORE_WRITE, NULL, &store, &err) < 0)
        fail_msg("%s", err.message);
    assert_true(has(store, "old"));
    store->close(store);
}

/* What a gateway and an agent would go by before control is up is of the state that there is. */
static void check_pop(bool new)
{
    char path[160];
    for (int i = 0; i < POP_FILES; i++) {
        snprintf(path, sizeof path, "%s/pop/%s", target, pop_files[i]);
        assert_int_equal(access(path, F_OK), new ? -1 : 0);
    }
}

/* What `perigee up` does first; then the home is one or the other. */
static bool state_is_new(void)
{
    struct backup_result result;
    struct err err;
    if (left_over(target, STORE_RESTORE_READY)) { /* until then there is nothing to back up */
        assert_int_equal(store_backup(target, tried, false, 5, &result, &err), ERR_CONFLICT);
        assert_non_null(strstr(err.message, "the next `perigee up` ends it"));
    }
    if (store_restore_end(target, &err) < 0)
        fail_msg("%s", err.message);
    bool new = check_home(target);
    check_pop(new);
    return new;
}

static void check_restore_again(void)
{
    struct backup_result result;
    struct err err;
    if (store_restore(target, archive, true, 9'000'000'000, &result, &err) < 0)
        fail_msg("the next try: %s", err.message);
    assert_true(check_home(target));
    check_pop(true);
    assert_int_equal(left_over(target, "restore-"), 0);
}

static bool one_restore(size_t row, long n)
{
    struct backup_result result;
    struct err err = {};
    folder_copy(old, target);
    faults_arm_one(&rows[row], n);
    int r = store_restore(target, archive, true, 7'000'000'000, &result, &err);
    bool more = faults_end();
    assert_true(r == 0 || (more && err.message[0]));
    bool new = state_is_new();
    assert_true(new || r < 0);
    if (new)
        check_replaced();
    else
        check_restore_again();
    folder_remove(target);
    return more;
}

static void test_restore_when_a_call_fails(void **state)
{
    (void)state;
    for (size_t row = 0; row < ROWS; row++) {
        long n = 1;
        while (one_restore(row, n))
            assert_in_range(n += FAULT_STEP, 1, 1000);
        print_message("  %ld calls may fail of %s\n", n - 1, fault_calls(rows[row].kind));
    }
}

static void restore(void *done)
{
    struct backup_result result;
    struct err err;
    if (store_restore(target, archive, true, 7'000'000'000, &result, &err) < 0)
        _exit(1);
    *(bool *)done = true;
}

static void test_restore_killed_at_each_call(void **state)
{
    bool *done = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    bool killed = true;
    unsigned olds = 0, news = 0;
    long n = 1 - FAULT_STEP;
    (void)state;
    while (killed) {
        folder_copy(old, target);
        *done = false;
        killed = faults_kill_at(n += FAULT_STEP, restore, done);
        bool new = state_is_new();
        assert_true(new || !*done);
        if (new)
            check_replaced();
        else
            check_restore_again();
        olds += !new;
        news += new;
        folder_remove(target);
    }
    print_message("  %ld calls: nothing done %u times, everything %u times\n", n - 1, olds, news);
    assert_true(olds > 20 && news > 3);
    munmap(done, 4096);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_backup_when_a_call_fails),
        cmocka_unit_test(test_backup_where_a_rename_always_replaces),
        cmocka_unit_test(test_backup_over_nothing),
        cmocka_unit_test(test_backup_killed_at_each_call),
        cmocka_unit_test(test_restore_when_a_call_fails),
        cmocka_unit_test(test_restore_killed_at_each_call),
    };
    return cmocka_run_group_tests_name("backup_faults", tests, set_up, tear_down);
}
