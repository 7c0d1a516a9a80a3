/* SPDX-License-Identifier: Apache-2.0 */
/* Control's placement of endpoints on a fleet of its own: PoPs come, fall silent, return. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h> /* after the above */

#include "base/err.h"
#include "control/decision.h"
#include "control/placement.h"
#include "control/report.h"
#include "control_world.h"

/* "paris 1, tokyo 2" */
static const char *places(const struct hub_endpoint *endpoint)
{
    static char text[256];
    size_t used = 0;
    text[0] = '\0';
    for (size_t i = 0; i < endpoint->place_count; i++)
        used += (size_t)snprintf(text + used, sizeof text - used, "%s%.*s %u", used ? ", " : "",
                                 SLICE_FMT(endpoint->places[i].pop->name),
                                 endpoint->places[i].replicas);
    return text;
}

/* It has one replica of each of the endpoints, ready. */
static void report(struct control *control, struct hub_pop *pop, uint64_t uid)
{
    struct arena *arena = arena_new();
    struct report said = { .replicas = ARENA_ARRAY(arena, struct hub_replica, 1),
                           .replica_count = uid ? 1 : 0 };
    said.replicas[0] = (struct hub_replica){
        .endpoint_uid = uid, .revision = 1, .state = SLICE("ready"), .view = SLICE("{}")
    };
    hub_pop_state(control, pop, arena, &said);
}

static void silence(struct control *control, struct hub_pop *pop)
{
    hub_pop_watched(control, pop, false);
    pop->silent = true;
    hub_tick(control); /* looks at it again, and hears that it does report */
    pop->silent = true;
}

/* A PoP that changes costs who changed it nothing: the loop does it, a little in each turn. */
static void test_a_change_of_a_pop_is_for_later(void **state)
{
    struct control *control = &((struct world *)*state)->control;
    enum { MANY = 50 };
    for (uint64_t uid = 1; uid <= MANY; uid++)
        (void)endpoint_put(control, uid, "");
    run(control);
    struct hub_pop *paris = pop_put(control, "paris", PARIS);
    for (uint64_t uid = 1; uid <= MANY; uid++)
        assert_int_equal(hub_get(control, uid)->place_count, 0);
    assert_true(control->hub.peers_stale);
    assert_true(run(control) > 0);
    for (uint64_t uid = 1; uid <= MANY; uid++)
        assert_string_equal(places(hub_get(control, uid)), "paris 1");
    assert_non_null(strstr(control->hub.peers.data, "paris"));
    assert_int_equal(paris->placed.replicas, MANY);
    /* Who deletes one meanwhile finds nothing of it left. */
    (void)pop_put(control, "paris", LONDON);
    hub_remove(control, 7);
    run(control);
    assert_int_equal(paris->placed.replicas, MANY - 1);
}

static void test_what_returns_beside_who_followed_it_goes(void **state)
{
    struct world *world = *state;
    struct control *control = &world->control;
    struct hub_pop *paris = pop_put(control, "paris", PARIS);
    struct hub_pop *london = pop_put(control, "london", LONDON);
    struct hub_endpoint *digits = endpoint_put(control, 1, "");
    report(control, paris, 0);
    report(control, london, 0);
    run(control);
    assert_string_equal(places(digits), "london 1");
    report(control, london, 1);
    silence(control, london);
    hub_refresh(control, digits);
    assert_string_equal(places(digits), "london 1, paris 1");
    report(control, paris, 1);
    /* It is back, and both serve: nobody knows yet for how long. */
    hub_pop_watched(control, london, true);
    report(control, london, 1);
    run(control);
    assert_string_equal(places(digits), "london 1, paris 1");
    assert_true(digits->place_spared);
    assert_false(placement_due(control, digits));
    world->now_ns += PLACEMENT_SETTLED_NS - 1;
    assert_false(placement_due(control, digits));
    world->now_ns += 1;
    assert_true(placement_due(control, digits));
    hub_tick(control);
    run(control);
    assert_int_equal(digits->place_count, 1);
    assert_false(digits->place_spared);
    /* And so it stays. */
    const struct hub_pop *kept = digits->places[0].pop;
    world->now_ns += 2 * PLACEMENT_SETTLED_NS;
    hub_tick(control);
    hub_refresh(control, digits);
    assert_int_equal(digits->place_count, 1);
    assert_ptr_equal(digits->places[0].pop, kept);
}

/* What was compiled of a spec goes with it. */
static void test_a_new_spec_is_read_anew(void **state)
{
    struct control *control = &((struct world *)*state)->control;
    (void)pop_put(control, "paris", PARIS);
    (void)pop_put(control, "tokyo", TOKYO);
    struct hub_endpoint *digits = endpoint_put(control, 1, ",\"regions\":[\"FR\"]");
    run(control);
    assert_string_equal(places(digits), "paris 1");
    digits = endpoint_put(control, 1, ",\"regions\":[\"JP\"]");
    assert_string_equal(places(digits), "tokyo 1");
    digits = endpoint_put(control, 1, ",\"residency\":{\"process_in\":[\"EU\"]}");
    assert_string_equal(places(digits), "paris 1");
    digits = endpoint_put(control, 1, ",\"regions\":[\"BR\"]");
    assert_string_equal(places(digits), "");
    assert_true(digits->forbidden);
    assert_non_null(strstr(digits->nowhere, "regions do not hold this PoP, 'tokyo' (JP)"));
    digits = endpoint_put(control, 1, "");
    assert_int_equal(digits->place_count, 1);
    assert_string_equal(digits->nowhere, "");
}

/* How many each chosen PoP runs: its own least number, more only as the fleet's needs. */
static void test_bounds_of_each_pop(void **state)
{
    static const struct {
        const char *spec, *places;
    } rows[] = {
        { "", "paris 1" },
        { ",\"scale\":{\"per_pop\":{\"min\":3}}", "paris 3" },
        { ",\"scale\":{\"per_pop\":{\"min\":2}},\"spread\":{\"pops\":2}", "paris 2, tokyo 2" },
        { ",\"scale\":{\"min\":3,\"per_pop\":{\"max\":2}}", "paris 2, tokyo 1" },
        { ",\"scale\":{\"min\":3,\"per_pop\":{\"max\":3}}", "paris 3" },
        { ",\"scale\":{\"min\":8,\"per_pop\":{\"max\":2}}", "paris 2, tokyo 2" },
    };
    struct control *control = &((struct world *)*state)->control;
    (void)pop_put(control, "paris", PARIS);
    (void)pop_put(control, "tokyo", TOKYO);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        print_message("  %s\n", rows[i].spec);
        const struct hub_endpoint *endpoint = endpoint_put(control, i + 1, rows[i].spec);
        assert_string_equal(places(endpoint), rows[i].places);
        assert_int_equal(endpoint->min_short, i == 5);
    }
}

/* ---- who asks ------------------------------------------------------------------------------- */

struct clients {
    const char *country;
    double latitude, longitude;
    uint64_t requests;
};
#define FROM_PARIS "FR", 48.9, 2.3
#define FROM_TOKYO "JP", 35.7, 139.7
#define FROM_ZURICH "CH", 47.4, 8.5

/* The PoP reports that so many came in so long. */
static void ask(struct control *control, struct hub_pop *pop, uint64_t uid, uint64_t seconds,
                const struct clients *clients, size_t count)
{
    struct report_asked rows[8];
    for (size_t i = 0; i < count; i++)
        rows[i] = (struct report_asked){
            uid,
            asked_cell_of(country_number_of(slice_of(clients[i].country)), clients[i].latitude != 0,
                          clients[i].latitude, clients[i].longitude),
            clients[i].requests,
        };
    const struct report report = { .asked_ms = seconds * 1000,
                                   .asked = rows,
                                   .asked_count = count };
    pop->demand.upto_ms -= (int64_t)seconds * 1000; /* they have passed */
    demand_take(control, pop, &report);
    hub_tick(control);
    run(control);
}

static void test_goes_where_it_is_asked_for(void **state)
{
    struct control *control = &((struct world *)*state)->control;
    struct hub_pop *paris = pop_put(control, "paris", PARIS);
    struct hub_pop *tokyo = pop_put(control, "tokyo", TOKYO);
    struct hub_endpoint *digits = endpoint_put(control, 1, "");
    run(control);
    assert_string_equal(places(digits), "paris 1");
    report(control, paris, 1);
    /* One request is not worth a replica, some are. */
    ask(control, paris, 1, 5, &(struct clients){ FROM_TOKYO, 1 }, 1);
    assert_string_equal(places(digits), "paris 1");
    ask(control, paris, 1, 5, (struct clients[]){ { FROM_TOKYO, 10 }, { FROM_PARIS, 20 } }, 2);
    assert_string_equal(places(digits), "paris 1, tokyo 1");
    report(control, tokyo, 1);
    /* It stays, whoever they come to, while about as many come. */
    for (unsigned i = 0; i < 200; i++) {
        ask(control, tokyo, 1, 5, &(struct clients){ FROM_TOKYO, 8 + i % 5 }, 1);
        ask(control, paris, 1, 5, &(struct clients){ FROM_PARIS, 18 + i % 7 }, 1);
        assert_string_equal(places(digits), "paris 1, tokyo 1");
    }
    /* Nobody comes from there any more: it goes, and not at once. */
    unsigned steps = 0;
    for (; digits->place_count == 2 && steps < 1000; steps++) {
        ask(control, tokyo, 1, 5, NULL, 0);
        ask(control, paris, 1, 5, &(struct clients){ FROM_PARIS, 20 }, 1);
    }
    assert_in_range(steps, 60, 999);
    assert_string_equal(places(digits), "paris 1");
}

/* Whose place is not known is taken to be near the PoP that he came to. */
static void test_without_a_map_of_addresses(void **state)
{
    struct control *control = &((struct world *)*state)->control;
    (void)pop_put(control, "paris", PARIS);
    struct hub_pop *tokyo = pop_put(control, "tokyo", TOKYO);
    struct hub_endpoint *digits = endpoint_put(control, 1, "");
    run(control);
    assert_string_equal(places(digits), "paris 1");
    ask(control, tokyo, 1, 5, &(struct clients){ "", 0, 0, 50 }, 1);
    assert_string_equal(places(digits), "tokyo 1");
}

/* Clients whom the law sends to some PoPs alone get one there; those whom it sends nowhere none. */
static void test_what_the_law_leaves(void **state)
{
    struct control *control = &((struct world *)*state)->control;
    struct hub_pop *paris = pop_put(control, "paris", PARIS);
    (void)pop_put(control, "zurich", "{\"country\":\"CH\",\"latitude\":47.4,\"longitude\":8.5}");
    (void)pop_put(control, "tokyo", TOKYO);
    struct hub_endpoint *digits =
        endpoint_put(control, 1,
                     ",\"residency\":{\"rules\":[{\"clients\":[\"EU\"],\"process_in\":[\"EU\"]},"
                     "{\"clients\":[\"CH\"],\"process_in\":\"same-country\"}]}");
    run(control);
    ask(control, paris, 1, 5, &(struct clients){ FROM_PARIS, 100 }, 1);
    assert_string_equal(places(digits), "paris 1");
    ask(control, paris, 1, 5, &(struct clients){ FROM_ZURICH, 10 }, 1);
    assert_string_equal(places(digits), "paris 1, zurich 1");
    ask(control, paris, 1, 5, &(struct clients){ FROM_TOKYO, 1000 }, 1);
    assert_string_equal(places(digits), "paris 1, zurich 1");
}

/* One request in 50 s, as chance brings them: a PoP of its own comes once and stays, until hardly
 * anybody comes any more. */
static void test_a_group_of_few_does_not_come_and_go(void **state)
{
    struct control *control = &((struct world *)*state)->control;
    struct hub_pop *paris = pop_put(control, "paris", PARIS);
    (void)pop_put(control, "zurich", "{\"country\":\"CH\",\"latitude\":47.4,\"longitude\":8.5}");
    struct hub_endpoint *digits = endpoint_put(
        control, 1,
        ",\"residency\":{\"rules\":[{\"clients\":[\"CH\"],\"process_in\":\"same-country\"},"
        "{\"clients\":[\"FR\"],\"process_in\":[\"FR\"]}]}");
    uint64_t dice = 1;
    unsigned changes = 0, steps = 0;
    size_t before = 1;
    for (unsigned i = 0; i < 5000; i++) {
        struct clients clients[] = { { FROM_PARIS, 50 }, { FROM_ZURICH, 1 } };
        dice = dice * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        ask(control, paris, 1, 5, clients, (dice >> 33) % 10 == 0 ? 2 : 1);
        changes += digits->place_count != before;
        before = digits->place_count;
    }
    assert_int_equal(changes, 1);
    assert_string_equal(places(digits), "paris 1, zurich 1");
    for (; digits->place_count == 2 && steps < 1000; steps++)
        ask(control, paris, 1, 5, &(struct clients){ FROM_PARIS, 50 }, 1);
    assert_in_range(steps, 20, 400); /* half an hour at most */
    assert_string_equal(places(digits), "paris 1");
}

static float rate_of(struct control *control, const struct hub_endpoint *endpoint,
                     const char *country)
{
    struct arena *arena = arena_new();
    size_t count;
    float rate = 0;
    const struct demand_cell *cells = demand_of(control, arena, endpoint, false, &count);
    for (size_t i = 0; i < count; i++)
        if (!country || cells[i].country == country_number_of(slice_of(country)))
            rate += cells[i].rate;
    arena_free(arena);
    return rate;
}

/* One that invents clients weighs no more than all others, and not at once. */
static void test_one_that_lies(void **state)
{
    struct control *control = &((struct world *)*state)->control;
    struct hub_pop *paris = pop_put(control, "paris", PARIS);
    struct hub_pop *tokyo = pop_put(control, "tokyo", TOKYO);
    struct hub_pop *named = pop_put(control, "named", "{\"kind\":\"dns\"}");
    struct hub_endpoint *digits = endpoint_put(control, 1, "");
    const struct clients many = { FROM_TOKYO, UINT64_C(1) << 50 };
    run(control);
    for (unsigned i = 0; i < 200; i++)
        ask(control, paris, 1, 5, &(struct clients){ FROM_PARIS, 5 * 1000 }, 1);
    float honest = rate_of(control, digits, "FR");
    assert_true(honest > DEMAND_FLOOR_RATE * 0.99f); /* the only one, and no more than that */
    for (unsigned i = 0; i < 200; i++) {
        ask(control, tokyo, 1, 5, &many, 1);
        ask(control, paris, 1, 5, &(struct clients){ FROM_PARIS, 5 * 1000 }, 1);
    }
    honest = rate_of(control, digits, "FR");
    assert_true(honest > 900); /* what another says takes nothing of it */
    assert_true(rate_of(control, digits, "JP") <= (honest + DEMAND_FLOOR_RATE) * 1.01f);
    assert_non_null(strstr(places(digits), "paris"));
    /* To a DNS server no request comes. */
    ask(control, named, 1, 5, &many, 1);
    assert_int_equal(named->demand.count, 0);
}

/* The time that it speaks of is no longer than what has passed, in one report or in many. */
static void test_a_window_that_did_not_pass(void **state)
{
    struct control *control = &((struct world *)*state)->control;
    struct hub_pop *paris = pop_put(control, "paris", PARIS);
    (void)endpoint_put(control, 1, "");
    run(control);
    struct report_asked row = { 1, asked_cell_of(country_number_of(SLICE("JP")), true, 35.7, 139.7),
                                UINT64_C(3'600'000) };
    const struct report report = { .asked_ms = 3'600'000, .asked = &row, .asked_count = 1 };
    for (unsigned i = 0; i < 100; i++)
        demand_take(control, paris, &report); /* 1,000 a second for an hour, a hundred times */
    assert_int_equal(paris->demand.count, 1);
    assert_in_range((uint64_t)paris->demand.rows[0].rate, 150, 230); /* as of a good minute */
    paris->demand.upto_ms -= 3'600'000; /* it was cut off for so long */
    demand_take(control, paris, &report);
    assert_in_range((uint64_t)paris->demand.rows[0].rate, 990, 1000);
}

static void test_an_agent_that_goes_takes_its_word_along(void **state)
{
    struct control *control = &((struct world *)*state)->control;
    struct hub_pop *paris = pop_put(control, "paris", PARIS);
    struct hub_endpoint *digits = endpoint_put(control, 1, "");
    const struct clients clients = { FROM_PARIS, 100 };
    run(control);
    ask(control, paris, 1, 5, &clients, 1);
    assert_int_equal(paris->demand.count, 1);
    struct store_pop row = { .name = SLICE("paris"), .spec = SLICE(PARIS), .secret = SLICE("s") };
    hub_pop_row(control, &row); /* the same one */
    assert_int_equal(paris->demand.count, 1);
    row.secret = SLICE("another");
    hub_pop_row(control, &row);
    assert_int_equal(paris->demand.count, 0);
    ask(control, paris, 1, 5, &clients, 1);
    assert_int_equal(paris->demand.count, 1);
    /* It falls silent: what it said fades, which is looked at anew. */
    run(control);
    assert_false(digits->demand_moved);
    paris->demand.at_ms -= 1000 * INT64_C(200);
    hub_tick(control);
    assert_true(digits->demand_moved);
    assert_false(list_empty(&digits->stale));
    run(control);
    paris->demand.at_ms -= 1000 * INT64_C(36000);
    hub_tick(control);
    run(control);
    hub_tick(control);
    assert_int_equal(paris->demand.count, 0);
    ask(control, paris, 1, 5, &clients, 1);
    row.wanted = SLICE("retired");
    hub_pop_row(control, &row);
    assert_int_equal(paris->demand.count, 0);
}

/* However many places others come from, a country whose law wants a PoP of its own gets it. */
static void test_a_small_country_among_many_places(void **state)
{
    enum { MANY = 2 * DEMAND_CELLS_MAX, SMALL = 20 };
    struct control *control = &((struct world *)*state)->control;
    struct hub_pop *paris = pop_put(control, "paris", PARIS);
    (void)pop_put(control, "zurich", "{\"country\":\"CH\",\"latitude\":47.4,\"longitude\":8.5}");
    struct hub_endpoint *digits =
        endpoint_put(control, 1,
                     ",\"residency\":{\"rules\":[{\"clients\":[\"FR\"],\"process_in\":[\"FR\"]},"
                     "{\"clients\":[\"CH\"],\"process_in\":\"same-country\"}]}");
    struct report_asked rows[MANY + SMALL];
    for (size_t i = 0; i < MANY + SMALL; i++) {
        size_t north = i / 16, east = i % 16;
        rows[i] = (struct report_asked){
            1,
            asked_cell_of(country_number_of(i < MANY ? SLICE("FR") : SLICE("CH")), true,
                          (double)north * 2 - 30, (double)east * 2 - 30),
            i < MANY ? 50 : 1,
        };
    }
    const struct report report = { .asked_ms = 5000, .asked = rows, .asked_count = MANY + SMALL };
    run(control);
    for (unsigned i = 0; i < 10; i++) {
        paris->demand.upto_ms -= 5000;
        demand_take(control, paris, &report);
    }
    hub_tick(control);
    run(control);
    assert_string_equal(places(digits), "paris 1, zurich 1");
    /* What was left out is in what stays. */
    float all = 0;
    for (size_t i = 0; i < paris->demand.count; i++)
        all += paris->demand.rows[i].rate;
    float told = rate_of(control, digits, NULL), small = rate_of(control, digits, "CH");
    float part = DEMAND_FLOOR_RATE < all ? DEMAND_FLOOR_RATE / all : 1;
    assert_true(told > all * part * 0.99f && told < all * part * 1.01f);
    float wanted = told * SMALL / (SMALL + MANY * 50);
    assert_true(small > wanted * 0.98f && small < wanted * 1.02f);
}

/* More groups than are looked at are no refusal. */
static void test_more_groups_than_are_looked_at(void **state)
{
    enum { MANY = PLACE_GROUPS_MAX + 6 };
    struct control *control = &((struct world *)*state)->control;
    struct report_asked rows[MANY];
    struct decision decision;
    struct hub_pop *first = NULL;
    struct arena *arena = arena_new();
    for (unsigned i = 0; i < MANY; i++) {
        char code[3];
        country_code_of((country_number)(i + 1), code);
        const char *spec = arena_format(
            arena, "{\"country\":\"%s\",\"latitude\":%u,\"longitude\":5}", code, i + 1);
        struct hub_pop *pop = pop_put(control, arena_format(arena, "p%u", i), spec);
        first = first ? first : pop;
        rows[i] =
            (struct report_asked){ 1, asked_cell_of((country_number)(i + 1), true, i + 1, 5), 100 };
    }
    struct hub_endpoint *digits =
        endpoint_put(control, 1, ",\"residency\":{\"process_in\":\"same-country\"}");
    const struct report report = { .asked_ms = 5000, .asked = rows, .asked_count = MANY };
    run(control);
    demand_take(control, first, &report);
    placement_look(control, arena, digits, &decision);
    assert_int_equal(decision.group_count, PLACE_GROUPS_MAX);
    assert_true(decision.refused == 0);
    assert_true(decision.beyond > 0);
    arena_free(arena);
}

/* A PoP may say what it likes: it is one of many, and what it says is bounded. */
static void test_an_absurd_report(void **state)
{
    struct control *control = &((struct world *)*state)->control;
    struct hub_pop *paris = pop_put(control, "paris", PARIS);
    (void)endpoint_put(control, 1, "");
    run(control);
    ask(control, paris, 1, 1,
        (struct clients[]){ { FROM_TOKYO, UINT64_C(1) << 62 }, { FROM_TOKYO, UINT64_C(1) << 62 } },
        2);
    ask(control, paris, 1, UINT32_MAX, (struct clients[]){ { FROM_TOKYO, UINT64_C(1) << 62 } }, 1);
    assert_int_equal(paris->demand.count, 1);
    assert_true(paris->demand.rows[0].rate <= DEMAND_POP_RATE_MAX * 1.001f);
    ask(control, paris, 77, 5, &(struct clients){ FROM_TOKYO, 10 }, 1); /* there is no such one */
    assert_int_equal(paris->demand.count, 1);
    /* A window of nothing is no rate. */
    const struct report report = { .asked_ms = 0 };
    demand_take(control, paris, &report);
    assert_int_equal(paris->demand.count, 1);
    hub_remove(control, 1);
    ask(control, paris, 77, 5, NULL, 0);
    assert_int_equal(paris->demand.count, 0);
}

static void test_many_places_are_bounded(void **state)
{
    enum { MANY = 3 * DEMAND_ROWS_MAX };
    struct control *control = &((struct world *)*state)->control;
    struct hub_pop *paris = pop_put(control, "paris", PARIS);
    struct hub_endpoint *digits = endpoint_put(control, 1, "");
    struct arena *arena = arena_new();
    struct report_asked *rows = ARENA_ARRAY(arena, struct report_asked, MANY);
    size_t count;
    for (size_t i = 0; i < MANY; i++) {
        unsigned north = (unsigned)i / 180, east = (unsigned)i % 180;
        rows[i] =
            (struct report_asked){ 1, asked_cell_of(0, true, north * 2.0 - 89, east * 2.0 - 179),
                                   1 + i };
    }
    const struct report report = { .asked_ms = 5000, .asked = rows, .asked_count = MANY };
    demand_take(control, paris, &report);
    assert_int_equal(paris->demand.count, DEMAND_ROWS_MAX);
    const struct demand_cell *cells = demand_of(control, arena, digits, false, &count);
    assert_int_equal(count, DEMAND_CELLS_MAX);
    for (size_t i = 1; i < count; i++)
        assert_true(cells[i - 1].rate >= cells[i].rate);
    double latitude, longitude;
    assert_true(asked_spot(rows[MANY - 1].cell, &latitude, &longitude));
    assert_true(cells[0].latitude == latitude && cells[0].longitude == longitude);
    arena_free(arena);
}

/* Each PoP hears its share of what the schedule asks for at times; room is kept for the most. */
static void test_a_schedule_is_shared_out(void **state)
{
    struct control *control = &((struct world *)*state)->control;
    static const char limited[] = "{\"country\":\"FR\",\"latitude\":48.9,\"longitude\":2.3,"
                                  "\"limits\":{\"replicas\":4}}";
    struct hub_pop *paris = pop_put(control, "paris", limited);
    struct hub_pop *london = pop_put(control, "london", LONDON);
    static const char windows[] = ",\"spread\":{\"pops\":2},\"scale\":{\"schedule\":["
                                  "{\"cron\":\"0 8 * * *\",\"for\":\"1h\",\"min\":6},"
                                  "{\"cron\":\"0 9 * * *\",\"for\":\"1h\",\"min\":3}]}";
    struct hub_endpoint *digits = endpoint_put(control, 1, windows);
    run(control);
    hub_refresh(control, digits);
    assert_string_equal(places(digits), "london 1, paris 1");
    assert_int_equal(paris->placed.replicas + london->placed.replicas, 6);
    assert_non_null(strstr(digits->pop_view.data, "\"floors\":[{\"min\":3,\"replicas\":"));
    uint32_t three = digits->places[0].floors[0] + digits->places[1].floors[0];
    uint32_t six = digits->places[0].floors[1] + digits->places[1].floors[1];
    assert_true(three == 3 && six == 6);
    /* Another schedule is another share, and none is none. */
    digits = endpoint_put(control, 1, ",\"spread\":{\"pops\":2}");
    assert_int_equal(digits->floor_count, 0);
    assert_null(strstr(digits->pop_view.data, "floors"));
    assert_int_equal(paris->placed.replicas + london->placed.replicas, 2);
    hub_remove(control, 1);
    assert_int_equal(paris->placed.replicas + london->placed.replicas, 0);
}

int main(void)
{
#define WORLD(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        WORLD(test_a_change_of_a_pop_is_for_later),
        WORLD(test_what_returns_beside_who_followed_it_goes),
        WORLD(test_a_new_spec_is_read_anew),
        WORLD(test_a_schedule_is_shared_out),
        WORLD(test_bounds_of_each_pop),
        WORLD(test_goes_where_it_is_asked_for),
        WORLD(test_without_a_map_of_addresses),
        WORLD(test_what_the_law_leaves),
        WORLD(test_a_group_of_few_does_not_come_and_go),
        WORLD(test_one_that_lies),
        WORLD(test_a_window_that_did_not_pass),
        WORLD(test_an_agent_that_goes_takes_its_word_along),
        WORLD(test_a_small_country_among_many_places),
        WORLD(test_more_groups_than_are_looked_at),
        WORLD(test_an_absurd_report),
        WORLD(test_many_places_are_bounded),
    };
    return cmocka_run_group_tests_name("placement", tests, NULL, NULL);
}
