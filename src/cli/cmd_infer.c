/* SPDX-License-Identifier: Apache-2.0 */
/*
 * infer: files in, a readable answer out. Inputs go in the protocol's binary form (JSON ones as
 * they are); answers come back in it too, but for --json.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/err.h"
#include "cli/cli.h"
#include "cli/commands.h"
#include "cli/from.h"
#include "cli/infer_answer.h"
#include "cli/tensor_file.h"
#include "cli/view.h"
#include "http/fetch.h"
#include "spec/units.h"

enum { INPUTS_MAX = 64, JSON_BYTES_MAX = 16 << 20, INFER_TIMEOUT_MS = 3'600'000 };

struct input {
    struct slice name;
    struct tensor_file tensor; /* data empty: */
    struct slice json;         /* this instead, as written */
};

struct infer {
    struct cli *cli;
    const char *name, *gateway;
    const char *host_header; /* or NULL */
    struct from *from;       /* --from; NULL: not said */
    uint64_t revision;       /* 0: the one with the traffic */
    yyjson_val *metadata;    /* OIP's, of the model */
    yyjson_val *properties;  /* the model's own, from control; or NULL */
    const char *untold;      /* why control told none; NULL: it was asked, and told what there is */
    struct input inputs[INPUTS_MAX];
    size_t input_count;
};

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

/* ---- inputs ---------------------------------------------------------------------------------- */

static bool want_find(struct infer *infer, struct slice name, struct tensor_file *ret)
{
    size_t index, count, d, dims;
    yyjson_val *item, *dim;
    yyjson_arr_foreach(json_member(infer->metadata, "inputs"), index, count, item)
    {
        if (!slice_equal(view_text(item, "name"), name))
            continue;
        *ret = (struct tensor_file){ .datatype = tensor_type_of(view_text(item, "datatype")) };
        yyjson_arr_foreach(json_member(item, "shape"), d, dims, dim)
        {
            if (ret->shape.rank < TENSOR_RANK_MAX)
                ret->shape.dims[ret->shape.rank++] = yyjson_get_sint(dim);
        }
        return true;
    }
    return false;
}

static const char *input_names(struct infer *infer)
{
    const char *text = "";
    size_t index, count;
    yyjson_val *item;
    yyjson_arr_foreach(json_member(infer->metadata, "inputs"), index, count, item) text =
        arena_format(infer->cli->arena, "%s%s%.*s", text, index ? ", " : "",
                     SLICE_FMT(view_text(item, "name")));
    return text;
}

/* What the model says, else what its shape says, and on top of it --image; one that gives a size
 * stands for itself. */
static int image_spec_find(struct infer *infer, struct slice name, const struct tensor_file *want,
                           struct image_spec *ret, const char **ret_why, struct err *err)
{
    struct cli *cli = infer->cli;
    const char *given = cli_option_value(cli, "--image");
    const char *key = arena_format(cli->arena, "perigee.image.%.*s", SLICE_FMT(name));
    struct slice property = view_text(infer->properties, key);
    struct image_spec alone = {};
    int r = given ? image_spec_change(slice_of(given), &alone, err) : 0;
    if (r < 0)
        return cli_usage(cli, r);
    if (property.size && !alone.width) {
        *ret_why = given ? "as the model and --image say" : "as the model says";
        r = image_spec_parse_json(cli->arena, property, ret, err);
    } else {
        *ret_why = given ? "--image" : "guessed from the shape";
        bool guessed = image_spec_guess(want, ret) || given;
        if (!guessed && infer->untold)
            r = err_set(err, ERR_BAD_INPUT,
                        "control was not asked how pixels become the model's input (%s); say it "
                        "with --image, e.g. --image 224x224,rgb,CHW,0:1",
                        infer->untold);
        else if (!guessed)
            r = err_set(err, ERR_BAD_INPUT,
                        "the model does not say how pixels become its input; say it with --image, "
                        "e.g. --image 224x224,rgb,CHW,0:1");
    }
    return r == 0 && given ? image_spec_change(slice_of(given), ret, err) : r;
}

static int picture_read(struct infer *infer, struct slice file, struct slice name,
                        const struct tensor_file *want, struct tensor_file *ret, struct err *err)
{
    struct cli *cli = infer->cli;
    struct image image;
    struct image_spec spec = {};
    const char *why = "";
    int r = image_spec_find(infer, name, want, &spec, &why, err);
    if (r == 0)
        r = image_decode(cli->arena, file, &image, err);
    if (r != 0)
        return r;
    spec.width = spec.width ? spec.width : image.width;
    spec.height = spec.height ? spec.height : image.height;
    r = image_tensor(cli->arena, &image, &spec, ret, err);
    if (r == 0 && !cli->json)
        fprintf(stderr, "%.*s: %ux%u picture to %ux%u, %s, %g to %g%s (%s)\n", SLICE_FMT(name),
                image.width, image.height, spec.width, spec.height,
                spec.channels == 1 ? "gray" : "RGB", spec.low, spec.high,
                spec.invert ? ", inverted" : "", why);
    return r;
}

/* ---- JSON ----------------------------------------------------------------------------------- */

/* All that is not a list, in order. */
static uint64_t leaves_write(struct json_writer *w, yyjson_val *at)
{
    size_t index, count;
    uint64_t leaves = 0;
    yyjson_val *item;
    if (!yyjson_is_arr(at)) {
        json_value(w, at);
        return 1;
    }
    yyjson_arr_foreach(at, index, count, item)
    {
        leaves += leaves_write(w, item);
    }
    return leaves;
}

/* Nested lists: their shape, by the first element of each depth; the gateway checks the rest. They
 * go as they were written where the model takes that shape, else flat. */
static int json_shape(struct cli *cli, struct slice file, const struct tensor_file *want,
                      struct input *ret, struct err *err)
{
    const struct json_limits limits = { .bytes_max = JSON_BYTES_MAX };
    yyjson_val *root;
    uint64_t elements;
    int r = json_parse(cli->arena, file, &limits, &root, err);
    if (r < 0)
        return r;
    if (yyjson_is_obj(root))
        return err_set(err, ERR_BAD_INPUT, "%s",
                       json_member(root, "inputs")
                           ? "it is a whole request; --input wants the data of one input, a list"
                           : "it is an object; a list of numbers is wanted, nested or flat");
    ret->tensor = (struct tensor_file){ .datatype = want->datatype };
    struct tensor_shape *shape = &ret->tensor.shape;
    for (yyjson_val *at = root; yyjson_is_arr(at); at = yyjson_arr_get_first(at)) {
        if (shape->rank == TENSOR_RANK_MAX)
            return err_set(err, ERR_BAD_INPUT, "lists nested more than %d deep", TENSOR_RANK_MAX);
        shape->dims[shape->rank++] = (int64_t)yyjson_arr_size(at);
    }
    struct tensor_shape nested = *shape;
    r = tensor_fit(&ret->tensor, want, err);
    if (r < 0)
        return r;
    ret->json = file;
    bool same =
        nested.rank == shape->rank && memcmp(nested.dims, shape->dims, sizeof nested.dims) == 0;
    if (nested.rank == 1 || (same && nested.rank))
        return 0;
    struct json_writer w;
    json_begin(&w, cli->arena, 0);
    json_array_begin(&w);
    uint64_t leaves = leaves_write(&w, root);
    json_array_end(&w);
    ret->json = json_end(&w);
    if (!tensor_elements(&nested, &elements) || elements != leaves)
        return err_set(err, ERR_BAD_INPUT, "the lists are not all of one length");
    return 0;
}

/* Whether a name says that it is no JSON. */
static bool other_ending(struct slice path)
{
    struct slice name = path;
    for (size_t i = path.size; i > 0 && name.size == path.size; i--)
        if (path.data[i - 1] == '/')
            name = (struct slice){ path.data + i, path.size - i };
    return memchr(name.data, '.', name.size) && !slice_ends(name, SLICE(".json"));
}

static int input_add(struct infer *infer, const char *text, struct err *err)
{
    struct cli *cli = infer->cli;
    struct slice path = slice_of(text), name = slice_cut(&path, '='), file;
    struct tensor_file want;
    if (!path.data || path.size == 0)
        return cli_usage(infer->cli, err_set(err, ERR_BAD_INPUT, "--input wants NAME=FILE"));
    if (!want_find(infer, name, &want))
        return err_set(err, ERR_BAD_INPUT, "the model has no input '%s'; it has: %s",
                       ERR_SLICE(name), input_names(infer));
    if (infer->input_count == INPUTS_MAX)
        return err_set(err, ERR_TOO_LARGE, "more than %d inputs", INPUTS_MAX);
    struct input *input = &infer->inputs[infer->input_count++];
    struct tensor_file *tensor = &input->tensor;
    input->name = name;
    bool standard = strcmp(path.data, "@-") == 0;
    int r = cli_read(cli, standard ? "-" : path.data, TENSOR_FILE_BYTES_MAX, &file, err);
    bool converted = true;
    if (r < 0)
        return r;
    if (slice_starts(file, SLICE("\x93NUMPY")))
        r = npy_read(cli->arena, file, tensor, err);
    else if (slice_starts(file, SLICE("PK\x03\x04"))) {
        r = npz_read(cli->arena, file, name, tensor, err);
        if (r == ERR_NOT_FOUND)
            r = npz_read(cli->arena, file, (struct slice){}, tensor, err);
    } else if (slice_starts(file, SLICE("\x89PNG")) || slice_starts(file, SLICE("\xff\xd8")))
        r = picture_read(infer, file, name, &want, tensor, err);
    else {
        r = json_shape(cli, file, &want, input, err);
        converted = false;
        if (r == ERR_BAD_INPUT && !standard && other_ending(path))
            r = err_set(err, ERR_BAD_INPUT,
                        "not a form that --input takes: .npy, .npz, .png, .jpg and .json");
    }
    if (r < 0 || !converted)
        return r;
    const char *before = tensor_words(cli->arena, tensor);
    r = tensor_convert(cli->arena, tensor, want.datatype, err);
    if (r == 0)
        r = tensor_fit(tensor, &want, err);
    const char *after = r == 0 ? tensor_words(cli->arena, tensor) : "";
    if (r == 0 && !cli->json && strcmp(before, after) != 0)
        fprintf(stderr, "%.*s: %s to %s\n", SLICE_FMT(name), before, after);
    return r;
}

static int inputs_read(struct infer *infer, struct err *err)
{
    for (size_t i = 0;; i++) {
        const char *text = cli_option_nth(infer->cli, "--input", i);
        if (!text)
            break;
        int r = input_add(infer, text, err);
        if (r < 0)
            return err_wrap(err, "%s", ERR_TEXT(text));
    }
    if (infer->input_count == 0)
        return cli_usage(infer->cli, err_set(err, ERR_BAD_INPUT,
                                             "--input NAME=FILE is missing; the model has: %s",
                                             input_names(infer)));
    return 0;
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
    int r = infer_answer_read(cli->arena, json, binary, &outputs, &count, err);
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
        r = inputs_read(infer, err);
    }
    return r < 0 ? r : infer_send(infer, err);
}
