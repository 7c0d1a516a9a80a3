/* SPDX-License-Identifier: Apache-2.0 */
/*
 * context: list, set, use, clear and delete the named places of control.
 */
#include <stdio.h>
#include <string.h>

#include "base/arena.h"
#include "base/err.h"
#include "cli/cli.h"
#include "cli/commands.h"
#include "cli/context.h"
#include "spec/endpoint.h"

static int list_print(struct cli *cli, const struct contexts *contexts)
{
    static const char *const titles[] = { "", "CONTEXT", "CONTROL" };
    struct json_writer w;
    if (!cli->json && contexts->count == 0) {
        printf("No contexts: control is the home's Perigee.\n");
        return 0;
    }
    if (!cli->json) {
        struct cli_table *table = cli_table_new(cli, titles, 3);
        for (size_t i = 0; i < contexts->count; i++) {
            const struct context *item = &contexts->items[i];
            bool in_use = slice_equal(item->name, contexts->in_use);
            cli_table_row(table, (struct slice[]){ in_use ? SLICE("*") : SLICE(""), item->name,
                                                   item->control });
        }
        cli_table_print(table, stdout);
        return 0;
    }
    json_begin(&w, cli->arena, 0);
    json_object_begin(&w);
    json_key(&w, "context");
    if (contexts->in_use.size)
        json_string(&w, contexts->in_use);
    else
        json_null(&w);
    json_key(&w, "items");
    json_array_begin(&w);
    for (size_t i = 0; i < contexts->count; i++) {
        json_object_begin(&w);
        json_member_string(&w, "name", contexts->items[i].name);
        json_member_string(&w, "control", contexts->items[i].control);
        json_object_end(&w);
    }
    json_array_end(&w);
    json_object_end(&w);
    return cli_print_written(cli, &w);
}

static int not_there(struct slice name, struct err *err)
{
    return err_set(err, ERR_NOT_FOUND, "no context '%s'; perigee context lists them",
                   ERR_SLICE(name));
}

static int context_set(struct cli *cli, struct contexts *contexts, struct slice name,
                       struct err *err)
{
    const char *control = cli_option_value(cli, "--control");
    if (!control)
        return cli_usage(cli, err_set(err, ERR_BAD_INPUT, "context set wants --control URL"));
    if (control_check_url(control, err) < 0)
        return cli_usage(cli, ERR_BAD_INPUT);
    struct context *context = contexts_find(contexts, name);
    if (!context && contexts->count == CONTEXTS_MAX)
        return err_set(err, ERR_TOO_LARGE, "there are %d contexts already", (int)CONTEXTS_MAX);
    if (!context)
        context = &contexts->items[contexts->count++];
    *context = (struct context){ name, slice_of(control) };
    return 0;
}

static int context_use(struct cli *, struct contexts *contexts, struct slice name, struct err *err)
{
    if (!contexts_find(contexts, name))
        return not_there(name, err);
    contexts->in_use = name;
    return 0;
}

static int context_delete(struct cli *, struct contexts *contexts, struct slice name,
                          struct err *err)
{
    struct context *context = contexts_find(contexts, name);
    if (!context)
        return not_there(name, err);
    if (slice_equal(name, contexts->in_use))
        contexts->in_use = (struct slice){};
    size_t behind = contexts->count - (size_t)(context - contexts->items) - 1;
    memmove(context, context + 1, behind * sizeof *context);
    contexts->count--;
    return 0;
}

static int context_clear(struct cli *, struct contexts *contexts, struct slice, struct err *)
{
    contexts->in_use = (struct slice){};
    return 0;
}

static const struct {
    const char *word;
    bool named;
    int (*change)(struct cli *cli, struct contexts *contexts, struct slice name, struct err *err);
} actions[] = {
    { "list", false, NULL },
    { "set", true, context_set },
    { "use", true, context_use },
    { "clear", false, context_clear },
    { "delete", true, context_delete },
};

int cmd_context(struct cli *cli, struct err *err)
{
    const char *word = cli->argument_count ? cli->arguments[0] : "list";
    struct contexts *contexts = ARENA_NEW(cli->arena, struct contexts);
    struct slice name = cli->argument_count > 1 ? slice_of(cli->arguments[1]) : (struct slice){};
    size_t at = 0, count = sizeof actions / sizeof *actions;
    while (at < count && strcmp(actions[at].word, word) != 0)
        at++;
    if (at == count)
        return cli_usage(cli, err_set(err, ERR_BAD_INPUT,
                                      "context takes list, set, use, clear or delete, not '%s'",
                                      ERR_TEXT(word)));
    if (actions[at].named != (cli->argument_count > 1))
        return cli_usage(cli, err_set(err, ERR_BAD_INPUT, "context %s %s", word,
                                      actions[at].named ? "wants NAME" : "takes no NAME"));
    if (cli_option_value(cli, "--control") && actions[at].change != context_set)
        return cli_usage(cli, err_set(err, ERR_BAD_INPUT, "--control is not for context %s", word));
    if (actions[at].named && spec_check_name(name, "context", err) < 0)
        return cli_usage(cli, ERR_BAD_INPUT);
    int r = contexts_read(cli, contexts, err);
    if (r == 0 && actions[at].change)
        r = actions[at].change(cli, contexts, name, err);
    if (r == 0 && actions[at].change)
        r = contexts_write(cli, contexts, err);
    return r < 0 ? r : list_print(cli, contexts);
}
