/* SPDX-License-Identifier: Apache-2.0 */
/* Why a replica ended. That it died, and how, is the kernel's word; its status page, which it wrote
 * itself, is believed for words alone. */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"
#include "supervisor/core_private.h"

enum { EXIT_BY_SIGNAL = 128 }; /* and the signal's number: as a worker's handler ends */

/* One copy into private memory; then every field that is used is bounded. */
static void read_status(const struct core_replica *replica, struct perigee_status *status)
{
    memset(status, 0, sizeof *status);
    ssize_t size = pread(replica->output_fd, status, sizeof *status, 0);
    if (size != sizeof *status || status->magic != PERIGEE_WORKER_MAGIC) {
        memset(status, 0, sizeof *status);
        status->syscall = -1;
    }
    if (status->phase > PERIGEE_PHASE_FAILED)
        status->phase = PERIGEE_PHASE_NONE;
    if (status->signal < 0 || status->signal >= NSIG)
        status->signal = 0;
    if (status->syscall < -1 || status->syscall > 100'000)
        status->syscall = -1;
    status->reason[sizeof status->reason - 1] = '\0';
}

/* A control group counts whom the kernel kills for memory; where there is none, nobody can tell. */
static void describe_kernel(const struct core_replica *replica, int wait_status, char *text,
                            size_t room)
{
    if (!WIFSIGNALED(wait_status))
        (void)snprintf(text, room, "it exited with status %d", WEXITSTATUS(wait_status));
    else if (WTERMSIG(wait_status) == SIGKILL)
        (void)snprintf(text, room, "it was killed (SIGKILL), %s",
                       replica->cgroup ? "and not for memory, says its control group"
                                       : "probably out of memory or by hand: it has no control "
                                         "group that could tell");
    else
        (void)snprintf(text, room, "it was killed by signal %d (%s)", WTERMSIG(wait_status),
                       strsignal(WTERMSIG(wait_status)));
}

static uint64_t microseconds(struct timeval time)
{
    return (uint64_t)time.tv_sec * 1'000'000 + (uint64_t)time.tv_usec;
}

void replica_describe_end(struct core_replica *replica, int wait_status, const struct rusage *usage)
{
    struct message_replica_exited exited = MESSAGE_INIT(MESSAGE_REPLICA_EXITED);
    struct perigee_status status;
    read_status(replica, &status);
    exited.replica = replica->start.replica;
    exited.revision = replica->start.revision;
    exited.end = replica->end;
    exited.wait_status = wait_status;
    exited.phase = (int32_t)status.phase;
    exited.signal = status.signal;
    exited.syscall = status.syscall;
    exited.cpu_user_us = microseconds(usage->ru_utime);
    exited.cpu_system_us = microseconds(usage->ru_stime);
    exited.memory_bytes_max = (uint64_t)usage->ru_maxrss * 1024;
    if (replica->out_of_memory && !replica->ending) {
        uint64_t bytes;
        uint32_t processes;
        core_replica_bounds(replica, &bytes, &processes);
        exited.end = REPLICA_END_MEMORY;
        (void)snprintf(exited.text, sizeof exited.text,
                       "its control group's %ju MiB (flavor.memory and its answers) were "
                       "used up",
                       (uintmax_t)(bytes >> 20));
    } else if (replica->ending)
        (void)snprintf(exited.text, sizeof exited.text, "%s",
                       replica->end_text[0] ? replica->end_text : replica_end_text(replica->end));
    else if (status.reason[0])
        (void)snprintf(exited.text, sizeof exited.text, "%s", status.reason);
    else
        describe_kernel(replica, wait_status, exited.text, sizeof exited.text);
    replica->exited = exited;
    log_info("supervisor", "a replica ended", LOG_S("replica", replica->start.name),
             LOG_I("pid", replica->pid), LOG_I("wait_status", wait_status),
             LOG_S("why", exited.text));
}

static bool fault(int number)
{
    return number == SIGSEGV || number == SIGBUS || number == SIGILL || number == SIGFPE ||
           number == SIGABRT || number == SIGTRAP || number == SIGSYS;
}

bool replica_crashed(const struct core_replica *replica)
{
    const struct message_replica_exited *exited = &replica->exited;
    int status = exited->wait_status;
    if (replica->ending || exited->end == REPLICA_END_MEMORY)
        return false;
    return (WIFSIGNALED(status) && fault(WTERMSIG(status))) || fault(exited->signal) ||
           (WIFEXITED(status) && fault(WEXITSTATUS(status) - EXIT_BY_SIGNAL));
}
