/* SPDX-License-Identifier: Apache-2.0 */
#include <dlfcn.h>
#include <fcntl.h>
#include <errno.h>
#include <inttypes.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <perigee/worker.h>

#include "base/arena.h"
#include "base/err.h"
#include "cli/cli.h"
#include "cli/doctor.h"
#include "http/fetch.h"
#include "sys/home.h"
#include "sys/sandbox.h"
#include "sys/zones.h"

enum { KERNEL_MAJOR = 5, KERNEL_MINOR = 10, FILES_MIN = 4096, MIB = 1 << 20 };

void doctor_kernel(struct doctor *doctor)
{
    struct utsname name;
    unsigned major = 0, minor = 0;
    if (uname(&name) < 0 || sscanf(name.release, "%u.%u", &major, &minor) != 2) {
        doctor_say(doctor, DOCTOR_WARN, "the kernel does not say its version");
        return;
    }
    bool old = major < KERNEL_MAJOR || (major == KERNEL_MAJOR && minor < KERNEL_MINOR);
    doctor_say(doctor, old ? DOCTOR_FAIL : DOCTOR_OK, "%s %s on %s", name.sysname, name.release,
               name.machine);
    if (old)
        doctor_advise(doctor, "Perigee wants Linux %d.%d or later", KERNEL_MAJOR, KERNEL_MINOR);
}

void doctor_seccomp(struct doctor *doctor)
{
    uint32_t action = SECCOMP_RET_TRAP;
    struct sandbox sandbox;
    struct err err = {};
    if (syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) < 0) {
        doctor_say(doctor, DOCTOR_FAIL, "system calls cannot be filtered: %s", strerror(errno));
        doctor_advise(doctor, "replicas are not run without it: use a kernel with "
                              "CONFIG_SECCOMP_FILTER, or allow seccomp in the container");
        return;
    }
    if (sandbox_prepare(&sandbox, &err) < 0) {
        doctor_say(doctor, DOCTOR_FAIL, "%s", err.message);
        doctor_advise(doctor, "the library libseccomp is too old or broken");
        return;
    }
    sandbox_deinit(&sandbox);
    doctor_say(doctor, DOCTOR_OK, "system calls of replicas are filtered");
}

/* Each replica's, tried in a child as a replica would. */
static const struct sandbox_probe *walls_here(void)
{
    static struct sandbox_probe probe;
    if (probe.walls == 0) {
        fflush(NULL);
        sandbox_probe(&probe);
    }
    return &probe;
}

void doctor_landlock(struct doctor *doctor)
{
    const struct sandbox_probe *probe = walls_here();
    if (probe->landlock_abi > 0) {
        doctor_say(doctor, DOCTOR_OK, "ABI %d: replicas see no file but their model",
                   probe->landlock_abi);
        return;
    }
    const char *why = strstr(probe->off, "landlock: ");
    bool root = (probe->walls & PERIGEE_WALL_MOUNT) != 0;
    doctor_say(doctor, DOCTOR_WARN, "not in force: %s%s", why ? why + strlen("landlock: ") : "?",
               root ? "" : "; A HOSTILE MODEL CAN READ EVERY FILE THAT THIS USER CAN");
    doctor_advise(doctor,
                  root ? "a root folder of its own keeps files from each replica all the same; for "
                         "this wall too boot a kernel with Landlock (lsm=landlock,...)"
                       : "run only models you trust here; allow user namespaces, or boot a kernel "
                         "with Landlock (lsm=landlock,...), or run Perigee as root");
}

void doctor_namespaces(struct doctor *doctor)
{
    const struct sandbox_probe *probe = walls_here();
    uint32_t missing = sandbox_required() & ~(uint32_t)PERIGEE_WALL_LANDLOCK & ~probe->walls;
    const char *uid =
        probe->walls & PERIGEE_WALL_UID ? "; as root each replica gets a user of its own" : "";
    if (!missing) {
        doctor_say(doctor, DOCTOR_OK, "user, mount, net, ipc: one of each for each replica%s", uid);
        return;
    }
    doctor_say(doctor, DOCTOR_WARN, "not all stand: %s%s", probe->off, uid);
    doctor_advise(doctor,
                  "seccomp and the other walls stand all the same, but --sandbox require is "
                  "refused, and so is a second project: allow user namespaces (sysctl "
                  "user.max_user_namespaces, kernel.unprivileged_userns_clone, or what the "
                  "container's runtime calls them), and give root in a container room for users");
}

/* A child that may not be dumped, as a replica, is looked at as the supervisor looks at those. */
static bool shows_replicas(void)
{
    char path[64], word = 0;
    int pipes[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pipes) < 0)
        return false;
    pid_t child = fork();
    if (child == 0) {
        close(pipes[0]);
        (void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
        _exit(write(pipes[1], &word, 1) == 1 && read(pipes[1], &word, 1) == 0 ? 0 : 1);
    }
    close(pipes[1]);
    bool shown = child > 0 && read(pipes[0], &word, 1) == 1;
    (void)snprintf(path, sizeof path, "/proc/%d/status", (int)child);
    shown = shown && access(path, R_OK) == 0;
    close(pipes[0]); /* it ends */
    if (child > 0)
        (void)waitpid(child, NULL, 0);
    return shown;
}

void doctor_proc(struct doctor *doctor)
{
    if (shows_replicas()) {
        doctor_say(doctor, DOCTOR_OK, "/proc shows the walls of replicas");
        return;
    }
    doctor_say(doctor, DOCTOR_FAIL, "/proc does not show replicas to this user");
    doctor_advise(doctor, "no replica counts whose walls cannot be looked at: mount /proc without "
                          "hidepid, or with gid= of a group of this user, or run Perigee as root");
}

static bool worker_check(struct doctor *doctor, const char *libdir)
{
    char *path = arena_format(doctor->cli->arena, "%s/perigee-worker-onnx", libdir);
    if (access(path, X_OK) == 0)
        return true;
    doctor_say(doctor, DOCTOR_FAIL, "%s: %s", path, strerror(errno));
    doctor_advise(doctor, "install Perigee whole: models cannot run without their worker");
    return false;
}

/* In a child: what the library starts when it is loaded is not ours to have. */
static bool library_loads(struct doctor *doctor, const char *libdir, char *why, size_t room)
{
    static const char name[] = "libonnxruntime.so.1";
    const char *path = arena_format(doctor->cli->arena, "%s/%s", libdir, name);
    int status, pipes[2];
    if (pipe2(pipes, O_CLOEXEC) < 0)
        return false;
    pid_t child = fork();
    if (child == 0) {
        (void)setenv("ORT_DISABLE_TELEMETRY", "1", 1); /* read when it is loaded */
        bool loaded = dlopen(path, RTLD_LAZY | RTLD_LOCAL) || dlopen(name, RTLD_LAZY | RTLD_LOCAL);
        const char *error = loaded ? NULL : dlerror();
        if (error && write(pipes[1], error, strnlen(error, room - 1)) < 0)
            _exit(1);
        _exit(loaded ? 0 : 1);
    }
    close(pipes[1]);
    ssize_t size = child > 0 ? read(pipes[0], why, room - 1) : 0;
    close(pipes[0]);
    if (size > 0)
        why[size] = '\0';
    return child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) &&
           WEXITSTATUS(status) == 0;
}

void doctor_workers(struct doctor *doctor)
{
    char libdir[HOME_PATH_BYTES];
    struct err err = {};
    if (home_libdir(libdir, &err) < 0) {
        doctor_say(doctor, DOCTOR_FAIL, "%s", err.message);
        doctor_advise(doctor, "install Perigee whole: bin/ and lib/perigee/ side by side");
        return;
    }
    if (!worker_check(doctor, libdir))
        return;
    char why[256] = "it cannot be tried";
    if (!library_loads(doctor, libdir, why, sizeof why)) {
        doctor_say(doctor, DOCTOR_FAIL, "%s", why);
        doctor_advise(doctor, "ONNX Runtime is part of a whole installation; its library wants "
                              "libstdc++6");
        return;
    }
    doctor_say(doctor, DOCTOR_OK, "onnx, and ONNX Runtime loads, from %s", libdir);
}

void doctor_curl(struct doctor *doctor)
{
    const char *version = fetch_library();
    doctor_say(doctor, version ? DOCTOR_OK : DOCTOR_FAIL, "%.*s",
               version ? (int)strcspn(version, " ") : 29,
               version ? version : "libcurl.so.4 cannot be loaded");
    if (!version)
        doctor_advise(doctor, "install the package libcurl4: no command reaches Perigee without");
}

/* "MemAvailable:  123 kB" */
static uint64_t meminfo(const struct slice *text, const char *key)
{
    struct slice rest = *text;
    while (rest.data) {
        struct slice line = slice_cut(&rest, '\n');
        if (slice_starts(line, slice_of(key)))
            return strtoull(line.data + strlen(key), NULL, 10) * 1024;
    }
    return 0;
}

void doctor_memory(struct doctor *doctor)
{
    enum { TEXT_MAX = 64 * 1024, LOW_MIB = 512 };
    struct slice text;
    if (cli_read(doctor->cli, "/proc/meminfo", TEXT_MAX, &text, NULL) < 0) {
        doctor_say(doctor, DOCTOR_WARN, "/proc/meminfo cannot be read");
        doctor_advise(doctor, "Perigee wants /proc");
        return;
    }
    uint64_t all = meminfo(&text, "MemTotal:"), left = meminfo(&text, "MemAvailable:");
    const char *bound = "";
    /* In a container its bound is what counts. */
    if (cli_read(doctor->cli, "/sys/fs/cgroup/memory.max", TEXT_MAX, &text, NULL) == 0 &&
        text.size && text.data[0] >= '0' && text.data[0] <= '9') {
        uint64_t most = strtoull(text.data, NULL, 10);
        if (most < all) {
            all = most;
            left = left < most ? left : most;
            bound = " (of this container)";
        }
    }
    bool low = left < (uint64_t)LOW_MIB * MIB;
    doctor_say(doctor, low ? DOCTOR_WARN : DOCTOR_OK, "%" PRIu64 " MiB free of %" PRIu64 " MiB%s",
               left / MIB, all / MIB, bound);
    if (low)
        doctor_advise(doctor, "a replica reserves 512 MiB unless its flavor says less");
}

void doctor_processors(struct doctor *doctor)
{
    cpu_set_t cores;
    if (sched_getaffinity(0, sizeof cores, &cores) < 0)
        doctor_say(doctor, DOCTOR_WARN, "they cannot be counted: %s", strerror(errno));
    else
        doctor_say(doctor, DOCTOR_OK, "%d", CPU_COUNT(&cores));
}

void doctor_files(struct doctor *doctor)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return;
    bool low = limit.rlim_max != RLIM_INFINITY && limit.rlim_max < FILES_MIN;
    doctor_say(doctor, low ? DOCTOR_WARN : DOCTOR_OK, "a process may have %" PRIu64,
               (uint64_t)limit.rlim_max);
    if (low)
        doctor_advise(doctor,
                      "each connection takes one: raise it (ulimit -Hn, or LimitNOFILE= in "
                      "the unit) to %d or more",
                      FILES_MIN);
}

void doctor_clock(struct doctor *doctor)
{
    enum { YEAR_MIN = 2025, YEAR_MAX = 2100 };
    time_t now = time(NULL);
    struct tm utc = {};
    gmtime_r(&now, &utc);
    int year = utc.tm_year + 1900;
    bool wrong = year < YEAR_MIN || year > YEAR_MAX;
    doctor_say(doctor, wrong ? DOCTOR_FAIL : DOCTOR_OK, "it is %04d-%02d-%02d %02d:%02d UTC", year,
               utc.tm_mon + 1, utc.tm_mday, utc.tm_hour, utc.tm_min);
    if (wrong)
        doctor_advise(doctor, "set the clock: events, logs and certificates are by it");
}

void doctor_zones(struct doctor *doctor)
{
    struct tzif zone;
    struct err err;
    bool there = zones_read(NULL, doctor->cli->arena, SLICE("Europe/Paris"), &zone, &err) == 0;
    if (there) {
        doctor_say(doctor, DOCTOR_OK, "are in %s", zones_folder());
        return;
    }
    doctor_say(doctor, DOCTOR_WARN, "%s", err.message);
    doctor_advise(doctor, "schedules know UTC alone until you run: apt-get install tzdata");
}
