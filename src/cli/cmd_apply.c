/* SPDX-License-Identifier: Apache-2.0 */
/*
 * apply: endpoints of files. All are read and checked, and models uploaded, before the first
 * endpoint is touched.
 */
#include <dirent.h>
#include <errno.h>
#include <libgen.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/arena.h"
#include "base/auto.h"
#include "base/err.h"
#include "cli/cli.h"
#include "cli/commands.h"
#include "cli/put.h"
#include "spec/endpoint.h"

enum { SPEC_BYTES_MAX = 1 << 20 };

struct doc {
    struct endpoint_spec spec;
    const char *folder; /* relative models are below it; NULL: below the current one */
    const char *project, *name;
};

struct docs {
    struct doc *items;
    size_t count, room;
};

static int docs_add(struct cli *cli, struct docs *docs, const struct endpoint_spec *spec,
                    const char *folder, struct err *err)
{
    struct doc doc = { .spec = *spec, .folder = folder };
    if (slice_is(spec->project, "default"))
        doc.spec.project = slice_of(cli->project);
    doc.project = arena_string(cli->arena, doc.spec.project);
    doc.name = arena_string(cli->arena, spec->name);
    for (size_t i = 0; i < docs->count; i++)
        if (strcmp(docs->items[i].name, doc.name) == 0 &&
            strcmp(docs->items[i].project, doc.project) == 0)
            return err_set(err, ERR_BAD_INPUT, "endpoint '%s' stands there twice", doc.name);
    if (docs->count == docs->room) {
        docs->room = docs->room ? docs->room * 2 : 16;
        docs->items = mem_resize(docs->items, docs->room, sizeof doc);
    }
    docs->items[docs->count++] = doc;
    return 0;
}

static int docs_read(struct cli *cli, struct docs *docs, struct slice text, enum spec_form form,
                     const char *folder, struct err *err)
{
    struct endpoint_specs specs;
    int r = endpoint_spec_parse_text(cli->arena, text, form, 0, &specs, err);
    for (size_t i = 0; r == 0 && i < specs.count; i++)
        r = docs_add(cli, docs, &specs.items[i], folder, err);
    return r;
}

static int docs_read_file(struct cli *cli, struct docs *docs, const char *path, struct err *err)
{
    struct slice text;
    enum spec_form form = slice_ends(slice_of(path), SLICE(".json")) ? SPEC_JSON : SPEC_YAML;
    bool standard = strcmp(path, "-") == 0;
    char *folder = standard ? NULL : dirname(arena_string(cli->arena, slice_of(path)));
    int r = cli_read(cli, path, SPEC_BYTES_MAX, &text, err);
    if (r == 0 && (r = docs_read(cli, docs, text, form, folder, err)) < 0)
        return err_wrap(err, "%s", standard ? "standard input" : ERR_TEXT(path));
    return r;
}

static bool is_spec(const char *name)
{
    struct slice text = slice_of(name);
    return name[0] != '.' && (slice_ends(text, SLICE(".yaml")) || slice_ends(text, SLICE(".yml")) ||
                              slice_ends(text, SLICE(".json")));
}

static int docs_read_folder(struct cli *cli, struct docs *docs, const char *path, struct err *err)
{
    struct dirent **entries;
    int count = scandir(path, &entries, NULL, alphasort), r = 0;
    if (count < 0)
        return err_set(err, ERR_FORBIDDEN, "'%s': %s", ERR_TEXT(path), strerror(errno));
    for (int i = 0; i < count; i++) {
        if (r == 0 && is_spec(entries[i]->d_name))
            r = docs_read_file(cli, docs,
                               arena_format(cli->arena, "%s/%s", path, entries[i]->d_name), err);
        free(entries[i]);
    }
    free(entries);
    if (r == 0 && docs->count == 0)
        return err_set(err, ERR_NOT_FOUND, "no .yaml, .yml or .json file in '%s'", ERR_TEXT(path));
    return r;
}

static int doc_apply(struct cli *cli, struct doc *doc, int64_t timeout_ms, struct err *err)
{
    struct endpoint_spec present;
    const char *etag = NULL;
    int r = put_present(cli, doc->name, &present, &etag, err);
    if (r < 0)
        return err_wrap(err, "endpoint '%s'", doc->name);
    const struct put request = {
        .name = doc->name,
        .etag = etag,
        .dry_run = cli_option_value(cli, "--dry-run") != NULL,
        .wait = !cli_option_value(cli, "--no-wait"),
        .timeout_ms = timeout_ms,
    };
    return put_spec(cli, &request, endpoint_spec_json(cli->arena, &doc->spec, 0), err);
}

int cmd_apply(struct cli *cli, struct err *err)
{
    const char *path = cli_option_value(cli, "--file"), *project = cli->project;
    struct docs docs = {};
    struct stat st;
    int64_t timeout_ms = 0;
    if (!path)
        return cli_usage(cli, err_set(err, ERR_BAD_INPUT,
                                      "apply wants -f FILE, -f DIR or -f - (standard input)"));
    int r = control_wait_timeout(cli, &timeout_ms, err);
    if (r < 0)
        return r;
    if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
        r = docs_read_folder(cli, &docs, path, err);
    else
        r = docs_read_file(cli, &docs, path, err);
    for (size_t i = 0; r == 0 && i < docs.count; i++) {
        r = put_upload(cli, &docs.items[i].spec, docs.items[i].folder, err);
        if (r < 0)
            r = err_wrap(err, "endpoint '%s'", docs.items[i].name);
    }
    for (size_t i = 0; r == 0 && i < docs.count; i++) {
        cli->project = docs.items[i].project;
        r = doc_apply(cli, &docs.items[i], timeout_ms, err);
    }
    cli->project = project;
    free(docs.items);
    return r;
}
