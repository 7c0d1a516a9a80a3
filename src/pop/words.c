/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Words for people: how a replica ended, which walls it has.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include "pop/state.h"

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
        /* The wait status is believed; what the status page says are words (dataplane.md 1). */
        if (exited->signal > 0 && exited->signal < NSIG && WIFEXITED(status))
            signal_words(exited->signal, text, sizeof text);
        else if (WIFSIGNALED(status))
            signal_words(WTERMSIG(status), text, sizeof text);
        else
            snprintf(text, sizeof text, "exited with code %d", WEXITSTATUS(status));
        used = add(buffer, room, used, text);
        if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)
            used = add(buffer, room, used, ", probably out of memory or killed by hand");
        if (exited->phase > 0 && exited->phase < 4) {
            snprintf(text, sizeof text, " while %s", phases[exited->phase]);
            used = add(buffer, room, used, text);
        }
    }
    if (exited->text[0]) {
        used = add(buffer, room, used, ": ");
        (void)add(buffer, room, used, exited->text);
    }
    return buffer;
}

const char *pop_walls_words(uint32_t walls, uint32_t landlock_abi, const char *walls_off,
                            char *buffer, size_t room)
{
    static const struct {
        uint32_t bit;
        const char *name;
    } rows[] = {
        { PERIGEE_WALL_NNP, "nnp" },         { PERIGEE_WALL_RLIMITS, "rlimits" },
        { PERIGEE_WALL_ENV, "env" },         { PERIGEE_WALL_FDS, "fds" },
        { PERIGEE_WALL_SECCOMP, "seccomp" }, { PERIGEE_WALL_LANDLOCK, "landlock" },
        { PERIGEE_WALL_UID, "uid" },         { PERIGEE_WALL_USER, "user" },
        { PERIGEE_WALL_MOUNT, "mount" },     { PERIGEE_WALL_NET, "net" },
        { PERIGEE_WALL_IPC, "ipc" },
    };
    size_t used = 0;
    buffer[0] = '\0';
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (!(walls & rows[i].bit))
            continue;
        char text[48];
        if (rows[i].bit == PERIGEE_WALL_LANDLOCK)
            snprintf(text, sizeof text, "%slandlock(%u)", used ? " " : "", landlock_abi);
        else
            snprintf(text, sizeof text, "%s%s", used ? " " : "", rows[i].name);
        used = add(buffer, room, used, text);
    }
    if (walls_off && walls_off[0]) {
        used = add(buffer, room, used, ", no ");
        (void)add(buffer, room, used, walls_off);
    }
    return buffer;
}
