/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Over rules and countries by chance: a gateway serves, passes on and tries again only where the
 * law lets it, whatever the other PoPs answer. law.h says what the law is, by another way than the
 * code that is tried. The client's country is the one that an unknown client is counted as.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h> /* after the above */

#include "base/arena.h"
#include "base/err.h"
#include "gateway_scene.h"
#include "law.h"
#include "policy/residency.h"
#include "spec/endpoint.h"

enum { ROUNDS = 400, POPS = 3 /* local, other, third */ };

struct round {
    struct law law;
    struct law_list narrow; /* .text empty: the request says nothing */
    struct residency residency;
    country_number client, pops[POPS];
    bool draining;
};

static unsigned here, passed, tried_twice, refused, nobody;

static country_number any_of(const struct countries *set)
{
    country_number found = COUNTRY_UNKNOWN;
    unsigned count = 0;
    for (unsigned i = 1; i <= COUNTRY_NUMBER_MAX; i++)
        if (countries_has(set, (country_number)i) && law_below(++count) == 0)
            found = (country_number)i;
    return found;
}

/* One that the rules speak of, mostly; of a PoP those that hold for the client. */
static country_number country_draw(const struct round *round,
                                   const country_number all[static LAW_COUNTRIES], bool of_pop)
{
    const struct law *law = &round->law;
    country_number client = round->client;
    size_t rule = of_pop ? law_rule(law, &client) : law_below((unsigned)law->count);
    unsigned dice = law_below(8);
    if (rule == law->count || dice == 0)
        return all[1 + law_below(LAW_COUNTRIES - 1)];
    if (!of_pop)
        return any_of(&law->clients[rule].countries);
    return dice == 1   ? client
           : dice == 2 ? any_of(&law->transit[rule].countries)
                       : any_of(&law->process[rule].countries);
}

static void round_draw(struct arena *arena, const struct geo_sets *sets,
                       const country_number all[static LAW_COUNTRIES], struct round *ret)
{
    struct endpoint_specs specs;
    struct err err;
    *ret = (struct round){ .draining = law_below(4) == 0 };
    law_make(arena, sets, &ret->law);
    const char *text = arena_format(arena, "name: digits\nmodel: m\n%s\n", ret->law.text);
    if (endpoint_spec_parse_text(arena, slice_of(text), SPEC_YAML, 0, &specs, &err) < 0)
        fail_msg("%s: %s", text, err.message);
    assert_int_equal(residency_compile(arena, &specs.items[0], geo_sets_lookup, (void *)sets,
                                       &ret->residency, &err),
                     0);
    if (law_below(8)) /* else nobody knows: what follows then the rules say themselves */
        ret->client = country_draw(ret, all, false);
    if (ret->client != COUNTRY_UNKNOWN)
        ret->residency.unknown_client = ret->client;
    for (size_t i = 0; i < POPS; i++)
        ret->pops[i] = country_draw(ret, all, true);
    if (law_below(5) == 0)
        ret->narrow = law_list(sets, true);
    if (ret->narrow.any)
        ret->narrow = (struct law_list){};
}

static bool may_process(const struct round *round, size_t pop)
{
    return law_process(&round->law, round->client, round->pops[pop]) &&
           (!round->narrow.text[0] || countries_has(&round->narrow.countries, round->pops[pop]));
}

/* "[EU, DE]" as the header has it. */
static const char *header_of(struct arena *arena, const struct round *round)
{
    size_t size = strlen(round->narrow.text);
    return size ? arena_format(arena, "Perigee-Process-In: %.*s\r\n", (int)size - 2,
                               round->narrow.text + 1)
                : "";
}

static void table_of(struct scene *scene, const struct round *round)
{
    char code[3];
    static const enum peer_mode modes[] = { PEER_ECHOES, PEER_ECHOES, PEER_REFUSES, PEER_DENIES };
    country_code_of(round->pops[0], code);
    scene->world.country = code;
    for (size_t i = 0; i < POPS; i++)
        scene->pops[i].country = round->pops[i];
    scene->pops[0].flags = TABLE_POP_UP | (round->draining ? TABLE_POP_DRAINING : 0);
    scene->row.rules = round->residency.rules;
    scene->row.rule_count = round->residency.count;
    scene->row.unknown_client = round->residency.unknown_client;
    atomic_store(&scene->other.mode, modes[law_below(4)]);
    atomic_store(&scene->third.mode, modes[law_below(4)]);
    scene_table(scene);
    scene->world.country = NULL;
}

static void round_try(struct scene *scene, struct arena *arena, const struct round *round)
{
    struct peer *peers[] = { &scene->other, &scene->third };
    unsigned before[2], tries = 0;
    bool anywhere = false;
    table_of(scene, round);
    for (size_t i = 0; i < 2; i++)
        before[i] = atomic_load(&peers[i]->requests);
    struct reply reply = world_infer(&scene->world, header_of(arena, round), BODY);
    bool mine = strstr(reply.text, "Perigee-Pop: local") && reply.status == 200;
    bool pass = law_transit(&round->law, round->client, round->pops[0]);
    for (size_t i = 0; i < 2; i++) {
        bool got = atomic_load(&peers[i]->requests) > before[i];
        if (got && !(may_process(round, 1 + i) && pass))
            fail_msg("%s%s: PoP %zu has it: %s", round->law.text, header_of(arena, round), 1 + i,
                     reply.text);
        tries += got;
    }
    for (size_t i = 0; i < POPS; i++)
        anywhere = anywhere || may_process(round, i);
    if (mine && !may_process(round, 0))
        fail_msg("%s%s: it was served here: %s", round->law.text, header_of(arena, round),
                 reply.text);
    if ((!anywhere || (!pass && !may_process(round, 0))) && reply.status != 451)
        fail_msg("%s%s: nobody may: %s", round->law.text, header_of(arena, round), reply.text);
    here += mine;
    passed += tries == 1;
    tried_twice += tries == 2;
    refused += anywhere && reply.status == 451;
    nobody += !anywhere;
    reply_free(&reply);
}

static void test_nothing_denied_is_served_or_passed_on(void **state)
{
    country_number all[LAW_COUNTRIES];
    struct world_endpoint row = scene_endpoint(0, scene_at_all, POPS);
    struct scene scene;
    (void)state;
    law_countries(all);
    scene_begin(&scene, &row, PEER_ECHOES, true);
    for (uint64_t seed = 1; seed <= ROUNDS; seed++) {
        struct arena *arena = arena_new();
        struct geo_sets sets;
        struct round round;
        struct err err;
        law_seed(seed);
        assert_int_equal(geo_sets_parse(arena, (struct slice){}, &sets, &err), 0);
        round_draw(arena, &sets, all, &round);
        round_try(&scene, arena, &round);
        arena_free(arena);
    }
    print_message("  %u here, %u passed on, %u tried at both, %u refused, %u for nobody\n", here,
                  passed, tried_twice, refused, nobody);
    assert_true(here > 20 && passed > 20 && tried_twice > 2 && refused > 20 && nobody > 20);
    scene_end(&scene);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_denied_is_served_or_passed_on),
    };
    return cmocka_run_group_tests_name("gateway_law", tests, NULL, NULL);
}
