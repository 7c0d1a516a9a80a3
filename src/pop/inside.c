/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The helper that enters containers' networks is started by the supervisor once it is asked for,
 * and again when it dies. After an upgrade there is none until an agent asks anew, so that one that
 * is lost is asked for again, whoever has started it.
 */
#include "io/loop.h"
#include "pop/agent.h"
#include "replica/entrance.h"

static void want(void *data)
{
    struct agent *agent = data;
    struct message_empty message = MESSAGE_INIT(MESSAGE_NETNS_WANT);

    (void)wire_send(&agent->supervisor, &message, sizeof message, -1);
}

static void on_shown(uint64_t replica, const struct err *err, void *data)
{
    struct agent *agent = data;

    if (agent->inside_shown)
        agent->inside_shown(agent, replica, err);
}

static struct entrance *inside(struct agent *agent)
{
    static const struct entrance_events events = { on_shown, want };

    if (agent->entrance)
        return agent->entrance;
    agent->entrance = entrance_new(agent->loop, &events, agent);
    if (agent->inside_told)
        entrance_told(agent->entrance);
    return agent->entrance;
}

void agent_inside_open(struct agent *agent, int fd)
{
    agent->inside_wanted = true; /* it is there: another agent has asked */
    entrance_open(inside(agent), fd);
}

void agent_inside_show(struct agent *agent, uint64_t replica, int pidfd)
{
    if (!agent->inside_wanted)
        want(agent);
    agent->inside_wanted = true;
    entrance_show(inside(agent), replica, pidfd);
}

void agent_inside_told(struct agent *agent)
{
    agent->inside_told = true;
    if (agent->entrance)
        entrance_told(agent->entrance);
}

void agent_inside_forget(struct agent *agent, uint64_t replica)
{
    entrance_forget(inside(agent), replica);
}

const struct http_dialer *agent_inside_dialer(struct agent *agent)
{
    return entrance_dialer(inside(agent));
}

void agent_inside_close(struct agent *agent)
{
    entrance_free(agent->entrance);
    agent->entrance = NULL;
}
