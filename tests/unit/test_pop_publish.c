/* SPDX-License-Identifier: Apache-2.0 */
/* The table on its way to the supervisor where memory for it is not to be had (meson.build wraps
 * what is around it). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h> /* after the four above */

#include "base/auto.h"
#include "base/err.h"
#include "contract/table.h"
#include "io/loop.h"
#include "pop/agent.h"
#include "pop_world.h"
#include "soon.h"
#include "sys/shm.h"

enum { AGAIN_MS = 1000 };

static struct {
    unsigned without_memory; /* so many more find none */
    unsigned tried, sent, kept;
    uint64_t number;
} seen;

int __real_shm_publish(const char *name, const void *data, size_t bytes, int *ret_fd,
                       struct err *err);
int __wrap_shm_publish(const char *name, const void *data, size_t bytes, int *ret_fd,
                       struct err *err);
bool __wrap_wire_send(struct wire *wire, const void *message, size_t size, int fd);
void __wrap_keep_table(struct keep *keep, struct slice table);

int __wrap_shm_publish(const char *name, const void *data, size_t bytes, int *ret_fd,
                       struct err *err)
{
    seen.tried++;
    if (seen.without_memory && seen.without_memory--)
        return err_set(err, ERR_INTERNAL, "making shared memory '%s': no memory", name);
    return __real_shm_publish(name, data, bytes, ret_fd, err);
}

bool __wrap_wire_send(struct wire *, const void *message, size_t size, int fd)
{
    const struct message_table *table = message;
    assert_int_equal(table->head.type, MESSAGE_TABLE_NEW);
    assert_int_equal(size, sizeof *table);
    assert_int_equal(lseek(fd, 0, SEEK_END), table->bytes);
    seen.number = table->number;
    seen.sent++;
    return true;
}

void __wrap_keep_table(struct keep *, struct slice table)
{
    assert_true(table.size > 0);
    seen.kept++;
}

/* Nothing else may change for hours: that it failed is no reason to stay with the one before. */
static void test_a_table_without_memory_is_published_later(void **state)
{
    struct world world = { .env = { .name = "pop",
                                    .now_ns = now,
                                    .timer_start = timer_start,
                                    .timer_stop = timer_stop } };
    struct agent *agent = mem_zalloc(sizeof *agent);
    (void)state;
    memset(&seen, 0, sizeof seen);
    agent->loop = loop_new();
    pop_init(&agent->pop, &world.env, 1, &effects, &world);
    agent->gone = agent->pop.sure = true;
    soon_begin(AGAIN_MS);
    seen.without_memory = 2;
    agent->table_dirty = true;
    agent_publish_soon(agent);
    while (!seen.sent)
        loop_run_once(agent->loop, false);
    assert_int_equal(seen.tried, 3);
    assert_int_equal(soon_count(), 2); /* not at once */
    assert_int_equal(seen.number, 1);  /* those before are no table */
    assert_int_equal(seen.kept, 1);
    assert_false(agent->table_dirty);
    /* A change meanwhile is in the one that is tried again. */
    seen.without_memory = 1;
    agent->table_dirty = true;
    agent_publish_now(agent);
    assert_true(agent->table_dirty);
    agent_publish_soon(agent);
    while (seen.sent < 2)
        loop_run_once(agent->loop, false);
    assert_int_equal(seen.number, 2);
    assert_int_equal(seen.tried, 5);
    assert_int_equal(soon_count(), 3);
    agent_publish_close(agent);
    pop_deinit(&agent->pop);
    loop_free(agent->loop);
    env_timers_deinit(&world.timers);
    free(agent);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_table_without_memory_is_published_later),
    };
    return cmocka_run_group_tests_name("pop_publish", tests, NULL, NULL);
}
