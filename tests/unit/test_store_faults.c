/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The n-th write, sync, truncate, open, unlink, read or map of memory fails, for n = 1, 2, 3 ...
 * until none does; a disk that is full stays full until there is space again; a process is killed
 * at each of its calls, and at any instant. What was said to be kept is kept, the rest is not there
 * or whole, and everything goes on.
 */
#include "store/store.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/err.h"
#include "faults.h"
#include "store/blobs.h"
#include "store/collect.h"

static char folder[FAULT_FOLDER_BYTES], path[128];

static void make_folder(void)
{
    folder_make(folder);
    snprintf(path, sizeof path, "%s/store.db", folder);
}

static const struct {
    enum fault_kind kind;
    enum fault_mode mode;
    int error;
    const char *words; /* one of them is in every message; NULL: any words, of the system's error */
} rows[] = {
    { FAULT_WRITE, FAULT_ONCE, EIO, "I/O error" },
    { FAULT_WRITE, FAULT_STAYS, ENOSPC, "full" },
    { FAULT_WRITE, FAULT_SHORT, 0, NULL },
    { FAULT_SYNC, FAULT_ONCE, EIO, "I/O error" },
    { FAULT_SYNC, FAULT_STAYS, ENOSPC, "I/O error" }, /* SQLite forgets which */
    { FAULT_TRUNCATE, FAULT_ONCE, EIO, "I/O error" },
    { FAULT_OPEN, FAULT_ONCE, EMFILE, NULL },
    { FAULT_REMOVE, FAULT_ONCE, EIO, NULL },
    { FAULT_READ, FAULT_ONCE, EIO, NULL },
    { FAULT_MMAP, FAULT_ONCE, ENOMEM, NULL },
    { FAULT_MMAP, FAULT_STAYS, ENOMEM, NULL },
};

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
        r = s->revision_prune(s, e.uid, &(struct store_keep){ { number } }, err);
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

/* A fault may be told in many words, but never as damage alone, and a full disk always as such. */
static void check_words(const char *message, const char *words)
{
    if (!message[0] || strstr(message, "none of Perigee's") ||
        (strstr(message, "damaged") && !strstr(message, "its disk cannot be read")))
        fail_msg("of a fault is said: '%s'", message);
    if (words && !strstr(message, words) && !strstr(message, "full"))
        fail_msg("'%s' is not in what is said: '%s'", words, message);
}

/* Returns whether something failed: there may be more. */
static bool one_fault(size_t row, long n)
{
    struct err err = {};
    struct store *s;
    uint64_t kept = 0;
    make_folder();
    faults_arm(rows[row].kind, n, rows[row].mode, rows[row].error);
    bool opened = store_sqlite_open(path, STORE_WRITE, NULL, &s, &err) == 0;
    if (!opened)
        check_words(err.message, rows[row].words);
    for (int tried = 0; tried < 3 && opened; tried++) {
        uint64_t number = kept + 1;
        err = (struct err){};
        if (s->transact(s, deploy, &number, &err) == 0)
            kept = number;
        else
            check_words(err.message, rows[row].words);
    }
    bool more = faults_end();
    if (!opened)
        s = open_store();
    /* It works again: the same connection goes on. */
    uint64_t now = check(s, kept, kept + 3), next = now + 1;
    if (opened && now != kept && !s->in_doubt)
        fail_msg("what was refused has happened, and nobody was told that it may have");
    if (s->transact(s, deploy, &next, &err) < 0)
        fail_msg("after the fault: %s", err.message);
    s->close(s);
    s = open_store();
    check(s, next, next);
    s->close(s);
    folder_remove(folder);
    return more;
}

static void test_nth_call_fails(void **state)
{
    (void)state;
    for (size_t row = 0; row < sizeof rows / sizeof *rows; row++) {
        long n = 1;
        while (one_fault(row, n))
            assert_in_range(n += FAULT_STEP, 1, 2000);
        print_message("  %ld calls may fail of %s\n", n - 1, fault_calls(rows[row].kind));
        assert_true(n > 1);
    }
}

/* ---- blobs ---------------------------------------------------------------------------------- */

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

static char content[600 << 10];
#define CONTENT ((struct slice){ content, sizeof content })

/* In two halves, as a client that went away and came back: the second goes on with the first. */
static int upload_in_halves(struct blobs *blobs, struct err *err)
{
    char digest[DIGEST_TEXT];
    struct blob_upload *upload;
    uint64_t offset = 0;
    size_t half = sizeof content / 2;
    digest_of(CONTENT, digest);
    int r = blob_upload_begin(blobs, slice_of(digest), 0, sizeof content, &offset, &upload, err);
    if (r == 0) {
        r = blob_upload_write(upload, content, half, err);
        blob_upload_free(upload);
    }
    uint64_t have = r < 0 ? 0 : blob_upload_have(blobs, slice_of(digest));
    if (r == 0)
        r = blob_upload_begin(blobs, slice_of(digest), have, sizeof content, &offset, &upload, err);
    if (r < 0)
        return r;
    r = blob_upload_write(upload, content + have, sizeof content - have, err);
    if (r == 0)
        r = blob_upload_finish(upload, err);
    blob_upload_free(upload);
    return r;
}

/* Whatever went before: a blob that is there is whole, and the next upload works. */
static void check_blobs(bool kept)
{
    struct blobs *blobs;
    struct err err = {};
    char digest[DIGEST_TEXT], *data = NULL;
    size_t bytes = 0;
    assert_int_equal(blobs_open(folder, NULL, &blobs, &err), 0);
    digest_of(CONTENT, digest);
    int r = blobs_load(blobs, slice_of(digest), sizeof content, &data, &bytes, &err);
    if (kept)
        assert_int_equal(r, 0);
    if (r < 0 && upload_in_halves(blobs, &err) < 0)
        fail_msg("after a fault: %s", err.message);
    if (r < 0)
        r = blobs_load(blobs, slice_of(digest), sizeof content, &data, &bytes, &err);
    assert_int_equal(r, 0);
    assert_int_equal(bytes, sizeof content);
    assert_memory_equal(data, content, bytes);
    assert_int_equal(blobs_total_bytes(blobs), bytes);
    free(data);
    blobs_close(blobs);
    assert_int_equal(uploads_left(), 0);
}

static bool one_fault_of_a_blob(size_t row, long n)
{
    struct err err = {};
    struct blobs *blobs;
    make_folder();
    faults_arm(rows[row].kind, n, rows[row].mode, rows[row].error);
    int r = blobs_open(folder, NULL, &blobs, &err);
    bool opened = r == 0;
    if (opened)
        r = upload_in_halves(blobs, &err);
    bool more = faults_end();
    if (r < 0 && rows[row].error == ENOSPC) {
        assert_int_equal(err.code, ERR_OVERLOADED);
        if (opened && rows[row].kind == FAULT_WRITE) /* would hold the space others wait for */
            assert_int_equal(uploads_left(), 0);
    }
    assert_true(r == 0 || (more && err.message[0]));
    if (opened && r < 0 && upload_in_halves(blobs, &err) < 0)
        fail_msg("the next try: %s", err.message);
    if (opened)
        blobs_close(blobs);
    check_blobs(opened);
    folder_remove(folder);
    return more;
}

static void test_nth_call_of_an_upload_fails(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof content; i++)
        content[i] = (char)(i * 2654435761u >> 13);
    for (size_t row = 0; row < sizeof rows / sizeof *rows; row++) {
        long n = 1;
        if (rows[row].kind == FAULT_MMAP)
            continue;
        while (one_fault_of_a_blob(row, n))
            assert_in_range(n += FAULT_STEP, 1, 200);
        print_message("  %ld calls may fail of %s\n", n - 1, fault_calls(rows[row].kind));
    }
}

static void upload(void *kept)
{
    struct err err;
    struct blobs *blobs;
    if (blobs_open(folder, NULL, &blobs, &err) < 0 || upload_in_halves(blobs, &err) < 0)
        _exit(1);
    *(bool *)kept = true;
    blobs_close(blobs);
}

static void test_killed_at_each_call_of_an_upload(void **state)
{
    long n = 1 - FAULT_STEP;
    bool *kept = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    bool killed = true;
    (void)state;
    while (killed) {
        make_folder();
        *kept = false;
        killed = faults_kill_at(n += FAULT_STEP, upload, kept);
        check_blobs(*kept);
        folder_remove(folder);
    }
    print_message("  %ld calls\n", n - 1);
    assert_true(n > 10);
    munmap(kept, 4096);
}

/* ---- blobs that go --------------------------------------------------------------------------- */

static const char *const contents[] = { "kept", "loose", "loose too" };
enum { CONTENTS = sizeof contents / sizeof *contents };
static char digests[CONTENTS][DIGEST_TEXT];

static int hold_one(struct store *s, void *data, struct err *err)
{
    uint64_t id;
    (void)data;
    int r = s->repository_ensure(s, SLICE("shop"), SLICE("web"), 1, &id, err);
    for (size_t i = 0; i < CONTENTS && r == 0; i++)
        r = s->repository_blob_put(s, id, slice_of(digests[i]), strlen(contents[i]), 1, err);
    for (size_t i = 1; i < CONTENTS && r == 0; i++)
        r = s->repository_blob_delete(s, id, slice_of(digests[i]), err);
    return r;
}

static struct blobs *open_blobs(void)
{
    struct blobs *blobs;
    struct err err = {};
    if (blobs_open(folder, NULL, &blobs, &err) < 0)
        fail_msg("%s", err.message);
    return blobs;
}

/* Three blobs with rows, of which a repository has the first. */
static void make_blobs(void)
{
    struct err err = {};
    make_folder();
    struct blobs *blobs = open_blobs();
    struct store *s = open_store();
    for (size_t i = 0; i < CONTENTS; i++)
        assert_int_equal(blobs_put(blobs, slice_of(contents[i]), digests[i], &err), 0);
    if (s->transact(s, hold_one, NULL, &err) < 0)
        fail_msg("%s", err.message);
    s->close(s);
    blobs_close(blobs);
}

static bool there(struct blobs *blobs, size_t i)
{
    struct err err;
    uint64_t bytes;
    return blobs_find(blobs, slice_of(digests[i]), &bytes, &err) == 0;
}

static void collect(void *data)
{
    const struct slice gone[] = { slice_of(digests[1]), slice_of(digests[2]) };
    struct blobs *blobs = open_blobs();
    struct store *s = open_store();
    struct err err;
    size_t count;
    (void)data;
    if (store_blobs_collect(s, blobs, gone, 2, &count, &err) < 0)
        _exit(1);
    s->close(s);
    blobs_close(blobs);
}

/* No row promises a file that is not there; what was left is found, and goes. */
static void check_collected(void)
{
    struct err err = {};
    struct arena *arena = arena_new();
    struct slice *loose;
    size_t count;
    struct blobs *blobs = open_blobs();
    struct store *s = open_store();
    uint64_t bytes;
    assert_int_equal(s->blob_garbage(s, INT64_MAX, arena, &loose, &count, &err), 0);
    for (size_t i = 0; i < count; i++)
        if (blobs_find(blobs, loose[i], &bytes, &err) < 0)
            fail_msg("a row without a file: %s", err.message);
    assert_int_equal(store_blobs_index(s, blobs, 5, &err), 0);
    assert_int_equal(store_blobs_sweep(s, blobs, 6, 1, &count, &err), 0);
    assert_true(there(blobs, 0) && !there(blobs, 1) && !there(blobs, 2));
    assert_int_equal(blobs_total_bytes(blobs), strlen(contents[0]));
    s->close(s);
    blobs_close(blobs);
    arena_free(arena);
}

static void test_killed_at_each_call_of_a_collection(void **state)
{
    long n = 1 - FAULT_STEP;
    bool killed = true;
    (void)state;
    while (killed) {
        make_blobs();
        killed = faults_kill_at(n += FAULT_STEP, collect, NULL);
        check_collected();
        folder_remove(folder);
    }
    print_message("  %ld calls\n", n - 1);
    assert_true(n > 5);
}

/* Told which, it looks at those alone: a row beside them stays for the round that looks at all. */
static void test_what_was_let_go_of_is_looked_at_alone(void **state)
{
    struct err err = {};
    size_t count;
    (void)state;
    make_blobs();
    const struct slice asked[] = { slice_of(digests[0]), slice_of(digests[1]), SLICE("sha256:no") };
    struct blobs *blobs = open_blobs();
    struct store *s = open_store();
    assert_int_equal(store_blobs_collect(s, blobs, asked, 3, &count, &err), 0);
    assert_int_equal(count, 1);
    assert_true(there(blobs, 0) && !there(blobs, 1) && there(blobs, 2));
    /* The repository's is of no manifest: it goes with time. */
    assert_int_equal(store_blobs_sweep(s, blobs, 1, 1, &count, &err), 0);
    assert_int_equal(count, 1);
    assert_true(there(blobs, 0) && !there(blobs, 2));
    assert_int_equal(store_blobs_sweep(s, blobs, 1, 2, &count, &err), 0);
    assert_int_equal(count, 1);
    assert_int_equal(blobs_total_bytes(blobs), 0);
    s->close(s);
    blobs_close(blobs);
    folder_remove(folder);
}

/* ---- killed --------------------------------------------------------------------------------- */

/* A timer of the kernel's does it: at any instant, whatever this process is at. */
static void kill_me_after(long ns)
{
    struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGKILL };
    struct itimerspec at = { .it_value = { 0, ns } };
    timer_t timer;
    if (timer_create(CLOCK_MONOTONIC, &event, &timer) < 0 || timer_settime(timer, 0, &at, NULL) < 0)
        _exit(3);
}

/* Its last moment is drawn from its beginning, or from its first change: the first may find it
 * still opening what is there, however slow that is, the second has changed something. */
[[gnu::noreturn]] static void change_for_ever(int pipe_fd, long ns, bool from_change)
{
    struct err err;
    struct store *s;
    struct arena *arena = arena_new();
    struct store_endpoint e;
    uint64_t number = 1;
    if (!from_change)
        kill_me_after(ns);
    if (store_sqlite_open(path, STORE_WRITE, NULL, &s, &err) < 0)
        _exit(1);
    if (s->endpoint_find(s, SLICE("default"), SLICE("digits"), arena, &e, &err) == 0)
        number = e.generation + 1;
    for (;; number++) {
        if (s->transact(s, deploy, &number, &err) < 0 ||
            write(pipe_fd, &number, sizeof number) != sizeof number)
            _exit(2);
        if (from_change)
            kill_me_after(ns);
        from_change = false;
    }
}

static void three_changes(void *data)
{
    uint64_t *kept = data;
    struct err err;
    struct store *s;
    if (store_sqlite_open(path, STORE_WRITE, NULL, &s, &err) < 0)
        _exit(1);
    for (uint64_t number = 1; number <= 3; number++) {
        if (s->transact(s, deploy, &number, &err) < 0)
            _exit(2);
        *kept = number;
    }
    s->close(s);
}

static void test_killed_at_each_call(void **state)
{
    uint64_t *kept = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    bool killed = true;
    long n = 1 - FAULT_STEP;
    (void)state;
    while (killed) {
        make_folder();
        *kept = 0;
        killed = faults_kill_at(n += FAULT_STEP, three_changes, kept);
        struct store *s = open_store();
        uint64_t next = check(s, *kept, *kept + 1) + 1;
        struct err err = {};
        if (s->transact(s, deploy, &next, &err) < 0)
            fail_msg("after the kill: %s", err.message);
        check(s, next, next);
        s->close(s);
        folder_remove(folder);
    }
    print_message("  %ld calls\n", n - 1);
    assert_true(n > 50);
    munmap(kept, 4096);
}

static void test_killed_at_any_instant(void **state)
{
    (void)state;
    uint64_t kept = 0;
    unsigned seed = 5;
    make_folder();
    const int rounds = 25;
    for (int round = 0; round < rounds; round++) {
        int fds[2], status;
        uint64_t said;
        assert_int_equal(pipe(fds), 0);
        long ns = 1 + rand_r(&seed) % 40'000'000;
        pid_t child = fork();
        if (child == 0) {
            close(fds[0]);
            change_for_ever(fds[1], ns, round % 2);
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
    assert_true(kept >= (uint64_t)rounds / 2);
    folder_remove(folder);
}

int main(void)
{
    faults_in_sqlite();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nth_call_fails),
        cmocka_unit_test(test_nth_call_of_an_upload_fails),
        cmocka_unit_test(test_killed_at_each_call),
        cmocka_unit_test(test_killed_at_each_call_of_an_upload),
        cmocka_unit_test(test_killed_at_each_call_of_a_collection),
        cmocka_unit_test(test_what_was_let_go_of_is_looked_at_alone),
        cmocka_unit_test(test_killed_at_any_instant),
    };
    return cmocka_run_group_tests_name("store_faults", tests, NULL, NULL);
}
