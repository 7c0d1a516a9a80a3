/* SPDX-License-Identifier: Apache-2.0 */
#include "sys/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <perigee/worker.h>

#include "base/err.h"
#include "sys/fd.h"
#include "sys/sandbox.h"

#define CAPABILITY_LAST 63

enum { REPORT_FD = PERIGEE_LIFELINE_FD + 1, FD_FREE = REPORT_FD + 1 };

static_assert(PERIGEE_CHANNEL_FD == 3 && PERIGEE_LIFELINE_FD == 4, "placed side by side");

/* Runs in the child, with its own copy of memory: failing means exit with errno on the report. */
[[gnu::noreturn]] static void child_fail(int report)
{
    int error = errno;
    (void)!write(report, &error, sizeof error);
    _exit(127);
}

/* Puts the descriptors at their numbers. All are moved out of the way first, as any of them may
 * sit at another's number. */
static void child_place(const struct spawn_detail *detail, int report)
{
    int from[3] = { detail->channel_fd, detail->lifeline_fd, report };
    for (int i = 0; i < 3; i++) {
        if (from[i] >= 0)
            from[i] = fcntl(from[i], F_DUPFD_CLOEXEC, FD_FREE);
    }
    for (int i = 0; i < 3; i++) {
        int to = PERIGEE_CHANNEL_FD + i;
        if (from[i] < 0)
            close(to);
        else if (dup3(from[i], to, to == REPORT_FD ? O_CLOEXEC : 0) < 0)
            child_fail(report);
    }
    int null = open("/dev/null", O_RDONLY);
    if (null < 0 || dup2(null, STDIN_FILENO) < 0)
        child_fail(REPORT_FD);
    if (syscall(SYS_close_range, FD_FREE, ~0U, 0) < 0)
        child_fail(REPORT_FD);
}

static void child_signals(void)
{
    struct sigaction plain = { .sa_handler = SIG_DFL };
    for (int signal = 1; signal < NSIG; signal++)
        (void)sigaction(signal, &plain, NULL);
    sigset_t none;
    sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
}

[[gnu::noreturn]] static void child_run(const struct env_spawn *spawn, int report)
{
    static const struct spawn_detail nothing = { -1, -1, 0 };
    static const char *const empty[] = { NULL };
    const struct spawn_detail *detail = spawn->detail ? spawn->detail : &nothing;

    child_signals();
    (void)setpgid(0, 0);
    child_place(detail, report);
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
        child_fail(REPORT_FD);
    if (detail->lifeline_fd >= 0 && lifeline_cut(PERIGEE_LIFELINE_FD))
        _exit(127);
    spawn_oom_score(detail->oom_score_adj);
    const char *const *environment = spawn->environment ? spawn->environment : empty;
    execve(spawn->program, (char *const *)spawn->arguments, (char *const *)environment);
    child_fail(REPORT_FD);
}

int spawn_pidfd(pid_t pid, int *ret_pidfd, struct err *err)
{
    int pidfd = (int)syscall(SYS_pidfd_open, pid, 0); /* close-on-exec by itself */
    if (pidfd < 0)
        return err_set(err, ERR_INTERNAL, "watching process %d: %s", (int)pid, strerror(errno));
    *ret_pidfd = pidfd;
    return 0;
}

int spawn_process(const struct env_spawn *spawn, pid_t *ret_pid, int *ret_pidfd, struct err *err)
{
    int report[2];
    if (pipe2(report, O_CLOEXEC) < 0)
        return err_set(err, ERR_INTERNAL, "making a pipe: %s", strerror(errno));
    auto_close int reader = report[0];
    auto_close int writer = report[1];
    pid_t pid = fork();
    if (pid < 0)
        return err_set(err, ERR_INTERNAL, "starting '%s': %s", spawn->program, strerror(errno));
    if (pid == 0)
        child_run(spawn, writer);
    fd_close(&writer);

    int error = 0;
    ssize_t n;
    do /* end of file: exec closed it */
        n = read(reader, &error, sizeof error);
    while (n < 0 && errno == EINTR);
    auto_close int pidfd = -1;
    int r = n > 0 ? err_set(err, error == ENOENT ? ERR_NOT_FOUND : ERR_INTERNAL, "running '%s': %s",
                            spawn->program, strerror(error))
                  : spawn_pidfd(pid, &pidfd, err);
    if (r < 0) {
        (void)kill(pid, SIGKILL);
        (void)waitpid(pid, NULL, 0);
        return r;
    }
    *ret_pid = pid;
    *ret_pidfd = take_fd(pidfd);
    return 0;
}

bool spawn_kill(int pidfd, int signal)
{
    return syscall(SYS_pidfd_send_signal, pidfd, signal, NULL, 0) == 0 || errno == ESRCH;
}

size_t spawn_children(pid_t *ret_pids, size_t room)
{
    char path[64];
    (void)snprintf(path, sizeof path, "/proc/self/task/%d/children", (int)getpid());
    FILE *file = fopen(path, "re");
    size_t count = 0;
    int pid;
    if (!file)
        return 0;
    while (count < room && fscanf(file, "%d", &pid) == 1)
        ret_pids[count++] = pid;
    (void)fclose(file);
    return count;
}

void spawn_oom_score(int adjust)
{
    char text[16];
    int length = snprintf(text, sizeof text, "%d", adjust);
    int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    (void)!write(fd, text, (size_t)length);
    close(fd);
}

bool lifeline_cut(int lifeline_fd)
{
    struct pollfd poll_fd = { lifeline_fd, POLLIN, 0 };
    int r = poll(&poll_fd, 1, 0);
    return r > 0 && (poll_fd.revents & (POLLHUP | POLLIN | POLLERR | POLLNVAL)) != 0;
}

int spawn_unprivileged(uint32_t uid, struct err *err)
{
    struct __user_cap_header_struct head = { _LINUX_CAPABILITY_VERSION_3, 0 };
    struct __user_cap_data_struct none[2] = {};
    for (int i = 0; i <= CAPABILITY_LAST; i++) /* as root; who has none may not, and needs not */
        (void)prctl(PR_CAPBSET_DROP, i, 0, 0, 0);
    int r = sandbox_take_user(uid, err);
    if (r < 0)
        return r;
    /* Who changes its user is asked for the signal again. */
    if (uid != 0 &&
        (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0 || prctl(PR_SET_PDEATHSIG, SIGKILL) < 0))
        return err_set(err, ERR_INTERNAL, "prctl: %s", strerror(errno));
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
        prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0 ||
        syscall(SYS_capset, &head, none) < 0)
        return err_set(err, ERR_INTERNAL, "giving up privileges: %s", strerror(errno));
    return 0;
}

void lifeline_boot(const char *name, int channel_fd, int lifeline_fd)
{
    (void)prctl(PR_SET_NAME, name);
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (lifeline_cut(lifeline_fd)) {
        (void)fprintf(stderr, "perigee: %s is started by `perigee up`, not by hand\n", name);
        exit(1);
    }
    (void)fcntl(channel_fd, F_SETFD, FD_CLOEXEC);
    (void)fcntl(lifeline_fd, F_SETFD, FD_CLOEXEC);
    (void)signal(SIGPIPE, SIG_IGN);
}
