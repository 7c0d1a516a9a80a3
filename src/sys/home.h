/* SPDX-License-Identifier: Apache-2.0 */
/*
 * home.h -- the folder that holds all state, held by one `perigee up` at a time.
 *
 * The lock is flock() on HOME/lock, close-on-exec: it ends with the process that took it, however
 * that ends. The file's text, the process id, is for people alone. Any thread.
 */
#pragma once

struct err;

#define HOME_PATH_BYTES 1024

/* --home, else $PERIGEE_HOME, else $XDG_DATA_HOME/perigee, else ~/.local/share/perigee. Absolute,
 * short enough that HOME/run/control.sock fits into a socket's address. `flag` may be NULL. */
[[nodiscard]] int home_resolve(const char *flag, char ret_path[static HOME_PATH_BYTES],
                               struct err *err);
/* Makes the folder and HOME/run, both 0700, with what is missing above it; says what to do where
 * that cannot be. */
[[nodiscard]] int home_make(const char *home, struct err *err);
/* ERR_CONFLICT, naming the process, when another has it. Closing *ret_fd lets go. */
[[nodiscard]] int home_lock(const char *home, int *ret_fd, struct err *err);

/* Where the workers and private libraries are, found from the running program: ../lib/perigee
 * beside its folder (installed), else lib/perigee in it (a build folder). */
[[nodiscard]] int home_libdir(char ret_path[static HOME_PATH_BYTES], struct err *err);
