/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cli.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/err.h"
#include "spec/endpoint.h"
#include "sys/home.h"

const struct cli_option cli_options_common[] = {
    { "--json", NULL, "Print data as JSON (stable; the human form is not).", false },
    { "--control", "URL",
      "Where control is; else $PERIGEE_CONTROL, the context, the home's Perigee.", false },
    { "--home", "DIR", "The home; else $PERIGEE_HOME, else the XDG data folder's perigee/.",
      false },
    { "--project", "NAME", "The project; else $PERIGEE_PROJECT, else default.", false },
    { "--help", NULL, "This text.", false },
    {},
};

/* ---- parsing --------------------------------------------------------------------------------- */

static const struct cli_command *find_in(const struct cli_command *commands, size_t count,
                                         const char *name)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(commands[i].name, name) == 0 ||
            (commands[i].alias && strcmp(commands[i].alias, name) == 0))
            return &commands[i];
    return NULL;
}

static const struct cli_command *command_find(const struct cli *cli, const char *name)
{
    const struct cli_command *found = find_in(cli_commands, cli_command_count, name);
    return found ? found : find_in(cli->extra, cli->extra_count, name);
}

static const struct cli_option *option_find(const struct cli_option *options, const char *name,
                                            size_t size)
{
    for (; options && options->name; options++)
        if (strlen(options->name) == size && memcmp(options->name, name, size) == 0)
            return options;
    return NULL;
}

static int option_unknown(const struct cli *cli, const char *name, size_t size, struct err *err)
{
    const char *known[CLI_VALUES_MAX + 16];
    size_t count = 0;
    const struct cli_option *lists[] = { cli->command->options, cli_options_common };
    for (size_t l = 0; l < 2; l++)
        for (const struct cli_option *o = lists[l]; o && o->name && count < CLI_VALUES_MAX; o++)
            known[count++] = o->name;
    known[count] = NULL;
    struct slice word = { name, size };
    const char *near = json_nearest(word, known);
    return err_set(err, ERR_BAD_INPUT, "%s has no option %s%s%s%s", cli->command->name,
                   ERR_SLICE(word), near ? " (did you mean " : "", near ? near : "",
                   near ? "?)" : "");
}

static int option_take(struct cli *cli, char **argv, int argc, int *i, struct err *err)
{
    const char *word = argv[*i], *equals = strchr(word, '=');
    size_t size = equals ? (size_t)(equals - word) : strlen(word);
    const struct cli_option *option = option_find(cli->command->options, word, size);
    if (!option)
        option = option_find(cli_options_common, word, size);
    if (!option)
        return option_unknown(cli, word, size, err);
    const char *value = "";
    if (option->value) {
        if (equals)
            value = equals + 1;
        else if (*i + 1 < argc)
            value = argv[++*i];
        else
            return err_set(err, ERR_BAD_INPUT, "%s wants a value: %s %s", option->name,
                           option->name, option->value);
    } else if (equals) {
        return err_set(err, ERR_BAD_INPUT, "%s takes no value", option->name);
    }
    if (!option->many && cli_option_value(cli, option->name))
        return err_set(err, ERR_BAD_INPUT, "%s is given twice", option->name);
    if (cli->value_count == CLI_VALUES_MAX)
        return err_set(err, ERR_BAD_INPUT, "too many options");
    cli->values[cli->value_count].option = option;
    cli->values[cli->value_count++].value = value;
    return 0;
}

static int parse(struct cli *cli, int argc, char **argv, struct err *err)
{
    static char help[] = "--help", file[] = "--file", labels[] = "--labels";
    bool plain = false;
    for (int i = 0; i < argc; i++) {
        if (!plain && strcmp(argv[i], "--") == 0) {
            plain = true;
        } else if (!plain && argv[i][0] == '-' && argv[i][1]) {
            char *word = argv[i];
            if (strcmp(word, "-h") == 0)
                argv[i] = help;
            else if (strcmp(word, "-f") == 0)
                argv[i] = file;
            else if (strcmp(word, "-l") == 0)
                argv[i] = labels;
            int r = option_take(cli, argv, argc, &i, err);
            if (r < 0)
                return r;
        } else if (cli->argument_count == CLI_ARGUMENTS_MAX) {
            return err_set(err, ERR_BAD_INPUT, "too many arguments");
        } else {
            cli->arguments[cli->argument_count++] = argv[i];
        }
    }
    if (cli_option_value(cli, "--help"))
        return 0;
    if (cli->argument_count < cli->command->arguments_min)
        return err_set(err, ERR_BAD_INPUT, "%s wants %s", cli->command->name,
                       cli->command->arguments);
    if (cli->argument_count > cli->command->arguments_max)
        return err_set(err, ERR_BAD_INPUT, "%s does not know what to do with '%s'",
                       cli->command->name, ERR_TEXT(cli->arguments[cli->command->arguments_max]));
    return 0;
}

const char *cli_option_nth(const struct cli *cli, const char *name, size_t index)
{
    for (size_t i = 0; i < cli->value_count; i++)
        if (strcmp(cli->values[i].option->name, name) == 0 && index-- == 0)
            return cli->values[i].value;
    return NULL;
}

const char *cli_option_value(const struct cli *cli, const char *name)
{
    return cli_option_nth(cli, name, 0);
}

bool cli_option_u64(const struct cli *cli, const char *name, uint64_t *ret, struct err *err)
{
    const char *value = cli_option_value(cli, name);
    if (!value)
        return true;
    if (slice_u64(slice_of(value), ret))
        return true;
    (void)err_set(err, ERR_BAD_INPUT, "%s wants a number, not '%s'", name, ERR_TEXT(value));
    return false;
}

int cli_usage(struct cli *cli, int r)
{
    if (r < 0)
        cli->exit_code = 2;
    return r;
}

static const char *words_of(struct cli *cli, const struct cli_action *actions, size_t count)
{
    const char *text = actions[0].word;
    for (size_t i = 1; i < count; i++)
        text = arena_format(cli->arena, "%s%s%s", text, i + 1 < count ? ", " : " or ",
                            actions[i].word);
    return text;
}

int cli_act(struct cli *cli, const struct cli_action *actions, size_t count, const char *name,
            int (*check)(struct slice name, struct err *err), struct err *err)
{
    const char *word = cli->argument_count ? cli->arguments[0] : actions[0].word;
    const char *command = cli->command->name;
    size_t at = 0;
    while (at < count && strcmp(actions[at].word, word) != 0)
        at++;
    if (at == count)
        return cli_usage(cli, err_set(err, ERR_BAD_INPUT, "%s takes %s, not '%s'", command,
                                      words_of(cli, actions, count), ERR_TEXT(word)));
    if (actions[at].named != (cli->argument_count > 1))
        return cli_usage(cli, err_set(err, ERR_BAD_INPUT, "%s %s %s %s", command, word,
                                      actions[at].named ? "wants" : "takes no", name));
    if (actions[at].named && check(slice_of(cli->arguments[1]), err) < 0)
        return cli_usage(cli, ERR_BAD_INPUT);
    return actions[at].run(cli, err);
}

int cli_confirm(struct cli *cli, const char *question, struct err *err)
{
    char answer[16] = "";
    if (cli_option_value(cli, "--yes"))
        return 0;
    if (!isatty(STDIN_FILENO))
        return err_set(err, ERR_PRECONDITION, "%s Say --yes to do it without being asked",
                       question);
    fprintf(stderr, "%s [y/N] ", question);
    if (!fgets(answer, sizeof answer, stdin) || (answer[0] != 'y' && answer[0] != 'Y'))
        return err_set(err, ERR_CANCELED, "not done");
    return 0;
}

/* ---- main ------------------------------------------------------------------------------------ */

static int usage_fault(const struct cli *cli, const struct err *err)
{
    fprintf(stderr, "perigee: ");
    cli_print_text(stderr, slice_of(err->message));
    fprintf(stderr, "\n");
    if (cli->command)
        fprintf(stderr, "perigee %s --help says what it takes.\n", cli->command->name);
    else
        fprintf(stderr, "perigee --help lists the commands.\n");
    return 2;
}

static int unknown(const struct cli *cli, const char *name)
{
    const char *known[CLI_COMMANDS_MAX + 1];
    size_t count = 0;
    struct err err;
    for (size_t i = 0; cli_reserved[i]; i++)
        if (strcmp(name, cli_reserved[i]) == 0) {
            (void)err_set(&err, ERR_NOT_SUPPORTED, "%s: not yet", name);
            return usage_fault(cli, &err);
        }
    assert(cli_command_count + cli->extra_count <= CLI_COMMANDS_MAX);
    for (size_t i = 0; i < cli_command_count; i++)
        known[count++] = cli_commands[i].name;
    for (size_t i = 0; i < cli->extra_count; i++)
        known[count++] = cli->extra[i].name;
    known[count] = NULL;
    const char *near = json_nearest(slice_of(name), known);
    (void)err_set(&err, ERR_BAD_INPUT, "no command '%s'%s%s%s", ERR_TEXT(name),
                  near ? " (did you mean " : "", near ? near : "", near ? "?)" : "");
    return usage_fault(cli, &err);
}

static int columns(void)
{
    struct winsize size;
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col >= 40)
        return size.ws_col;
    return 80;
}

/* What is said wrongly before anything is done: the home, the project, the name. */
static int prepare(struct cli *cli, struct err *err)
{
    const char *project = cli_option_value(cli, "--project");
    if (!project)
        project = getenv("PERIGEE_PROJECT");
    cli->project_given = project && project[0];
    cli->project = cli->project_given ? project : "default";
    cli->json = cli_option_value(cli, "--json") != NULL;
    cli->terminal = isatty(STDOUT_FILENO);
    cli->color = cli->terminal && !getenv("NO_COLOR") && !cli->json;
    cli->columns = columns();
    char *home = arena_alloc(cli->arena, HOME_PATH_BYTES);
    cli->home = home;
    int r = home_resolve(cli_option_value(cli, "--home"), home, err);
    if (r == 0)
        r = spec_check_project_name(slice_of(cli->project), err);
    bool named = strstr(cli->command->arguments, "NAME") == cli->command->arguments ||
                 strstr(cli->command->arguments, "[NAME]") == cli->command->arguments;
    if (r == 0 && named && cli->argument_count)
        r = spec_check_endpoint_name(slice_of(cli->arguments[0]), err);
    return cli_usage(cli, r);
}

static void fault_print(struct cli *cli, const struct err *err)
{
    if (!cli->json) {
        fprintf(stderr, "perigee: ");
        cli_print_text(stderr, slice_of(err->message));
        fprintf(stderr, "\n");
        return;
    }
    struct json_writer w;
    json_begin(&w, cli->arena, 0);
    json_object_begin(&w);
    json_member_text(&w, "error", err_info(err->code)->name);
    json_member_text(&w, "message", err->message);
    json_object_end(&w);
    fprintf(stderr, "%s\n", json_end(&w).data);
}

static int run(struct cli *cli)
{
    struct err err = {};
    cli->arena = arena_new();
    int r = prepare(cli, &err);
    if (r == 0)
        r = cli->command->run(cli, &err);
    if (r < 0) {
        fflush(stdout);
        fault_print(cli, &err);
        if (cli->exit_code == 0)
            cli->exit_code = 1;
    }
    arena_free(cli->arena);
    if ((fflush(stdout) != 0 || ferror(stdout)) && cli->exit_code == 0) {
        fprintf(stderr, "perigee: writing to standard output: %s\n", strerror(errno));
        cli->exit_code = 1;
    }
    return cli->exit_code;
}

int cli_main(int argc, char **argv, const struct cli_command *extra, size_t extra_count)
{
    struct cli cli = { .extra = extra, .extra_count = extra_count };
    struct err err = {};
    if (argc < 2) {
        cli_help(stderr, &cli, NULL);
        return 2;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
        (strcmp(argv[1], "help") == 0 && argc == 2))
        return cli_help(stdout, &cli, NULL);
    const char *name = argv[1];
    int first = 2;
    if (strcmp(name, "help") == 0 && strcmp(argv[2], "--markdown") == 0)
        return cli_docs(stdout, &cli); /* docs/cli.md */
    if (strcmp(name, "help") == 0) {
        name = argv[2];
        first = argc;
    } else if (strcmp(name, "--version") == 0) {
        name = "version";
    }
    cli.command = command_find(&cli, name);
    if (!cli.command)
        return unknown(&cli, name);
    if (strcmp(argv[1], "help") == 0)
        return cli_help(stdout, &cli, cli.command);
    if (parse(&cli, argc - first, argv + first, &err) < 0)
        return usage_fault(&cli, &err);
    if (cli_option_value(&cli, "--help"))
        return cli_help(stdout, &cli, cli.command);
    return run(&cli);
}
