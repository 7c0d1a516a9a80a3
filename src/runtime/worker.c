/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The template. Raw clone3 because glibc's fork cannot say CLONE_PARENT; with one thread there is
 * nothing that glibc would have to put in order but the thread id it keeps, which is set by hand.
 */
#include "runtime/worker.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <iconv.h>
#include <linux/sched.h>
#include <locale.h>
#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"
#include "runtime/command.h"
#include "runtime/replica.h"
#include "runtime/runtime.h"
#include "sys/fd.h"

#define CLONE_FDS_MAX (REPLICA_FDS_MAX + PERIGEE_GROUPS_MAX)

struct template
{
    const struct runtime *runtime;
    struct sandbox sandbox;
    pid_t *thread_id; /* where glibc keeps the first thread's id; NULL: not known */
    int null_fd;
};

/* ---- before the first clone ------------------------------------------------------------------ */

/* Neither the variables nor the bytes they stood in: a replica sees all memory of its template. */
static void empty_environment(void)
{
    for (char **variable = environ; variable && *variable; variable++)
        memset(*variable, 0, strlen(*variable));
    clearenv();
    setenv("ORT_DISABLE_TELEMETRY", "1", 1); /* in the template alone; no address of it leaves */
}

/* What would be opened at first use is opened now: behind the walls there is no such file. */
static void force_lazy(void)
{
    void *frames[4];
    static const char *const locales[] = { "C.UTF-8", "en_US.UTF-8", "en_US" };

    (void)mallopt(M_ARENA_MAX,
                  1);           /* an arena reserves 64 MiB of the address space that is limited */
    (void)backtrace(frames, 4); /* opens libgcc_s */
    tzset();
    for (size_t i = 0; i < sizeof locales / sizeof *locales; i++)
        (void)newlocale(LC_ALL_MASK, locales[i], (locale_t)0);
    iconv_t conversion = iconv_open("WCHAR_T", "UTF-8");
    if (conversion != (iconv_t)-1)
        iconv_close(conversion);
}

static int thread_count(void)
{
    int count = 0;
    DIR *tasks = opendir("/proc/self/task");

    if (!tasks)
        return -1;
    for (struct dirent *task = readdir(tasks); task; task = readdir(tasks))
        count += task->d_name[0] != '.';
    closedir(tasks);
    return count;
}

static int folder_of_executable(char *folder, size_t room, struct err *err)
{
    ssize_t size = readlink("/proc/self/exe", folder, room - 1);

    if (size <= 0)
        return err_set(err, ERR_INTERNAL, "reading /proc/self/exe: %s", strerror(errno));
    folder[size] = 0;
    char *slash = strrchr(folder, '/');
    if (!slash)
        return err_set(err, ERR_INTERNAL, "/proc/self/exe is no path");
    *slash = 0;
    return 0;
}

/* Of a test's worker alone. */
static void leave_out(struct template *template)
{
    struct sandbox_probe *probe = &template->sandbox.probe;

    probe->walls &= ~template->runtime->walls_left_out;
    if (!(probe->walls & PERIGEE_WALL_LANDLOCK))
        probe->landlock_abi = 0;
    if (!(probe->walls & (PERIGEE_WALL_USER | PERIGEE_WALL_UID)))
        probe->threads_counted = false;
}

static void tell_walls(const struct sandbox_probe *probe, struct perigee_hello *hello)
{
    static_assert(sizeof hello->walls_off == sizeof probe->off);
    hello->walls = probe->walls;
    hello->landlock_abi = (uint32_t)probe->landlock_abi;
    memcpy(hello->walls_off, probe->off, sizeof hello->walls_off);
}

static int template_prepare(struct template *template, struct perigee_hello *hello, struct err *err)
{
    char folder[4096];

    if (folder_of_executable(folder, sizeof folder, err) < 0)
        return ERR_INTERNAL;
    empty_environment();
    force_lazy();
    template->null_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (template->null_fd < 0)
        return err_set(err, ERR_INTERNAL, "opening /dev/null: %s", strerror(errno));
    int r = template->runtime->prepare(folder, hello->library, sizeof hello->library, err);
    if (r < 0)
        return r;
    clearenv();
    r = sandbox_prepare(&template->sandbox, err);
    if (r < 0)
        return r;
    leave_out(template);
    tell_walls(&template->sandbox.probe, hello);
    if (thread_count() > 1)
        return err_set(err, ERR_INTERNAL,
                       "the runtime's library has started threads in its template");
    if (prctl(PR_GET_TID_ADDRESS, &template->thread_id, 0, 0, 0) != 0)
        template->thread_id = NULL;
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0 || prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0)
        return err_set(err, ERR_INTERNAL, "prctl: %s", strerror(errno));
    return 0;
}

/* ---- the one command ------------------------------------------------------------------------- */

static int reply(const void *message, size_t size)
{
    for (;;) {
        if (send(PERIGEE_CHANNEL_FD, message, size, MSG_NOSIGNAL) == (ssize_t)size)
            return 0;
        if (errno != EAGAIN && errno != EINTR)
            return -1;
        (void)poll(&(struct pollfd){ .fd = PERIGEE_CHANNEL_FD, .events = POLLOUT }, 1, -1);
    }
}

/* Into that group (-1: its template's). No exit signal: clone3 wants it so with CLONE_PARENT; the
 * parent's SIGCHLD comes all the same. */
static pid_t clone_sibling(int group_fd)
{
    struct clone_args arguments = { .flags = CLONE_PARENT };

    if (group_fd >= 0) {
        arguments.flags |= CLONE_INTO_CGROUP;
        arguments.cgroup = (uint64_t)group_fd;
    }
    return (pid_t)syscall(SYS_clone3, &arguments, sizeof arguments);
}

/* Who cannot be cloned into its group (before Linux 5.7) is moved there by the supervisor. */
static pid_t clone_grouped(const struct perigee_clone *clone, const int *groups)
{
    pid_t pid = clone->group == PERIGEE_GROUP_FOLDER ? clone_sibling(groups[0]) : -1;

    return pid < 0 ? clone_sibling(-1) : pid;
}

/* The same for one that does not get in. One thread that moves itself is all that the kernel moves
 * without waiting for every core. */
static void enter_group(const struct perigee_clone *clone, const int *groups)
{
    for (uint32_t i = 0; clone->group == PERIGEE_GROUP_TASKS && i < clone->groups; i++)
        (void)!write(groups[i], "0", 1);
}

/* The clone tells its name itself, before its walls: should its template die just then, the
 * supervisor knows it all the same, or it could not say so and ends. */
static void tell_name(struct perigee_cloned *cloned)
{
    cloned->pid = getpid();
    cloned->error = 0;
    if (reply(cloned, sizeof *cloned) < 0)
        _exit(EXIT_FAILURE);
}

/* A clone has its template's memory, and shall not draw the numbers of the others. What has no
 * state (getrandom, arc4random) is fresh by itself; a runtime seeds what is its own after load().
 */
static void reseed(void)
{
    unsigned seeds[2];

    if (getrandom(seeds, sizeof seeds, 0) != sizeof seeds)
        _exit(EXIT_FAILURE);
    srandom(seeds[0]); /* rand()'s, too */
    srand48(seeds[1]);
}

/* False: there is none, and `cloned` says why. */
static bool template_clone(struct template *template, const struct perigee_clone *clone,
                           const int *fds, struct perigee_cloned *cloned)
{
    const int *groups = fds + PERIGEE_FD_PIPES + clone->lanes;
    pid_t pid = clone_grouped(clone, groups);

    if (pid == 0) {
        static struct replica replica;
        if (template->thread_id)
            *template->thread_id = gettid();
        enter_group(clone, groups);
        tell_name(cloned);
        reseed();
        replica = (struct replica){
            .runtime = template->runtime,
            .sandbox = &template->sandbox,
            .clone = *clone,
            .null_fd = template->null_fd,
        };
        memcpy(replica.fds, fds, (PERIGEE_FD_PIPES + clone->lanes) * sizeof *fds);
        replica_run(&replica);
    }
    cloned->error = pid < 0 ? errno : 0;
    return pid > 0;
}

/* One message and its descriptors. Returns its size, 0 at the end of the channel, -1 for nothing.
 */
static ssize_t receive(void *buffer, size_t room, int *fds, size_t *fd_count)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(CLONE_FDS_MAX * sizeof(int))];
    } control;
    struct iovec part = { buffer, room };
    struct msghdr message = {
        .msg_iov = &part,
        .msg_iovlen = 1,
        .msg_control = control.bytes,
        .msg_controllen = sizeof control.bytes,
    };
    ssize_t size = recvmsg(PERIGEE_CHANNEL_FD, &message, MSG_CMSG_CLOEXEC);

    *fd_count = 0;
    if (size <= 0)
        return size;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        memcpy(fds, CMSG_DATA(c), count * sizeof(int));
        *fd_count = count;
    }
    return size;
}

/* Returns false at the end of the channel. */
static bool obey(struct template *template)
{
    struct perigee_clone clone = {};
    int fds[CLONE_FDS_MAX] = {};
    size_t fd_count;
    ssize_t size = receive(&clone, sizeof clone, fds, &fd_count);

    if (size < 0)
        return errno == EAGAIN || errno == EINTR;
    if (size == 0)
        return false;

    struct perigee_cloned cloned = {
        .magic = PERIGEE_WORKER_MAGIC,
        .message = PERIGEE_CLONED,
        .replica = clone.replica,
        .pid = -1,
        .error = EINVAL,
    };
    bool told = false;
    const char *fault = command_fault(&clone, (size_t)size, fd_count);
    if (fault)
        log_error("template", "a clone command was refused", LOG_S("because_of", fault));
    else
        told = template_clone(template, &clone, fds, &cloned);
    for (size_t i = 0; i < fd_count; i++)
        close(fds[i]);
    return told || reply(&cloned, sizeof cloned) == 0;
}

int worker_main(int argc, char **argv, const struct runtime *runtime)
{
    static struct template template;
    struct perigee_hello hello = {
        .magic = PERIGEE_WORKER_MAGIC,
        .message = PERIGEE_HELLO,
        .version_min = PERIGEE_WORKER_VERSION_LEAST,
        .version_max = PERIGEE_WORKER_VERSION,
    };
    struct pollfd watched[] = {
        { .fd = PERIGEE_CHANNEL_FD, .events = POLLIN },
        { .fd = PERIGEE_LIFELINE_FD, .events = POLLIN },
    };
    struct err err = {};

    (void)argv;
    if (argc > 1 || fcntl(PERIGEE_CHANNEL_FD, F_GETFD) < 0 ||
        fcntl(PERIGEE_LIFELINE_FD, F_GETFD) < 0) {
        fprintf(stderr, "perigee-worker-%s is started by `perigee up`; it takes no arguments\n",
                runtime->name);
        return 2;
    }
    template.runtime = runtime;
    (void)snprintf(hello.runtime, sizeof hello.runtime, "%s", runtime->name);
    if (template_prepare(&template, &hello, &err) < 0) {
        log_error("template", "cannot start", LOG_S("runtime", runtime->name),
                  LOG_S("reason", err.message));
        return 1;
    }
    if (reply(&hello, sizeof hello) < 0)
        return 1;
    for (;;) {
        if (poll(watched, 2, -1) < 0 && errno != EINTR)
            return 1;
        /* Nothing is ever written to the lifeline: it has ended. Libraries' destructors are not
         * run: there is nothing to save, and some of them expect what is gone by then. */
        if (watched[1].revents || (watched[0].revents && !obey(&template)))
            _exit(0);
    }
}
