/* SPDX-License-Identifier: Apache-2.0 */
/*
 * resume.h -- may a reader of numbered changes go on behind the one that it has, or is it told all
 * there is? Numbers are worth something within one epoch alone: whoever gives them may begin anew
 * below them, as after a restore. Pure.
 */
#pragma once

#include <stdint.h>

/* X(id, word, what it means) */
#define RESUME_TABLE(X)                                                                            \
    X(RESUME_ON, "resumed", "it goes on behind what it has")                                       \
    X(RESUME_FIRST, "first", "it has nothing, or does not say so")                                 \
    X(RESUME_EPOCH, "epoch", "what it has is of another epoch")                                    \
    X(RESUME_BEHIND, "behind", "not all of what has happened since is known any more")             \
    X(RESUME_AHEAD, "ahead", "it has what has not happened")
enum resume {
#define RESUME(id, word, text) id,
    RESUME_TABLE(RESUME)
#undef RESUME
        RESUMES
};

/* What can be told: everything behind `known`, up to `newest`. */
struct resume_log {
    uint64_t epoch; /* never 0 */
    uint64_t known, newest;
};

/* `epoch` 0: it says none. */
enum resume resume_of(const struct resume_log *log, uint64_t epoch, uint64_t number);
const char *resume_word(enum resume resume);
