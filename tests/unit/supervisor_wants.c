/* SPDX-License-Identifier: Apache-2.0 */
/* What the agent of a played day asks the supervisor for. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <cmocka.h> /* after the four above */

#include "supervisor_day.h"

void day_agent_wants(struct day *day, struct core_process *agent)
{
    uint64_t revision = (day->next_id + 1) % 3 + 1;
    day_agent_wants_of(day, agent, revision, revision == 3 ? "shop" : NULL);
}

static void agent_says_project(struct core_process *agent, uint64_t revision, const char *project)
{
    union message message = { .as_MESSAGE_REVISION_PROJECT =
                                  MESSAGE_INIT(MESSAGE_REVISION_PROJECT) };
    struct message_revision_project *of = &message.as_MESSAGE_REVISION_PROJECT;
    of->revision = revision;
    (void)snprintf(of->project, sizeof of->project, "%s", project);
    core_message(agent, &message, sizeof *of, NULL, 0);
}

void day_agent_wants_of(struct day *day, struct core_process *agent, uint64_t revision,
                        const char *project)
{
    union message message = { .as_MESSAGE_REPLICA_START = MESSAGE_INIT(MESSAGE_REPLICA_START) };
    struct message_replica_start *start = &message.as_MESSAGE_REPLICA_START;
    uint64_t id = ++day->next_id;
    assert_true(id < STARTS_MAX);
    if (project)
        agent_says_project(agent, revision, project);
    start->replica = id;
    start->revision = revision;
    start->slot_bytes = 64 * 1024;
    start->slots = start->concurrency = 4;
    start->threads = start->batch_max = 1;
    (void)snprintf(start->runtime, sizeof start->runtime, "onnx");
    (void)snprintf(start->name, sizeof start->name, "digits-%u", (unsigned)id);
    day->asked[id] = 1;
    day->wanted++;
    int model = open("/tmp", 0);
    core_message(agent, &message, sizeof *start, &model, 1);
}
