/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/put.h"

#include <stdio.h>

#include "base/arena.h"
#include "base/err.h"
#include "cli/cli.h"
#include "cli/view.h"
#include "spec/endpoint.h"

/* What a registry has, control looks up. */
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

int put_upload(struct cli *cli, struct endpoint_spec *spec, const char *folder, struct err *err)
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

int put_spec(struct cli *cli, const struct put *put, struct slice json, struct err *err)
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
        r = control_wait_ready(cli, put->name, put->timeout_ms, &answer, err);
    return r < 0 ? r : view_print(cli, answer.json);
}

int put_present(struct cli *cli, const char *name, struct endpoint_spec *ret, const char **ret_etag,
                struct err *err)
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
