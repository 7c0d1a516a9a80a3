/* SPDX-License-Identifier: Apache-2.0 */
/*
 * doctor: a table of checks, each ok, warn or fail, with what to do. Nothing is changed.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/err.h"
#include "cli/cli.h"
#include "cli/commands.h"
#include "cli/doctor.h"

enum { TEXT_COLUMN = 24 };

void doctor_say(struct doctor *doctor, enum doctor_level level, const char *format, ...)
{
    va_list arguments;
    char text[DOCTOR_TEXT_BYTES];
    struct doctor_result *result = &doctor->results[doctor->count];
    if (doctor->count == DOCTOR_RESULTS_MAX)
        return;
    doctor->count++;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    *result = (struct doctor_result){ doctor->check, level,
                                      arena_string(doctor->cli->arena, slice_of(text)), "" };
}

void doctor_advise(struct doctor *doctor, const char *format, ...)
{
    va_list arguments;
    char text[DOCTOR_TEXT_BYTES];
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (doctor->count)
        doctor->results[doctor->count - 1].advice =
            arena_string(doctor->cli->arena, slice_of(text));
}

static const struct {
    const char *name;
    void (*run)(struct doctor *doctor);
} checks[] = {
    { "kernel", doctor_kernel },
    { "seccomp", doctor_seccomp },
    { "landlock", doctor_landlock },
    { "namespaces", doctor_namespaces },
    { "proc", doctor_proc },
    { "workers", doctor_workers },
    { "libcurl", doctor_curl },
    { "memory", doctor_memory },
    { "processors", doctor_processors },
    { "open files", doctor_files },
    { "clock", doctor_clock },
    { "time zones", doctor_zones },
    { "engine", doctor_engine },
    { "home", doctor_home },
    { "disk", doctor_disk },
    { "database", doctor_database },
    { "perigee", doctor_running },
    { "ports", doctor_ports },
};

/* ---- printing ------------------------------------------------------------------------------- */

static const char *level_word(enum doctor_level level)
{
    return level == DOCTOR_OK ? "ok" : level == DOCTOR_WARN ? "warn" : "fail";
}

static int results_json(struct cli *cli, const struct doctor *doctor, bool ok)
{
    struct json_writer w;
    json_begin(&w, cli->arena, 0);
    json_object_begin(&w);
    json_member_bool(&w, "ok", ok);
    json_key(&w, "checks");
    json_array_begin(&w);
    for (size_t i = 0; i < doctor->count; i++) {
        const struct doctor_result *result = &doctor->results[i];
        json_object_begin(&w);
        json_member_text(&w, "name", result->check);
        json_member_text(&w, "status", level_word(result->level));
        json_member_text(&w, "message", result->text);
        json_member_text(&w, "advice", result->advice[0] ? result->advice : NULL);
        json_object_end(&w);
    }
    json_array_end(&w);
    json_object_end(&w);
    return cli_print_written(cli, &w);
}

/* Breaks at blanks; the first line begins where the columns before have ended. */
static void text_print(const struct cli *cli, const char *text)
{
    size_t room = (size_t)cli->columns - TEXT_COLUMN, at = 0;
    while (*text) {
        size_t size = strcspn(text, " ");
        if (at && at + 1 + size > room) {
            printf("\n%*s", TEXT_COLUMN, "");
            at = 0;
        }
        if (at)
            putchar(' ');
        cli_print_text(stdout, (struct slice){ text, size });
        at += size + (at != 0);
        text += size + strspn(text + size, " ");
    }
    putchar('\n');
}

static void result_print(const struct cli *cli, const struct doctor_result *result)
{
    enum cli_color color = result->level == DOCTOR_OK     ? CLI_GREEN
                           : result->level == DOCTOR_WARN ? CLI_YELLOW
                                                          : CLI_RED;
    printf("%s%-5s%s  %-16s ", cli_color(cli, color), level_word(result->level),
           cli_color(cli, CLI_PLAIN), result->check);
    text_print(cli, result->text);
    if (!result->advice[0])
        return;
    printf("%*s%s", TEXT_COLUMN, "", cli_color(cli, CLI_BOLD));
    text_print(cli, result->advice);
    fputs(cli_color(cli, CLI_PLAIN), stdout);
}

int cmd_doctor(struct cli *cli, struct err *err)
{
    struct doctor *doctor = ARENA_NEW(cli->arena, struct doctor);
    size_t counts[3] = {};
    (void)err;
    doctor->cli = cli;
    for (size_t i = 0; i < sizeof checks / sizeof *checks; i++) {
        doctor->check = checks[i].name;
        checks[i].run(doctor);
    }
    for (size_t i = 0; i < doctor->count; i++)
        counts[doctor->results[i].level]++;
    if (counts[DOCTOR_FAIL])
        cli->exit_code = 1;
    if (cli->json)
        return results_json(cli, doctor, counts[DOCTOR_FAIL] == 0);
    for (size_t i = 0; i < doctor->count; i++)
        result_print(cli, &doctor->results[i]);
    if (counts[DOCTOR_FAIL] + counts[DOCTOR_WARN])
        printf("\n%zu to put right, %zu to know of.\n", counts[DOCTOR_FAIL], counts[DOCTOR_WARN]);
    else
        printf("\nAll is well.\n");
    return 0;
}
