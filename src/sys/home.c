/* SPDX-License-Identifier: Apache-2.0 */
#include "sys/home.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/err.h"
#include "sys/fd.h"

/* HOME/run/control.sock and its end must fit in sun_path. */
enum {
    HOME_TEXT_MAX = sizeof(((struct sockaddr_un *)NULL)->sun_path) - sizeof "/run/control.sock"
};

/* 1 where it does not fit. */
[[gnu::format(printf, 2, 3)]] static int path_format(char ret_path[static HOME_PATH_BYTES],
                                                     const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(ret_path, HOME_PATH_BYTES, format, arguments);
    va_end(arguments);
    return length >= 0 && length < HOME_PATH_BYTES ? 0 : 1;
}

static const char *environment(const char *name)
{
    const char *value = getenv(name);
    return value && *value ? value : NULL;
}

static const char *user_home(void)
{
    const char *home = environment("HOME");
    if (home && *home == '/')
        return home;
    const struct passwd *user = getpwuid(geteuid());
    return user && user->pw_dir && *user->pw_dir == '/' ? user->pw_dir : NULL;
}

static int resolve(const char *flag, char path[static HOME_PATH_BYTES], struct err *err)
{
    const char *given = flag ? flag : environment("PERIGEE_HOME");
    const char *data = environment("XDG_DATA_HOME");
    char cwd[HOME_PATH_BYTES];
    if (given && *given == '/')
        return path_format(path, "%s", given);
    if (given) {
        if (!*given)
            return err_set(err, ERR_BAD_INPUT, "--home wants a folder");
        if (!getcwd(cwd, sizeof cwd))
            return err_set(err, ERR_INTERNAL, "the current folder: %s", strerror(errno));
        return path_format(path, "%s/%s", cwd, given);
    }
    if (data && *data == '/')
        return path_format(path, "%s/perigee", data);
    if (!user_home())
        return err_set(err, ERR_BAD_INPUT,
                       "this user has no home folder; say --home DIR or set PERIGEE_HOME");
    return path_format(path, "%s/.local/share/perigee", user_home());
}

int home_resolve(const char *flag, char ret_path[static HOME_PATH_BYTES], struct err *err)
{
    char path[HOME_PATH_BYTES];
    int r = resolve(flag, path, err);
    if (r < 0)
        return r;
    size_t length = r > 0 ? HOME_PATH_BYTES : strlen(path);
    while (length > 1 && length < HOME_PATH_BYTES && path[length - 1] == '/')
        path[--length] = '\0';
    if (length > HOME_TEXT_MAX)
        return err_set(err, ERR_BAD_INPUT,
                       "the home's path has more than %d bytes, too many for the sockets in it; "
                       "choose a shorter one with --home DIR",
                       (int)HOME_TEXT_MAX);
    memcpy(ret_path, path, length + 1);
    return 0;
}

static int folder_error(struct err *err, const char *path, int error)
{
    const char *why = error == EROFS ? "it is on a read-only file system" : strerror(error);
    enum err_code code = error == EACCES || error == EROFS || error == EPERM ? ERR_FORBIDDEN
                         : error == ENOSPC || error == EDQUOT                ? ERR_OVERLOADED
                                                                             : ERR_INTERNAL;
    return err_set(err, code,
                   "the home '%s' cannot be written: %s; choose another with --home DIR or "
                   "PERIGEE_HOME",
                   path, why);
}

/* mkdir -p: what is missing above is made with the usual mode, the last with 0700. */
static int make_folders(const char *home, struct err *err)
{
    char path[HOME_PATH_BYTES];
    (void)snprintf(path, sizeof path, "%s", home);
    for (char *at = strchr(path + 1, '/'); at; at = strchr(at + 1, '/')) {
        *at = '\0';
        if (mkdir(path, 0755) < 0 && errno != EEXIST && access(path, F_OK) != 0)
            return folder_error(err, home, errno);
        *at = '/';
    }
    if (mkdir(path, 0700) < 0 && errno != EEXIST)
        return folder_error(err, home, errno);
    return 0;
}

/* As root, agent and control have no privilege left by which to walk through another user's closed
 * folder. */
static int check_way(const char *home, struct err *err)
{
    char path[HOME_PATH_BYTES];
    struct stat st;
    (void)snprintf(path, sizeof path, "%s", home);
    for (char *slash = strrchr(path, '/'); geteuid() == 0 && slash && slash > path;
         slash = strrchr(path, '/')) {
        *slash = '\0';
        if (stat(path, &st) == 0 && !(st.st_mode & S_IXOTH) &&
            !(st.st_uid == 0 && st.st_mode & S_IXUSR) && !(st.st_gid == 0 && st.st_mode & S_IXGRP))
            return err_set(err, ERR_FORBIDDEN,
                           "the home '%s' lies in '%s', which is closed to all but user %u, and "
                           "Perigee's processes have no privilege to pass; choose another with "
                           "--home DIR or PERIGEE_HOME",
                           home, path, st.st_uid);
    }
    return 0;
}

int home_make(const char *home, struct err *err)
{
    char run[HOME_PATH_BYTES + 8];
    struct stat st;
    int r = make_folders(home, err);
    if (r < 0)
        return r;
    if (stat(home, &st) < 0 || !S_ISDIR(st.st_mode))
        return folder_error(err, home, ENOTDIR);
    if (st.st_uid != geteuid())
        return err_set(err, ERR_FORBIDDEN,
                       "the home '%s' belongs to user %u, and this is user %u; choose another with "
                       "--home DIR or PERIGEE_HOME",
                       home, st.st_uid, geteuid());
    r = check_way(home, err);
    if (r < 0)
        return r;
    if ((st.st_mode & 07777) != 0700 && chmod(home, 0700) < 0)
        return folder_error(err, home, errno);
    (void)snprintf(run, sizeof run, "%s/run", home);
    if (mkdir(run, 0700) < 0 && errno != EEXIST)
        return folder_error(err, home, errno);
    if (access(run, W_OK | X_OK) < 0)
        return folder_error(err, home, errno);
    return 0;
}

int home_lock(const char *home, int *ret_fd, struct err *err)
{
    char path[HOME_PATH_BYTES + 8], text[32] = "";
    (void)snprintf(path, sizeof path, "%s/lock", home);
    auto_close int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return folder_error(err, home, errno);
    if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        if (errno != EWOULDBLOCK)
            return err_set(err, ERR_INTERNAL, "locking '%s': %s", path, strerror(errno));
        (void)!pread(fd, text, sizeof text - 1, 0);
        return err_set(err, ERR_CONFLICT,
                       "Perigee already runs on the home '%s' (process %d); stop it, or choose "
                       "another home with --home DIR",
                       home, (int)strtol(text, NULL, 10));
    }
    int length = snprintf(text, sizeof text, "%d\n", (int)getpid());
    if (ftruncate(fd, 0) < 0 || pwrite(fd, text, (size_t)length, 0) != length) {
        /* A full disk: the lock holds without its text. */
    }
    *ret_fd = take_fd(fd);
    return 0;
}

int home_libdir(char ret_path[static HOME_PATH_BYTES], struct err *err)
{
    static const char *const places[] = { "/../lib/perigee", "/lib/perigee" };
    char program[HOME_PATH_BYTES], path[HOME_PATH_BYTES];
    ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
    if (length < 0)
        return err_set(err, ERR_INTERNAL, "/proc/self/exe: %s", strerror(errno));
    program[length] = '\0';
    char *slash = strrchr(program, '/');
    if (slash)
        *slash = '\0';
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        if (path_format(path, "%s%s", program, places[i]) == 0 && access(path, X_OK) == 0) {
            memcpy(ret_path, path, sizeof path);
            return 0;
        }
    }
    return err_set(err, ERR_NOT_FOUND,
                   "no folder lib/perigee with the workers beside '%s'; install Perigee whole",
                   program);
}
