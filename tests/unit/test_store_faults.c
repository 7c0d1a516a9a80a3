/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The n-th write, sync or rename fails, for n = 1, 2, 3 ... until none does; a disk that is full
 * stays full until there is space again; a process is killed at any instant. What was said to be
 * kept is kept, the rest is not there or whole, and everything goes on.
 */
#include "store/store.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/err.h"
#include "store/blobs.h"

/* ---- the disk ------------------------------------------------------------------------------- */

static struct {
    long calls;    /* since armed */
    long fails_at; /* 0: never */
    bool stays;    /* all later ones too */
    int error;
} disk;

static bool fails(void)
{
    disk.calls++;
    bool now =
        disk.fails_at && (disk.stays ? disk.calls >= disk.fails_at : disk.calls == disk.fails_at);
    if (now)
        errno = disk.error;
    return now;
}

static void arm(long fails_at, bool stays, int error)
{
    disk = (typeof(disk)){ .fails_at = fails_at, .stays = stays, .error = error };
}

/* These stand before the C library's, for SQLite as well. */
#define FAULTY [[gnu::visibility("default")]]
#define REAL(name) ((typeof(&name))dlsym(RTLD_NEXT, #name))

FAULTY ssize_t write(int fd, const void *data, size_t bytes)
{
    return fd > 2 && fails() ? -1 : REAL(write)(fd, data, bytes);
}

/* With 64-bit offsets this is pwrite64. */
FAULTY ssize_t pwrite(int fd, const void *data, size_t bytes, off_t offset)
{
    return fails() ? -1 : REAL(pwrite)(fd, data, bytes, offset);
}

FAULTY int fsync(int fd)
{
    return fails() ? -1 : REAL(fsync)(fd);
}

FAULTY int fdatasync(int fd)
{
    return fails() ? -1 : REAL(fdatasync)(fd);
}

/* ---- what is done on it --------------------------------------------------------------------- */

static char folder[64], path[128];

static void make_folder(void)
{
    strcpy(folder, "/tmp/perigee-faults-XXXXXX");
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/store.db", folder);
}

static void remove_folder(void)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    assert_int_equal(system(command), 0);
}

static int deploy(struct store *s, void *data, struct err *err)
{
    uint64_t number = *(uint64_t *)data;
    struct arena *arena = arena_new();
    struct store_endpoint e = {};
    int r = s->project_ensure(s, SLICE("default"), 1, err);
    if (r == 0)
        r = s->endpoint_find(s, SLICE("default"), SLICE("digits"), arena, &e, err);
    uint64_t before = e.generation;
    bool there = r == 0;
    e.spec = slice_of(
        arena_format(arena, "{\"n\":%llu,\"more\":\"%04000d\"}", (unsigned long long)number, 0));
    e.generation = e.target = e.latest = number;
    if (r == ERR_NOT_FOUND) {
        e.project = SLICE("default");
        e.name = SLICE("digits");
        r = s->endpoint_add(s, &e, err);
    }
    struct store_revision revision = { .endpoint_uid = e.uid,
                                       .number = number,
                                       .spec = e.spec,
                                       .digest = SLICE("d"),
                                       .model = SLICE("m"),
                                       .state = SLICE("new") };
    struct store_event event = { .endpoint_uid = e.uid,
                                 .at_ns = (int64_t)number,
                                 .kind = SLICE("k") };
    if (r == 0)
        r = s->revision_add(s, &revision, &revision.model, 1, err);
    if (r == 0)
        r = s->revision_prune(s, e.uid, number, 0, err);
    if (r == 0 && there)
        r = s->endpoint_update(s, &e, before, err);
    if (r == 0)
        r = s->event_add(s, &event, err);
    arena_free(arena);
    return r;
}

/* Whole: endpoint, its revisions and events tell of one state, `least` or later. */
static uint64_t check(struct store *s, uint64_t least, uint64_t most)
{
    struct err err = {};
    struct arena *arena = arena_new();
    struct store_endpoint e;
    struct store_revision *revisions;
    struct store_event *events;
    size_t revision_count, event_count;
    struct store_page page = { .from_end = true, .limit = 1 };
    int r = s->endpoint_find(s, SLICE("default"), SLICE("digits"), arena, &e, &err);
    if (r == ERR_NOT_FOUND) {
        assert_int_equal(least, 0);
        arena_free(arena);
        return 0;
    }
    if (r < 0)
        fail_msg("%s", err.message);
    assert_in_range(e.generation, least, most);
    assert_int_equal(s->revision_list(s, e.uid, arena, &revisions, &revision_count, &err), 0);
    assert_int_equal(revisions[revision_count - 1].number, e.generation);
    assert_int_equal(revision_count, e.generation < 10 ? e.generation : 10);
    assert_true(slice_equal(revisions[revision_count - 1].spec, e.spec));
    assert_int_equal(
        s->event_list(s, &(struct store_filter){}, &page, arena, &events, &event_count, &err), 0);
    assert_int_equal(events[0].at_ns, e.generation);
    uint64_t generation = e.generation;
    arena_free(arena);
    return generation;
}

static struct store *open_store(void)
{
    struct err err = {};
    struct store *s;
    if (store_sqlite_open(path, STORE_WRITE, NULL, &s, &err) < 0)
        fail_msg("%s", err.message);
    return s;
}

/* Returns whether nothing failed: then n was beyond the last call. */
static bool one_fault(long n, bool stays, int error)
{
    struct err err = {};
    struct store *s;
    uint64_t kept = 0, tried = 0;
    make_folder();
    arm(n, stays, error);
    if (store_sqlite_open(path, STORE_WRITE, NULL, &s, &err) == 0) {
        for (tried = 1; tried <= 3; tried++) {
            uint64_t number = kept + 1;
            if (s->transact(s, deploy, &number, &err) == 0)
                kept = number;
            else if (!strstr(err.message, "full") && !strstr(err.message, "I/O error"))
                fail_msg("of a full disk is said: '%s'", err.message);
        }
        bool failed = disk.fails_at && disk.calls >= disk.fails_at;
        long calls = disk.calls;
        arm(0, false, 0);
        /* There is space again: the same connection goes on. */
        uint64_t now = check(s, kept, kept + 3), next = now + 1;
        if (s->transact(s, deploy, &next, &err) < 0)
            fail_msg("after the fault: %s", err.message);
        s->close(s);
        s = open_store();
        check(s, next, next);
        s->close(s);
        remove_folder();
        (void)calls;
        return !failed;
    }
    arm(0, false, 0);
    assert_true(err.message[0] != '\0');
    s = open_store();
    uint64_t number = 1;
    assert_int_equal(s->transact(s, deploy, &number, &err), 0);
    check(s, 1, 1);
    s->close(s);
    remove_folder();
    return false;
}

static void run_faults(bool stays, int error)
{
    long n = 1;
    while (!one_fault(n, stays, error)) {
        n++;
        assert_in_range(n, 1, 2000);
    }
    print_message("  %ld calls that may fail\n", n - 1);
    assert_true(n > 10);
}

static void test_nth_write_fails(void **state)
{
    (void)state;
    run_faults(false, EIO);
}

static void test_disk_becomes_full(void **state)
{
    (void)state;
    run_faults(true, ENOSPC);
}

static int uploads_left(void)
{
    char uploads[sizeof folder + 16];
    int left = 0;
    snprintf(uploads, sizeof uploads, "%s/blobs/uploads", folder);
    DIR *files = opendir(uploads);
    assert_non_null(files);
    for (const struct dirent *entry; (entry = readdir(files));)
        left += entry->d_name[0] != '.';
    closedir(files);
    return left;
}

static void test_nth_write_of_a_blob_fails(void **state)
{
    (void)state;
    static char content[3 << 20];
    for (int stays = 0; stays < 2; stays++) {
        bool again = true;
        for (long n = 1; again; n++) {
            char digest[DIGEST_TEXT];
            struct err err = {};
            struct blobs *blobs;
            uint64_t bytes;
            make_folder();
            assert_int_equal(blobs_open(folder, NULL, &blobs, &err), 0);
            arm(n, stays, stays ? ENOSPC : EIO);
            int r = blobs_put(blobs, (struct slice){ content, sizeof content }, digest, &err);
            again = disk.calls >= disk.fails_at;
            arm(0, false, 0);
            assert_true(again || r == 0);
            if (r < 0) {
                assert_int_equal(err.code, stays ? ERR_OVERLOADED : ERR_INTERNAL);
                if (stays) /* what came would hold the space that others wait for */
                    assert_int_equal(uploads_left(), 0);
                r = blobs_put(blobs, (struct slice){ content, sizeof content }, digest, &err);
            }
            assert_int_equal(r, 0);
            assert_int_equal(blobs_find(blobs, slice_of(digest), &bytes, &err), 0);
            assert_int_equal(bytes, sizeof content);
            assert_int_equal(blobs_total_bytes(blobs), bytes);
            blobs_close(blobs);
            remove_folder();
        }
    }
}

/* ---- killed --------------------------------------------------------------------------------- */

[[gnu::noreturn]] static void change_for_ever(int pipe_fd)
{
    struct err err;
    struct store *s;
    struct arena *arena = arena_new();
    struct store_endpoint e;
    uint64_t number = 1;
    if (store_sqlite_open(path, STORE_WRITE, NULL, &s, &err) < 0)
        _exit(1);
    if (s->endpoint_find(s, SLICE("default"), SLICE("digits"), arena, &e, &err) == 0)
        number = e.generation + 1;
    for (;; number++)
        if (s->transact(s, deploy, &number, &err) < 0 ||
            write(pipe_fd, &number, sizeof number) != sizeof number)
            _exit(2);
}

/* A timer of the kernel's does it: at any instant, whatever this process is at. */
static void kill_me_after(long ns)
{
    struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGKILL };
    struct itimerspec at = { .it_value = { 0, ns } };
    timer_t timer;
    if (timer_create(CLOCK_MONOTONIC, &event, &timer) < 0 || timer_settime(timer, 0, &at, NULL) < 0)
        _exit(3);
}

static void test_killed_at_any_instant(void **state)
{
    (void)state;
    uint64_t kept = 0;
    unsigned seed = 5;
    make_folder();
    arm(0, false, 0);
    for (int round = 0; round < 25; round++) {
        int fds[2], status;
        uint64_t said;
        assert_int_equal(pipe(fds), 0);
        long ns = 1 + rand_r(&seed) % 40'000'000;
        pid_t child = fork();
        if (child == 0) {
            close(fds[0]);
            kill_me_after(ns);
            change_for_ever(fds[1]);
        }
        close(fds[1]);
        waitpid(child, &status, 0);
        assert_true(WIFSIGNALED(status));
        while (read(fds[0], &said, sizeof said) == sizeof said)
            kept = said;
        close(fds[0]);
        struct store *s = open_store();
        kept = check(s, kept, kept + 1); /* one may be kept and not said yet */
        s->close(s);
    }
    print_message("  %llu changes\n", (unsigned long long)kept);
    assert_true(kept > 25);
    remove_folder();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nth_write_fails),
        cmocka_unit_test(test_disk_becomes_full),
        cmocka_unit_test(test_nth_write_of_a_blob_fails),
        cmocka_unit_test(test_killed_at_any_instant),
    };
    return cmocka_run_group_tests_name("store_faults", tests, NULL, NULL);
}
