/* SPDX-License-Identifier: Apache-2.0 */
/*
 * inside.h -- a container as far as its network goes: a child process in a network namespace of its
 * own, which listens on its loopback and answers each request with what it was told to say. And the
 * helper that makes sockets in it, as a child too. As root alone. One thread; a child that is left
 * dies with the test.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "io/address.h"

struct inside {
    pid_t pid;
    int pidfd;
    struct address address; /* 127.0.0.1, and the port in there */
};

bool inside_possible(void); /* else a test of it is skipped */
void inside_begin(struct inside *inside, const char *says);
void inside_end(struct inside *inside); /* killed and reaped; again is harmless */

/* The helper of one who shows, and of `others` who ask; the channels' other ends. */
enum { INSIDE_OTHERS_MAX = 4 };
struct inside_helper {
    pid_t pid;
    int shows_fd, others_fds[INSIDE_OTHERS_MAX];
    unsigned others;
};
void inside_helper_begin(struct inside_helper *helper, unsigned others);
void inside_helper_end(struct inside_helper *helper); /* killed and reaped */
