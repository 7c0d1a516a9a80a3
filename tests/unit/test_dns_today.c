/* SPDX-License-Identifier: Apache-2.0 */
#include "dns/today.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <math.h>
#include <cmocka.h> /* after the four above */
#include <stdio.h>
#include <string.h>

#include "base/arena.h"
#include "base/err.h"
#include "contract/mesh.h"
#include "contract/messages.h"
#include "contract/table.h"
#include "dns/resolve.h"
#include "dns/view.h"
#include "dns/young.h"

#define USUAL                                                                                      \
    .project = SLICE("default"), .concurrency = 1, .queue_timeout_us = 1, .queue_cold_us = 1,      \
    .timeout_us = 1, .body_bytes_max = 1, .queue_bytes_max = 1

static struct arena *arena;
static const struct table_head *table;

static int set_up(void **)
{
    static struct residency_rule rules[] = { { .clients = { .scope = RESIDENCY_ANY },
                                               .process = { .scope = RESIDENCY_COUNTRIES } } };
    const struct table_source_endpoint endpoints[] = {
        { .uid = 1, .name = SLICE("digits"), .state = TABLE_ENDPOINT_RUNNING, USUAL },
        { .uid = 2, .name = SLICE("stopped"), .state = TABLE_ENDPOINT_STOPPED, USUAL },
        { .uid = 3, .name = SLICE("away"), .state = TABLE_ENDPOINT_ELSEWHERE, USUAL },
        { .uid = 4,
          .name = SLICE("german"),
          .state = TABLE_ENDPOINT_RUNNING,
          .rules = rules,
          .rule_count = 1,
          USUAL },
    };

    struct table_source source = { .number = 9,
                                   .zone = SLICE("perigee.test"),
                                   .pop = SLICE("local"),
                                   .country = SLICE("FR"),
                                   .endpoints = endpoints,
                                   .endpoint_count = 4 };
    struct slice bytes;
    struct err err = {};
    countries_add(&rules[0].process.countries, country_number_of(SLICE("DE")));
    arena = arena_new();
    assert_int_equal(table_build(arena, &source, &bytes, &err), 0);
    assert_int_equal(table_check(bytes, &err), 0);
    table = (const void *)bytes.data;
    return 0;
}

static int tear_down(void **)
{
    arena_free(arena);
    return 0;
}

static struct dns_view *view_of(const struct table_head *of, const char *gateway,
                                const char *api_host, bool stable, bool alone)
{
    struct dns_node node = { .api_host = slice_of(api_host), .stable = stable, .alone = alone };
    struct slice rest = slice_of(gateway);
    struct dns_view *view;
    struct err err;
    while (rest.size) {
        struct slice one = slice_cut(&rest, ',');
        node.addresses[node.address_count].kind = LISTENER_GATEWAY;
        (void)snprintf(node.addresses[node.address_count++].text, 128, "%.*s", SLICE_FMT(one));
    }
    node.addresses[node.address_count].kind = LISTENER_CONTROL;
    (void)snprintf(node.addresses[node.address_count++].text, 128, "127.0.0.9:8080");
    node.addresses[node.address_count].kind = LISTENER_DNS;
    (void)snprintf(node.addresses[node.address_count++].text, 128, "127.0.0.1:5300");
    assert_int_equal(dns_view_today(of, &node, &view, &err), 0);
    return view;
}

static const char *answer(const struct dns_view *view, const char *name, uint16_t type, char *text)
{
    static struct dns_reply reply;
    struct dns_question question = { .asked = true, .type = type, .class = 1 };
    struct dns_asker asker = { .local_known = true };
    struct err err;
    size_t used = 0;
    assert_true(ip_parse(SLICE("127.0.3.4"), &asker.local));
    assert_true(ip_parse(SLICE("127.0.0.1"), &asker.address));
    assert_int_equal(dns_name_parse(slice_of(name), &question.name, &err), 0);
    dns_resolve(view, &question, &asker, &reply);
    text[0] = '\0';
    for (size_t i = 0; i < reply.count && reply.records[i].section == DNS_ANSWER; i++) {
        const uint8_t *data = reply.data + reply.records[i].data;
        char address[IP_TEXT_BYTES];
        struct ip ip;
        if (type == DNS_A)
            ip = ip_from4(data + 2);
        else
            memcpy(ip.bytes, data + 2, 16);
        used += (size_t)snprintf(text + used, 256 - used, "%s%s/%u", used ? " " : "",
                                 ip_text(&ip, address), reply.records[i].ttl);
    }
    if (reply.ede != DNS_EDE_NONE)
        (void)snprintf(text + used, 256 - used, "EDE %d", reply.ede);
    return text;
}

static const struct {
    const char *gateway, *api_host, *name;
    uint16_t type;
    bool stable;
    const char *answer;
} rows[] = {
    { "127.0.0.1:8000,127.0.0.1:8001", "", "digits.perigee.test", DNS_A, true, "127.0.0.1/20" },
    { "127.0.0.1:8000,127.0.0.1:8001", "", "digits.perigee.test", DNS_A, false, "127.0.0.1/5" },
    { "127.0.0.1:1,192.0.2.1:1", "", "digits.perigee.test", DNS_A, true,
      "127.0.0.1/20 192.0.2.1/20" },
    { "[::1]:1,192.0.2.1:1", "", "digits.perigee.test", DNS_AAAA, true, "::1/20" },
    { "0.0.0.0:8000", "", "digits.perigee.test", DNS_A, true, "127.0.3.4/5" },
    { "0.0.0.0:8000", "", "digits.perigee.test", DNS_AAAA, true, "" },
    { "unix:/x", "", "digits.perigee.test", DNS_A, true, "" },
    { "127.0.0.1:8000", "", "stopped.perigee.test", DNS_A, true, "127.0.0.1/20" },
    { "127.0.0.1:8000", "", "away.perigee.test", DNS_A, true, "EDE 14" },
    { "127.0.0.1:8000", "", "german.perigee.test", DNS_A, true, "EDE 18" },
    { "127.0.0.1:8000", "", "api.perigee.test", DNS_A, true, "127.0.0.9/3600" },
    { "127.0.0.1:8000", "", "ns1.perigee.test", DNS_A, true, "127.0.0.1/3600" },
    { "127.0.0.1:8000", "Control.Perigee.test", "control.perigee.test", DNS_A, true,
      "127.0.0.9/3600" },
    { "127.0.0.1:8000", "a.b.perigee.test", "b.perigee.test", DNS_A, true, "" },
    { "127.0.0.1:8000", "control.example", "control.perigee.test", DNS_A, true, "" },
};

static void test_what_a_node_answers(void **)
{
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char text[256];
        struct dns_view *view =
            view_of(table, rows[i].gateway, rows[i].api_host, rows[i].stable, false);
        print_message("  %s, %s\n", rows[i].gateway, rows[i].name);
        assert_string_equal(answer(view, rows[i].name, rows[i].type, text), rows[i].answer);
        dns_view_free(view);
    }
}

/* ---- where there are several PoPs ----------------------------------------------------------- */

static const struct {
    const char *pop, *name, *answer;
} fleet_rows[] = {
    { "paris", "digits.perigee.test", "192.0.2.2/5" },
    { "tokyo", "digits.perigee.test", "192.0.2.2/5" },
    { "lyon", "digits.perigee.test", "192.0.2.2/5" }, /* not in the table */
    { "paris", "stopped.perigee.test", "192.0.2.2/5" },
    { "tokyo", "stopped.perigee.test", "192.0.2.2/5" },
    { "paris", "nowhere.perigee.test", "EDE 14" },
    { "tokyo", "nowhere.perigee.test", "EDE 14" },
    { "paris", "new.perigee.test", "192.0.2.1/5" }, /* nobody has told where: here */
    { "tokyo", "new.perigee.test", "192.0.2.2/5" },
    { "lyon", "new.perigee.test", "EDE 14" }, /* and not at whoever comes first in the table */
};

static void test_all_answer_the_same(void **)
{
    static const struct table_source_placement tokyo[] = { { SLICE("tokyo"), 1 } };
    struct ip addresses[2];
    assert_true(ip_parse(SLICE("192.0.2.1"), &addresses[0]));
    assert_true(ip_parse(SLICE("192.0.2.2"), &addresses[1]));
    const struct table_source_pop pops[] = {
        { .name = SLICE("paris"),
          .flags = TABLE_POP_UP,
          .addresses = &addresses[0],
          .address_count = 1 },
        { .name = SLICE("tokyo"),
          .flags = TABLE_POP_UP,
          .addresses = &addresses[1],
          .address_count = 1 },
    };
    const struct table_source_endpoint endpoints[] = {
        { .uid = 1,
          .name = SLICE("digits"),
          .state = TABLE_ENDPOINT_AWAY,
          .placements = tokyo,
          .placement_count = 1,
          USUAL },
        { .uid = 2,
          .name = SLICE("stopped"),
          .state = TABLE_ENDPOINT_STOPPED,
          .placements = tokyo,
          .placement_count = 1,
          USUAL },
        { .uid = 3, .name = SLICE("nowhere"), .state = TABLE_ENDPOINT_STOPPED, USUAL },
        { .uid = 4, .name = SLICE("new"), .state = TABLE_ENDPOINT_RUNNING, USUAL },
    };
    struct arena *own = arena_new();
    for (size_t i = 0; i < sizeof fleet_rows / sizeof *fleet_rows; i++) {
        const struct table_source source = { .number = 1,
                                             .zone = SLICE("perigee.test"),
                                             .pop = slice_of(fleet_rows[i].pop),
                                             .pops = pops,
                                             .pop_count = 2,
                                             .endpoints = endpoints,
                                             .endpoint_count = 4 };
        struct slice bytes;
        struct err err;
        char text[256];
        assert_int_equal(table_build(own, &source, &bytes, &err), 0);
        struct dns_view *view =
            view_of((const void *)bytes.data, "127.0.0.1:8000", "", false, false);
        print_message("  %s at %s\n", fleet_rows[i].name, fleet_rows[i].pop);
        assert_string_equal(answer(view, fleet_rows[i].name, DNS_A, text), fleet_rows[i].answer);
        dns_view_free(view);
    }
    arena_free(own);
}

/* A node that is no PoP answers from what control told of the others, whatever it is called. */
static void test_what_a_node_answers_that_is_no_pop(void **)
{
    struct ip tokyo;
    assert_true(ip_parse(SLICE("192.0.2.7"), &tokyo));
    const struct table_source_pop pops[] = {
        { .name = SLICE("ns-1"), .flags = TABLE_POP_UP }, /* a PoP of its name */
        { .name = SLICE("tokyo"), .flags = TABLE_POP_UP, .addresses = &tokyo, .address_count = 1 },
    };
    const struct table_source_placement placed = { SLICE("tokyo"), 1 };
    const struct table_source_endpoint endpoints[] = {
        { .uid = 1, .name = SLICE("digits"), .state = TABLE_ENDPOINT_AWAY, USUAL },
        { .uid = 2, .name = SLICE("nowhere"), .state = TABLE_ENDPOINT_RUNNING, USUAL },
        { .uid = 3, .name = SLICE("stopped"), .state = TABLE_ENDPOINT_STOPPED, USUAL },
    };
    static const struct {
        const char *name, *answer, *none; /* with PoPs, and before control told of any */
    } cases[] = {
        { "digits.perigee.test", "192.0.2.7/5", "EDE 14" },
        { "nowhere.perigee.test", "EDE 14", "EDE 14" },
        { "stopped.perigee.test", "192.0.2.7/5", "EDE 14" },
        { "ns1.perigee.test", "127.0.0.1/3600", "127.0.0.1/3600" },
    };
    for (int told = 0; told < 2; told++) {
        struct table_source_endpoint placed_ones[3];
        memcpy(placed_ones, endpoints, sizeof endpoints);
        for (int i = 0; i < 3; i++) {
            placed_ones[i].placements = &placed;
            placed_ones[i].placement_count = i == 1 ? 0 : 1;
        }
        const struct table_source source = { .number = 9,
                                             .zone = SLICE("perigee.test"),
                                             .pop = SLICE("ns-1"),
                                             .pops = pops,
                                             .pop_count = told ? 2 : 0,
                                             .endpoints = placed_ones,
                                             .endpoint_count = 3 };
        struct slice bytes;
        struct err err;
        assert_int_equal(table_build(arena, &source, &bytes, &err), 0);
        struct dns_view *view = view_of((const void *)bytes.data, "192.0.2.99:1", "", true, true);
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
            char text[256];
            print_message("  %s, %s\n", cases[i].name, told ? "told" : "not told");
            assert_string_equal(answer(view, cases[i].name, DNS_A, text),
                                told ? cases[i].answer : cases[i].none);
        }
        dns_view_free(view);
    }
}

static struct ip face(uint8_t last)
{
    return ip_from4((uint8_t[]){ 127, 0, 1, last });
}

/* What the node paris says of digits, by its table and what it has measured. */
static struct dns_view *view_at_paris(struct arena *own, const struct table_source_pop *pops,
                                      size_t pop_count, const struct table_source_endpoint *digits,
                                      const struct mesh_source *seen, int64_t age_ns)
{
    const struct table_source source = {
        .number = 9,
        .zone = SLICE("perigee.test"),
        .pop = SLICE("paris"),
        .country = SLICE("FR"),
        .pops = pops,
        .pop_count = pop_count,
        .endpoints = digits,
        .endpoint_count = 1,
    };
    struct slice table_bytes, mesh_bytes;
    struct dns_view *view;
    struct err err = {};
    assert_int_equal(table_build(own, &source, &table_bytes, &err), 0);
    assert_int_equal(mesh_build(own, seen, &mesh_bytes, &err), 0);
    struct dns_young young = { .begun = age_ns >= 0 };
    dns_young_table(&young, (const void *)table_bytes.data, 1000);
    dns_young_table(&young, (const void *)table_bytes.data, 2000); /* it stays as old */
    struct dns_node node = { .mesh = (const void *)mesh_bytes.data,
                             .young = &young,
                             .now_ns = 1000 + age_ns };
    assert_int_equal(dns_view_today((const void *)table_bytes.data, &node, &view, &err), 0);
    dns_young_deinit(&young);
    return view;
}

static const struct {
    const char *name;
    uint32_t flags;                      /* of tokyo, as control says */
    struct mesh_pop tokyo;               /* as it is measured; without a name: it is not */
    float wait_ms, start_ms, service_ms; /* of digits there; wait below 0: it says nothing of it */
    bool stopped;
    const char *answer; /* of tokyo */
} measures[] = {
    { "nothing is measured, control hears of it", TABLE_POP_UP, {}, 0, 0, 0, false, "127.0.1.2/5" },
    { "nothing is measured, control does not hear of it", 0, {}, 0, 0, 0, false, "EDE 0" },
    { "up, whatever control hears",
      0,
      { .name = "tokyo", .health = MESH_UP },
      0,
      0,
      0,
      false,
      "127.0.1.2/5" },
    { "up for long",
      TABLE_POP_UP,
      { .name = "tokyo", .health = MESH_UP, .calm = 1 },
      0,
      0,
      0,
      false,
      "127.0.1.2/20" },
    { "down, whatever control hears",
      TABLE_POP_UP,
      { .name = "tokyo", .health = MESH_DOWN },
      0,
      0,
      0,
      false,
      "EDE 0" },
    { "down from here alone",
      0,
      { .name = "tokyo", .health = MESH_DOWN, .elsewhere = 1 },
      0,
      0,
      0,
      false,
      "127.0.1.2/5" },
    { "down, and to be drained",
      TABLE_POP_UP | TABLE_POP_DRAINING,
      { .name = "tokyo", .health = MESH_DOWN },
      0,
      0,
      0,
      false,
      "EDE 0" },
    { "to be drained, and control alone hears of it no more",
      TABLE_POP_DRAINING,
      { .name = "tokyo", .health = MESH_UP },
      0,
      0,
      0,
      false,
      "127.0.1.2/5" }, /* there is no other */
    { "to be drained, and control hears of it no more",
      TABLE_POP_DRAINING,
      {},
      0,
      0,
      0,
      false,
      "EDE 0" },
    { "no room",
      TABLE_POP_UP,
      { .name = "tokyo", .health = MESH_UP },
      INFINITY,
      0,
      0,
      false,
      "127.0.1.2/5" },
    { "it stands for a stopped one as before",
      TABLE_POP_UP,
      { .name = "tokyo", .health = MESH_UP },
      INFINITY,
      0,
      0,
      true,
      "127.0.1.2/5" },
};

/* Of two PoPs digits is placed at tokyo alone; this node is paris. */
static void test_what_is_measured_counts(void **)
{
    const struct ip ips[] = { face(1), face(2) };
    const struct table_source_placement placement = { SLICE("tokyo"), 1 };
    for (size_t i = 0; i < sizeof measures / sizeof *measures; i++) {
        const struct table_source_pop pops[] = {
            { .name = SLICE("paris"), .flags = TABLE_POP_UP, .addresses = ips, .address_count = 1 },
            { .name = SLICE("tokyo"),
              .flags = measures[i].flags,
              .addresses = ips + 1,
              .address_count = 1 },
        };
        const struct table_source_endpoint digits = { .uid = 1,
                                                      .name = SLICE("digits"),
                                                      .placements = &placement,
                                                      .placement_count = 1,
                                                      .state = measures[i].stopped
                                                                   ? TABLE_ENDPOINT_STOPPED
                                                                   : TABLE_ENDPOINT_AWAY,
                                                      USUAL };
        struct mesh_pop seen_pops[] = { { .name = "paris" }, measures[i].tokyo };
        struct mesh_load load = { .endpoint = 1,
                                  .pop = 1,
                                  .wait_ms = measures[i].wait_ms,
                                  .start_ms = measures[i].start_ms,
                                  .service_ms = measures[i].service_ms,
                                  .weight = 1 };
        bool measured = seen_pops[1].name[0] != '\0';
        const struct mesh_source seen = { .number = 1,
                                          .self = SLICE("paris"),
                                          .pops = seen_pops,
                                          .pop_count = measured ? 2 : 1,
                                          .loads = &load,
                                          .load_count = measured };
        struct arena *own = arena_new();
        char text[256];
        print_message("  %s\n", measures[i].name);
        struct dns_view *view = view_at_paris(own, pops, 2, &digits, &seen, -1);
        assert_string_equal(answer(view, "digits.perigee.test", DNS_A, text), measures[i].answer);
        assert_string_equal(view->observer, "paris");
        assert_int_equal(view->route.health[1], strstr(measures[i].answer, "EDE") ? ROUTE_DOWN
                                                : measures[i].flags & TABLE_POP_DRAINING
                                                    ? ROUTE_DRAINING
                                                    : ROUTE_UP);
        dns_view_free(view);
        arena_free(own);
    }
}

static const struct {
    const char *name;
    float start_ms, last_ms; /* of digits at tokyo, as it says */
    uint32_t here_ms;        /* the last one at paris, by its table */
    int64_t age_ns;          /* since it was new here; below 0: the first table had it */
    float wanted;            /* at quito, which has not spoken of it yet */
} starts[] = {
    { "nobody has seen one", 0, 0, 0, -1, ROUTE_START_MS },
    { "as long as elsewhere", 0, 70, 0, -1, 70 },
    { "as long as here", 0, 0, 90, -1, 90 },
    { "of several the longest, elsewhere", 0, 200, 90, -1, 200 },
    { "of several the longest, here", 0, 70, 90, -1, 90 },
    { "what is thought there is no word of one", 9000, 0, 40, -1, 40 },
    { "young: nobody may have been asked since", 0, 70, 90, 0, 0 },
    { "hardly young", 0, 70, 90, DNS_YOUNG_NS - 1, 0 },
    { "not young any more", 0, 70, 90, DNS_YOUNG_NS, 90 },
};

/* Just placed at three PoPs; this node is paris. */
static void test_a_start_that_nobody_has_told(void **)
{
    static const struct table_source_placement placements[] = { { SLICE("paris"), 1 },
                                                                { SLICE("quito"), 1 },
                                                                { SLICE("tokyo"), 1 } };
    for (size_t i = 0; i < sizeof starts / sizeof *starts; i++) {
        const struct ip ips[] = { face(1), face(2), face(3) };
        const struct table_source_pop pops[] = {
            { .name = SLICE("paris"), .flags = TABLE_POP_UP, .addresses = ips, .address_count = 1 },
            { .name = SLICE("quito"),
              .flags = TABLE_POP_UP,
              .addresses = ips + 1,
              .address_count = 1 },
            { .name = SLICE("tokyo"),
              .flags = TABLE_POP_UP,
              .addresses = ips + 2,
              .address_count = 1 },
        };
        const struct table_source_endpoint digits = { .uid = 1,
                                                      .name = SLICE("digits"),
                                                      .placements = placements,
                                                      .placement_count = 3,
                                                      .state = TABLE_ENDPOINT_RUNNING,
                                                      .start_ms = starts[i].here_ms,
                                                      USUAL };
        struct mesh_pop seen_pops[] = { { .name = "paris" },
                                        { .name = "quito" },
                                        { .name = "tokyo" } };
        struct mesh_load load = { .endpoint = 1,
                                  .pop = 2,
                                  .start_ms = starts[i].start_ms,
                                  .last_start_ms = starts[i].last_ms,
                                  .weight = 1 };
        const struct mesh_source seen = { .number = 1,
                                          .self = SLICE("paris"),
                                          .pops = seen_pops,
                                          .pop_count = 3,
                                          .loads = &load,
                                          .load_count = 1 };
        struct arena *own = arena_new();
        print_message("  %s\n", starts[i].name);
        struct dns_view *view = view_at_paris(own, pops, 3, &digits, &seen, starts[i].age_ns);
        const struct route_endpoint *route = &dns_view_find(view, SLICE("digits"))->route;
        assert_int_equal(route->count, 3);
        assert_true(route->start_ms[1] == starts[i].wanted && !(route->hides && route->hides[1]));
        assert_true(route->start_ms[2] == starts[i].start_ms);
        dns_view_free(view);
        arena_free(own);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_a_node_answers),
        cmocka_unit_test(test_all_answer_the_same),
        cmocka_unit_test(test_what_is_measured_counts),
        cmocka_unit_test(test_a_start_that_nobody_has_told),
        cmocka_unit_test(test_what_a_node_answers_that_is_no_pop),
    };
    return cmocka_run_group_tests_name("dns_today", tests, set_up, tear_down);
}
