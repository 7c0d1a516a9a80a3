/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Completion for bash and zsh, made from the table of commands. Names of endpoints are asked for
 * when they are wanted, by `perigee endpoints --json`.
 */
#include <string.h>

#include "base/err.h"
#include "cli/cli.h"
#include "cli/commands.h"

/* What a word may be, by how the table writes it. */
enum word { WORD_ANY, WORD_FILE, WORD_FOLDER, WORD_ENDPOINT, WORD_SHELL };

static enum word word_of_value(const char *value)
{
    if (strcmp(value, "DIR") == 0)
        return WORD_FOLDER;
    return strstr(value, "FILE") || strcmp(value, "SOURCE") == 0 ? WORD_FILE : WORD_ANY;
}

static enum word word_of_arguments(const char *arguments)
{
    if (strncmp(arguments, "NAME", 4) == 0 || strncmp(arguments, "[NAME]", 6) == 0)
        return WORD_ENDPOINT;
    if (strcmp(arguments, "SHELL") == 0)
        return WORD_SHELL;
    return strncmp(arguments, "FILE", 4) == 0 ? WORD_FILE : WORD_ANY;
}

static const struct cli_command *command_at(const struct cli *cli, size_t i)
{
    if (i < cli->extra_count)
        return &cli->extra[i];
    return i - cli->extra_count < cli_command_count ? &cli_commands[i - cli->extra_count] : NULL;
}

/* A view begins with its name and project; a tensor's name is followed by its datatype. */
static const char names_function[] =
    "_perigee_endpoints()\n"
    "{\n"
    "    perigee endpoints --json 2>/dev/null |\n"
    "        grep -o '\"name\":\"[a-z0-9-]*\",\"project\"' | cut -d '\"' -f 4\n"
    "}\n";

/* ---- bash ----------------------------------------------------------------------------------- */

static void bash_options(const struct cli_option *options, const char **gap)
{
    for (; options && options->name; options++) {
        printf("%s%s", *gap, options->name);
        *gap = " ";
    }
}

/* The options of one kind of value: "--a|--b) action ;;" */
static void bash_values(const struct cli_option *options, enum word word, const char *action)
{
    const char *gap = "                ";
    for (; options && options->name; options++) {
        if (!options->value || word_of_value(options->value) != word)
            continue;
        printf("%s%s", gap, options->name);
        gap = "|";
    }
    if (gap[0] == '|')
        printf(") %s; return ;;\n", action);
}

static void bash_command(const struct cli_command *command)
{
    static const char *const actions[] = {
        [WORD_ANY] = "COMPREPLY=()",
        [WORD_FILE] = "COMPREPLY=($(compgen -f -- \"$word\"))",
        [WORD_FOLDER] = "COMPREPLY=($(compgen -d -- \"$word\"))",
        [WORD_ENDPOINT] = "COMPREPLY=($(compgen -W \"$(_perigee_endpoints)\" -- \"$word\"))",
        [WORD_SHELL] = "COMPREPLY=($(compgen -W 'bash zsh' -- \"$word\"))",
    };
    const char *gap = "";
    printf("        %s%s%s)\n            options='", command->name, command->alias ? "|" : "",
           command->alias ? command->alias : "");
    bash_options(command->options, &gap);
    bash_options(cli_options_common, &gap);
    printf("'\n            case $before in\n");
    for (enum word word = WORD_ANY; word <= WORD_FOLDER; word++) {
        bash_values(command->options, word, actions[word]);
        bash_values(cli_options_common, word, actions[word]);
    }
    printf("            esac\n            if [[ $word != -* ]]; then\n                %s\n"
           "                return\n            fi\n            ;;\n",
           actions[word_of_arguments(command->arguments)]);
}

static void bash_print(const struct cli *cli)
{
    const struct cli_command *command;
    printf("# Completion of perigee for bash:  . <(perigee completion bash)\n%s", names_function);
    printf("_perigee()\n{\n"
           "    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} options\n"
           "    # Readline cuts words at '=': --model=FILE, and NAME=FILE.\n"
           "    [[ $word == = ]] && word=\n"
           "    if [[ $before == = || ${COMP_WORDS[COMP_CWORD]} == = ]]; then\n"
           "        COMPREPLY=($(compgen -f -- \"$word\"))\n        return\n    fi\n"
           "    if ((COMP_CWORD == 1)); then\n        COMPREPLY=($(compgen -W '");
    for (size_t i = 0; (command = command_at(cli, i)); i++)
        printf("%s%s%s ", command->name, command->alias ? " " : "",
               command->alias ? command->alias : "");
    printf("help --help' -- \"$word\"))\n        return\n    fi\n"
           "    case ${COMP_WORDS[1]} in\n");
    for (size_t i = 0; (command = command_at(cli, i)); i++)
        bash_command(command);
    printf("        *) return ;;\n    esac\n"
           "    COMPREPLY=($(compgen -W \"$options\" -- \"$word\"))\n}\n"
           "complete -o filenames -F _perigee perigee\n");
}

/* ---- zsh ------------------------------------------------------------------------------------ */

/* Within '...': brackets and colons mean something to _arguments, a tick ends the word. */
static void zsh_text(const char *text)
{
    for (; *text; text++) {
        if (*text == '\'')
            fputs("'\\''", stdout);
        else if (strchr("[]:\\", *text))
            printf("\\%c", *text);
        else
            putchar(*text);
    }
}

static const char *zsh_action(enum word word)
{
    switch (word) {
    case WORD_FILE:
        return "_files";
    case WORD_FOLDER:
        return "_files -/";
    case WORD_ENDPOINT:
        return "_perigee_names";
    case WORD_SHELL:
        return "(bash zsh)";
    default:
        return " ";
    }
}

static void zsh_options(const struct cli_option *options)
{
    for (; options && options->name; options++) {
        printf(" \\\n                '%s%s%s[", options->many ? "*" : "", options->name,
               options->value ? "=" : "");
        zsh_text(options->help);
        putchar(']');
        if (options->value) {
            putchar(':');
            zsh_text(options->value);
            printf(":%s", zsh_action(word_of_value(options->value)));
        }
        putchar('\'');
    }
}

static void zsh_print(const struct cli *cli)
{
    const struct cli_command *command;
    printf("#compdef perigee\n# Completion of perigee for zsh:  . <(perigee completion zsh)\n%s",
           names_function);
    printf("_perigee_names()\n{\n    local -a names\n"
           "    names=(${(f)\"$(_perigee_endpoints)\"})\n    compadd -a names\n}\n"
           "_perigee()\n{\n    local -a commands\n    commands=(\n");
    for (size_t i = 0; (command = command_at(cli, i)); i++) {
        printf("        '%s:", command->name);
        zsh_text(command->summary);
        printf("'\n");
    }
    printf("    )\n    if ((CURRENT == 2)); then\n"
           "        _describe -t commands 'perigee command' commands\n        return\n    fi\n"
           "    local command=$words[2]\n    shift words\n    ((CURRENT--))\n"
           "    case $command in\n");
    for (size_t i = 0; (command = command_at(cli, i)); i++) {
        printf("        %s%s%s)\n            _arguments", command->name, command->alias ? "|" : "",
               command->alias ? command->alias : "");
        zsh_options(command->options);
        zsh_options(cli_options_common);
        if (command->arguments_max)
            printf(" \\\n                '%s:%s:%s'", command->arguments_min ? "1" : "1:",
                   command->arguments_min ? command->arguments : "NAME",
                   zsh_action(word_of_arguments(command->arguments)));
        printf("\n            ;;\n");
    }
    printf("    esac\n}\n"
           "# Sourced it registers itself; from a folder in $fpath it is the function's body.\n"
           "if [[ $funcstack[1] == _perigee ]]; then\n    _perigee \"$@\"\n"
           "else\n    compdef _perigee perigee\nfi\n");
}

int cmd_completion(struct cli *cli, struct err *err)
{
    const char *shell = cli->arguments[0];
    if (strcmp(shell, "bash") == 0)
        bash_print(cli);
    else if (strcmp(shell, "zsh") == 0)
        zsh_print(cli);
    else
        return cli_usage(cli, err_set(err, ERR_BAD_INPUT,
                                      "completion is for bash and zsh, not '%s'", ERR_TEXT(shell)));
    return 0;
}
