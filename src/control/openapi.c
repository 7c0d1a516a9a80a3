/* SPDX-License-Identifier: Apache-2.0 */
/* /openapi.json (3.1) and the table of docs/api.md, from the routes that serve. */
#include <stdio.h>
#include <string.h>

#include "base/arena.h"
#include "base/json.h"
#include "base/version.h"
#include "control/control.h"
#include "control/control_own.h"
#include "control/routes.h"
#include "control/schemas.h"

/* ---- the spec, from its table of options ---------------------------------------------------- */

static void choices(struct json_writer *w, const char *text)
{
    struct slice rest = slice_of(text);
    struct slice live = slice_cut(&rest, ';');
    json_key(w, "enum");
    json_array_begin(w);
    while (live.data)
        json_string(w, slice_cut(&live, '|'));
    json_array_end(w);
}

static void strings(struct json_writer *w, uint64_t count_max)
{
    json_member_text(w, "type", "array");
    json_key(w, "items");
    json_raw(w, SLICE("{\"type\":\"string\"}"));
    if (count_max)
        json_member_u64(w, "maxItems", count_max);
}

static void option_schema(struct json_writer *w, const struct option *option)
{
    json_object_begin(w);
    json_member_text(w, "description", option->help);
    switch (option->type) {
    case OPTION_UINT:
        json_member_text(w, "type", "integer");
        json_member_u64(w, "minimum", option->min);
        json_member_u64(w, "maximum", option->max);
        break;
    case OPTION_BOOL:
        json_member_text(w, "type", "boolean");
        break;
    case OPTION_CPU:
        json_key(w, "type");
        json_raw(w, SLICE("[\"string\",\"number\"]"));
        break;
    case OPTION_CHOICE:
        json_member_text(w, "type", "string");
        choices(w, option->choices);
        break;
    case OPTION_NAMES:
    case OPTION_HOSTS:
    case OPTION_ORIGINS:
    case OPTION_REGIONS:
    case OPTION_WORDS:
    case OPTION_EGRESS:
        strings(w, option->max);
        break;
    case OPTION_LABELS:
    case OPTION_ENV:
        json_member_text(w, "type", "object");
        json_key(w, "additionalProperties");
        json_raw(w, option->type == OPTION_LABELS
                        ? SLICE("{\"type\":\"string\"}")
                        : SLICE("{\"type\":[\"string\",\"object\"],\"required\":[\"secret\"],"
                                "\"additionalProperties\":false,\"properties\":{\"secret\":{"
                                "\"type\":\"string\"}}}"));
        break;
    default:
        json_member_text(w, "type", "string");
        break;
    }
    if (option->fallback && option->type == OPTION_UINT)
        json_member_u64(w, "default", strtoull(option->fallback, NULL, 10));
    else if (option->fallback && option->type == OPTION_BOOL)
        json_member_bool(w, "default", strcmp(option->fallback, "true") == 0);
    else if (option->fallback)
        json_member_text(w, "default", option->fallback);
    json_object_end(w);
}

/* Keys with a dot are members of a group; the rows of a group stand together. */
static void spec_schema(struct json_writer *w)
{
    struct slice group = {};
    json_object_begin(w);
    json_member_text(w, "type", "object");
    json_member_bool(w, "additionalProperties", false);
    json_member_text(w, "description", "docs/spec.md says it at length.");
    json_key(w, "properties");
    json_object_begin(w);
    for (size_t i = 0; i < endpoint_option_count; i++) {
        const struct option *option = &endpoint_options[i];
        if (option->status != OPTION_LIVE)
            continue;
        struct slice rest = slice_of(option->key), first = slice_cut(&rest, '.');
        if (group.data && !(rest.data && slice_equal(first, group))) {
            json_object_end(w);
            json_object_end(w);
            group = (struct slice){};
        }
        if (rest.data && !group.data) {
            group = first;
            json_key_slice(w, group);
            json_object_begin(w);
            json_member_text(w, "type", "object");
            json_member_bool(w, "additionalProperties", false);
            json_key(w, "properties");
            json_object_begin(w);
        }
        json_key_slice(w, rest.data ? rest : first);
        option_schema(w, option);
    }
    if (group.data) {
        json_object_end(w);
        json_object_end(w);
    }
    json_object_end(w);
    json_object_end(w);
}

/* ---- paths ---------------------------------------------------------------------------------- */

static void parameter(struct json_writer *w, struct slice name, const char *where, const char *type,
                      const char *text)
{
    json_object_begin(w);
    json_member_string(w, "name", name);
    json_member_text(w, "in", where);
    json_member_bool(w, "required", strcmp(where, "path") == 0);
    json_member_text(w, "description", text);
    json_key(w, "schema");
    json_object_begin(w);
    json_member_text(w, "type", type);
    json_object_end(w);
    json_object_end(w);
}

static void parameters(struct json_writer *w, const struct route *route, const char *path)
{
    struct slice rest = slice_of(path), names = slice_of(route->query);
    json_key(w, "parameters");
    json_array_begin(w);
    while (rest.data) {
        (void)slice_cut(&rest, '{');
        struct slice name = slice_cut(&rest, '}');
        if (name.size)
            parameter(w, name, "path", slice_is(name, "number") ? "integer" : "string",
                      slice_is(name, "digest") ? "sha256:HEX." : "As in the path.");
    }
    while (names.data && names.size) {
        struct slice name = slice_cut(&names, ',');
        for (size_t i = 0; i < query_parameter_count; i++)
            if (slice_is(name, query_parameters[i].name))
                parameter(w, name, "query", query_parameters[i].type, query_parameters[i].text);
    }
    if (route->body != BODY_NONE && strcmp(route->path, "/endpoints/{name}") == 0)
        parameter(w, SLICE("If-Match"), "header", "string",
                  "Only when the endpoint's ETag is this one; else 412.");
    json_array_end(w);
}

static const char *media_type(const struct route *route, const char *schema, bool request)
{
    if (strcmp(schema, "binary") == 0)
        return "application/octet-stream";
    if (strcmp(schema, "text") == 0)
        return "text/plain";
    if (strcmp(schema, "events") == 0)
        return "text/event-stream";
    return request && route->body == BODY_PATCH ? "application/merge-patch+json"
                                                : "application/json";
}

static void content(struct json_writer *w, const struct route *route, const char *schema,
                    bool request)
{
    static const char *const plain[] = { "binary", "text", "events" };
    bool named = true;
    for (size_t i = 0; i < 3; i++)
        named = named && strcmp(schema, plain[i]) != 0;
    json_key(w, "content");
    json_object_begin(w);
    json_key(w, media_type(route, schema, request));
    json_object_begin(w);
    json_key(w, "schema");
    json_object_begin(w);
    if (named)
        json_member_text(w, "$ref", arena_format(w->arena, "#/components/schemas/%s", schema));
    else
        json_member_text(w, "type", "string");
    json_object_end(w);
    json_object_end(w);
    if (!request && route->flags & ROUTE_WATCH) {
        json_key(w, "text/event-stream");
        json_raw(w, SLICE("{\"schema\":{\"type\":\"string\"}}"));
    }
    json_object_end(w);
}

static void response(struct json_writer *w, const struct route *route, int status, const char *text)
{
    json_key(w, arena_format(w->arena, "%d", status));
    json_object_begin(w);
    json_member_text(w, "description", text);
    if (route->gives && status != 204 && !(status == 202 && route->body == BODY_UPLOAD))
        content(w, route, route->gives, false);
    json_object_end(w);
}

static void responses(struct json_writer *w, const struct route *route)
{
    bool changes =
        route->gives && strcmp(route->gives, "Endpoint") == 0 && route->body != BODY_NONE;
    json_key(w, "responses");
    json_object_begin(w);
    response(w, route, route->status, route->body == BODY_UPLOAD ? "It is here now." : "Done.");
    if (route->body == BODY_UPLOAD) {
        response(w, route, 200, "It was here already.");
        response(w, route, 202, "Not whole yet; Range says what is here.");
    } else if (changes || route->method == HTTP_DELETE) {
        response(w, route, 202, "Taken; the state says how far it is.");
    }
    if (route->method == HTTP_PUT && changes)
        response(w, route, 201, "Created.");
    json_key(w, "default");
    json_raw(w, SLICE("{\"$ref\":\"#/components/responses/Problem\"}"));
    json_object_end(w);
}

static void operation(struct json_writer *w, const struct route *route, const char *path,
                      bool project)
{
    json_key(w, route->method == HTTP_GET     ? "get"
                : route->method == HTTP_PUT   ? "put"
                : route->method == HTTP_POST  ? "post"
                : route->method == HTTP_PATCH ? "patch"
                                              : "delete");
    json_object_begin(w);
    json_member_text(w, "operationId",
                     arena_format(w->arena, "%s%s", route->operation, project ? "InProject" : ""));
    json_member_text(w, "summary", route->summary);
    parameters(w, route, path);
    if (route->takes) {
        json_key(w, "requestBody");
        json_object_begin(w);
        json_member_bool(w, "required", true);
        content(w, route, route->takes, true);
        json_object_end(w);
    }
    responses(w, route);
    json_object_end(w);
}

/* Rows of one path stand together in the table. */
static void paths(struct json_writer *w)
{
    json_key(w, "paths");
    json_object_begin(w);
    for (int project = 0; project < 2; project++) {
        char last[ROUTES_PATH_BYTES] = "", path[ROUTES_PATH_BYTES];
        for (size_t i = 0; i < control_route_count; i++) {
            const struct route *route = &control_routes[i];
            if (project && !(route->flags & ROUTE_PROJECT))
                continue;
            routes_path(route, project, path);
            if (strcmp(path, last) != 0) {
                if (last[0])
                    json_object_end(w);
                json_key(w, path);
                json_object_begin(w);
                memcpy(last, path, sizeof last);
            }
            operation(w, route, path, project);
        }
        if (last[0])
            json_object_end(w);
    }
    json_object_end(w);
}

struct slice control_openapi(struct arena *arena)
{
    struct json_writer w;
    json_begin(&w, arena, 0);
    json_object_begin(&w);
    json_member_text(&w, "openapi", "3.1.0");
    json_key(&w, "info");
    json_object_begin(&w);
    json_member_text(&w, "title", "Perigee control");
    json_member_text(&w, "version", PERIGEE_VERSION);
    json_key(&w, "license");
    json_raw(&w, SLICE("{\"name\":\"Apache-2.0\",\"identifier\":\"Apache-2.0\"}"));
    json_object_end(&w);
    json_key(&w, "servers");
    json_raw(&w, SLICE("[{\"url\":\"/\"}]"));
    paths(&w);
    json_key(&w, "components");
    json_object_begin(&w);
    json_key(&w, "responses");
    json_raw(&w, SLICE("{\"Problem\":{\"description\":\"It was refused, or failed; the header "
                       "Perigee-Error names the kind.\",\"content\":{\"application/problem+json\":"
                       "{\"schema\":{\"$ref\":\"#/components/schemas/Problem\"}}}}}"));
    json_key(&w, "schemas");
    json_object_begin(&w);
    json_key(&w, "Spec");
    spec_schema(&w);
    for (size_t i = 0; i < control_schema_count; i++) {
        json_key(&w, control_schemas[i].name);
        json_raw(&w, slice_of(control_schemas[i].json));
    }
    json_object_end(&w);
    json_object_end(&w);
    json_object_end(&w);
    return json_end(&w);
}

struct slice control_docs(struct arena *arena)
{
    const char *text = "| method | path | who | what |\n| --- | --- | --- | --- |\n";
    static const char *const words[] = {
#define SCOPE_WORD(id, word, help) word,
        SCOPES(SCOPE_WORD)
#undef SCOPE_WORD
    };
    for (size_t i = 0; i < control_route_count; i++) {
        const struct route *route = &control_routes[i];
        char path[ROUTES_PATH_BYTES];
        routes_path(route, false, path);
        text = arena_format(arena, "%s| %s | `%s%s%s` | %s | %s |\n", text,
                            http_method_text(route->method), path, route->query[0] ? "?" : "",
                            route->query, words[route->scope], route->summary);
    }
    return slice_of(text);
}
