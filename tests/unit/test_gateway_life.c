/* SPDX-License-Identifier: Apache-2.0 */
/* What changes under a request that is there already: the time, the table, the gateway's end. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>
#include <cmocka.h> /* after the above */

#include "base/auto.h"
#include "base/err.h"
#include "gateway_case.h"
#include "sys/channel.h"
#include "sys/fd.h"
#include "sys/shm.h"

#define HEAD(name) "POST /v2/models/" name "/infer HTTP/1.1\r\nHost: localhost\r\n"
#define ROW                                                                                        \
    "{\"inputs\":[{\"name\":\"image\",\"shape\":[1,4],\"datatype\":\"FP32\",\"data\":[0,1,7,2]}]}"

static const struct world_endpoint digits = {
    .name = "digits",
    .queue_depth = 4,
    .concurrency = 2,
    .queue_timeout_ms = 30'000,
    .queue_cold_ms = 30'000,
    .timeout_ms = 2000,
    .body_bytes_max = 1 << 20,
    .serving = 1,
    .revisions = 1,
};

static void begin(struct world *world, struct fake *fake, const struct world_endpoint *endpoints,
                  size_t count, enum fake_mode mode)
{
    *world = (struct world){};
    case_begin(world, fake, endpoints, count, mode);
}

static void end_bare(struct world *world)
{
    world_stop(world);
    case_closed(world);
}

static void end(struct world *world, struct fake *fake)
{
    fake_release(fake);
    case_end(world, fake);
}

static int connect_loop(struct world *world, unsigned loop)
{
    for (;;) {
        struct sockaddr_in in;
        socklen_t size = sizeof in;
        int fd = world_connect(world);
        assert_int_equal(getpeername(fd, (struct sockaddr *)&in, &size), 0);
        if (ntohs(in.sin_port) == world->ports[loop])
            return fd;
        fd_close(&fd);
    }
}

/* Returns once its loop has read it. */
static int ask_over(struct world *world, int fd, const char *bytes, size_t size)
{
    assert_int_equal(send(fd, bytes, size, MSG_NOSIGNAL), size);
    world_pass(world);
    return fd;
}

static int ask(struct world *world, const char *bytes, size_t size)
{
    return ask_over(world, world_connect(world), bytes, size);
}

static int ask_loop(struct world *world, unsigned loop, const char *request)
{
    return ask_over(world, connect_loop(world, loop), request, strlen(request));
}

static void answered(int *fd, int status, const char *part)
{
    struct reply reply = world_read(*fd);

    case_answer(&reply, status, part);
    reply_free(&reply);
    fd_close(fd);
}

/* ---- time ----------------------------------------------------------------------------- */

static char *json_request(const char *head)
{
    static char request[1024];

    snprintf(request, sizeof request, "%sContent-Length: %zu\r\n\r\n%s", head, sizeof ROW - 1, ROW);
    return request;
}

/* The gateway's own clock says when: queue.cold of an endpoint without a replica is over. */
static void cold_passes(struct world *world)
{
    char *request = json_request(HEAD("cold"));
    int fd = ask(world, request, strlen(request));

    answered(&fd, 504, "starting");
}

/* Two are in the replica, and each runs for two thirds of the timeout. */
static void test_the_timeout_is_that_of_a_run(void **state)
{
    struct world_endpoint both[] = { digits, digits };
    struct world world;
    struct fake fake;
    union message message;
    char *request = json_request(HEAD("digits"));
    (void)state;

    both[1].name = "cold";
    both[1].queue_cold_ms = 1300;
    begin(&world, &fake, both, 2, FAKE_STEPS);
    int first = ask(&world, request, strlen(request));
    fake_await_taken(&fake, 1);
    int second = ask(&world, request, strlen(request));
    cold_passes(&world);
    fake_step(&fake);
    answered(&first, 200, "\"data\":[2]");
    cold_passes(&world);
    fake_step(&fake);
    answered(&second, 200, "\"data\":[2]");
    assert_false(world_maybe(&world, false, MESSAGE_REPLICA_KILL, 0, &message));
    end(&world, &fake);
}

/* Two of each loop are in the replica, which takes the loops in turn: the last one waits for three
 * runs, each of two thirds of the timeout. */
static void test_runs_of_other_loops_are_no_time_of_its_own(void **state)
{
    struct world_endpoint both[] = { digits, digits };
    struct world world;
    struct fake fake;
    union message message;
    char *request = json_request(HEAD("digits"));
    int fds[4];
    (void)state;

    both[0].concurrency = 4;
    both[1].name = "cold";
    both[1].queue_cold_ms = 1300;
    begin(&world, &fake, both, 2, FAKE_STEPS);
    for (unsigned i = 0; i < 4; i++) {
        fds[i] = ask_loop(&world, i % 2, request);
        fake_await_taken(&fake, 1);
    }
    for (unsigned i = 0; i < 4; i++) {
        cold_passes(&world);
        fake_step(&fake);
        answered(&fds[i], 200, "\"data\":[2]");
    }
    assert_false(world_maybe(&world, false, MESSAGE_REPLICA_KILL, 0, &message));
    end(&world, &fake);
}

/* The replica takes the lanes of a gateway beside this one in turn as well: three runs of theirs,
 * each of two thirds of the timeout, come first. */
static void test_runs_of_another_gateway_are_no_time_of_its_own(void **state)
{
    struct world_endpoint both[] = { digits, digits };
    struct world world;
    struct fake fake;
    union message message;
    char *request = json_request(HEAD("digits"));
    (void)state;

    both[1].name = "cold";
    both[1].queue_cold_ms = 1300;
    begin(&world, &fake, both, 2, FAKE_STEPS);
    int fd = ask_loop(&world, 0, request);
    fake_await_taken(&fake, 1);
    struct perigee_completion_lane *beside = (void *)(fake.output + PERIGEE_COMPLETIONS_OFFSET);
    beside += !(world.instance & 1) * WORLD_LOOPS;
    for (unsigned i = 0; i < 3; i++) {
        cold_passes(&world);
        atomic_fetch_add(&beside[i % WORLD_LOOPS].head, 1);
    }
    cold_passes(&world);
    fake_step(&fake);
    answered(&fd, 200, "\"data\":[2]");
    assert_false(world_maybe(&world, false, MESSAGE_REPLICA_KILL, 0, &message));
    end(&world, &fake);
}

struct kept {
    int fd;
    unsigned others; /* whose loop */
    const char *request;
};

static bool kept_has_come(struct world *world, void *data)
{
    struct kept *kept = data;
    int other = ask_loop(world, kept->others, kept->request);

    answered(&other, 200, "\"data\":[2]");
    return poll(&(struct pollfd){ kept->fd, POLLIN, 0 }, 1, 0) == 1;
}

static bool kill_has_come(struct world *world, void *data)
{
    struct kept *kept = data;
    union message message;
    int other = ask_loop(world, kept->others, kept->request);
    struct reply reply = world_read(other); /* once it is to be killed, nothing takes a request */

    reply_free(&reply);
    fd_close(&other);
    if (!world_maybe(world, false, MESSAGE_REPLICA_KILL, 0, &message))
        return false;
    assert_int_equal(message.as_MESSAGE_REPLICA_KILL.end, REPLICA_END_TIMEOUT);
    return true;
}

/* The replica keeps one request, and answers all that come after it at once. */
static void test_one_kept_request_among_others(void **state)
{
    struct world_endpoint brief = digits;
    struct world world;
    struct fake fake;
    (void)state;

    brief.timeout_ms = 300;
    brief.queue_timeout_ms = brief.queue_cold_ms = 500;
    for (unsigned others = 0; others < WORLD_LOOPS; others++) {
        struct kept kept = { .others = others, .request = json_request(HEAD("digits")) };
        begin(&world, &fake, &brief, 1, FAKE_KEEPS);
        kept.fd = ask_loop(&world, 0, kept.request);
        fake_await_taken(&fake, 1);
        assert_true(world_until(&world, kept_has_come, &kept));
        answered(&kept.fd, 504, "timeout (300 ms)");
        assert_true(world_until(&world, kill_has_come, &kept));
        end(&world, &fake);
    }
}

/* ---- walls ---------------------------------------------------------------------------- */

/* It says that it is ready; the supervisor has not looked at it from outside. */
static void test_no_request_before_the_walls_were_seen(void **state)
{
    struct world world = {};
    struct fake fake = {};
    union message message;
    char *request = json_request(HEAD("digits"));
    (void)state;

    world_start(&world, 1);
    world_table(&world, 1, &digits, 1);
    world_go(&world);
    fake_prepare(&world, &fake, 7, WORLD_REVISION(0, 1));
    fake.walls_later = true;
    fake_begin(&world, &fake, digits.concurrency);
    world_expect(&world, false, MESSAGE_REPLICA_LOOK, &message);
    assert_int_equal(message.as_MESSAGE_REPLICA_LOOK.replica, 7);
    int fd = ask(&world, request, strlen(request));
    assert_false(world_maybe(&world, true, MESSAGE_REPLICA_READY, 0, &message));
    assert_int_equal(atomic_load(&fake.taken), 0);
    fake_walls(&world, &fake);
    world_expect(&world, true, MESSAGE_REPLICA_READY, &message);
    answered(&fd, 200, "\"data\":[2]");
    end(&world, &fake);
}

/* ---- a loop that is held up ----------------------------------------------------------- */

static int held_up[2], goes_on[2];

/* Holds the thread up that it comes to. */
static void on_signal(int number)
{
    int before = errno;
    char byte = 0;

    (void)number;
    (void)!write(held_up[1], &byte, 1);
    (void)!read(goes_on[0], &byte, 1);
    (void)!write(held_up[1], &byte, 1);
    errno = before;
}

/* The test's own threads have other names. */
static pid_t thread_find(const char *name)
{
    char path[64], comm[32] = "";
    pid_t found = 0;
    DIR *threads = opendir("/proc/self/task");

    assert_non_null(threads);
    for (struct dirent *entry = readdir(threads); entry && !found; entry = readdir(threads)) {
        snprintf(path, sizeof path, "/proc/self/task/%.16s/comm", entry->d_name);
        auto_close int fd = open(path, O_RDONLY | O_CLOEXEC);
        ssize_t size = fd < 0 ? 0 : read(fd, comm, sizeof comm - 1);
        comm[size > 0 ? size - 1 : 0] = '\0';
        if (strcmp(comm, name) == 0)
            found = (pid_t)atoi(entry->d_name);
    }
    closedir(threads);
    return found;
}

static void last_loop_hold(void)
{
    struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_RESTART };
    char byte;

    assert_int_equal(pipe2(held_up, O_CLOEXEC) | pipe2(goes_on, O_CLOEXEC), 0);
    assert_int_equal(sigaction(SIGUSR1, &action, NULL), 0);
    pid_t last = thread_find("gateway/1");
    assert_true(last > 0);
    assert_int_equal(tgkill(getpid(), last, SIGUSR1), 0);
    assert_int_equal(read(held_up[0], &byte, 1), 1);
}

static void last_loop_release(void)
{
    char byte;

    assert_int_equal(write(goes_on[1], "", 1), 1);
    assert_int_equal(read(held_up[0], &byte, 1), 1);
}

static void hold_end(void) /* it goes on */
{
    for (int i = 0; i < 2; i++) {
        fd_close(&held_up[i]);
        fd_close(&goes_on[i]);
    }
}

/* ---- tables --------------------------------------------------------------------------- */

static bool all_answer(struct world *world, const char *path, int status)
{
    char request[256];
    bool right = true;

    snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n", path);
    for (unsigned i = 0; i < WORLD_LOOPS; i++) {
        struct reply reply = world_ask(world, request, strlen(request));
        right = right && reply.status == status;
        reply_free(&reply);
    }
    return right;
}

static bool table_is_there(struct world *world, void *)
{
    return all_answer(world, "/v2/models/mark", 200);
}

static bool first_loop_has_it(struct world *world)
{
    static const char request[] = "GET /v2/models/mark HTTP/1.1\r\nHost: localhost\r\n\r\n";
    auto_close int fd = connect_loop(world, 0);

    assert_int_equal(send(fd, request, sizeof request - 1, MSG_NOSIGNAL), sizeof request - 1);
    struct reply reply = world_read(fd);
    bool right = reply.status == 200;
    reply_free(&reply);
    return right;
}

static void first_loop_awaits_it(struct world *world)
{
    bool has = false;

    for (int tries = 0; tries < 10'000 && !has; tries++) /* world_until() would ask the other */
        has = first_loop_has_it(world);
    assert_true(has);
}

static void served(struct world *world, uint64_t number)
{
    union message message;

    world_expect(world, true, MESSAGE_TABLE_SERVED, &message);
    assert_int_equal(message.as_MESSAGE_TABLE_SERVED.number, number);
}

static void test_a_table_is_served_when_every_loop_has_it(void **state)
{
    struct world_endpoint both[] = { digits, digits };
    struct world world = {};
    (void)state;

    both[1].name = "mark";
    both[1].model = true;
    world_start(&world, 1);
    world_table(&world, 1, &digits, 1);
    world_go(&world);
    served(&world, 1); /* it came before the loops ran */
    last_loop_hold();
    world_table(&world, 2, both, 2);
    first_loop_awaits_it(&world);
    world_agent_again(&world);
    served(&world, 1); /* a new agent hears of what there is */
    last_loop_release();
    served(&world, 2);
    hold_end();
    end_bare(&world);
}

/* Of a revision that no table has, and dead before the loop that is held up hears of it: the main
 * thread has swept the revision away by then. (A use after free: the sanitizers see it.) */
static void test_a_replica_that_is_over_before_its_loop_knows(void **state)
{
    struct world_endpoint both[] = { digits, digits };
    struct world world = {};
    struct fake fake = {};
    (void)state;

    both[1].name = "mark";
    both[1].model = true;
    world_start(&world, 1);
    world_table(&world, 1, &digits, 1);
    world_go(&world);
    served(&world, 1);
    last_loop_hold();
    fake_prepare(&world, &fake, 7, WORLD_REVISION(0, 9));
    fake_added(&world, &fake, digits.concurrency);
    fake_exit(&world, &fake);
    world_table(&world, 2, both, 2);
    first_loop_awaits_it(&world);
    last_loop_release();
    served(&world, 2);
    hold_end();
    end_bare(&world);
}

static bool first_is_gone(struct world *world, void *)
{
    return all_answer(world, "/v2/models/digits/versions/1/ready", 400);
}

enum change {
    STAYS,
    STOPPED,
    DELETED,
    ANOTHER_OF_ITS_NAME,
    REVISION_DELETED,
    RULED,
    ELSEWHERE,
    TRAFFIC_MOVED,
    TRAFFIC_TO_MOVE, /* nothing of the next revision is there when the upload ends */
    TRAFFIC_MOVED_IN_VAIN,
};

static const struct residency_rule nowhere = { .clients.scope = RESIDENCY_ANY,
                                               .process.scope = RESIDENCY_COUNTRIES };

static void next_begin(struct world *world, struct fake *next)
{
    struct world of_next = *world; /* whose arena is another */
    union message message;
    struct err err;

    assert_int_equal(shm_create("next", WORLD_ARENA_BYTES, &of_next.arena_fd, &err), 0);
    fake_prepare(&of_next, next, 8, WORLD_REVISION(0, 2));
    fake_begin(world, next, digits.concurrency);
    fd_close(&of_next.arena_fd);
    world_expect(world, true, MESSAGE_REPLICA_READY, &message);
}

static void change_make(struct world *world, enum change change, struct fake *fake,
                        struct fake *next)
{
    struct world_endpoint now[] = { digits, digits };

    now[1].name = "mark"; /* known to who has the table */
    now[1].model = true;
    if (change == STOPPED)
        now[0].state = TABLE_ENDPOINT_STOPPED;
    if (change == RULED) { /* a PoP that does not say where it is is in no list */
        now[0].rules = &nowhere;
        now[0].rule_count = 1;
    }
    if (change == ELSEWHERE) {
        now[0].state = TABLE_ENDPOINT_ELSEWHERE;
        now[0].elsewhere = "its regions do not hold it";
    }
    if (change == DELETED)
        now[0].name = "renamed";
    if (change == ANOTHER_OF_ITS_NAME) { /* its row says who it is */
        now[0] = now[1];
        now[1] = digits;
    }
    if (change == REVISION_DELETED)
        now[0].revisions = now[0].serving = 0;
    if (change >= TRAFFIC_MOVED)
        now[0].revisions = now[0].serving = 2;
    if (change == TRAFFIC_MOVED_IN_VAIN)
        now[0].queue_cold_ms = 1;
    world_table(world, 2, now, 2);
    assert_true(world_until(world, table_is_there, NULL));
    if (change < TRAFFIC_MOVED)
        return;
    if (change == TRAFFIC_MOVED)
        next_begin(world, next);
    fake_exit(world, fake);
    assert_true(world_until(world, first_is_gone, NULL));
}

static void test_an_upload_over_a_change_of_the_table(void **state)
{
    static const char json[] =
        "{\"inputs\":[{\"name\":\"image\",\"shape\":[1,4],\"datatype\":\"FP32\","
        "\"parameters\":{\"binary_data_size\":16}}]}";
    static const float row[4] = { 0, 1, 7, 2 };
    static const struct {
        const char *name;
        enum change change;
        int status;
        const char *part;
    } rows[] = {
        { "stays", STAYS, 200, "Perigee-Revision: 1" },
        { "is stopped", STOPPED, 503, "is stopped" },
        { "is deleted", DELETED, 404, "was deleted" },
        { "is deleted, and another has its name", ANOTHER_OF_ITS_NAME, 404, "was deleted" },
        { "its revision is deleted", REVISION_DELETED, 404, "was deleted" },
        { "may no longer be processed here", RULED, 451, "no PoP is permitted" },
        { "is at other PoPs now", ELSEWHERE, 503, "is not at this PoP: its regions do not" },
        { "serves another revision", TRAFFIC_MOVED, 200, "Perigee-Revision: 2" },
        { "is to serve another revision", TRAFFIC_TO_MOVE, 200, "Perigee-Revision: 2" },
        { "is to serve one that does not come", TRAFFIC_MOVED_IN_VAIN, 504, "queue.cold" },
    };
    (void)state;

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct world world;
        struct fake fake, next = {};
        union message message;
        char request[512];
        print_message("  %s\n", rows[i].name);
        begin(&world, &fake, &digits, 1, FAKE_RIGHT);
        int size = snprintf(request, sizeof request,
                            HEAD("digits") "Inference-Header-Content-Length: %zu\r\n"
                                           "Content-Length: %zu\r\n\r\n%s",
                            sizeof json - 1, sizeof json - 1 + sizeof row, json);
        memcpy(request + size, row, 8);
        int upload = ask(&world, request, (size_t)size + 8);
        change_make(&world, rows[i].change, &fake, &next);
        assert_int_equal(send(upload, (const char *)row + 8, 8, MSG_NOSIGNAL), 8);
        if (rows[i].change == TRAFFIC_TO_MOVE) {
            world_expect(&world, false, MESSAGE_ARENA_WANT, &message);
            assert_int_equal(message.as_MESSAGE_ARENA_WANT.revision, WORLD_REVISION(0, 2));
            next_begin(&world, &next);
        }
        answered(&upload, rows[i].status, rows[i].part);
        if (rows[i].change == TRAFFIC_MOVED_IN_VAIN)
            end_bare(&world);
        else
            end(&world, rows[i].change >= TRAFFIC_MOVED ? &next : &fake);
    }
}

/* ---- the end -------------------------------------------------------------------------- */

/* Time itself is what passes. */
static void time_passes(int64_t ms)
{
    auto_close int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
    struct itimerspec at = { .it_value = { ms / 1000, ms % 1000 * 1'000'000 } };
    struct pollfd poll_fd = { fd, POLLIN, 0 };

    assert_int_equal(timerfd_settime(fd, 0, &at, NULL), 0);
    assert_int_equal(poll(&poll_fd, 1, 10'000), 1);
}

/* So many more tables find no memory. The linker has the gateway call this (meson.build). */
static _Atomic int tables_without_memory;

int __real_shm_map_checked(int fd, size_t bytes_max,
                           int (*valid)(struct slice bytes, struct err *err), struct slice *ret,
                           struct err *err);
int __wrap_shm_map_checked(int fd, size_t bytes_max,
                           int (*valid)(struct slice bytes, struct err *err), struct slice *ret,
                           struct err *err);

int __wrap_shm_map_checked(int fd, size_t bytes_max,
                           int (*valid)(struct slice bytes, struct err *err), struct slice *ret,
                           struct err *err)
{
    if (bytes_max == TABLE_BYTES_MAX && atomic_load(&tables_without_memory) > 0) {
        atomic_fetch_sub(&tables_without_memory, 1);
        return err_set(err, ERR_INTERNAL, "mapping published memory: %s", strerror(ENOMEM));
    }
    return __real_shm_map_checked(fd, bytes_max, valid, ret, err);
}

/* Nobody sends a table again: it is kept until there is memory, or a newer one. */
static void test_a_table_without_memory_is_served_later(void **state)
{
    struct world world = {};
    (void)state;

    world_start(&world, 1);
    world_table(&world, 1, &digits, 1);
    world_go(&world);
    served(&world, 1);
    atomic_store(&tables_without_memory, 2);
    world_table(&world, 2, &digits, 1);
    served(&world, 2);
    assert_int_equal(atomic_load(&tables_without_memory), 0);
    atomic_store(&tables_without_memory, 1);
    world_table(&world, 3, &digits, 1);
    world_table(&world, 4, &digits, 1);
    served(&world, 4); /* and the one before it is not taken up once more */
    time_passes(600);
    world_table(&world, 5, &digits, 1);
    served(&world, 5);
    atomic_store(&tables_without_memory, 1);
    world_table(&world, 6, &digits, 1); /* which it still has when it ends */
    end_bare(&world);
    atomic_store(&tables_without_memory, 0);
}

/* A loop that comes late to the end holds the first one's up: its tick is due by then, and finds
 * no server. */
static void test_a_tick_after_the_end(void **state)
{
    union message message = { .as_MESSAGE_DRAIN = MESSAGE_INIT(MESSAGE_DRAIN) };
    struct world world;
    struct fake fake;
    (void)state;

    begin(&world, &fake, &digits, 1, FAKE_RIGHT);
    world_pass(&world);
    last_loop_hold();
    message.as_MESSAGE_DRAIN.within_ms = 1;
    world_send(&world, &message, NULL, 0);
    time_passes(1300);
    last_loop_release();
    pthread_join(world.thread, NULL); /* it has been told to stop */
    channel_free(world.supervisor);
    channel_free(world.agent);
    fake_free(&fake);
    case_closed(&world);
    hold_end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_timeout_is_that_of_a_run),
        cmocka_unit_test(test_runs_of_other_loops_are_no_time_of_its_own),
        cmocka_unit_test(test_runs_of_another_gateway_are_no_time_of_its_own),
        cmocka_unit_test(test_one_kept_request_among_others),
        cmocka_unit_test(test_no_request_before_the_walls_were_seen),
        cmocka_unit_test(test_an_upload_over_a_change_of_the_table),
        cmocka_unit_test(test_a_tick_after_the_end),
        cmocka_unit_test(test_a_table_is_served_when_every_loop_has_it),
        cmocka_unit_test(test_a_table_without_memory_is_served_later),
        cmocka_unit_test(test_a_replica_that_is_over_before_its_loop_knows),
    };
    return cmocka_run_group_tests_name("gateway_life", tests, NULL, NULL);
}
