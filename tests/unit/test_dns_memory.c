/* SPDX-License-Identifier: Apache-2.0 */
/* A DNS server that finds no memory for a table: the process as it is, in a thread, whose
 * supervisor the test plays. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h> /* after the above */

#include "base/arena.h"
#include "base/auto.h"
#include "base/err.h"
#include "contract/messages.h"
#include "contract/table.h"
#include "dns/dns.h"
#include "dns/today.h"
#include "faults_maps.h"
#include "soon.h"
#include "sys/channel.h"
#include "sys/fd.h"
#include "sys/shm.h"

enum { AGAIN_MS = 500, NUMBERS = 16 };

static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool tried[NUMBERS], taken[NUMBERS]; /* by the table's number */
} seen = { .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER };

static void note(bool *what)
{
    pthread_mutex_lock(&seen.lock);
    *what = true;
    pthread_cond_broadcast(&seen.changed);
    pthread_mutex_unlock(&seen.lock);
}

static bool is(const bool *what)
{
    pthread_mutex_lock(&seen.lock);
    bool holds = *what;
    pthread_mutex_unlock(&seen.lock);
    return holds;
}

static void await(const bool *what)
{
    struct timespec until;
    int r = 0;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += 10;
    pthread_mutex_lock(&seen.lock);
    while (!*what && r == 0)
        r = pthread_cond_clockwait(&seen.changed, &seen.lock, CLOCK_MONOTONIC, &until);
    pthread_mutex_unlock(&seen.lock);
    assert_int_equal(r, 0);
}

int __real_shm_map_checked(int fd, size_t bytes_max,
                           int (*valid)(struct slice bytes, struct err *err), struct slice *ret,
                           struct err *err);
int __wrap_shm_map_checked(int fd, size_t bytes_max,
                           int (*valid)(struct slice bytes, struct err *err), struct slice *ret,
                           struct err *err);
int __real_dns_view_today(const struct table_head *table, const struct dns_node *node,
                          struct dns_view **ret, struct err *err);
int __wrap_dns_view_today(const struct table_head *table, const struct dns_node *node,
                          struct dns_view **ret, struct err *err);

int __wrap_shm_map_checked(int fd, size_t bytes_max,
                           int (*valid)(struct slice bytes, struct err *err), struct slice *ret,
                           struct err *err)
{
    struct table_head head;
    int r = __real_shm_map_checked(fd, bytes_max, valid, ret, err);

    if (pread(fd, &head, sizeof head, 0) == sizeof head && head.number < NUMBERS)
        note(&seen.tried[head.number]);
    return r;
}

int __wrap_dns_view_today(const struct table_head *table, const struct dns_node *node,
                          struct dns_view **ret, struct err *err)
{
    int r = __real_dns_view_today(table, node, ret, err);

    if (r == 0)
        note(&seen.taken[table->number]);
    return r;
}

struct server {
    struct channel *channel;
    pthread_t thread;
    int fd, status;
};

static void *run(void *data)
{
    struct server *server = data;

    server->status = dns_main(server->fd, -1);
    return NULL;
}

static void tell(struct server *server, const union message *message, int fd)
{
    struct err err;

    if (channel_send(server->channel, message, message_size(message->head.type), &fd, fd >= 0,
                     &err) < 0)
        fail_msg("%s", err.message);
}

static void server_begin(struct server *server)
{
    union message message = { .as_MESSAGE_START = MESSAGE_INIT(MESSAGE_START) };
    struct err err;
    int pair[2];

    *server = (struct server){};
    for (unsigned i = 0; i < NUMBERS; i++)
        seen.tried[i] = seen.taken[i] = false;
    soon_begin(AGAIN_MS);
    assert_int_equal(channel_pair(pair, &err), 0);
    server->channel = channel_new(pair[0]);
    server->fd = pair[1];
    assert_int_equal(pthread_create(&server->thread, NULL, run, server), 0);
    message.as_MESSAGE_START.role = ROLE_DNS;
    message.as_MESSAGE_START.loops = 1;
    tell(server, &message, -1);
}

static void server_end(struct server *server)
{
    union message message = { .as_MESSAGE_DRAIN = MESSAGE_INIT(MESSAGE_DRAIN) };

    tell(server, &message, -1);
    pthread_join(server->thread, NULL);
    channel_free(server->channel);
    assert_int_equal(server->status, 0);
}

/* What a process has from its first loop on is no matter of a test. */
static int first_loop(void **state)
{
    struct server server;
    (void)state;

    server_begin(&server);
    server_end(&server);
    return 0;
}

static void table(struct server *server, uint64_t number)
{
    static const struct table_source_pop pops[] = { { .name = SLICE("local") } };
    struct table_source source = { .number = number,
                                   .pops = pops,
                                   .pop_count = 1,
                                   .zone = SLICE("perigee.test"),
                                   .pop = SLICE("local") };
    union message message = { .as_MESSAGE_TABLE_NEW = MESSAGE_INIT(MESSAGE_TABLE_NEW) };
    struct arena *arena = arena_new();
    struct slice bytes;
    struct err err;
    int fd = -1;

    assert_int_equal(table_build(arena, &source, &bytes, &err), 0);
    assert_int_equal(shm_publish("table", bytes.data, bytes.size, &fd, &err), 0);
    message.as_MESSAGE_TABLE_NEW.number = number;
    message.as_MESSAGE_TABLE_NEW.bytes = bytes.size;
    tell(server, &message, fd);
    fd_close(&fd);
    arena_free(arena);
}

/* Nobody sends it again. */
static void test_a_table_without_memory_is_taken_later(void **state)
{
    struct faults_maps_kept before = faults_maps_kept();
    struct server server;
    (void)state;

    server_begin(&server);
    table(&server, 1);
    await(&seen.taken[1]);
    faults_maps_arm(1, FAULTS_MAPS_ALL);
    table(&server, 2);
    soon_await(3);
    assert_false(is(&seen.taken[2]));
    assert_true(faults_maps_end());
    await(&seen.taken[2]);
    server_end(&server);
    faults_maps_kept_check(before);
}

static void test_a_newer_table_takes_the_place_of_one_to_come(void **state)
{
    struct faults_maps_kept before = faults_maps_kept();
    struct server server;
    (void)state;

    server_begin(&server);
    faults_maps_arm(1, FAULTS_MAPS_ALL);
    table(&server, 1);
    await(&seen.tried[1]);
    table(&server, 2);
    await(&seen.tried[2]);
    assert_true(faults_maps_end());
    await(&seen.taken[2]);
    table(&server, 3);
    await(&seen.taken[3]);
    assert_false(is(&seen.taken[1]));
    faults_maps_arm(1, FAULTS_MAPS_ALL);
    table(&server, 4); /* which it still has when it ends */
    await(&seen.tried[4]);
    server_end(&server);
    assert_true(faults_maps_end());
    faults_maps_kept_check(before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_table_without_memory_is_taken_later),
        cmocka_unit_test(test_a_newer_table_takes_the_place_of_one_to_come),
    };
    return cmocka_run_group_tests_name("dns_memory", tests, first_loop, NULL);
}
