/* SPDX-License-Identifier: Apache-2.0 */
/*
 * "call NAME ARGUMENT...": any system call. An argument is a number, `r` (what the last call gave),
 * `b` (a buffer of 4 KiB), `i` (the page of the input arena that its request is on), `s:TEXT` or
 * `x:HEX` (their addresses). "look" says what the buffer has.
 */
#include <errno.h>
#include <seccomp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/runtime.h"
#include "worker/misbehave.h"

enum { ARGUMENTS_MAX = 6, BUFFER_BYTES = 4096, PAGE_BYTES = 4096 };

static char buffer[BUFFER_BYTES];
static long last;

static void unhex(char *text)
{
    size_t count = strlen(text) / 2;

    for (size_t i = 0; i < count; i++) {
        char pair[] = { text[2 * i], text[2 * i + 1], 0 };
        text[i] = (char)strtoul(pair, NULL, 16);
    }
}

static long value_of(const struct speech *speech, char *word)
{
    if (strcmp(word, "r") == 0)
        return last;
    if (strcmp(word, "b") == 0)
        return (long)(intptr_t)buffer;
    if (strcmp(word, "i") == 0)
        return (long)((uintptr_t)speech->job->block & ~(uintptr_t)(PAGE_BYTES - 1));
    if (strncmp(word, "s:", 2) == 0)
        return (long)(intptr_t)(word + 2);
    if (strncmp(word, "x:", 2) != 0)
        return (long)strtoull(word, NULL, 0);
    unhex(word + 2);
    return (long)(intptr_t)(word + 2);
}

static void do_call(struct speech *speech)
{
    long arguments[ARGUMENTS_MAX] = {};
    size_t count = 0;
    char *rest = speech->argument, *word = strsep(&rest, " ");
    int number = word ? seccomp_syscall_resolve_name(word) : -1;

    while (count < ARGUMENTS_MAX && (word = strsep(&rest, " ")))
        arguments[count++] = value_of(speech, word);
    if (number < 0) {
        SAY(speech, "no such call");
        return;
    }
    errno = 0;
    last = syscall(number, arguments[0], arguments[1], arguments[2], arguments[3], arguments[4],
                   arguments[5]);
    say_result(speech, last);
}

static void do_look(struct speech *speech)
{
    SAY(speech, "%.*s", BUFFER_BYTES - 1, buffer);
}

const struct command calls[] = {
    { "call", do_call, false },
    { "look", do_look, false },
};
const size_t call_count = sizeof calls / sizeof *calls;
