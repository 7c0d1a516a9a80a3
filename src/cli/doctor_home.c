/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <fcntl.h>
#include <libgen.h>

#include "base/arena.h"
#include "base/err.h"
#include "cli/cli.h"
#include "cli/doctor.h"
#include "cli/view.h"
#include "store/store.h"
#include "sys/fd.h"
#include "sys/listen.h"

enum { MIB = 1 << 20, DISK_FAIL_MIB = 100, DISK_WARN_MIB = 1024 };

/* The nearest folder above that is there. */
static const char *folder_there(struct doctor *doctor, const char *path)
{
    char *copy = arena_string(doctor->cli->arena, slice_of(path));
    while (access(copy, F_OK) < 0 && copy[1])
        copy = dirname(copy);
    return copy;
}

static void home_missing(struct doctor *doctor, const char *home)
{
    const char *above = folder_there(doctor, home);
    if (access(above, W_OK | X_OK) == 0) {
        doctor_say(doctor, DOCTOR_OK, "%s will be made by perigee up", home);
        return;
    }
    doctor_say(doctor, DOCTOR_FAIL, "%s is not there, and %s cannot be written: %s", home, above,
               strerror(errno));
    doctor_advise(doctor, "choose another with --home DIR or PERIGEE_HOME");
}

void doctor_home(struct doctor *doctor)
{
    const char *home = doctor->cli->home;
    struct stat st;
    if (stat(home, &st) < 0) {
        home_missing(doctor, home);
    } else if (!S_ISDIR(st.st_mode)) {
        doctor_say(doctor, DOCTOR_FAIL, "%s is no folder", home);
        doctor_advise(doctor, "choose another with --home DIR or PERIGEE_HOME");
    } else if (st.st_uid != geteuid()) {
        doctor_say(doctor, DOCTOR_FAIL, "%s belongs to user %u, and this is user %u", home,
                   st.st_uid, geteuid());
        doctor_advise(doctor, "run as that user, or choose another with --home DIR");
    } else if (access(home, R_OK | W_OK | X_OK) < 0) {
        doctor_say(doctor, DOCTOR_FAIL, "%s cannot be written: %s", home, strerror(errno));
        doctor_advise(doctor, "choose another with --home DIR or PERIGEE_HOME");
    } else if (st.st_mode & 077) {
        doctor_say(doctor, DOCTOR_WARN, "%s is open to other users (mode %04o)", home,
                   st.st_mode & 07777);
        doctor_advise(doctor, "chmod 700 %s (perigee up does it as well)", home);
    } else {
        doctor_say(doctor, DOCTOR_OK, "%s", home);
    }
}

void doctor_disk(struct doctor *doctor)
{
    struct statvfs fs;
    const char *folder = folder_there(doctor, doctor->cli->home);
    if (statvfs(folder, &fs) < 0) {
        doctor_say(doctor, DOCTOR_WARN, "%s: %s", folder, strerror(errno));
        return;
    }
    uint64_t mib = (uint64_t)fs.f_bavail * fs.f_frsize / MIB;
    if (fs.f_flag & ST_RDONLY) {
        doctor_say(doctor, DOCTOR_FAIL, "%s is on a read-only file system", folder);
        doctor_advise(doctor, "choose another with --home DIR or PERIGEE_HOME");
    } else if (mib < DISK_WARN_MIB) {
        doctor_say(doctor, mib < DISK_FAIL_MIB ? DOCTOR_FAIL : DOCTOR_WARN,
                   "%" PRIu64 " MiB are free at %s", mib, folder);
        doctor_advise(doctor, "models are kept there: free some, or move the home");
    } else if (fs.f_files && fs.f_favail < 1000) {
        doctor_say(doctor, DOCTOR_WARN, "only %" PRIu64 " more files can be made at %s",
                   (uint64_t)fs.f_favail, folder);
        doctor_advise(doctor, "remove files, or move the home");
    } else {
        doctor_say(doctor, DOCTOR_OK, "%" PRIu64 " MiB are free at %s", mib, folder);
    }
}

void doctor_database(struct doctor *doctor)
{
    char *path = arena_format(doctor->cli->arena, "%s/%s", doctor->cli->home, STORE_FILE);
    struct store_limits limits = store_limits_default();
    struct store *store;
    struct err err = {};
    if (access(path, F_OK) < 0) {
        doctor_say(doctor, DOCTOR_OK, "none yet");
        return;
    }
    if (store_sqlite_open(path, STORE_READ, &limits, &store, &err) < 0) {
        doctor_say(doctor, DOCTOR_FAIL, "%s", err.message);
        doctor_advise(doctor, "a backup can be put in its place: perigee restore FILE");
        return;
    }
    doctor_say(doctor, DOCTOR_OK, "schema %u, %s", store_schema(), store->name);
    store->close(store);
}

/* ---- the Perigee of this home --------------------------------------------------------------- */

/* By its lock, without taking it for longer than the question lasts. */
static bool home_held(const struct doctor *doctor)
{
    char *path = arena_format(doctor->cli->arena, "%s/lock", doctor->cli->home);
    auto_close int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    return fd >= 0 && flock(fd, LOCK_SH | LOCK_NB) < 0 && errno == EWOULDBLOCK;
}

void doctor_running(struct doctor *doctor)
{
    struct control_answer answer;
    struct err err = {};
    bool held = home_held(doctor);
    int r = control_call(
        doctor->cli,
        &CONTROL_REQUEST(.method = "GET", .path = "/api/v1/version", .timeout_ms = 5000), &answer,
        &err);
    if (r == 0) {
        doctor_say(doctor, DOCTOR_OK, "version %.*s answers at %s",
                   SLICE_FMT(view_text(answer.json, "version")),
                   doctor->cli->control_unix ? doctor->cli->control_unix
                                             : doctor->cli->control_url);
    } else if (held || cli_option_value(doctor->cli, "--control")) {
        doctor_say(doctor, DOCTOR_FAIL, "it runs but control does not answer: %s", err.message);
        doctor_advise(doctor, "its log (standard error of perigee up) says why");
    } else {
        doctor_say(doctor, DOCTOR_OK, "does not run on this home; start it with: perigee up");
    }
}

void doctor_ports(struct doctor *doctor)
{
    static const struct {
        const char *flag, *address;
    } ports[] = {
        { "--listen-gateway", "127.0.0.1:8000" },
        { "--listen-gateway", "127.0.0.1:8001" },
        { "--listen-admin", "127.0.0.1:8002" },
        { "--listen-control", "127.0.0.1:8080" },
    };
    size_t taken = 0;
    if (home_held(doctor)) {
        doctor_say(doctor, DOCTOR_OK, "this home's Perigee has its own");
        return;
    }
    for (size_t i = 0; i < sizeof ports / sizeof *ports; i++) {
        struct listen_address addresses[LISTEN_ADDRESSES_MAX];
        struct listen_set set;
        struct err err = {};
        size_t count;
        int r = listen_parse(ports[i].flag, ports[i].address, addresses, &count, &err);
        if (r == 0)
            r = listen_open(ports[i].flag, &addresses[0], 1, &set, &err);
        if (r == 0) {
            listen_close(&set);
            continue;
        }
        taken++;
        doctor_say(doctor, DOCTOR_WARN, "%s", err.message);
        doctor_advise(doctor, "perigee up wants it unless told: choose another with %s",
                      ports[i].flag);
    }
    if (!taken)
        doctor_say(doctor, DOCTOR_OK, "8000, 8001, 8002 and 8080 are free");
}
