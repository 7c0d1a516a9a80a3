/* SPDX-License-Identifier: Apache-2.0 */
#include "dns/view.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h> /* after the four above */
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "dns/client.h"
#include "dns/memo.h"
#include "dns/resolve.h"
#include "geo/where.h"

/* Two of the PoPs are in one city, and as good as each other there. */
enum { PARIS, LYON, TOKYO, TOKYO_TWO, NEW_YORK, POPS };

#define FR "\x46\x52"

static struct ip ips[POPS + 2];

static const struct {
    const char *name, *country, *address;
    double latitude, longitude;
    bool stable;
} places[POPS] = {
    { "paris", "FR", "192.0.2.1", 48.86, 2.35, true },
    { "lyon", "FR", "192.0.2.2", 45.76, 4.84, true },
    { "tokyo", "JP", "192.0.2.3", 35.69, 139.69, false },
    { "tokyo-two", "JP", "192.0.2.4", 35.69, 139.69, true },
    { "new-york", "US", "192.0.2.5", 40.71, -74.01, true },
};

static const struct {
    const char *block, *country;
    double latitude, longitude;
} blocks[] = {
    { "203.0.113.0/25", "FR", 48.86, 2.35 }, /* Paris */
    { "203.0.113.128/25", "FR", 45.76, 4.84 }, { "198.51.100.0/24", "JP", 35.69, 139.69 },
    { "10.0.0.0/8", "US", 40.71, -74.01 },     { "2001:db8::/32", "JP", 35.69, 139.69 },
};

static struct where_map *map;
static struct dns_view *view;

static country_number country(const char *code)
{
    return country_number_of(slice_of(code));
}

static struct ip ip_of(const char *text)
{
    struct ip ip;
    assert_true(ip_parse(slice_of(text), &ip));
    return ip;
}

static void map_make(void)
{
    struct where_block rows[sizeof blocks / sizeof *blocks] = {};
    struct err err;
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) {
        assert_int_equal(ip_block_parse(slice_of(blocks[i].block), &rows[i].block, &err), 0);
        rows[i].country = country(blocks[i].country);
        rows[i].located = true;
        rows[i].latitude = blocks[i].latitude;
        rows[i].longitude = blocks[i].longitude;
    }
    assert_int_equal(where_map_open(rows, sizeof blocks / sizeof *blocks, NULL, NULL, &map, &err),
                     0);
}

static void source_pops(struct dns_source_pop pops[static POPS])
{
    for (size_t i = 0; i < POPS; i++) {
        ips[i] = ip_of(places[i].address);
        pops[i] = (struct dns_source_pop){
            .name = slice_of(places[i].name),
            .country = country(places[i].country),
            .located = true,
            .latitude = places[i].latitude,
            .longitude = places[i].longitude,
            .stable = places[i].stable,
            .addresses = &ips[i],
            .address_count = 1,
        };
    }
    ips[POPS] = ip_of("2001:db8:ffff::1");
    pops[NEW_YORK].https_port = 8443;
}

static int set_up(void **)
{
    static const struct dns_source_place everywhere[] = {
        { .pop = PARIS, .weight = 1 },    { .pop = LYON, .weight = 1 },
        { .pop = TOKYO, .weight = 1 },    { .pop = TOKYO_TWO, .weight = 1 },
        { .pop = NEW_YORK, .weight = 1 },
    };
    static const struct dns_source_place busy[] = { { .pop = PARIS, .wait_ms = 8, .weight = 1 },
                                                    { .pop = LYON, .weight = 1 } };
    struct residency_rule rule = { .clients = { .scope = RESIDENCY_COUNTRIES },
                                   .process = { .scope = RESIDENCY_SAME_COUNTRY } };
    struct residency_rule french = { .clients = { .scope = RESIDENCY_ANY },
                                     .process = { .scope = RESIDENCY_COUNTRIES } };
    countries_add(&rule.clients.countries, country("FR"));
    countries_add(&french.process.countries, country("FR"));
    struct residency home = { &rule, 1, COUNTRY_UNKNOWN }, always = { &french, 1, COUNTRY_UNKNOWN };
    const struct dns_source_endpoint endpoints[] = {
        { SLICE("digits"), SLICE("default"), everywhere, POPS, NULL },
        { SLICE("digits"), SLICE("vision"), &everywhere[NEW_YORK], 1, NULL },
        { SLICE("home"), SLICE("default"), everywhere, POPS, &home },
        { SLICE("french"), SLICE("default"), everywhere, POPS, &always },
        { SLICE("french-far"), SLICE("default"), &everywhere[TOKYO], 2, &always },
        { SLICE("new"), SLICE("default"), NULL, 0, NULL },
        { SLICE("far"), SLICE("default"), &everywhere[TOKYO_TWO], 2, NULL },
        { SLICE("busy"), SLICE("default"), busy, 2, NULL },
    };
    struct ip server = ip_of("192.0.2.53");
    const struct dns_source_host hosts[] = {
        { SLICE("ns1"), &server, 1, false },
        { SLICE("api"), NULL, 0, true },
    };
    struct dns_source_pop pops[POPS];
    source_pops(pops);
    map_make();
    struct dns_source source = {
        SLICE("Perigee.test"), 7, pops, POPS, endpoints, 8, hosts, 2, map
    };
    struct err err;
    assert_int_equal(dns_view_build(&source, &view, &err), 0);
    return 0;
}

static int tear_down(void **)
{
    dns_view_free(view);
    where_map_free(map);
    return 0;
}

/* ---- questions ---------------------------------------------------------------------------- */

static void ask(const char *name, uint16_t type, const char *client, bool subnet,
                const struct dns_asker *asker, struct dns_reply *reply)
{
    struct dns_question question = { .asked = true, .type = type, .class = 1, .edns = true };
    struct dns_asker who = *asker;
    struct ip_block block;
    struct err err;
    assert_int_equal(dns_name_parse(slice_of(name), &question.name, &err), 0);
    if (client) {
        assert_int_equal(ip_block_parse(slice_of(client), &block, &err), 0);
        bool four = ip_is4(&block.ip) && block.bits >= IP4_BITS;
        question.subnet =
            (struct dns_subnet){ subnet, four ? 1 : 2,
                                 (uint8_t)(block.bits - (four ? IP4_BITS : 0)), block.ip };
        if (!subnet)
            who.address = block.ip;
    }
    dns_resolve(view, &question, &who, reply);
}

static const char *printed(const struct dns_reply *reply, char *text, size_t room)
{
    size_t used = 0;
    text[0] = '\0';
    for (size_t i = 0; i < reply->count; i++) {
        const struct dns_record *record = &reply->records[i];
        const uint8_t *data = reply->data + record->data + 2;
        const char *gap = used ? " " : "";
        if (record->section == DNS_AUTHORITY)
            used += (size_t)snprintf(text + used, room - used, "%ssoa %u", gap, record->ttl);
        else if (record->section == DNS_ADDITIONAL)
            used += (size_t)snprintf(text + used, room - used, "%s+", gap);
        else if (record->type == DNS_A)
            used += (size_t)snprintf(text + used, room - used, "%s%u.%u.%u.%u/%u", gap, data[0],
                                     data[1], data[2], data[3], record->ttl);
        else
            used += (size_t)snprintf(text + used, room - used, "%s%u/%u", gap, record->type,
                                     record->ttl);
    }
    return text;
}

static const struct {
    const char *name, *asked;
    uint16_t type;
    const char *client; /* a subnet, unless `direct` */
    bool direct;
    uint16_t rcode;
    const char *answer; /* NULL: two from Tokyo, in either order */
    uint8_t scope;
    int ede;
} rows[] = {
    { "near Paris", "digits.perigee.test", DNS_A, "203.0.113.0/25", false, 0, "192.0.2.1/20", 25,
      DNS_EDE_NONE },
    { "no finer than what was said", "digits.perigee.test", DNS_A, "203.0.113.0/24", false, 0,
      "192.0.2.1/20", 24, DNS_EDE_NONE },
    { "a block is known finer than was said of it", "digits.perigee.test", DNS_A, "203.0.113.7/32",
      false, 0, "192.0.2.1/20", 25, DNS_EDE_NONE },
    { "near Lyon", "digits.perigee.test", DNS_A, "203.0.113.200/32", false, 0, "192.0.2.2/20", 25,
      DNS_EDE_NONE },
    { "in New York", "digits.perigee.test", DNS_A, "10.9.8.0/24", false, 0, "192.0.2.5/20", 8,
      DNS_EDE_NONE },
    { "in Tokyo both, and one may go", "digits.perigee.test", DNS_A, "198.51.100.0/24", false, 0,
      NULL, 24, DNS_EDE_NONE },
    { "where several share, it depends on the draw", "digits.perigee.test", DNS_A,
      "2001:db8:1:200::/56", false, 0, NULL, 48, DNS_EDE_NONE },
    { "without a subnet it is who asks", "digits.perigee.test", DNS_A, "10.9.8.7", true, 0,
      "192.0.2.5/20", 0, DNS_EDE_NONE },
    { "who wants not to be known counts as who asks", "digits.perigee.test", DNS_A, "0.0.0.0/0",
      false, 0, "192.0.2.1/20", 0, DNS_EDE_NONE },
    { "blocks beside each other are one scope", "far.perigee.test", DNS_A, "203.0.113.7/32", false,
      0, "192.0.2.5/20", 24, DNS_EDE_NONE },
    { "from the other as well", "far.perigee.test", DNS_A, "203.0.113.200/32", false, 0,
      "192.0.2.5/20", 24, DNS_EDE_NONE },
    { "where requests wait, each prefix weighs that itself", "busy.perigee.test", DNS_A,
      "203.0.113.128/25", false, 0, "192.0.2.2/20", 25, DNS_EDE_NONE },
    { "in a project", "digits--vision.perigee.test", DNS_A, "203.0.113.0/24", false, 0,
      "192.0.2.5/20", 0, DNS_EDE_NONE },
    { "capitals are the same", "Digits--VISION.Perigee.TEST.", DNS_A, NULL, false, 0,
      "192.0.2.5/20", 0, DNS_EDE_NONE },
    { "there is no IPv6, for nobody", "digits.perigee.test", DNS_AAAA, "203.0.113.0/25", false, 0,
      "soa 5", 0, DNS_EDE_NONE },
    { "HTTPS where TLS is served", "digits.perigee.test", DNS_HTTPS, "10.0.0.0/8", false, 0,
      "65/20", 8, DNS_EDE_NONE },
    { "and nowhere else", "digits.perigee.test", DNS_HTTPS, "203.0.113.0/25", false, 0, "soa 5", 25,
      DNS_EDE_NONE },
    { "at home", "home.perigee.test", DNS_A, "203.0.113.0/24", false, 0, "192.0.2.1/20", 24,
      DNS_EDE_NONE },
    { "not at home", "home.perigee.test", DNS_A, "198.51.100.0/24", false, 0, "soa 5", 24,
      DNS_EDE_PROHIBITED },
    { "nobody knows where", "home.perigee.test", DNS_A, "172.16.0.0/16", false, 0, "soa 5", 2,
      DNS_EDE_PROHIBITED },
    { "only in France, for all", "french.perigee.test", DNS_A, "10.0.0.0/24", false, 0,
      "192.0.2.1/20", 8, DNS_EDE_NONE },
    { "only in France, where it is not", "french-far.perigee.test", DNS_A, "10.0.0.0/24", false, 0,
      "soa 5", 0, DNS_EDE_PROHIBITED },
    { "placed nowhere yet", "new.perigee.test", DNS_A, "10.0.0.0/24", false, 0, "soa 5", 0,
      DNS_EDE_NOT_READY },
    { "no such endpoint", "none.perigee.test", DNS_A, "10.0.0.0/24", false, DNS_NXDOMAIN, "soa 5",
      0, DNS_EDE_NONE },
    { "nor below one", "x.digits.perigee.test", DNS_A, NULL, false, DNS_NXDOMAIN, "soa 5", 0,
      DNS_EDE_NONE },
    { "no such type", "digits.perigee.test", DNS_TXT, NULL, false, 0, "soa 5", 0, DNS_EDE_NONE },
    { "any", "digits.perigee.test", DNS_ANY, NULL, false, 0, "13/5", 0, DNS_EDE_NONE },
    { "the server", "ns1.perigee.test", DNS_A, NULL, false, 0, "192.0.2.53/3600", 0, DNS_EDE_NONE },
    { "control, where it listens on all", "api.perigee.test", DNS_A, NULL, false, 0, "192.0.2.99/5",
      0, DNS_EDE_NONE },
    { "the zone's servers", "perigee.test", DNS_NS, NULL, false, 0, "2/3600 +", 0, DNS_EDE_NONE },
    { "the zone's SOA", "perigee.test", DNS_SOA, NULL, false, 0, "6/3600", 0, DNS_EDE_NONE },
    { "the zone itself", "perigee.test", DNS_A, "203.0.113.0/25", false, 0, "192.0.2.1/20", 25,
      DNS_EDE_NONE },
    { "another zone", "perigee.example", DNS_A, NULL, false, DNS_REFUSED, "", 0,
      DNS_EDE_NOT_AUTHORITATIVE },
    { "above it", "test", DNS_SOA, NULL, false, DNS_REFUSED, "", 0, DNS_EDE_NOT_AUTHORITATIVE },
    { "why, by whom it is not for", "_why.digits.perigee.test", DNS_TXT, NULL, false, DNS_REFUSED,
      "", 0, DNS_EDE_PROHIBITED },
};

static void test_answers(void **)
{
    struct dns_asker asker = { .address = ip_of("203.0.113.1"),
                               .local = ip_of("192.0.2.99"),
                               .local_known = true };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        static struct dns_reply reply;
        char text[512];
        print_message("  %s\n", rows[i].name);
        ask(rows[i].asked, rows[i].type, rows[i].client, !rows[i].direct, &asker, &reply);
        assert_int_equal(reply.rcode, rows[i].rcode);
        assert_int_equal(reply.ede, rows[i].ede);
        printed(&reply, text, sizeof text);
        if (rows[i].answer)
            assert_string_equal(text, rows[i].answer);
        else
            assert_true(strcmp(text, "192.0.2.3/5 192.0.2.4/5") == 0 ||
                        strcmp(text, "192.0.2.4/5 192.0.2.3/5") == 0);
        assert_int_equal(reply.scope_bits, rows[i].scope);
        assert_int_equal(reply.authoritative, rows[i].rcode != DNS_REFUSED);
    }
}

/* Lyon has IPv6 alone, Tokyo both; the endpoint is at Paris, Lyon and Tokyo. */
static const struct {
    const char *name, *asked;
    uint16_t type;
    const char *client;
    unsigned down; /* bits of places */
    const char *answer;
    int ede;
} family_rows[] = {
    { "the nearest with IPv4", "digits", DNS_A, "203.0.113.200/32", 0, "192.0.2.1/20",
      DNS_EDE_NONE },
    { "the nearest with IPv6", "digits", DNS_AAAA, "203.0.113.0/25", 0, "28/20", DNS_EDE_NONE },
    { "far away that is another", "digits", DNS_AAAA, "198.51.100.0/24", 0, "28/5", DNS_EDE_NONE },
    { "both of it", "digits", DNS_A, "198.51.100.0/24", 0, "192.0.2.3/5", DNS_EDE_NONE },
    { "the next with IPv4", "digits", DNS_A, "203.0.113.200/32", 1 << PARIS, "192.0.2.3/5",
      DNS_EDE_NONE },
    { "none with IPv4 is up", "digits", DNS_A, "203.0.113.200/32", 1 << PARIS | 1 << TOKYO, "soa 5",
      DNS_EDE_NONE },
    { "none is up", "digits", DNS_A, "203.0.113.200/32", 7, "soa 5", DNS_EDE_OTHER },
    { "none has IPv6", "old", DNS_AAAA, "203.0.113.200/32", 0, "soa 5", DNS_EDE_NONE },
    { "the zone itself", "", DNS_A, "203.0.113.200/32", 0, "192.0.2.1/20", DNS_EDE_NONE },
    { "the zone's IPv6", "", DNS_AAAA, "203.0.113.0/25", 0, "28/20", DNS_EDE_NONE },
};

static void test_who_asks_for_a_family(void **)
{
    static const struct dns_source_place three[] = { { .pop = PARIS, .weight = 1 },
                                                     { .pop = LYON, .weight = 1 },
                                                     { .pop = TOKYO, .weight = 1 } };
    const struct dns_source_endpoint endpoints[] = {
        { SLICE("digits"), SLICE("default"), three, 3, NULL },
        { SLICE("old"), SLICE("default"), three, 1, NULL },
    };
    struct dns_view *kept = view;
    struct dns_source_pop pops[POPS];
    source_pops(pops);
    const struct ip both[] = { ips[TOKYO], ips[POPS] };
    struct dns_asker asker = { .address = ip_of("203.0.113.1"), .memo = dns_memo_new() };
    pops[LYON].addresses = &ips[POPS];
    pops[TOKYO].addresses = both;
    pops[TOKYO].address_count = 2;
    struct dns_source source = { SLICE("perigee.test"), 7, pops, POPS, endpoints, 2, NULL, 0, map };
    for (size_t i = 0; i < sizeof family_rows / sizeof *family_rows; i++) {
        static struct dns_reply reply;
        char asked[64], text[512];
        struct err err;
        print_message("  %s\n", family_rows[i].name);
        for (unsigned k = 0; k < POPS; k++)
            pops[k].health = family_rows[i].down >> k & 1 ? ROUTE_DOWN : ROUTE_UP;
        assert_int_equal(dns_view_build(&source, &view, &err), 0);
        dns_memo_clear(asker.memo);
        snprintf(asked, sizeof asked, "%s%sperigee.test", family_rows[i].asked,
                 family_rows[i].asked[0] ? "." : "");
        ask(asked, family_rows[i].type, family_rows[i].client, true, &asker, &reply);
        assert_string_equal(printed(&reply, text, sizeof text), family_rows[i].answer);
        assert_int_equal(reply.ede, family_rows[i].ede);
        dns_view_free(view);
    }
    view = kept;
    dns_memo_free(asker.memo);
}

/* ---- what the operator says of HTTPS ------------------------------------------------------- */

static const struct {
    const char *text, *alpn, *fault; /* fault: what it says */
    uint16_t port;
} told_rows[] = {
    { "alpn=h2,http/1.1 port=443", "h2 http/1.1 ", NULL, 443 },
    { "  port=8443   alpn=h3 ", "h3 ", NULL, 8443 },
    { "port=65535", "", NULL, 65535 },
    { "alpn=h3,h2,http/1.1,http/1.0", "h3 h2 http/1.1 http/1.0 ", NULL, 0 },
    { "", "", "says nothing", 0 },
    { "  ", "", "says nothing", 0 },
    { "h2", "", "'h2' is neither", 0 },
    { "alpn", "", "'alpn' is neither", 0 },
    { "alpn=", "", "'' is no protocol", 0 },
    { "alpn=h2,", "", "'' is no protocol", 0 },
    { "alpn=H2", "", "'H2' is no protocol", 0 },
    { "alpn=h2\\,h3", "", "is no protocol", 0 },
    { "alpn=a23456789012345678901234567890123", "", "is no protocol", 0 },
    { "alpn=h2,h2", "", "'h2' is there twice", 0 },
    { "alpn=h2 alpn=h3", "", "alpn is there twice", 0 },
    { "alpn=a,b,c,d,e", "", "more than 4", 0 },
    { "port=0", "", "'0' is no number from 1 to 65535", 0 },
    { "port=65536", "", "from 1 to 65535", 0 },
    { "port=https", "", "'https' is no number", 0 },
    { "port=443 port=443", "", "port is there twice", 0 },
    { "port=443;alpn=h2", "", "is no number", 0 },
    { "alpn=h2 ipv4hint=192.0.2.1", "", "each answer's own", 0 },
    { "alpn=h2 ech=AAAA", "", "'ech=AAAA' is neither", 0 },
};

static void test_what_may_be_said_of_https(void **)
{
    for (size_t i = 0; i < sizeof told_rows / sizeof *told_rows; i++) {
        struct dns_https_told told = {};
        struct err err = {};
        char alpn[DNS_ALPN_MAX * DNS_ALPN_BYTES] = "";
        print_message("  %s\n", told_rows[i].text);
        int r = dns_https_parse(slice_of(told_rows[i].text), &told, &err);
        assert_int_equal(r, told_rows[i].fault ? ERR_BAD_INPUT : 0);
        assert_int_equal(told.told, !told_rows[i].fault); /* untouched by what is refused */
        for (size_t k = 0; k < told.alpn_count; k++) {
            strcat(alpn, told.alpn[k]);
            strcat(alpn, " ");
        }
        assert_string_equal(alpn, told_rows[i].alpn);
        assert_int_equal(told.port, told_rows[i].port);
        if (told_rows[i].fault && !strstr(err.message, told_rows[i].fault))
            fail_msg("%s", err.message);
    }
}

#define TOLD_HEAD "\0\1\0" /* priority, target */
#define TOLD_H2 "\0\1\0\3\2h2"
#define TOLD_PORT "\0\3\0\2\1\xbb"
#define TOLD(bytes) (bytes), sizeof(bytes) - 1

/* Lyon has IPv6 alone, Tokyo both: as A and AAAA would be answered, so are the hints. */
static const struct {
    const char *name, *asked, *told, *client;
    unsigned down;
    const char *data; /* NULL: NODATA */
    size_t bytes;
    uint32_t ttl;
    int ede;
} https_rows[] = {
    { "each family's nearest", "digits", "alpn=h2 port=443", "203.0.113.200/32", 0,
      TOLD(TOLD_HEAD TOLD_H2 TOLD_PORT "\0\4\0\4\xc0\0\2\1"
                                       "\0\6\0\x10\x20\1\xd\xb8\xff\xff\0\0\0\0\0\0\0\0\0\1"),
      20, DNS_EDE_NONE },
    { "one of both, and it may go", "digits", "port=443", "198.51.100.0/24", 0,
      TOLD(TOLD_HEAD TOLD_PORT "\0\4\0\4\xc0\0\2\3"
                               "\0\6\0\x10\x20\1\xd\xb8\xff\xff\0\0\0\0\0\0\0\0\0\1"),
      5, DNS_EDE_NONE },
    { "IPv4 is the same for all, IPv6 is not", "apart", "alpn=h2", "203.0.113.200/32", 0,
      TOLD(TOLD_HEAD TOLD_H2 "\0\4\0\4\xc0\0\2\1"
                             "\0\6\0\x10\x20\1\xd\xb8\xff\xff\0\0\0\0\0\0\0\0\0\1"),
      20, DNS_EDE_NONE },
    { "no IPv6, and no port said", "old", "alpn=h2", "203.0.113.200/32", 0,
      TOLD(TOLD_HEAD TOLD_H2 "\0\4\0\4\xc0\0\2\1"), 20, DNS_EDE_NONE },
    { "the zone itself", "", "alpn=h2", "203.0.113.0/25", 1 << LYON | 1 << TOKYO | 1 << NEW_YORK,
      TOLD(TOLD_HEAD TOLD_H2 "\0\4\0\4\xc0\0\2\1"), 20, DNS_EDE_NONE },
    { "none is up", "digits", "alpn=h2", "203.0.113.200/32", 7, NULL, 0, 5, DNS_EDE_OTHER },
    { "a host", "ns1", "alpn=h2", "203.0.113.200/32", 0, NULL, 0, 5, DNS_EDE_NONE },
    { "nothing is told", "digits", NULL, "203.0.113.200/32", 0, NULL, 0, 5, DNS_EDE_NONE },
};

static void https_row(size_t i, struct dns_source *source, struct dns_source_pop *pops,
                      struct dns_memo *memo)
{
    static struct dns_reply reply;
    struct dns_asker asker = { .address = ip_of("203.0.113.1"), .memo = memo };
    struct dns_https_told told = {};
    struct err err;
    char asked[64];
    print_message("  %s\n", https_rows[i].name);
    if (https_rows[i].told)
        assert_int_equal(dns_https_parse(slice_of(https_rows[i].told), &told, &err), 0);
    source->https = https_rows[i].told ? &told : NULL;
    for (unsigned k = 0; k < POPS; k++)
        pops[k].health = https_rows[i].down >> k & 1 ? ROUTE_DOWN : ROUTE_UP;
    assert_int_equal(dns_view_build(source, &view, &err), 0);
    memset(&told, 0xff, sizeof told); /* the view has its own */
    snprintf(asked, sizeof asked, "%s%sperigee.test", https_rows[i].asked,
             https_rows[i].asked[0] ? "." : "");
    ask(asked, DNS_HTTPS, https_rows[i].client, true, &asker, &reply);
    const struct dns_record *record = &reply.records[0];
    const uint8_t *data = reply.data + record->data;
    uint16_t bytes;
    memcpy(&bytes, data, sizeof bytes);
    assert_int_equal(reply.count, 1);
    assert_int_equal(record->type, https_rows[i].data ? DNS_HTTPS : DNS_SOA);
    if (https_rows[i].data) {
        assert_int_equal(bytes, https_rows[i].bytes);
        assert_memory_equal(data + 2, https_rows[i].data, bytes);
    }
    assert_int_equal(record->ttl, https_rows[i].ttl);
    assert_int_equal(reply.ede, https_rows[i].ede);
    uint8_t scope = reply.scope_bits, longest = 0; /* good for no more than A and AAAA are */
    for (int k = 0; k < 2; k++) {
        ask(asked, k ? DNS_A : DNS_AAAA, https_rows[i].client, true, &asker, &reply);
        longest = reply.scope_bits > longest ? reply.scope_bits : longest;
        if (https_rows[i].data && reply.records[0].section == DNS_ANSWER)
            assert_true(reply.records[0].ttl >= https_rows[i].ttl);
    }
    if (https_rows[i].told)
        assert_int_equal(scope, longest);
    dns_view_free(view);
}

static void test_https_where_something_else_ends_tls(void **)
{
    static const struct dns_source_place three[] = { { .pop = PARIS, .weight = 1 },
                                                     { .pop = LYON, .weight = 1 },
                                                     { .pop = TOKYO, .weight = 1 } };
    static const struct dns_source_place apart[] = { { .pop = PARIS, .weight = 1 },
                                                     { .pop = LYON, .weight = 1 },
                                                     { .pop = NEW_YORK, .weight = 1 } };
    const struct dns_source_endpoint endpoints[] = {
        { SLICE("digits"), SLICE("default"), three, 3, NULL },
        { SLICE("old"), SLICE("default"), three, 1, NULL },
        { SLICE("apart"), SLICE("default"), apart, 3, NULL },
    };
    struct ip server = ip_of("192.0.2.53");
    const struct dns_source_host hosts[] = { { SLICE("ns1"), &server, 1, false } };
    struct dns_view *kept = view;
    struct dns_source_pop pops[POPS];
    source_pops(pops);
    const struct ip both[] = { ips[TOKYO], ips[POPS] };
    pops[LYON].addresses = &ips[POPS];
    pops[TOKYO].addresses = both;
    pops[TOKYO].address_count = 2;
    pops[NEW_YORK].https_port = 0;
    pops[NEW_YORK].addresses = &ips[POPS];
    struct dns_source source = {
        SLICE("perigee.test"), 7, pops, POPS, endpoints, 3, hosts, 1, map
    };
    for (size_t i = 0; i < sizeof https_rows / sizeof *https_rows; i++)
        for (int remembers = 0; remembers < 2; remembers++) {
            struct dns_memo *memo = remembers ? dns_memo_new() : NULL;
            https_row(i, &source, pops, memo);
            dns_memo_free(memo);
        }
    view = kept;
}

static void test_without_a_view(void **)
{
    static struct dns_reply reply;
    struct dns_asker asker = { .address = ip_of("203.0.113.1") };
    struct dns_view *kept = view;
    view = NULL;
    ask("digits.perigee.test", DNS_A, NULL, false, &asker, &reply);
    view = kept;
    assert_int_equal(reply.rcode, DNS_SERVFAIL);
    assert_int_equal(reply.ede, DNS_EDE_NOT_READY);
}

/* What RFC 7871 promises resolvers: whoever is in the prefix of that scope gets that answer. */
static void test_all_of_a_scope_get_the_same(void **)
{
    static const char *const names[] = { "digits.perigee.test", "home.perigee.test",
                                         "french.perigee.test", "perigee.test",
                                         "far.perigee.test",    "busy.perigee.test" };
    struct dns_asker asker = { .address = ip_of("203.0.113.1") }, plain = asker;
    uint64_t random = 42;
    asker.memo = dns_memo_new();
    unsigned drawn[2] = {};
    for (unsigned i = 0; i < 4000; i++) {
        static struct dns_reply reply, other;
        char client[64], answer[512], again[512];
        random = random * UINT64_C(6364136223846793005) + 1;
        unsigned block = (unsigned)(random >> 60) % 5, low = (unsigned)(random >> 33) & 0xffff;
        static const char *const nets[] = { "203.0.113", "198.51.100", "10.1.2", "172.16.5",
                                            "203.0.112" };
        snprintf(client, sizeof client, "%s.%u/32", nets[block], low & 255);
        if (block == 2)
            snprintf(client, sizeof client, "10.%u.%u.7/32", low >> 8, low & 255);
        const char *name = names[(random >> 50) % 6];
        ask(name, DNS_A, client, true, &asker, &reply);
        printed(&reply, answer, sizeof answer);
        struct ip_block whole;
        struct err err;
        assert_int_equal(ip_block_parse(slice_of(client), &whole, &err), 0);
        /* Another address of the same scope. */
        struct ip mate = ip_cut(&whole.ip, IP4_BITS + reply.scope_bits);
        for (unsigned bit = reply.scope_bits; bit < 32; bit++)
            if (random >> bit & 1)
                mate.bytes[12 + bit / 8] |= (uint8_t)(0x80 >> bit % 8);
        char text[IP_TEXT_BYTES];
        ask(name, DNS_A, ip_text(&mate, text), true, i & 1 ? &asker : &plain, &other);
        assert_string_equal(printed(&other, again, sizeof again), answer);
        assert_int_equal(other.scope_bits, reply.scope_bits);
    }
    for (unsigned i = 0; i < 512; i++) { /* near-equals both get their part */
        static struct dns_reply reply;
        char client[64], answer[512];
        snprintf(client, sizeof client, "2001:db8:%x::/48", i);
        ask("digits.perigee.test", DNS_A, client, true, &asker, &reply);
        drawn[strncmp(printed(&reply, answer, sizeof answer), "192.0.2.3", 9) == 0]++;
    }
    assert_true(drawn[0] > 150 && drawn[1] > 150);
    dns_memo_free(asker.memo);
}

static void test_why(void **)
{
    static struct dns_reply reply;
    struct dns_asker asker = { .address = ip_of("203.0.113.1"), .why_allowed = true };
    ask("_why.home.perigee.test", DNS_TXT, "203.0.113.0/25", true, &asker, &reply);
    static const char *const said[] = {
        "client 203.0.113.0/25, country FR, at 48.86 2.35 (address map)",
        "residency: rule 1 holds",
        "paris: 14.4 ms = rtt 14.4 (coordinates) + wait 0.0 + service 0.0 + start 0.0; share 100 %",
        "lyon: ",
        "tokyo: residency does not permit it",
        "tokyo-two: residency does not permit it",
        "new-york: residency does not permit it",
        "health as control says; no load is known",
    };
    assert_int_equal(reply.count, sizeof said / sizeof *said);
    for (size_t i = 0; i < reply.count; i++) {
        const char *text = (const char *)reply.data + reply.records[i].data + 3;
        print_message("  %.*s\n", text[-1], text);
        assert_int_equal(strncmp(text, said[i], strlen(said[i])), 0);
        assert_int_equal(reply.records[i].ttl, 0);
    }
    assert_int_equal(reply.scope_bits, 25);
    ask("_why.home.perigee.test", DNS_TXT, "10.0.0.0/8", true, &asker, &reply);
    assert_int_equal(reply.count, 2);
    ask("_why.none.perigee.test", DNS_TXT, NULL, true, &asker, &reply);
    assert_int_equal(reply.rcode, DNS_NXDOMAIN);
    ask("_why.ns1.perigee.test", DNS_TXT, NULL, true, &asker, &reply);
    assert_int_equal(reply.rcode, DNS_NXDOMAIN);
    ask("_why.digits.perigee.test", DNS_A, NULL, true, &asker, &reply);
    assert_int_equal(reply.rcode, DNS_NOERROR);
}

static void test_sources_that_are_wrong(void **)
{
    const struct dns_source_pop pop = { .name = SLICE("paris") };
    const struct dns_source_place two[] = { { .pop = 0 }, { .pop = 0 } }, far[] = { { .pop = 1 } };
    const struct dns_source_endpoint twice = { SLICE("digits"), SLICE("default"), two, 2, NULL };
    const struct dns_source_endpoint nowhere = { SLICE("digits"), SLICE("default"), far, 1, NULL };
    const struct dns_source sources[] = {
        { .zone = SLICE("") },
        { .zone = SLICE("a..b") },
        { .zone = SLICE("perigee.test"),
          .pops = &pop,
          .pop_count = 1,
          .endpoints = &twice,
          .endpoint_count = 1 },
        { .zone = SLICE("perigee.test"),
          .pops = &pop,
          .pop_count = 1,
          .endpoints = &nowhere,
          .endpoint_count = 1 },
        { .zone = SLICE("perigee.test"), .pops = &pop, .pop_count = ROUTE_POPS_MAX + 1 },
    };
    for (size_t i = 0; i < sizeof sources / sizeof *sources; i++) {
        struct dns_view *none = NULL;
        struct err err = {};
        assert_int_equal(dns_view_build(&sources[i], &none, &err), ERR_BAD_INPUT);
        print_message("  %s\n", err.message);
        assert_null(none);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_answers),
        cmocka_unit_test(test_who_asks_for_a_family),
        cmocka_unit_test(test_what_may_be_said_of_https),
        cmocka_unit_test(test_https_where_something_else_ends_tls),
        cmocka_unit_test(test_without_a_view),
        cmocka_unit_test(test_all_of_a_scope_get_the_same),
        cmocka_unit_test(test_why),
        cmocka_unit_test(test_sources_that_are_wrong),
    };
    return cmocka_run_group_tests_name("dns_view", tests, set_up, tear_down);
}
