/* SPDX-License-Identifier: Apache-2.0 */
/*
 * infer: files in, a readable answer out. Inputs go in the protocol's binary form (JSON ones as
 * they are); answers come back in it too, but for --json.
 */
#include <inttypes.h>
#include <string.h>

#include "base/arena.h"
#include "base/err.h"
#include "cli/cli.h"
#include "cli/commands.h"
#include "cli/from.h"
#include "cli/infer_answer.h"
#include "cli/infer_own.h"
#include "cli/view.h"
#include "http/fetch.h"
#include "spec/units.h"

enum { INFER_TIMEOUT_MS = 3'600'000 };

/* ---- asking the gateway ---------------------------------------------------------------------- */

static int gateway_error(const struct fetch_answer *answer, yyjson_val *json, struct err *err)
{
    struct slice text = view_text(json, "error"), name = fetch_header_get(answer, "Perigee-Error");
    enum err_code code = ERR_INTERNAL;
    for (int i = 0; i < ERR_COUNT; i++)
        if (slice_is(name, err_info(-1 - i)->name))
            code = -1 - i;
    if (text.size == 0)
        text = SLICE("no reason given");
    return err_set(err, code, "%.*s", (int)(text.size < 450 ? text.size : 450), text.data);
}

/* The JSON of an answer, and what follows it. */
static int ask(struct infer *infer, struct fetch_request *request, struct fetch_answer *answer,
               yyjson_val **ret_json, struct slice *ret_binary, struct err *err)
{
    const struct json_limits limits = { .bytes_max = 1 << 30, .memory_max = (size_t)8 << 30 };
    struct cli_progress progress;
    cli_progress_begin(&progress, infer->name);
    cli_progress_text(&progress, SLICE("waiting for the answer"));
    int r = infer->from ? from_fetch(infer->from, request, answer, err)
                        : fetch(infer->cli->arena, request, answer, err);
    cli_progress_end(&progress);
    if (r < 0)
        return err_wrap(err, "gateway");
    *ret_json = NULL;
    struct err bad = {};
    struct slice json = answer->body;
    uint64_t json_bytes;
    if (slice_u64(fetch_header_get(answer, "Inference-Header-Content-Length"), &json_bytes) &&
        json_bytes <= json.size)
        json.size = (size_t)json_bytes;
    *ret_binary = (struct slice){ json.data + json.size, answer->body.size - json.size };
    if (json.size && json_parse(infer->cli->arena, json, &limits, ret_json, &bad) < 0 &&
        answer->status < 400)
        return err_set(err, ERR_INTERNAL, "the gateway's answer cannot be read: %s", bad.message);
    return answer->status >= 400 ? gateway_error(answer, *ret_json, err) : 0;
}

/* ".../versions/N" of the revision asked for. */
static const char *model_url(struct infer *infer, const char *rest)
{
    struct arena *arena = infer->cli->arena;
    const char *version =
        infer->revision ? arena_format(arena, "/versions/%" PRIu64, infer->revision) : "";
    return arena_format(arena, "%s/v2/models/%s%s%s", infer->gateway, infer->name, version, rest);
}

static int metadata_get(struct infer *infer, struct err *err)
{
    struct fetch_answer answer;
    const char *headers[] = { infer->host_header, NULL };
    struct fetch_request request = {
        .method = "GET",
        .url = model_url(infer, ""),
        .headers = headers,
        .body_fd = -1,
        .timeout_ms = INFER_TIMEOUT_MS,
    };
    struct slice none;
    return ask(infer, &request, &answer, &infer->metadata, &none, err);
}

/* The properties are a help, not a need: without control a picture wants --image. */
static void properties_get(struct infer *infer)
{
    struct control_answer answer;
    struct err err;
    const char *path = control_endpoint_path(infer->cli, infer->name, "");
    bool other = !infer->from && cli_option_value(infer->cli, "--url") &&
                 !cli_option_value(infer->cli, "--control");
    if (other)
        infer->untold = "--url names a gateway alone, and --control no control";
    else if (control_call(infer->cli, &CONTROL_REQUEST(.method = "GET", .path = path), &answer,
                          &err) < 0)
        infer->untold = arena_format(infer->cli->arena, "%s", err.message);
    else
        infer->properties = json_member(json_member(answer.json, "model"), "properties");
}

/* ---- the request ----------------------------------------------------------------------------- */

static void input_write(struct json_writer *w, const struct input *input)
{
    json_object_begin(w);
    json_member_string(w, "name", input->name);
    json_member_text(w, "datatype", tensor_type_name(input->tensor.datatype));
    json_key(w, "shape");
    json_array_begin(w);
    for (uint32_t d = 0; d < input->tensor.shape.rank; d++)
        json_i64(w, input->tensor.shape.dims[d]);
    json_array_end(w);
    if (input->json.size) {
        json_key(w, "data");
        json_raw(w, input->json);
    } else {
        json_key(w, "parameters");
        json_object_begin(w);
        json_member_u64(w, "binary_data_size", input->tensor.data.size);
        json_object_end(w);
    }
    json_object_end(w);
}

/* The JSON, and behind it the binary tensors in their order. */
static struct slice body_make(struct infer *infer, size_t *ret_json_bytes)
{
    struct arena *arena = infer->cli->arena;
    struct json_writer w;
    json_begin(&w, arena, 0);
    json_object_begin(&w);
    json_key(&w, "inputs");
    json_array_begin(&w);
    size_t bytes = 0;
    for (size_t i = 0; i < infer->input_count; i++) {
        input_write(&w, &infer->inputs[i]);
        if (!infer->inputs[i].json.size)
            bytes += infer->inputs[i].tensor.data.size;
    }
    json_array_end(&w);
    if (cli_option_value(infer->cli, "--output")) {
        json_key(&w, "outputs");
        json_array_begin(&w);
        const char *name;
        for (size_t i = 0; (name = cli_option_nth(infer->cli, "--output", i)); i++) {
            json_object_begin(&w);
            json_member_text(&w, "name", name);
            json_object_end(&w);
        }
        json_array_end(&w);
    }
    /* JSON has no NaN, no text but UTF-8, and is large: for --json it is what was asked for. */
    if (!infer->cli->json || cli_option_value(infer->cli, "--save")) {
        json_key(&w, "parameters");
        json_object_begin(&w);
        json_member_bool(&w, "binary_data_output", true);
        json_object_end(&w);
    }
    json_object_end(&w);
    struct slice json = json_end(&w);
    char *body = arena_alloc(arena, json.size + bytes + 1), *at = body;
    memcpy(at, json.data, json.size);
    at += json.size;
    for (size_t i = 0; i < infer->input_count; i++) {
        const struct input *input = &infer->inputs[i];
        if (input->json.size || input->tensor.data.size == 0)
            continue;
        memcpy(at, input->tensor.data.data, input->tensor.data.size);
        at += input->tensor.data.size;
    }
    *ret_json_bytes = json.size;
    return (struct slice){ body, (size_t)(at - body) };
}

/* ---- the answer ------------------------------------------------------------------------------ */

static void served_print(struct infer *infer, const struct fetch_answer *answer, FILE *out)
{
    struct cli *cli = infer->cli;
    fprintf(out, "%srevision ", cli_color(cli, CLI_DIM));
    cli_print_text(out, fetch_header_get(answer, "Perigee-Revision"));
    fprintf(out, " at ");
    cli_print_text(out, fetch_header_get(answer, "Perigee-Pop"));
    fprintf(out, "; ");
    cli_print_text(out, fetch_header_get(answer, "Server-Timing"));
    fprintf(out, "%s\n", cli_color(cli, CLI_PLAIN));
}

static int answer_show(struct infer *infer, const struct fetch_answer *answer, yyjson_val *json,
                       struct slice binary, struct err *err)
{
    struct cli *cli = infer->cli;
    const char *path = cli_option_value(cli, "--save");
    struct infer_output *outputs;
    size_t count;
    bool as_it_came = cli->json && !path && binary.size == 0; /* whatever it is */
    int r = as_it_came ? 0 : infer_answer_read(cli->arena, json, binary, &outputs, &count, err);
    if (r == 0 && path)
        r = infer_answer_save(cli, path, outputs, count, err);
    if (r < 0)
        return r;
    if (cli->json) {
        cli_print_json(cli, json);
        if (infer->from)
            served_print(infer, answer, stderr);
        return 0;
    }
    infer_answer_print(cli, outputs, count);
    served_print(infer, answer, stdout);
    return 0;
}

static int infer_send(struct infer *infer, struct err *err)
{
    struct cli *cli = infer->cli;
    size_t json_bytes, count = 0;
    struct slice body = body_make(infer, &json_bytes);
    const char *timeout = cli_option_value(cli, "--timeout"), *headers[5];
    headers[count++] = "Content-Type: application/octet-stream";
    headers[count++] = arena_format(cli->arena, "Inference-Header-Content-Length: %zu", json_bytes);
    if (infer->host_header)
        headers[count++] = infer->host_header;
    if (timeout)
        headers[count++] = arena_format(cli->arena, "Perigee-Timeout: %s", timeout);
    headers[count] = NULL;
    struct fetch_request request = {
        .method = "POST",
        .url = model_url(infer, "/infer"),
        .headers = headers,
        .body = body,
        .body_fd = -1,
        .timeout_ms = INFER_TIMEOUT_MS,
        .answer_bytes_max = UINT64_C(1) << 30,
    };
    struct fetch_answer answer;
    yyjson_val *json;
    struct slice binary;
    int r = ask(infer, &request, &answer, &json, &binary, err);
    return r < 0 ? r : answer_show(infer, &answer, json, binary, err);
}

/* The home's own gateway, also while control is away; of another control the endpoint's url. */
static int gateway_find(struct infer *infer, struct err *err)
{
    struct cli *cli = infer->cli;
    struct control_answer answer;
    const char *ignored;
    int r = control_named(cli, &ignored, err);
    if (r == 0)
        return control_gateway_url(cli, &infer->gateway, err);
    if (r > 0)
        r = control_call(
            cli,
            &CONTROL_REQUEST(.method = "GET", .path = control_endpoint_path(cli, infer->name, "")),
            &answer, err);
    if (r < 0)
        return r;
    struct slice url = json_slice(yyjson_arr_get_first(json_member(answer.json, "urls")));
    if (url.size == 0)
        return err_set(err, ERR_NOT_FOUND, "control does not say where '%s' answers: say --url URL",
                       infer->name);
    infer->gateway = arena_string(cli->arena, url);
    infer->host_header = NULL; /* the url's host names it */
    return 0;
}

/* The Host line names the endpoint; where it goes to is DNS's word, or --url's. */
static int from_begin(struct infer *infer, struct err *err)
{
    struct cli *cli = infer->cli;
    int r = from_open(cli, infer->name, infer->gateway, &infer->from, err);
    if (r < 0)
        return r;
    infer->gateway = "";
    infer->host_header = arena_format(cli->arena, "Host: %s", from_host(infer->from));
    from_print(infer->from, cli->json ? stderr : stdout);
    return 0;
}

static int options_read(struct infer *infer, struct err *err)
{
    struct cli *cli = infer->cli;
    uint64_t timeout_ns;
    const char *timeout = cli_option_value(cli, "--timeout");
    infer->name = cli->arguments[0];
    infer->gateway = cli_option_value(cli, "--url");
    if (!cli_option_u64(cli, "--revision", &infer->revision, err))
        return cli_usage(cli, ERR_BAD_INPUT);
    if (timeout && units_parse_time(slice_of(timeout), &timeout_ns, err) < 0)
        return cli_usage(cli, err_wrap(err, "--timeout"));
    if (infer->gateway && strncmp(infer->gateway, "http://", 7) != 0 &&
        strncmp(infer->gateway, "https://", 8) != 0)
        return cli_usage(infer->cli, err_set(err, ERR_BAD_INPUT, "--url wants http://HOST:PORT"));
    if (cli_option_value(cli, "--from"))
        return from_begin(infer, err);
    for (const char *const *flag = from_flags; *flag; flag++)
        if (cli_option_value(cli, *flag))
            return cli_usage(cli, err_set(err, ERR_BAD_INPUT, "%s stands beside --from", *flag));
    /* In `default` the path names the endpoint; in others the host does. */
    if (strcmp(cli->project, "default") != 0)
        infer->host_header =
            arena_format(cli->arena, "Host: %s--%s.localhost", infer->name, cli->project);
    return infer->gateway ? 0 : gateway_find(infer, err);
}

int cmd_infer(struct cli *cli, struct err *err)
{
    struct infer *infer = ARENA_NEW(cli->arena, struct infer);
    infer->cli = cli;
    int r = options_read(infer, err);
    if (r == 0)
        r = metadata_get(infer, err);
    if (r == 0) {
        properties_get(infer);
        r = infer_inputs_read(infer, err);
    }
    return r < 0 ? r : infer_send(infer, err);
}
