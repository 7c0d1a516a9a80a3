/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rows of commands as people read them: --help within 80 columns, docs/cli.md.
 */
#include <stdarg.h>
#include <string.h>

#include "cli/cli.h"

enum { HELP_COLUMNS = 80, OPTION_COLUMN = 26, COMMAND_COLUMN = 15 };

static void wrap(FILE *out, const char *text, size_t at, size_t indent)
{
    cli_wrap(out, slice_of(text), HELP_COLUMNS, at, indent);
}

static void two_columns(FILE *out, const char *left, const char *right, size_t column)
{
    size_t at = strlen(left) + 2;
    fprintf(out, "  %s", left);
    if (at + 2 > column) {
        fputc('\n', out);
        at = 0;
    }
    fprintf(out, "%*s", (int)(column - at), "");
    wrap(out, right, column, column);
}

static void options_print(FILE *out, const struct cli_option *options)
{
    for (; options && options->name; options++) {
        char name[80];
        snprintf(name, sizeof name, "%s%s%s", options->name, options->value ? " " : "",
                 options->value ? options->value : "");
        two_columns(out, name, options->help, OPTION_COLUMN);
    }
}

static void rows_print(FILE *out, const struct cli_command *commands, size_t count)
{
    for (size_t i = 0; i < count; i++)
        two_columns(out, commands[i].name, commands[i].summary, COMMAND_COLUMN);
}

static void usage_print(FILE *out, const struct cli_command *command)
{
    fprintf(out, "perigee %s%s%s%s", command->name, command->options ? " [OPTION...]" : "",
            command->arguments[0] ? " " : "", command->arguments);
}

int cli_help(FILE *out, const struct cli *cli, const struct cli_command *command)
{
    if (!command) {
        fprintf(out, "Perigee: your model, at the nearest place that may run it.\n\n"
                     "usage: perigee COMMAND [OPTION...] [ARGUMENT...]\n\n");
        rows_print(out, cli->extra, cli->extra_count);
        rows_print(out, cli_commands, cli_command_count);
        fprintf(out, "\nperigee COMMAND --help says more, with examples.\n");
        return 0;
    }
    fprintf(out, "usage: ");
    usage_print(out, command);
    fprintf(out, "\n\n");
    wrap(out, command->summary, 0, 0);
    if (command->alias)
        fprintf(out, "Also: perigee %s\n", command->alias);
    if (command->options && command->options->name) {
        fprintf(out, "\noptions:\n");
        options_print(out, command->options);
    }
    fprintf(out, "\non every command:\n");
    options_print(out, cli_options_common);
    if (command->examples)
        fprintf(out, "\nexamples:\n%s", command->examples);
    return 0;
}

/* ---- docs/cli.md ---------------------------------------------------------------------------- */

/* A bar would end the table's cell. */
static void cell_print(FILE *out, const char *text)
{
    for (; *text; text++) {
        if (*text == '|')
            fputc('\\', out);
        fputc(*text, out);
    }
}

static void options_table(FILE *out, const struct cli_option *options)
{
    fprintf(out, "\n| option | meaning |\n| --- | --- |\n");
    for (; options->name; options++) {
        fprintf(out, "| `%s%s", options->name, options->value ? " " : "");
        cell_print(out, options->value ? options->value : "");
        fprintf(out, "`%s | ", options->many ? " ..." : "");
        cell_print(out, options->help);
        fprintf(out, " |\n");
    }
}

static void command_section(FILE *out, const struct cli_command *command)
{
    fprintf(out, "\n## %s\n\n", command->name);
    wrap(out, command->summary, 0, 0);
    if (command->alias)
        fprintf(out, "Also: `perigee %s`.\n", command->alias);
    fprintf(out, "\n    ");
    usage_print(out, command);
    fputc('\n', out);
    if (command->options && command->options->name)
        options_table(out, command->options);
    if (!command->examples)
        return;
    fprintf(out, "\nExamples:\n\n");
    for (const char *line = command->examples; *line;) {
        size_t size = strcspn(line, "\n");
        fprintf(out, "  %.*s\n", (int)size, line);
        line += size + (line[size] != '\0');
    }
}

static void reserved_section(FILE *out)
{
    fprintf(out, "\n## Not yet\n\n");
    const char *text = "These are kept for what comes, and are refused by name:";
    size_t at = fprintf(out, "%s", text) < 0 ? 0 : strlen(text);
    for (size_t i = 0; cli_reserved[i]; i++) {
        size_t size = strlen(cli_reserved[i]) + 3;
        bool fits = at + 1 + size <= HELP_COLUMNS;
        at = fits ? at + 1 + size : size;
        fprintf(out, "%s`%s`%s", fits ? " " : "\n", cli_reserved[i],
                cli_reserved[i + 1] ? "," : ".");
    }
    fputc('\n', out);
}

int cli_docs(FILE *out, const struct cli *cli)
{
    fprintf(out, "<!-- Made from the table of commands by: perigee help --markdown -->\n"
                 "# Commands\n\n"
                 "Exit codes: 0 ok, 1 failed, 2 wrong usage. `--json` prints data as JSON, whose "
                 "form is\nstable; the human form is not. With `--json` an error is an object "
                 "too, on standard error:\n`{\"error\": NAME, \"message\": TEXT}` with the names "
                 "of [errors.md](errors.md).\n\n"
                 "## On every command\n");
    options_table(out, cli_options_common);
    for (size_t i = 0; i < cli->extra_count; i++)
        command_section(out, &cli->extra[i]);
    for (size_t i = 0; i < cli_command_count; i++)
        command_section(out, &cli_commands[i]);
    reserved_section(out);
    return 0;
}
