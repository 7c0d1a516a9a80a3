/* SPDX-License-Identifier: Apache-2.0 */
/* Whose template a replica is cloned from, how long one lives, and when another takes its place. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h> /* after the above */

#include "base/auto.h"
#include "base/err.h"
#include "supervisor/handover.h"
#include "supervisor_day.h"

enum { LOCK_FD = 1 << 23 }; /* of none that is open */

static struct day *begin(uint64_t seed)
{
    struct day *day = day_new(seed);
    day->calm = true;
    core_begin(day->core);
    day_run_until(day, ENV_S);
    return day;
}

static void end(struct day *day)
{
    core_stop(day->core, true);
    day_run_until(day, day->now_ns + 60 * ENV_S);
    assert_int_equal(day->ended, 1);
    core_free(day->core);
    env_timers_deinit(&day->timers);
    free(day);
}

static void pass(struct day *day, int64_t ns)
{
    day_run_until(day, day->now_ns + ns);
}

/* Of the revision that has the project's number; when it returns it runs, or waits for a template.
 */
static void wants(struct day *day, uint64_t revision, const char *project)
{
    day_agent_wants_of(day, &day->core->agent, revision, project);
}

static struct core_process *template_of(struct day *day, const char *project)
{
    struct core_process *template, *found = NULL;
    LIST_EACH (template, &day->core->templates, struct core_process, link)
        if (strcmp(template->project, project) == 0) {
            assert_null(found);
            found = template;
        }
    return found;
}

static struct core_replica *replica_last(struct day *day)
{
    struct core_replica *replica, *last = NULL;
    LIST_EACH (replica, &day->core->replicas, struct core_replica, link)
        if (!last || replica->start.replica > last->start.replica)
            last = replica;
    assert_non_null(last);
    return last;
}

/* It dies, asked for or not. */
static void replica_dies(struct day *day, struct core_replica *replica, bool asked)
{
    struct message_replica_kill kill = MESSAGE_INIT(MESSAGE_REPLICA_KILL);
    kill.replica = replica->start.replica;
    kill.end = REPLICA_END_STOPPED;
    if (asked)
        core_message(&day->core->agent, (const union message *)&kill, sizeof kill, NULL, 0);
    else
        day_soon(day, 0,
                 (struct event){ .what = REPLICA_DIES,
                                 .life = (uintptr_t)core_replica_shell(replica),
                                 .replica = replica });
    pass(day, 10 * ENV_MS);
}

static void revision_gone(struct day *day, uint64_t revision)
{
    struct message_revision gone = MESSAGE_INIT(MESSAGE_REVISION_GONE);
    gone.revision = revision;
    core_message(&day->core->agent, (const union message *)&gone, sizeof gone, NULL, 0);
}

static void test_each_project_has_its_own(void **state)
{
    struct day *day = begin(3);
    (void)state;
    wants(day, 1, NULL);
    wants(day, 2, "shop");
    wants(day, 3, "shop");
    wants(day, 4, "a-project-of-20-char");
    wants(day, 5, "a-project-of-20-chas");
    pass(day, ENV_S);
    assert_int_equal(day->alive_replicas, 5);
    assert_int_equal(day->core->template_count, 4);
    assert_string_equal(template_of(day, "")->name, "template onnx");
    assert_string_equal(template_of(day, "shop")->name, "template onnx/shop");
    assert_string_not_equal(template_of(day, "a-project-of-20-char")->name,
                            template_of(day, "a-project-of-20-chas")->name);
    const struct core_replica *replica;
    LIST_EACH (replica, &day->core->replicas, struct core_replica, link)
        assert_string_equal(replica->template->project, replica->revision->project);
    end(day);
}

static void test_one_that_nothing_needs_ends(void **state)
{
    struct day *day = begin(5);
    (void)state;
    wants(day, 1, NULL);
    wants(day, 2, "shop");
    pass(day, ENV_S);
    revision_gone(day, 2);
    pass(day, 200 * ENV_S); /* its replica is there yet */
    struct core_process *shop = template_of(day, "shop");
    assert_int_equal(shop->state, PROCESS_SERVING);
    replica_dies(day, replica_last(day), true);
    pass(day, 25 * ENV_S);
    assert_int_equal(shop->state, PROCESS_SERVING); /* for what comes soon */
    pass(day, 100 * ENV_S);
    assert_null(template_of(day, "shop"));
    assert_int_equal(template_of(day, "")->state, PROCESS_SERVING);
    assert_false(env_timer_armed(&day->core->spare_timer));
    wants(day, 3, "shop");
    pass(day, ENV_S);
    assert_int_equal(day->alive_replicas, 2);
    assert_int_equal(template_of(day, "shop")->state, PROCESS_SERVING);
    end(day);
}

/* It is being ended, and its project wants a replica: there is another before a second is over. */
static void test_one_that_is_wanted_while_it_ends(void **state)
{
    struct day *day = begin(7);
    (void)state;
    wants(day, 2, "shop");
    pass(day, ENV_S);
    struct core_process *shop = template_of(day, "shop");
    revision_gone(day, 2);
    replica_dies(day, replica_last(day), true);
    while (!shop->unwanted)
        pass(day, ENV_MS / 2);
    wants(day, 3, "shop");
    assert_int_equal(day->alive_replicas, 0);
    pass(day, ENV_S);
    assert_int_equal(day->alive_replicas, 1);
    assert_ptr_equal(template_of(day, "shop"), shop);
    assert_int_equal(shop->state, PROCESS_SERVING);
    end(day);
}

static void test_there_are_only_so_many(void **state)
{
    enum { PROJECTS = 2 * TEMPLATES_ALIVE_MAX };
    struct day *day = begin(11);
    char project[32];
    (void)state;
    for (uint64_t i = 1; i <= PROJECTS + 1; i++) {
        (void)snprintf(project, sizeof project, "project-%u", (unsigned)(i % PROJECTS));
        wants(day, i, project);
        pass(day, ENV_S);
        unsigned alive = 0;
        const struct core_process *template;
        LIST_EACH (template, &day->core->templates, struct core_process, link)
            alive += process_alive(template);
        assert_true(alive <= TEMPLATES_ALIVE_MAX);
        assert_int_equal(day->alive_replicas, i);
    }
    end(day);
}

#define EXITED(code) ((code) << 8)

/* Three crashes within a minute: each that follows has an exec of its own. */
static void test_crashes_are_followed_by_another(void **state)
{
    static const struct {
        const char *name;
        int64_t between_ns;
        unsigned crashes;
        int wait_status;
        bool asked, out_of_memory, renewed;
    } rows[] = {
        { "three in a row", ENV_S, 3, SIGSEGV, false, false, true },
        { "as the worker's handler ends", ENV_S, 3, EXITED(128 + SIGABRT), false, false, true },
        { "two", ENV_S, 2, SIGSEGV, false, false, false },
        { "three that were wanted", ENV_S, 3, SIGSEGV, true, false, false },
        { "three in more than a minute", 31 * ENV_S, 3, SIGSEGV, false, false, false },
        { "a model that cannot be loaded", ENV_S, 3, EXITED(1), false, false, false },
        { "killed from elsewhere", ENV_S, 3, SIGKILL, false, false, false },
        { "out of memory", ENV_S, 3, SIGKILL, false, true, false },
        { "an abort without memory", ENV_S, 3, SIGABRT, false, true, false },
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct day *day = begin(13);
        print_message("  %s\n", rows[i].name);
        day->replica_wait_status = rows[i].wait_status;
        wants(day, 1, NULL);
        for (unsigned k = 0; k < rows[i].crashes; k++) {
            wants(day, 2, "shop");
            pass(day, rows[i].between_ns);
            replica_last(day)->out_of_memory = rows[i].out_of_memory;
            replica_dies(day, replica_last(day), rows[i].asked);
        }
        struct core_process *shop = template_of(day, "shop"), *other = template_of(day, "");
        pid_t pids[4] = { shop->pid }, other_pid = other->pid;
        for (unsigned k = 1; k < 3; k++) {
            wants(day, 2, "shop");
            assert_int_equal(shop->replacing, rows[i].renewed);
            pass(day, ENV_S);
            pids[k] = shop->pid;
            assert_int_equal(pids[k] != pids[k - 1], rows[i].renewed);
            const struct core_replica *replica = replica_last(day);
            assert_int_equal(replica->state, REPLICA_RUNNING);
            assert_int_equal(replica->walls, shop->walls);
            assert_true(replica->walls != 0);
        }
        wants(day, 1, NULL); /* of whom nobody crashed */
        pass(day, ENV_S);
        assert_int_equal(other->pid, other_pid);
        if (rows[i].renewed) { /* two at once: not even these are alike */
            unsigned starts = day->starts[ROLE_TEMPLATE];
            wants(day, 2, "shop");
            wants(day, 2, "shop");
            pass(day, ENV_S);
            assert_int_equal(day->starts[ROLE_TEMPLATE], starts + 2);
        }
        pass(day, 60 * ENV_S);
        pids[0] = shop->pid;
        wants(day, 2, "shop");
        pass(day, ENV_S);
        assert_int_equal(shop->pid, pids[0]);
        end(day);
    }
}

static void test_projects_live_through_an_upgrade(void **state)
{
    struct day *day = begin(17);
    struct handover_head head = {};
    (void)state;
    wants(day, 1, NULL);
    pass(day, ENV_S);
    core_save_counts(day->core, &head);
    assert_int_equal(head.flags & HANDOVER_PROJECTS, 0); /* one of before reads it, too */
    wants(day, 2, "shop");
    pass(day, ENV_S);
    core_save_counts(day->core, &head);
    assert_int_not_equal(head.flags & HANDOVER_PROJECTS, 0);
    day_handover(day, 2);
    core_upgrade_begin(day->core);
    pass(day, 5 * ENV_S);
    assert_int_equal(day->upgrades_done, 1);
    wants(day, 2, NULL);
    pass(day, ENV_S);
    assert_int_equal(day->alive_replicas, 3);
    assert_int_equal(day->core->template_count, 2);
    assert_string_equal(replica_last(day)->template->project, "shop");
    end(day);
}

/* A state of before has no projects: the agent says them of replicas that run. */
static void test_a_replica_whose_project_is_said_late(void **state)
{
    struct day *day = begin(19);
    union message message = { .as_MESSAGE_REVISION_PROJECT =
                                  MESSAGE_INIT(MESSAGE_REVISION_PROJECT) };
    struct message_revision_project *said = &message.as_MESSAGE_REVISION_PROJECT;
    (void)state;
    wants(day, 1, NULL);
    wants(day, 1, NULL);
    pass(day, ENV_S);
    day_handover(day, 2);
    core_upgrade_begin(day->core);
    pass(day, 5 * ENV_S);
    said->revision = 1;
    (void)snprintf(said->project, sizeof said->project, "shop");
    core_message(&day->core->agent, &message, sizeof *said, NULL, 0);
    pass(day, 120 * ENV_S);
    day->replica_wait_status = SIGSEGV;
    replica_dies(day, replica_last(day), false);
    assert_int_equal(day->alive_replicas, 1);
    day_handover(day, 3); /* what is saved is read */
    core_upgrade_begin(day->core);
    pass(day, 120 * ENV_S);
    assert_int_equal(day->upgrades_done, 2);
    assert_ptr_equal(replica_last(day)->template, template_of(day, ""));
    replica_dies(day, replica_last(day), false);
    pass(day, 120 * ENV_S);
    assert_int_equal(day->core->template_count, 0); /* it needs none any more */
    end(day);
}

/* What a program without projects reads: no rows of them, eight templates, and no unwanted one.
 * Returns how many clones are under way there. */
static unsigned before_reads(const struct core *core, uint32_t flags)
{
    struct handover_head head = { .flags = flags,
                                  .lock_fd = LOCK_FD,
                                  .lifeline_fds = { LOCK_FD + 1, LOCK_FD + 2 },
                                  .socket_fd = -1,
                                  .client_fd = -1,
                                  .before_fd = -1,
                                  .start = core->config.start };
    struct handover out;
    struct err err;
    core_save_counts(core, &head);
    handover_seal(&head);
    char *memory = mem_zalloc(head.bytes);
    memcpy(memory, &head, sizeof head);
    handover_place(memory, &out);
    core_save(core, &out);
    out.head->flags &= HANDOVER_READS_PROJECTS - 1; /* it knows no others */
    assert_int_equal(out.head->flags & HANDOVER_PROJECTS, 0);
    assert_true(out.head->process_count <= HANDOVER_ROLES + 8);
    if (handover_read(memory, head.bytes, &out, &err) < 0)
        fail_msg("%s", err.message);
    unsigned cloning = 0;
    for (uint32_t i = HANDOVER_ROLES; i < out.head->process_count; i++)
        assert_false(out.processes[i].unwanted);
    for (uint32_t i = 0; i < out.head->replica_count; i++)
        if (out.replicas[i].state == REPLICA_CLONING) { /* it is the one that tells of it */
            const struct core_replica *replica =
                replica_find((struct core *)core, out.replicas[i].start.replica);
            assert_string_equal(out.processes[out.replicas[i].template].name,
                                replica->template->name);
            cloning++;
        }
    free(memory);
    return cloning;
}

static void test_a_first_upgrade_goes_back(void **state)
{
    enum { PROJECTS = 12 };
    struct day *day = begin(23);
    char project[32];
    (void)state;
    assert_int_equal(handover_back_flags(HANDOVER_READS_PROJECTS), HANDOVER_BACK);
    for (uint64_t i = 1; i <= PROJECTS; i++) {
        (void)snprintf(project, sizeof project, "project-%u", (unsigned)i);
        wants(day, i, project);
        pass(day, ENV_S);
    }
    template_of(day, "project-1")->unwanted = true;
    wants(day, PROJECTS, project); /* the last one clones */
    assert_true(day_cloning(day));
    assert_int_equal(before_reads(day->core, handover_back_flags(0)), 1);
    for (uint64_t i = 2; i < PROJECTS; i++)
        wants(day, i, NULL);
    assert_int_equal(before_reads(day->core, handover_back_flags(0)), 8);
    template_of(day, "project-1")->unwanted = false;
    end(day);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_project_has_its_own),
        cmocka_unit_test(test_one_that_nothing_needs_ends),
        cmocka_unit_test(test_one_that_is_wanted_while_it_ends),
        cmocka_unit_test(test_there_are_only_so_many),
        cmocka_unit_test(test_crashes_are_followed_by_another),
        cmocka_unit_test(test_projects_live_through_an_upgrade),
        cmocka_unit_test(test_a_replica_whose_project_is_said_late),
        cmocka_unit_test(test_a_first_upgrade_goes_back),
    };
    return cmocka_run_group_tests_name("supervisor_templates", tests, NULL, NULL);
}
