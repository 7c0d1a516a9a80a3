/* SPDX-License-Identifier: Apache-2.0 */
/* Loops, timers, streams, watches, the pool: their contracts. */
#include "io/loop.h"
#include "base/auto.h"
#include "base/err.h"
#include "base/slice.h"
#include "io/address.h"
#include "io/saver.h"
#include "io/sleeper.h"
#include "io/socket.h"
#include "io/timer.h"
#include "io/work.h"
#include "sys/env_linux.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h> /* after the four above */

/* ---- addresses ---------------------------------------------------------------------------- */

static const struct {
    const char *text, *back; /* NULL: refused */
    bool loopback;
} addresses[] = {
    { "127.0.0.1:8000", "127.0.0.1:8000", true },
    { "127.9.9.9:0", "127.9.9.9:0", true },
    { "10.0.0.1:65535", "10.0.0.1:65535", false },
    { "[::1]:80", "[::1]:80", true },
    { "[::ffff:1.2.3.4]:80", "1.2.3.4:80", false },
    { "[2001:db8::1]:80", "[2001:db8::1]:80", false },
    { "unix:/run/x.sock", "unix:/run/x.sock", true },
    { "unix:", NULL, false },
    { "127.0.0.1", NULL, false },
    { "127.0.0.1:", NULL, false },
    { "127.0.0.1:65536", NULL, false },
    { "127.0.0.1:-1", NULL, false },
    { "::1:80", NULL, false },
    { "[::1:80", NULL, false },
    { "[1.2.3.4]:80", NULL, false },
    { "localhost:80", NULL, false },
    { "", NULL, false },
};

static void test_addresses(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof addresses / sizeof *addresses; i++) {
        struct address address, again;
        struct sockaddr_storage sockaddr;
        char text[ADDRESS_TEXT_BYTES];
        struct err err;
        print_message("  '%s'\n", addresses[i].text);
        int r = address_parse(slice_of(addresses[i].text), &address, &err);
        assert_int_equal(r < 0, addresses[i].back == NULL);
        if (r < 0)
            continue;
        assert_string_equal(address_text(&address, text), addresses[i].back);
        assert_int_equal(address_loopback(&address), addresses[i].loopback);
        socklen_t size = address_to(&address, &sockaddr);
        address_from(&sockaddr, size, &again);
        assert_string_equal(address_text(&again, text), addresses[i].back);
    }
}

/* ---- loops -------------------------------------------------------------------------------- */

enum { POSTS = 20'000, POSTERS = 3 };

struct counts {
    struct loop *loop;
    unsigned seen;
    uintptr_t last[POSTERS];
    bool in_order;
};

struct post {
    struct counts *counts;
    unsigned poster;
    uintptr_t number;
};

static void on_post(void *data)
{
    struct post *post = data;
    struct counts *counts = post->counts;
    counts->in_order &= counts->last[post->poster] + 1 == post->number;
    counts->last[post->poster] = post->number;
    if (++counts->seen == POSTS * POSTERS)
        loop_stop(counts->loop);
}

static void *poster_run(void *data)
{
    struct post *posts = data;
    for (int i = 0; i < POSTS; i++)
        loop_post(posts->counts->loop, on_post, &posts[i]);
    return NULL;
}

static void test_posts(void **state)
{
    struct counts counts = { .loop = loop_new(), .in_order = true };
    pthread_t threads[POSTERS];
    struct post *posts[POSTERS];
    (void)state;
    for (unsigned t = 0; t < POSTERS; t++) {
        posts[t] = mem_resize(NULL, POSTS, sizeof **posts);
        for (unsigned i = 0; i < POSTS; i++)
            posts[t][i] = (struct post){ &counts, t, i + 1 };
        pthread_create(&threads[t], NULL, poster_run, posts[t]);
    }
    loop_run(counts.loop);
    for (unsigned t = 0; t < POSTERS; t++) {
        pthread_join(threads[t], NULL);
        free(posts[t]);
    }
    assert_int_equal(counts.seen, POSTS * POSTERS);
    assert_true(counts.in_order);
    loop_post(counts.loop, on_post, NULL); /* never run, and not lost as memory */
    loop_free(counts.loop);
}

struct tasks {
    struct loop *loop;
    struct loop_task first, second;
    struct timer *timer;
    char order[16];
    int again;
};

static void mark(struct tasks *tasks, char c)
{
    tasks->order[strlen(tasks->order)] = c;
}

static void on_first(void *data)
{
    struct tasks *tasks = data;
    mark(tasks, 'a');
    if (tasks->again-- > 0)
        loop_defer(tasks->loop, &tasks->first);
    else
        loop_task_cancel(&tasks->second);
}

static void on_second(void *data)
{
    mark(data, 'b');
}

static void on_time(void *data)
{
    struct tasks *tasks = data;
    mark(tasks, 't');
    /* libuv before 1.45 may run a due timer and then sleep in the same pass. */
    loop_stop(tasks->loop);
}

/* Runs what waits, but not what that defers again. */
static void test_tasks_before_their_pass(void **state)
{
    struct tasks tasks = { .loop = loop_new(), .again = 1 };
    (void)state;
    loop_task_init(&tasks.first, on_first, &tasks);
    loop_task_init(&tasks.second, on_second, &tasks);
    assert_false(loop_run_deferred(tasks.loop));
    loop_defer(tasks.loop, &tasks.second);
    loop_defer(tasks.loop, &tasks.first);
    assert_true(loop_run_deferred(tasks.loop));
    assert_string_equal(tasks.order, "ba");
    assert_true(loop_task_waiting(&tasks.first));
    loop_run_once(tasks.loop, true); /* does not sleep over it */
    assert_string_equal(tasks.order, "baa");
    loop_free(tasks.loop);
}

struct sleep {
    struct tasks tasks;
    int asked, woken;
};

static void on_sleep(void *data)
{
    struct sleep *sleep = data;
    mark(&sleep->tasks, 's');
    if (++sleep->asked <= 2) /* as an answer that is found before the poll */
        loop_defer(sleep->tasks.loop, &sleep->tasks.second);
}

static void on_wake(void *data)
{
    struct sleep *sleep = data;
    mark(&sleep->tasks, 'w');
    sleep->woken++;
}

/* What a sleeper defers is done before the poll; who gave work by that is asked once more. */
static void test_a_sleeper_is_asked_again(void **state)
{
    struct sleep sleep = { .tasks = { .loop = loop_new() } };
    struct sleeper *sleeper = sleeper_new(sleep.tasks.loop, on_sleep, on_wake, &sleep);
    (void)state;
    loop_task_init(&sleep.tasks.second, on_second, &sleep.tasks);
    loop_run_once(sleep.tasks.loop, true); /* the second answer: the poll does not sleep */
    assert_string_equal(sleep.tasks.order, "sbswb");
    memset(sleep.tasks.order, 0, sizeof sleep.tasks.order);
    loop_run_once(sleep.tasks.loop, false);
    assert_string_equal(sleep.tasks.order, "sw");
    sleeper_free(sleeper);
    loop_free(sleep.tasks.loop);
}

static void test_tasks(void **state)
{
    struct tasks tasks = { .loop = loop_new(), .again = 2 };
    (void)state;
    loop_task_init(&tasks.first, on_first, &tasks);
    loop_task_init(&tasks.second, on_second, &tasks);
    loop_defer(tasks.loop, &tasks.first);
    loop_defer(tasks.loop, &tasks.second);
    loop_defer(tasks.loop, &tasks.second); /* twice is once */
    assert_string_equal(tasks.order, "");
    loop_run_once(tasks.loop, true); /* must not sleep */
    assert_string_equal(tasks.order, "ab");
    loop_run_once(tasks.loop, true);
    loop_defer(tasks.loop, &tasks.second);
    loop_run_once(tasks.loop, true); /* the first cancels the second */
    assert_string_equal(tasks.order, "abaa");
    assert_false(loop_task_waiting(&tasks.second));

    tasks.timer = timer_new(tasks.loop, on_time, &tasks);
    assert_false(timer_running(tasks.timer));
    timer_start(tasks.timer, 1000000);
    timer_start(tasks.timer, 1);
    while (timer_running(tasks.timer))
        loop_run_once(tasks.loop, true);
    assert_string_equal(tasks.order, "abaat");
    timer_start(tasks.timer, 0);
    timer_stop(tasks.timer);
    loop_run_once(tasks.loop, false);
    assert_string_equal(tasks.order, "abaat");
    timer_start(tasks.timer, 0);
    timer_free(tasks.timer); /* no call after it */
    loop_run_once(tasks.loop, false);
    loop_free(tasks.loop);
    assert_string_equal(tasks.order, "abaat");
}

/* ---- streams ------------------------------------------------------------------------------ */

struct pipe_end {
    struct stream *stream;
    char bytes[1 << 16];
    size_t size, room;
    int ends, errors, written, canceled;
    bool inside;
};

static void on_space(void *data, struct iovec *ret_space)
{
    struct pipe_end *end = data;
    *ret_space = (struct iovec){ end->bytes + end->size, end->room - end->size };
}

static void on_read(void *data, size_t bytes)
{
    struct pipe_end *end = data;
    end->size += bytes;
}

static void on_read_end(void *data, const struct err *err)
{
    struct pipe_end *end = data;
    end->ends++;
    end->errors += err != NULL;
}

static const struct stream_reader reader = { on_space, on_read, on_read_end };

static void on_written(struct stream_write *write, const struct err *err, void *data)
{
    struct pipe_end *end = data;
    (void)write;
    assert_false(end->inside);
    if (err) {
        assert_int_equal(err->code, ERR_CANCELED);
        end->canceled++;
    } else {
        end->written++;
    }
}

static void spin(struct loop *loop)
{
    for (int i = 0; i < 20; i++)
        loop_run_once(loop, false);
}

static void test_streams(void **state)
{
    static char big[1 << 20];
    struct loop *loop = loop_new();
    struct pipe_end a = { .room = 3 }, b = {};
    struct stream_write small = { .on_written = on_written, .data = &b };
    struct stream_write large = { .on_written = on_written, .data = &b };
    struct stream_write after = { .on_written = on_written, .data = &b };
    int fds[2];
    (void)state;
    assert_int_equal(0, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds));
    a.stream = stream_open(loop, fds[0], NULL);
    b.stream = stream_open(loop, fds[1], NULL);
    assert_int_equal(a.stream->peer.kind, ADDRESS_UNIX);
    stream_set_reader(a.stream, &reader, &a);
    stream_set_reader(b.stream, &reader, &b);
    stream_read_start(a.stream);

    struct iovec parts[] = { { big, 2 }, { big, 0 }, { (void *)"xyz", 3 } };
    b.inside = true; /* not from inside the call */
    stream_write(b.stream, &small, parts, 3);
    b.inside = false;
    spin(loop);
    assert_int_equal(b.written, 1);
    assert_int_equal(a.size, 3); /* no more space: reading stopped by itself */
    assert_false(a.stream->reading);
    a.room = sizeof a.bytes;
    stream_read_start(a.stream);
    spin(loop);
    assert_int_equal(a.size, 5);
    assert_memory_equal(a.bytes + 2, "xyz", 3);

    stream_read_stop(a.stream);
    stream_write(b.stream, &large, &(struct iovec){ big, sizeof big }, 1);
    stream_write(b.stream, &after, parts, 3);
    assert_true(stream_write_bytes(b.stream) > 0);
    spin(loop);
    assert_int_equal(b.written, 1);
    stream_close(b.stream);
    assert_int_equal(b.canceled, 0);
    spin(loop);
    assert_int_equal(b.canceled, 2);

    a.size = 0;
    stream_read_start(a.stream);
    for (int i = 0; i < 200 && !a.ends; i++) {
        a.size = 0;
        loop_run_once(loop, false);
        stream_read_start(a.stream);
    }
    assert_int_equal(a.ends, 1);
    stream_close(a.stream);
    loop_free(loop);
}

static void on_never(struct stream *stream, const struct err *err, void *data)
{
    assert_null(stream);
    *(int *)data = err->code;
}

static void test_connect(void **state)
{
    struct loop *loop = loop_new();
    struct address address;
    int code = 0;
    (void)state;
    assert_int_equal(0, address_parse(SLICE("unix:/no/such/socket"), &address, NULL));
    stream_connect(loop, &address, on_never, &code);
    assert_int_equal(code, 0);
    spin(loop);
    assert_int_equal(code, ERR_OVERLOADED);
    code = 0;
    stream_connect_cancel(stream_connect(loop, &address, on_never, &code));
    assert_int_equal(code, 0);
    spin(loop);
    assert_int_equal(code, ERR_CANCELED);
    loop_free(loop);
}

struct watched {
    unsigned events;
    int calls;
};

static void on_watch(struct watch *watch, unsigned events, void *data)
{
    struct watched *watched = data;
    watched->events |= events;
    if (++watched->calls == 3)
        watch_set(watch, 0);
}

static void test_watch(void **state)
{
    struct loop *loop = loop_new();
    struct watched watched = {};
    int fds[2];
    (void)state;
    assert_int_equal(0, pipe2(fds, O_CLOEXEC | O_NONBLOCK));
    struct watch *watch = watch_new(loop, fds[0], WATCH_READ, on_watch, &watched);
    spin(loop);
    assert_int_equal(watched.calls, 0);
    assert_int_equal(1, write(fds[1], "x", 1));
    spin(loop); /* not read: called again and again, until it is set to nothing */
    assert_int_equal(watched.calls, 3);
    assert_int_equal(watched.events, WATCH_READ);
    close(fds[1]);
    assert_int_equal(1, read(fds[0], &(char){ 0 }, 1)); /* told once all is read */
    watch_set(watch, WATCH_READ | WATCH_HANGUP);
    spin(loop);
    assert_true(watched.events & WATCH_HANGUP);
    watch_free(watch);
    close(fds[0]);
    loop_free(loop);
}

/* ---- pool --------------------------------------------------------------------------------- */

struct job {
    struct work work;
    struct counts *counts;
    pthread_barrier_t *barrier;
    bool ran, done, canceled;
};

static void job_run(struct work *work)
{
    struct job *job = (struct job *)work;
    if (job->barrier)
        pthread_barrier_wait(job->barrier);
    job->ran = true;
}

static void on_job_done(struct work *work, bool canceled)
{
    struct job *job = (struct job *)work;
    job->done = true;
    job->canceled = canceled;
    job->counts->seen++;
}

static void test_work(void **state)
{
    struct counts counts = { .loop = loop_new() };
    struct work_pool *pool = work_pool_new("test", 1);
    pthread_barrier_t barrier;
    struct job jobs[4];
    (void)state;
    pthread_barrier_init(&barrier, NULL, 2);
    for (int i = 0; i < 4; i++) {
        jobs[i] = (struct job){ .counts = &counts, .barrier = i ? NULL : &barrier };
        jobs[i].work.run = job_run;
        jobs[i].work.on_done = on_job_done;
        work_submit(pool, counts.loop, &jobs[i].work);
    }
    work_cancel(pool, &jobs[2].work); /* behind the one at the barrier */
    pthread_barrier_wait(&barrier);
    while (counts.seen < 4)
        loop_run_once(counts.loop, true);
    for (int i = 0; i < 4; i++) {
        assert_true(jobs[i].done);
        assert_int_equal(jobs[i].ran, i != 2);
        assert_int_equal(jobs[i].canceled, i == 2);
    }
    work_pool_free(pool);
    pthread_barrier_destroy(&barrier);
    loop_free(counts.loop);
}

/* Letters in the order in which they were submitted; small ones may wait. */
static const struct {
    const char *name, *given, *order;
} orders[] = {
    { "as they came", "ABC", "ABC" },
    { "what may wait waits", "aBC", "BCa" },
    { "whenever the others come", "abCdE", "CEabd" },
    { "among themselves as they came", "abc", "abc" },
};

struct letter {
    struct work work;
    char letter, *order;
    unsigned *seen;
    pthread_barrier_t *barrier;
};

static void letter_run(struct work *work)
{
    struct letter *letter = (struct letter *)work;
    if (letter->barrier)
        pthread_barrier_wait(letter->barrier);
    else
        letter->order[strlen(letter->order)] = letter->letter; /* of one thread */
}

static void on_letter_done(struct work *work, bool)
{
    ++*((struct letter *)work)->seen;
}

static void test_work_that_may_wait(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof orders / sizeof *orders; i++) {
        struct loop *loop = loop_new();
        struct work_pool *pool = work_pool_new("test", 1);
        struct letter letters[8] = {};
        char order[8] = "";
        unsigned count = (unsigned)strlen(orders[i].given), seen = 0;
        pthread_barrier_t barrier;
        pthread_barrier_init(&barrier, NULL, 2);
        print_message("  %s\n", orders[i].name);
        for (unsigned k = 0; k <= count; k++) {
            char c = k ? orders[i].given[k - 1] : 'A';
            letters[k] = (struct letter){ .letter = c, .order = order, .seen = &seen };
            letters[k].barrier = k ? NULL : &barrier; /* until all are there */
            letters[k].work =
                (struct work){ .run = letter_run, .on_done = on_letter_done, .later = c >= 'a' };
            work_submit(pool, loop, &letters[k].work);
        }
        pthread_barrier_wait(&barrier);
        while (seen <= count)
            loop_run_once(loop, true);
        assert_string_equal(order, orders[i].order);
        work_pool_free(pool);
        pthread_barrier_destroy(&barrier);
        loop_free(loop);
    }
}

/* ---- saver -------------------------------------------------------------------------------- */

static pthread_barrier_t *disk_waits; /* a disk that is slow: a sync waits here */

[[gnu::visibility("default")]] int fsync(int fd)
{
    typeof(&fsync) real = (typeof(&fsync))dlsym(RTLD_NEXT, "fsync");
    if (disk_waits)
        pthread_barrier_wait(disk_waits);
    return real(fd);
}

static void on_turn(void *data)
{
    ++*(unsigned *)data;
}

struct saves {
    char order[8];
    unsigned count, failed;
};

struct one_save {
    struct saves *saves;
    char name;
};

static void on_saved(const struct err *err, void *data)
{
    struct one_save *save = data;
    save->saves->order[save->saves->count++] = save->name;
    save->saves->failed += err != NULL;
}

/* Two syncs a save: the file's and its folder's. */
static void save_ends(void)
{
    pthread_barrier_wait(disk_waits);
    pthread_barrier_wait(disk_waits);
}

static void test_saver(void **state)
{
    char folder[] = "/tmp/perigee-saver-XXXXXX", path[64], bad[64];
    struct counts counts = { .loop = loop_new() };
    struct saver *saver = saver_new(counts.loop);
    struct saves saves = {};
    struct one_save a = { &saves, 'a' }, b = { &saves, 'b' }, c = { &saves, 'c' };
    unsigned turns = 0;
    pthread_barrier_t barrier;
    (void)state;
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/file", folder);
    snprintf(bad, sizeof bad, "%s/none/file", folder);
    pthread_barrier_init(&barrier, NULL, 2);
    disk_waits = &barrier;
    saver_save(saver, path, ENV_LINUX_WHOLE, SLICE("one"), on_saved, &a);
    saver_save(saver, bad, ENV_LINUX_WHOLE, SLICE("lost"), on_saved, &b);
    saver_save(saver, path, ENV_LINUX_WHOLE, SLICE("two"), on_saved, &c);
    /* While the disk is busy the loop goes on. */
    while (turns < 3) {
        loop_post(counts.loop, on_turn, &turns);
        loop_run_once(counts.loop, true);
    }
    assert_int_equal(saves.count, 0);
    save_ends();
    save_ends();
    while (saves.count < 3)
        loop_run_once(counts.loop, true);
    assert_string_equal(saves.order, "abc");
    assert_int_equal(saves.failed, 1);
    FILE *file = fopen(path, "r");
    char text[8] = {};
    assert_non_null(file);
    assert_int_equal(fread(text, 1, sizeof text - 1, file), 3);
    assert_string_equal(text, "two");
    fclose(file);
    /* One that is under way at the end is waited for, and nobody hears of it. */
    disk_waits = NULL;
    saver_save(saver, path, ENV_LINUX_WHOLE, SLICE("three"), on_saved, &a);
    saver_free(saver);
    loop_free(counts.loop);
    assert_int_equal(saves.count, 3);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(folder), 0);
    pthread_barrier_destroy(&barrier);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_addresses),
        cmocka_unit_test(test_posts),
        cmocka_unit_test(test_tasks),
        cmocka_unit_test(test_tasks_before_their_pass),
        cmocka_unit_test(test_a_sleeper_is_asked_again),
        cmocka_unit_test(test_streams),
        cmocka_unit_test(test_connect),
        cmocka_unit_test(test_watch),
        cmocka_unit_test(test_work),
        cmocka_unit_test(test_work_that_may_wait),
        cmocka_unit_test(test_saver),
    };
    return cmocka_run_group_tests_name("io", tests, NULL, NULL);
}
