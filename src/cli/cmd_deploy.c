/* SPDX-License-Identifier: Apache-2.0 */
/* deploy: an endpoint of flags, upon what it is already. */
#include <string.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/err.h"
#include "cli/cli.h"
#include "cli/commands.h"
#include "cli/put.h"
#include "spec/endpoint.h"

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
        return cli_usage(
            cli, err_set(err, ERR_BAD_INPUT,
                         "what runs? Give --model FILE or FOLDER, --image REF, FILE or FOLDER, "
                         "or --upstream URL"));
    return 0;
}

int cmd_deploy(struct cli *cli, struct err *err)
{
    const char *name = cli->arguments[0], *etag = NULL;
    struct endpoint_spec spec;
    int64_t timeout_ms = 0;
    endpoint_spec_defaults(&spec);
    int r = flags_check(cli, err);
    if (r == 0)
        r = control_wait_timeout(cli, &timeout_ms, err);
    if (r < 0)
        return r;
    int present = put_present(cli, name, &spec, &etag, err);
    if (present < 0)
        return present;
    if (present && cli_option_value(cli, "--create"))
        return err_set(err, ERR_CONFLICT, "endpoint '%s' exists already", name);
    spec.name = slice_of(name);
    spec.project = slice_of(cli->project);
    r = spec_from_flags(cli, &spec, err);
    if (r == 0)
        r = put_upload(cli, &spec, NULL, err);
    if (r == 0)
        r = endpoint_spec_check(&spec, err);
    if (r < 0)
        return r;
    const struct put request = {
        .name = name,
        .etag = etag,
        .header = present ? arena_format(cli->arena, "If-Match: %s", etag) : "If-None-Match: *",
        .wait = !cli_option_value(cli, "--no-wait"),
        .timeout_ms = timeout_ms,
    };
    return put_spec(cli, &request, endpoint_spec_json(cli->arena, &spec, 0), err);
}
