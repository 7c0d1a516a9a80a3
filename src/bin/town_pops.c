/* SPDX-License-Identifier: Apache-2.0 */
/* What control is told of its PoPs, over the socket in its home, before they start. */
#include <unistd.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/json.h"
#include "bin/town.h"
#include "cli/cli.h"
#include "http/client.h"
#include "http/fetch.h"
#include "pop/pop.h"
#include "spec/pop.h"
#include "spec/units.h"
#include "sys/env_linux.h"

/* ---- PoPs at control ------------------------------------------------------------------------ */

static int ask_control(struct town *town, const char *path, struct slice body,
                       struct fetch_answer *ret, struct err *err)
{
    struct arena *arena = town->cli->arena;
    const char *const headers[] = { "Content-Type: application/json", NULL };
    struct fetch_request request = {
        .method = "POST",
        .url = arena_format(arena, "http://localhost%s", path),
        .unix_path = arena_format(arena, "%s/run/control.sock", town_control_home(town)),
        .headers = headers,
        .body = body,
        .body_fd = -1,
        .timeout_ms = 30'000,
    };
    return fetch(arena, &request, ret, err);
}

static void write_money(struct json_writer *w, const char *key, const struct money *money)
{
    char text[UNITS_BYTES];
    if (*money->currency)
        json_member_text(w, key, units_print_money(text, money));
}

static void write_place(struct json_writer *w, const struct town *town, size_t index)
{
    const struct fleet_place *place = &town->fleet.places[index];
    char country[3];
    country_code_of(place->country, country);
    json_member_text(w, "country", country);
    json_member_double(w, "latitude", place->latitude);
    json_member_double(w, "longitude", place->longitude);
    if (town->fleet.pops[index].city.size)
        json_member_string(w, "city", town->fleet.pops[index].city);
}

static void write_limits(struct json_writer *w, const struct fleet_pop *pop)
{
    char text[UNITS_BYTES];
    json_key(w, "limits");
    json_object_begin(w);
    if (pop->cpu_milli)
        json_member_text(w, "cpu", units_print_cpu(text, pop->cpu_milli));
    if (pop->memory_bytes)
        json_member_text(w, "memory", units_print_bytes(text, pop->memory_bytes));
    if (pop->replicas)
        json_member_u64(w, "replicas", pop->replicas);
    json_object_end(w);
    json_key(w, "prices");
    json_object_begin(w);
    write_money(w, "cpu_hour", &pop->cpu_hour);
    write_money(w, "gib_hour", &pop->gib_hour);
    json_object_end(w);
}

/* As control's API has it. */
static struct slice pop_json(const struct town *town, size_t index)
{
    const struct fleet_pop *pop = &town->fleet.pops[index];
    struct ip face = fleet_face(index);
    char text[IP_TEXT_BYTES];
    struct json_writer w;
    json_begin(&w, town->cli->arena, 0);
    json_object_begin(&w);
    json_member_string(&w, "name", pop->name);
    write_place(&w, town, index);
    if (pop->region.size)
        json_member_string(&w, "region", pop->region);
    json_key(&w, "addresses");
    json_array_begin(&w);
    json_text(&w, ip_text(&face, text));
    json_array_end(&w);
    json_key(&w, "flavors");
    json_array_begin(&w);
    for (size_t i = 0; i < pop->flavor_count; i++)
        json_string(&w, pop->flavors[i]);
    json_array_end(&w);
    write_limits(&w, pop);
    json_object_end(&w);
    return json_end(&w);
}

/* It stands where the first PoP does, as control. */
static struct slice dns_json(const struct town *town)
{
    struct json_writer w;
    json_begin(&w, town->cli->arena, 0);
    json_object_begin(&w);
    json_member_text(&w, "name", TOWN_DNS_NAME);
    json_member_text(&w, "kind", pop_kind_word(POP_KIND_DNS));
    write_place(&w, town, 0);
    json_object_end(&w);
    return json_end(&w);
}

static int refused_by_control(const struct fetch_answer *answer, struct arena *arena,
                              const char *name, struct err *err)
{
    yyjson_val *root;
    struct slice detail = SLICE("no reason is given");
    if (json_parse(arena, answer->body, NULL, &root, NULL) == 0)
        (void)json_get_string(root, "detail", JSON_OPTIONAL, &detail, NULL);
    return err_set(err, ERR_CONFLICT, "control does not take PoP '%s' (%d): %.*s", name,
                   answer->status, SLICE_FMT(detail));
}

enum { JOINED_BYTES_MAX = 64 << 10 };

void town_recall_control(struct town *town)
{
    struct arena *arena = town->cli->arena;
    struct slice text, control;
    struct http_url url;
    yyjson_val *root;
    const char *path = arena_format(arena, "%s/" POP_JOINED_FILE, town_home(town, 0));
    if (town->control.count && town->control.numbers[0] == 0 &&
        disk_read(path, JOINED_BYTES_MAX, arena, &text, NULL) == 0 &&
        json_parse(arena, text, NULL, &root, NULL) == 0 &&
        json_get_string(root, "control", JSON_REQUIRED, &control, NULL) == 1 &&
        http_url_parse(control, &url, NULL) == 0)
        town->control.numbers[0] = url.address.port;
}

/* A token to join with, unless it has joined in an earlier life of this home. */
static int member_create(struct town *town, struct box_tree *tree, const char *home,
                         struct ip place, struct slice json, struct err *err)
{
    struct arena *arena = town->cli->arena;
    struct fetch_answer answer;
    yyjson_val *root;
    struct slice token;
    bool joined = access(arena_format(arena, "%s/" POP_JOINED_FILE, home), F_OK) == 0;
    int r = ask_control(town, "/api/v1/pops", json, &answer, err);
    if (r == 0 && answer.status == 409 && joined)
        return 0;
    if (r == 0 && answer.status == 409)
        r = ask_control(town, arena_format(arena, "/api/v1/pops/%s/token", tree->name),
                        (struct slice){}, &answer, err);
    if (r < 0)
        return err_wrap(err, "telling control of PoP '%s'", tree->name);
    if (answer.status >= 300)
        return refused_by_control(&answer, arena, tree->name, err);
    if (json_parse(arena, answer.body, NULL, &root, err) < 0 ||
        json_get_string(root, "token", JSON_REQUIRED, &token, err) < 0)
        return err_wrap(err, "control's answer");
    const char **environment = town_environment(town, place);
    environment[1] = arena_format(arena, "PERIGEE_JOIN_TOKEN=%.*s", SLICE_FMT(token));
    tree->environment = environment;
    return 0;
}

int town_round(unsigned round, void *data, struct err *err)
{
    struct town *town = data;
    int r = 0;
    for (size_t i = 0; round == 0 && i < town->fleet.pop_count && r == 0; i++)
        r = member_create(town, &town->trees[1 + i], town_home(town, i), fleet_face(i),
                          pop_json(town, i), err);
    if (round == 0 && town->dns && r == 0)
        r = member_create(town, &town->trees[1 + town->fleet.pop_count], town_dns_home(town),
                          fleet_control_face(), dns_json(town), err);
    return r;
}
