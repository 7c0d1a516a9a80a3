/* SPDX-License-Identifier: Apache-2.0 */
/* What is told of a replica that has ended: the kernel's word, and of its own page only words. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h> /* after the above */

#include "supervisor_day.h"

static void day_end(struct day *day)
{
    core_stop(day->core, true);
    day_run_until(day, day->now_ns + 60 * ENV_S);
    assert_int_equal(day->ended, 1);
    core_free(day->core);
    env_timers_deinit(&day->timers);
    free(day);
}

/* A replica's own page, as it may lie there when it has died: words and numbers are bounded. */
static void test_what_a_dead_ones_page_says_is_bounded(void **state)
{
    static const struct {
        uint32_t magic, phase, phase_told;
        int32_t signal, signal_told, syscall, syscall_told;
        bool endless;
    } rows[] = {
        { PERIGEE_WORKER_MAGIC, PERIGEE_PHASE_READY, PERIGEE_PHASE_READY, 11, 11, 59, 59, false },
        { PERIGEE_WORKER_MAGIC, PERIGEE_PHASE_FAILED + 1, 0, 0, 0, -1, -1, false },
        { PERIGEE_WORKER_MAGIC, 0, 0, -1, 0, -2, -1, false },
        { PERIGEE_WORKER_MAGIC, 0, 0, 4000, 0, 100'001, -1, false },
        { PERIGEE_WORKER_MAGIC, 0, 0, 0, 0, -1, -1, true },
        { PERIGEE_WORKER_MAGIC + 1, PERIGEE_PHASE_READY, 0, 11, 0, 59, -1, false },
    };
    struct day *day = day_new(23);
    const struct rusage usage = {};
    (void)state;
    day->calm = true;
    core_begin(day->core);
    day_run_until(day, ENV_S);
    day_agent_wants(day, core_role(day->core, ROLE_AGENT));
    day_run_until(day, 2 * ENV_S);
    struct core_replica *replica = LIST_FIRST(&day->core->replicas, struct core_replica, link);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct perigee_status page = {
            .magic = rows[i].magic,
            .phase = rows[i].phase,
            .signal = rows[i].signal,
            .syscall = rows[i].syscall,
        };
        const struct message_replica_exited *exited = &replica->exited;
        memset(page.reason, 'x', rows[i].endless ? sizeof page.reason : 2);
        assert_int_equal(pwrite(replica->output_fd, &page, sizeof page, 0), sizeof page);
        replica_describe_end(replica, 9, &usage);
        assert_int_equal(exited->phase, rows[i].phase_told);
        assert_int_equal(exited->signal, rows[i].signal_told);
        assert_int_equal(exited->syscall, rows[i].syscall_told);
        if (rows[i].magic != PERIGEE_WORKER_MAGIC)
            assert_non_null(strstr(exited->text, "SIGKILL"));
        else
            assert_int_equal(strspn(exited->text, "x"),
                             rows[i].endless ? sizeof page.reason - 1 : 2);
    }
    day_end(day);
}

/* What a SIGKILL was for is the control group's word, and a guess where there is none. */
static void test_why_a_killed_one_was_killed(void **state)
{
    static const struct {
        int cgroup;
        bool out_of_memory, ending;
        uint32_t end;
        const char *part;
    } rows[] = {
        { 0, false, false, REPLICA_END_ITSELF, "probably out of memory" },
        { 1, false, false, REPLICA_END_ITSELF, "not for memory, says its control group" },
        { 2, false, false, REPLICA_END_ITSELF, "not for memory, says its control group" },
        { 1, true, false, REPLICA_END_MEMORY, "were used up" },
        { 2, true, false, REPLICA_END_MEMORY, "were used up" },
        { 2, true, true, REPLICA_END_TIMEOUT, "did not answer" },
    };
    struct day *day = day_new(31);
    const struct rusage usage = {};
    (void)state;
    day->calm = true;
    core_begin(day->core);
    day_run_until(day, ENV_S);
    day_agent_wants(day, core_role(day->core, ROLE_AGENT));
    day_run_until(day, 2 * ENV_S);
    struct core_replica *replica = LIST_FIRST(&day->core->replicas, struct core_replica, link);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        replica->cgroup = rows[i].cgroup;
        replica->out_of_memory = rows[i].out_of_memory;
        replica->ending = rows[i].ending;
        replica->end = rows[i].ending ? rows[i].end : (uint32_t)REPLICA_END_ITSELF;
        replica_describe_end(replica, 9, &usage);
        assert_int_equal(replica->exited.end, rows[i].end);
        if (!strstr(replica->exited.text, rows[i].part))
            fail_msg("row %zu: %s", i, replica->exited.text);
    }
    replica->ending = false;
    day_end(day);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_a_dead_ones_page_says_is_bounded),
        cmocka_unit_test(test_why_a_killed_one_was_killed),
    };
    return cmocka_run_group_tests_name("supervisor_ends", tests, NULL, NULL);
}
