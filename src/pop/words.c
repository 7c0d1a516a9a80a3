/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Words for people: how a replica ended, which walls it has.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include "pop/state.h"
#include "sys/sandbox.h"

static const char *const phases[] = {
    "", "putting up its walls", "loading the model", "its first run", "serving", "",
};

static size_t add(char *buffer, size_t room, size_t used, const char *text)
{
    if (used >= room)
        return used;
    int more = snprintf(buffer + used, room - used, "%s", text);
    return used + (size_t)(more > 0 ? more : 0);
}

static void signal_words(int signal, char *buffer, size_t room)
{
    const char *name = sigabbrev_np(signal);
    snprintf(buffer, room, "killed by signal %d (SIG%s)", signal, name ? name : "?");
}

const char *pop_exit_words(const struct message_replica_exited *exited, char *buffer, size_t room)
{
    char text[160] = "";
    size_t used = 0;
    int status = exited->wait_status;

    if (exited->end == REPLICA_END_NOT_STARTED) {
        used = add(buffer, room, used, "could not be started");
    } else if (exited->end != REPLICA_END_ITSELF) {
        used = add(buffer, room, used, replica_end_text(exited->end));
    } else {
        /* The wait status is believed; what the status page says are words. */
        if (exited->signal > 0 && exited->signal < NSIG && WIFEXITED(status))
            signal_words(exited->signal, text, sizeof text);
        else if (WIFSIGNALED(status))
            signal_words(WTERMSIG(status), text, sizeof text);
        else
            snprintf(text, sizeof text, "exited with code %d", WEXITSTATUS(status));
        used = add(buffer, room, used, text);
        if (exited->phase > 0 && exited->phase < 4) {
            snprintf(text, sizeof text, " while %s", phases[exited->phase]);
            used = add(buffer, room, used, text);
        }
    }
    /* A worker that was told to stop says no more than that: not "stopped: stopped". */
    if (exited->text[0] && strcmp(exited->text, buffer) != 0) {
        used = add(buffer, room, used, ": ");
        (void)add(buffer, room, used, exited->text);
    }
    return buffer;
}

const char *pop_walls_words(const struct message_replica_walls *walls, char *buffer, size_t room)
{
    static const uint32_t order[] = {
        PERIGEE_WALL_NNP,     PERIGEE_WALL_RLIMITS,  PERIGEE_WALL_ENV,  PERIGEE_WALL_FDS,
        PERIGEE_WALL_SECCOMP, PERIGEE_WALL_LANDLOCK, PERIGEE_WALL_USER, PERIGEE_WALL_MOUNT,
        PERIGEE_WALL_NET,     PERIGEE_WALL_IPC,      PERIGEE_WALL_UID,
    };
    size_t used = 0;
    buffer[0] = '\0';
    for (size_t i = 0; i < sizeof order / sizeof *order; i++) {
        char text[48];
        if (!(walls->walls & order[i]))
            continue;
        snprintf(text, sizeof text, "%s%s", used ? " " : "", sandbox_wall_name(order[i]));
        used = add(buffer, room, used, text);
        if (order[i] != PERIGEE_WALL_LANDLOCK)
            continue;
        snprintf(text, sizeof text, "(%u)", walls->landlock_abi);
        used = add(buffer, room, used, text);
    }
    if (walls->on[0]) {
        used = add(buffer, room, used, " ");
        used = add(buffer, room, used, walls->on);
    }
    if (walls->off[0]) {
        used = add(buffer, room, used, ", no ");
        (void)add(buffer, room, used, walls->off);
    }
    return buffer;
}
