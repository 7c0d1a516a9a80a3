/* SPDX-License-Identifier: Apache-2.0 */
/*
 * misbehave.h -- what the parts of the hostile worker share: misbehave.c is the runtime and what a
 * replica does to itself, calls.c makes any system call, lies.c writes what a gateway must not
 * believe. Test-only; one thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

struct runtime_job;

struct speech {
    struct runtime_job *job;
    char *argument;
    char text[8192]; /* what is said */
};

#define SAY(speech, ...) ((void)snprintf((speech)->text, sizeof(speech)->text, __VA_ARGS__))

void say_result(struct speech *speech, long result); /* the number, or errno's name below 0 */

/* "lie-page FIELD VALUE" or "lie-model FIELD VALUE": what others read once it is READY, and what is
 * read of it later. False: it is no such line, or there is no such field. */
bool lie_before_ready(char *line, char *region);

struct command {
    const char *name;
    void (*run)(struct speech *speech);
    bool answers; /* it has written the answer itself */
};
extern const struct command lies[], calls[];
extern const size_t lie_count, call_count;
