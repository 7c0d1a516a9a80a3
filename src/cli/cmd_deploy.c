/* SPDX-License-Identifier: Apache-2.0 */
/*
 * deploy, apply, export: a spec to control and back.
 */
#include <dirent.h>
#include <errno.h>
#include <libgen.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/auto.h"
#include "base/err.h"
#include "cli/cli.h"
#include "cli/commands.h"
#include "cli/view.h"
#include "spec/endpoint.h"

enum { SPEC_BYTES_MAX = 1 << 20, WAIT_MS = 600'000 };

/* ---- putting one spec ------------------------------------------------------------------------ */

/* An image likewise; what a registry has, control looks up. */
static int image_resolve(struct cli *cli, struct endpoint_spec *spec, const char *folder,
                         struct err *err)
{
    const char *written = arena_string(cli->arena, spec->image), *path = written, *digest;
    if (!spec_image_is_path(spec->image))
        return 0;
    if (written[0] != '/' && folder)
        path = arena_format(cli->arena, "%s/%s", folder, written);
    int r = control_upload_image(cli, path, &digest, err);
    if (r < 0)
        return r;
    spec->source = spec->image;
    spec->image = slice_of(digest);
    return 0;
}

/* A model given as a path is uploaded, and the spec keeps the digest and what was written. */
static int model_resolve(struct cli *cli, struct endpoint_spec *spec, const char *folder,
                         struct err *err)
{
    const char *written = arena_string(cli->arena, spec->model), *path = written, *digest;
    if (spec->image.size)
        return image_resolve(cli, spec, folder, err);
    /* What a registry has, control looks up. */
    if (spec->model.size == 0 || slice_starts(spec->model, SLICE("sha256:")) ||
        slice_starts(spec->model, SLICE("oci://")))
        return 0;
    static const char *const later[] = { "hf://", "https://", "http://", "s3://", NULL };
    for (size_t i = 0; later[i]; i++)
        if (slice_starts(spec->model, slice_of(later[i])))
            return err_set(err, ERR_NOT_SUPPORTED,
                           "model '%s': %s sources: not yet; give a file, a folder, or "
                           "oci://PROJECT/NAME:TAG of the registry",
                           ERR_TEXT(written), later[i]);
    if (written[0] != '/' && folder)
        path = arena_format(cli->arena, "%s/%s", folder, written);
    int r = control_upload_model(cli, path, &digest, err);
    if (r < 0)
        return r;
    spec->source = spec->model;
    spec->model = slice_of(digest);
    return 0;
}

struct put {
    const char *name;
    const char *header; /* "If-None-Match: *", "If-Match: ..." or NULL */
    const char *etag;   /* of what is there; NULL: nothing is */
    bool dry_run, wait;
};

static void diff_print(struct cli *cli, yyjson_val *answer)
{
    size_t index, count;
    yyjson_val *item;
    yyjson_arr_foreach(json_member(answer, "diff"), index, count, item)
    {
        struct slice before = json_print(cli->arena, json_member(item, "old"), 0);
        struct slice after = json_print(cli->arena, json_member(item, "new"), 0);
        printf("  ");
        cli_print_text(stdout, view_text(item, "key"));
        printf(": %s", cli_color(cli, CLI_RED));
        cli_print_text(stdout, before);
        printf("%s -> %s", cli_color(cli, CLI_PLAIN), cli_color(cli, CLI_GREEN));
        cli_print_text(stdout, after);
        printf("%s\n", cli_color(cli, CLI_PLAIN));
    }
}

static int dry_run_print(struct cli *cli, const char *name, yyjson_val *answer)
{
    if (cli->json) {
        cli_print_json(cli, answer);
        return 0;
    }
    bool created = yyjson_get_bool(json_member(answer, "created"));
    bool revision = yyjson_get_bool(json_member(answer, "new_revision"));
    size_t changes = yyjson_arr_size(json_member(answer, "diff"));
    printf("%s: %s\n", name,
           created    ? "would be created"
           : revision ? "a new revision would start and take the traffic"
           : changes  ? "would change at once; nothing restarts"
                      : "no change");
    diff_print(cli, answer);
    return 0;
}

static int put(struct cli *cli, const struct put *put, struct slice json, struct err *err)
{
    struct control_answer answer;
    const char *path = control_endpoint_path(cli, put->name, put->dry_run ? "?dry_run=1" : "");
    int r = control_call(
        cli, &CONTROL_REQUEST(.method = "PUT", .path = path, .body = json, .header = put->header),
        &answer, err);
    if (r < 0)
        return err_wrap(err, "endpoint '%s'", ERR_TEXT(put->name));
    if (put->dry_run)
        return dry_run_print(cli, put->name, answer.json);
    bool same = put->etag && slice_is(answer.etag, put->etag);
    if (same && !cli->json)
        printf("%s: nothing changed\n", put->name);
    /* A stopped endpoint stays so, and there is nothing to wait for. */
    if (put->wait && !slice_is(view_text(answer.json, "state"), "stopped"))
        r = control_wait_ready(cli, put->name, WAIT_MS, &answer, err);
    return r < 0 ? r : view_print(cli, answer.json);
}

/* ---- deploy ---------------------------------------------------------------------------------- */

static int number_option(struct cli *cli, const char *name, uint64_t *field, struct err *err)
{
    return cli_option_u64(cli, name, field, err) ? 0 : ERR_BAD_INPUT;
}

static const char *const sources[] = { "--model", "--image", "--upstream" };
enum { SOURCE_COUNT = sizeof sources / sizeof *sources };

static int flags_check(struct cli *cli, struct err *err)
{
    int count = 0;
    for (size_t i = 0; i < SOURCE_COUNT; i++)
        count += cli_option_value(cli, sources[i]) != NULL;
    return count > 1 ? cli_usage(cli, err_set(err, ERR_BAD_INPUT,
                                              "one of --model, --image and --upstream"))
                     : 0;
}

static struct spec_strings option_names(struct cli *cli, const char *option)
{
    struct slice *names = ARENA_ARRAY(cli->arena, struct slice, CLI_VALUES_MAX);
    size_t count = 0;
    for (const char *name; (name = cli_option_nth(cli, option, count)); count++)
        names[count] = slice_of(name);
    return (struct spec_strings){ names, count };
}

/* The short form: of an endpoint that has more than that, it would throw rules away. */
static int residency_from_flag(struct cli *cli, struct endpoint_spec *spec, struct err *err)
{
    struct spec_strings names = option_names(cli, "--process-in");
    struct spec_residency_rule *rule = ARENA_NEW(cli->arena, struct spec_residency_rule);
    if (names.count == 0)
        return 0;
    if (spec->residency.count > 1 ||
        (spec->residency.count == 1 && spec->residency.rules[0].clients.kind != SPEC_PLACES_ANY))
        return err_set(err, ERR_CONFLICT,
                       "--process-in: the endpoint's residency has rules, which it would replace: "
                       "change the spec (perigee export, perigee apply)");
    if (spec->residency.count == 1)
        *rule = spec->residency.rules[0];
    rule->clients.kind = SPEC_PLACES_ANY;
    bool alone = names.count == 1;
    rule->process_in = (struct spec_places){
        .kind = alone && slice_is(names.items[0], "any")            ? SPEC_PLACES_ANY
                : alone && slice_is(names.items[0], "same-country") ? SPEC_PLACES_SAME_COUNTRY
                                                                    : SPEC_PLACES_LIST,
    };
    if (rule->process_in.kind == SPEC_PLACES_LIST)
        rule->process_in.names = names;
    spec->residency.rules = rule;
    spec->residency.count = 1;
    return 0;
}

/* Something else runs from now on: what is of what ran before goes. */
static void source_clear(struct endpoint_spec *spec, const char *source)
{
    struct endpoint_spec fresh;
    bool model = strcmp(source, "--model") == 0, image = strcmp(source, "--image") == 0;
    bool same = model   ? spec->model.size > 0
                : image ? spec->image.size > 0
                        : spec->upstream.size > 0;
    endpoint_spec_defaults(&fresh);
    spec->model = spec->image = spec->upstream = spec->source = (struct slice){};
    if (same)
        return;
    spec->protocol = (struct slice){};
    spec->container = fresh.container;
    spec->probes = fresh.probes;
    if (!model) {
        spec->runtime = (struct slice){};
        spec->batch = fresh.batch;
    }
}

/* Of --image a file that is there, or a name. */
static struct slice image_from_flag(struct cli *cli, const char *image)
{
    struct slice text = slice_of(image);
    return spec_image_is_path(text) || access(image, F_OK) != 0
               ? text
               : slice_of(arena_format(cli->arena, "./%s", image));
}

static void source_from_flags(struct cli *cli, struct endpoint_spec *spec)
{
    const char *protocol = cli_option_value(cli, "--protocol");
    for (size_t i = 0; i < SOURCE_COUNT; i++) {
        const char *value = cli_option_value(cli, sources[i]);
        struct slice *const fields[] = { &spec->model, &spec->image, &spec->upstream };
        if (!value)
            continue;
        source_clear(spec, sources[i]);
        *fields[i] = fields[i] == &spec->image ? image_from_flag(cli, value) : slice_of(value);
    }
    if (protocol)
        spec->protocol = slice_of(protocol);
    if (!spec->protocol.size)
        spec->protocol = spec_protocol_default(spec);
}

static int spec_from_flags(struct cli *cli, struct endpoint_spec *spec, struct err *err)
{
    source_from_flags(cli, spec);
    if (number_option(cli, "--port", &spec->container.port, err) < 0 ||
        number_option(cli, "--min", &spec->scale.min, err) < 0 ||
        number_option(cli, "--max", &spec->scale.max, err) < 0 ||
        number_option(cli, "--concurrency", &spec->scale.concurrency, err) < 0)
        return cli_usage(cli, ERR_BAD_INPUT);
    if (cli_option_value(cli, "--region"))
        spec->regions = option_names(cli, "--region");
    int r = residency_from_flag(cli, spec, err);
    if (r < 0)
        return r;
    if (spec->model.size + spec->image.size + spec->upstream.size == 0)
        return cli_usage(cli,
                         err_set(err, ERR_BAD_INPUT,
                                 "what runs? Give --model FILE or FOLDER, --image REF or FILE, "
                                 "or --upstream URL"));
    return 0;
}

/* What is there now: flags not given keep its values. 0: none, 1: *ret is set. */
static int spec_present(struct cli *cli, const char *name, struct endpoint_spec *ret,
                        const char **ret_etag, struct err *err)
{
    struct control_answer answer;
    struct err inner = {};
    int r = control_call(
        cli, &CONTROL_REQUEST(.method = "GET", .path = control_endpoint_path(cli, name, "")),
        &answer, &inner);
    if (r == ERR_NOT_FOUND && answer.status == 404)
        return 0;
    if (r < 0) {
        if (err)
            *err = inner;
        return r;
    }
    r = endpoint_spec_parse(cli->arena, json_member(answer.json, "spec"), SPEC_NAME_OPTIONAL, ret,
                            err);
    *ret_etag = arena_string(cli->arena, answer.etag);
    return r < 0 ? r : 1;
}

int cmd_deploy(struct cli *cli, struct err *err)
{
    const char *name = cli->arguments[0], *etag = NULL;
    struct endpoint_spec spec;
    endpoint_spec_defaults(&spec);
    int r = flags_check(cli, err);
    if (r < 0)
        return r;
    int present = spec_present(cli, name, &spec, &etag, err);
    if (present < 0)
        return present;
    if (present && cli_option_value(cli, "--create"))
        return err_set(err, ERR_CONFLICT, "endpoint '%s' exists already", name);
    spec.name = slice_of(name);
    spec.project = slice_of(cli->project);
    r = spec_from_flags(cli, &spec, err);
    if (r == 0)
        r = model_resolve(cli, &spec, NULL, err);
    if (r == 0)
        r = endpoint_spec_check(&spec, err);
    if (r < 0)
        return r;
    const struct put request = {
        .name = name,
        .etag = etag,
        .header = present ? arena_format(cli->arena, "If-Match: %s", etag) : "If-None-Match: *",
        .wait = !cli_option_value(cli, "--no-wait"),
    };
    return put(cli, &request, endpoint_spec_json(cli->arena, &spec, 0), err);
}

/* ---- apply --------------------------------------------------------------------------------------
 * All files are read and checked, and models uploaded, before the first endpoint is touched. */

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

static int doc_apply(struct cli *cli, struct doc *doc, struct err *err)
{
    struct endpoint_spec present;
    const char *etag = NULL;
    int r = spec_present(cli, doc->name, &present, &etag, err);
    if (r < 0)
        return err_wrap(err, "endpoint '%s'", doc->name);
    const struct put request = {
        .name = doc->name,
        .etag = etag,
        .dry_run = cli_option_value(cli, "--dry-run") != NULL,
        .wait = !cli_option_value(cli, "--no-wait"),
    };
    return put(cli, &request, endpoint_spec_json(cli->arena, &doc->spec, 0), err);
}

int cmd_apply(struct cli *cli, struct err *err)
{
    const char *path = cli_option_value(cli, "--file"), *project = cli->project;
    struct docs docs = {};
    struct stat st;
    int r;
    if (!path)
        return cli_usage(cli, err_set(err, ERR_BAD_INPUT,
                                      "apply wants -f FILE, -f DIR or -f - (standard input)"));
    if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
        r = docs_read_folder(cli, &docs, path, err);
    else
        r = docs_read_file(cli, &docs, path, err);
    for (size_t i = 0; r == 0 && i < docs.count; i++) {
        r = model_resolve(cli, &docs.items[i].spec, docs.items[i].folder, err);
        if (r < 0)
            r = err_wrap(err, "endpoint '%s'", docs.items[i].name);
    }
    for (size_t i = 0; r == 0 && i < docs.count; i++) {
        cli->project = docs.items[i].project;
        r = doc_apply(cli, &docs.items[i], err);
    }
    cli->project = project;
    free(docs.items);
    return r;
}

/* ---- export ---------------------------------------------------------------------------------- */

int cmd_export(struct cli *cli, struct err *err)
{
    struct control_answer answer;
    struct endpoint_spec spec;
    int r =
        control_call(cli,
                     &CONTROL_REQUEST(.method = "GET",
                                      .path = control_endpoint_path(cli, cli->arguments[0], "")),
                     &answer, err);
    if (r < 0)
        return r;
    yyjson_val *tree = json_member(answer.json, "spec");
    if (cli->json) {
        cli_print_json(cli, tree);
        return 0;
    }
    r = endpoint_spec_parse(cli->arena, tree, SPEC_NAME_OPTIONAL, &spec, err);
    if (r < 0)
        return r;
    struct slice yaml = endpoint_spec_yaml(cli->arena, &spec, 0);
    fwrite(yaml.data, 1, yaml.size, stdout);
    return 0;
}
