/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/from.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/ip.h"
#include "cli/cli.h"
#include "cli/view.h"
#include "geo/cities.h"
#include "http/client.h"
#include "http/fetch.h"
#include "io/address.h"
#include "policy/rtt.h"
#include "proto/dns_ask.h"
#include "spec/names.h"
#include "sys/fd.h"
#include "sys/home.h"

enum {
    DNS_PORT = 53,
    DNS_TRIES = 3,
    DNS_WAIT_MS = 2000,
    ROUNDS_MAX = 60, /* answers of DNS that are tried to their end: half a minute */
    ROUND_PAUSE_MS = 500,
    NEAR_KM = 50, /* a city is that place */
    PLACE_BYTES_MAX = 4 << 20,
};

const char *const from_flags[] = { "--dns", "--zone", NULL };

struct from {
    struct cli *cli;
    const char *text;   /* as it was said */
    const char *told;   /* where to, instead of by DNS; or NULL */
    yyjson_val *places; /* of the box; NULL: none runs */
    bool bound;
    struct ip source; /* of the sockets, if bound */
    bool with_subnet;
    struct ip_block subnet;
    struct address server;
    const char *host;
    uint16_t port;
    struct dns_answer answer;
    size_t at; /* of its addresses: where it goes */
    const char *why;
};

/* ---- places of the box ----------------------------------------------------------------------- */

/* NULL: there is no box. */
static yyjson_val *box_places(struct cli *cli)
{
    struct fetch_answer answer;
    struct err ignored;
    yyjson_val *root;
    struct fetch_request request = {
        .method = "GET",
        .url = "http://localhost/api/v1/fleet",
        .unix_path = arena_format(cli->arena, "%s/run/fleet.sock", cli->home),
        .body_fd = -1,
        .timeout_ms = 10'000,
        .answer_bytes_max = PLACE_BYTES_MAX,
    };
    if (access(request.unix_path, F_OK) < 0 || fetch(cli->arena, &request, &answer, &ignored) < 0 ||
        answer.status != 200 || json_parse(cli->arena, answer.body, NULL, &root, &ignored) < 0)
        return NULL;
    return json_member(root, "places");
}

/* Can sockets be bound to it? */
static bool is_ours(const struct ip *ip)
{
    struct address address;
    struct sockaddr_storage storage;
    address_from_ip(ip, 0, &address);
    socklen_t size = address_to(&address, &storage);
    auto_close int fd = socket(storage.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    return fd >= 0 && bind(fd, (struct sockaddr *)&storage, size) == 0;
}

/* The first address of a block that is no network's own. */
static struct ip first_of(const struct ip_block *block)
{
    struct ip ip = block->ip;
    if (block->bits < 128)
        ip.bytes[15] |= 1;
    return ip;
}

static bool face_of(yyjson_val *place, struct ip *ret)
{
    return ip_parse(view_text(place, "face"), ret); /* of a PoP */
}

/* As whom its clients come: bound where that is possible, else by subnet. False: it has none. */
static bool stand_at(struct from *from, yyjson_val *place)
{
    size_t index, count;
    yyjson_val *item;
    struct ip_block block;
    struct err ignored;
    struct ip face = {};
    bool some = false;
    yyjson_arr_foreach(json_member(place, "clients"), index, count, item)
    {
        if (ip_block_parse(json_slice(item), &block, &ignored) < 0)
            continue;
        struct ip first = first_of(&block);
        if (is_ours(&first)) {
            from->bound = true;
            from->source = first;
            return true;
        }
        if (!some)
            from->subnet = (struct ip_block){ first, 128 };
        some = true;
    }
    if (!some && face_of(place, &face) && is_ours(&face)) {
        from->bound = some = true; /* who stands where a PoP does */
        from->source = face;
    } else {
        from->with_subnet = some;
    }
    return some;
}

static struct spot spot_of(yyjson_val *place)
{
    return spot_at(yyjson_get_num(json_member(place, "latitude")),
                   yyjson_get_num(json_member(place, "longitude")));
}

static yyjson_val *place_near(const struct from *from, const struct city *city)
{
    struct spot spot = spot_at(city->latitude, city->longitude);
    yyjson_val *item, *best = NULL;
    float best_km = NEAR_KM;
    size_t index, count;
    yyjson_arr_foreach(from->places, index, count, item)
    {
        struct spot other = spot_of(item);
        float km = spot_km(spot, other);
        bool clients = yyjson_arr_size(json_member(item, "clients")) > 0;
        if (km < best_km || (clients && best && km <= best_km)) {
            best = item;
            best_km = km;
        }
    }
    return best;
}

/* By its name; clients of that name before a PoP. */
static yyjson_val *place_named(const struct from *from, struct slice name)
{
    yyjson_val *item, *best = NULL;
    size_t index, count;
    yyjson_arr_foreach(from->places, index, count, item)
    {
        if (!slice_equal_nocase(view_text(item, "name"), name))
            continue;
        if (!best || yyjson_arr_size(json_member(item, "clients")))
            best = item;
    }
    return best;
}

static const char *place_names(struct from *from)
{
    const char *all = NULL;
    size_t index, count;
    yyjson_val *item;
    yyjson_arr_foreach(from->places, index, count, item)
    {
        struct slice name = view_text(item, "name");
        if (yyjson_arr_size(json_member(item, "clients")))
            all = all ? arena_format(from->cli->arena, "%s, %.*s", all, SLICE_FMT(name))
                      : arena_string(from->cli->arena, name);
    }
    return all ? all : "none";
}

static int stand_in_city(struct from *from, struct err *err)
{
    struct cities *cities;
    const struct city *city = NULL;
    char libdir[HOME_PATH_BYTES];
    struct slice name = slice_of(from->text);
    if (!from->places)
        return err_set(err, ERR_NOT_FOUND,
                       "--from %s: a city is a place of a network in a box, and none runs with the "
                       "home %s; an address is taken without one",
                       ERR_TEXT(from->text), from->cli->home);
    yyjson_val *place = place_named(from, name);
    int r = place ? 0 : home_libdir(libdir, err);
    if (!place && r == 0) {
        r = cities_open(arena_format(from->cli->arena, "%s/" CITIES_FILE, libdir), &cities, err);
        if (r == 0 && (r = cities_look_up(cities, name, &city, err)) == 0)
            place = place_near(from, city);
        if (r == 0 || city)
            cities_free(cities);
    }
    if (r < 0)
        return err_wrap(err, "--from");
    if (!place || !stand_at(from, place))
        return err_set(err, ERR_NOT_FOUND, "--from: no clients stand in %s; there are: %s",
                       ERR_TEXT(from->text), ERR_TEXT(place_names(from)));
    return 0;
}

static int stand(struct from *from, struct err *err)
{
    struct ip ip;
    size_t index, count, i, blocks;
    yyjson_val *place, *item;
    struct ip_block block;
    struct err ignored;
    if (!ip_parse(slice_of(from->text), &ip))
        return stand_in_city(from, err);
    from->bound = is_ours(&ip);
    from->source = ip;
    from->with_subnet = !from->bound;
    from->subnet = (struct ip_block){ ip, 128 };
    if (from->bound)
        return 0;
    /* The box may have a client there whose connections it knows. */
    yyjson_arr_foreach(from->places, index, count, place)
    {
        yyjson_arr_foreach(json_member(place, "clients"), i, blocks, item)
        {
            if (ip_block_parse(json_slice(item), &block, &ignored) == 0 &&
                ip_block_has(&block, &ip)) {
                (void)stand_at(from, place);
                from->with_subnet = true;
                from->subnet = (struct ip_block){ ip, 128 };
            }
        }
    }
    return 0;
}

/* ---- DNS ------------------------------------------------------------------------------------- */

static int dial(const struct from *from, int type, int *ret_fd, struct err *err)
{
    struct sockaddr_storage storage;
    socklen_t size = address_to(&from->server, &storage);
    struct timeval wait = { .tv_sec = DNS_WAIT_MS / 1000 };
    char text[ADDRESS_TEXT_BYTES];
    auto_close int fd = socket(storage.ss_family, type | SOCK_CLOEXEC, 0);
    int r = fd < 0 ? -1 : 0;
    if (r == 0 && from->bound && !from->with_subnet &&
        ip_is4(&from->source) == (from->server.kind == ADDRESS_IP4)) {
        struct address source;
        struct sockaddr_storage own;
        address_from_ip(&from->source, 0, &source);
        socklen_t own_size = address_to(&source, &own);
        r = bind(fd, (struct sockaddr *)&own, own_size);
    }
    if (r == 0)
        r = setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
    if (r == 0)
        r = setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof wait);
    if (r == 0)
        r = connect(fd, (struct sockaddr *)&storage, size);
    if (r < 0)
        return err_set(err, ERR_OVERLOADED, "asking DNS at %s: %s",
                       address_text(&from->server, text), strerror(errno));
    *ret_fd = take_fd(fd);
    return 0;
}

static int ask_udp(const struct from *from, const struct dns_ask *ask, uint8_t *buffer,
                   struct dns_answer *ret, struct err *err)
{
    uint8_t question[DNS_ASK_BYTES_MAX];
    char text[ADDRESS_TEXT_BYTES];
    auto_close int fd = -1;
    int r = dial(from, SOCK_DGRAM, &fd, err);
    for (int try = 0; r == 0 && try < DNS_TRIES; try++) {
        (void)!send(fd, question, dns_ask_write(ask, question), MSG_NOSIGNAL);
        ssize_t got;
        while ((got = recv(fd, buffer, DNS_TCP_BYTES_MAX, 0)) > 0) {
            r = dns_answer_read(ask, buffer, (size_t)got, ret, err);
            if (r != ERR_NOT_FOUND)
                return r;
            r = 0;
        }
        if (got < 0 && errno == ECONNREFUSED)
            break;
    }
    return r < 0 ? r
                 : err_set(err, ERR_OVERLOADED, "no answer of DNS at %s",
                           address_text(&from->server, text));
}

static bool receive_all(int fd, uint8_t *to, size_t bytes)
{
    while (bytes) {
        ssize_t got = recv(fd, to, bytes, 0);
        if (got <= 0)
            return false;
        to += got;
        bytes -= (size_t)got;
    }
    return true;
}

static int ask_tcp(const struct from *from, const struct dns_ask *ask, uint8_t *buffer,
                   struct dns_answer *ret, struct err *err)
{
    uint8_t question[2 + DNS_ASK_BYTES_MAX], length[2];
    size_t bytes = dns_ask_write(ask, question + 2);
    question[0] = (uint8_t)(bytes >> 8);
    question[1] = (uint8_t)bytes;
    auto_close int fd = -1;
    int r = dial(from, SOCK_STREAM, &fd, err);
    if (r < 0)
        return r;
    if (send(fd, question, bytes + 2, MSG_NOSIGNAL) != (ssize_t)bytes + 2 ||
        !receive_all(fd, length, 2))
        return err_set(err, ERR_OVERLOADED, "no answer of DNS over TCP");
    bytes = (size_t)length[0] << 8 | length[1];
    if (!receive_all(fd, buffer, bytes))
        return err_set(err, ERR_OVERLOADED, "DNS broke its answer off");
    return dns_answer_read(ask, buffer, bytes, ret, err);
}

static int ask_dns(const struct from *from, const char *name, uint16_t type, bool tcp,
                   struct dns_answer *ret, struct err *err)
{
    struct dns_ask ask = { .type = type, .with_subnet = from->with_subnet, .subnet = from->subnet };
    uint8_t *buffer = arena_alloc(from->cli->arena, DNS_TCP_BYTES_MAX);
    int r = dns_name_parse(slice_of(name), &ask.name, err);
    if (r == 0 && getrandom(&ask.id, sizeof ask.id, 0) != sizeof ask.id)
        r = err_set(err, ERR_INTERNAL, "no random bytes: %s", strerror(errno));
    dns_name_lower(ask.name.bytes, ask.name.size);
    if (r == 0 && !tcp)
        r = ask_udp(from, &ask, buffer, ret, err);
    if (r == 0 && (tcp || ret->truncated))
        r = ask_tcp(from, &ask, buffer, ret, err);
    return r;
}

static int resolve(struct from *from, struct err *err)
{
    static const char *const rcodes[16] = {
        [DNS_SERVFAIL] = "the server knows nothing yet",
        [DNS_NXDOMAIN] = "there is no such name",
        [DNS_REFUSED] = "not in the server's zone",
    };
    struct dns_answer v6 = { .ede = DNS_EDE_NONE };
    int r = ask_dns(from, from->host, DNS_A, false, &from->answer, err);
    if (r == 0 && from->answer.rcode == DNS_NOERROR && from->answer.ip_count == 0) {
        if (ask_dns(from, from->host, DNS_AAAA, false, &v6, err) == 0 && v6.ip_count)
            from->answer = v6;
    }
    from->at = 0;
    if (r < 0 || from->answer.ip_count)
        return r;
    const char *why = from->answer.rcode ? rcodes[from->answer.rcode] : "no PoP is named";
    if (from->answer.ede != DNS_EDE_NONE && from->answer.ede_text.size)
        return err_set(err, ERR_NOT_FOUND, "DNS names nothing for %s: %s (%s)", from->host,
                       ERR_SLICE(from->answer.ede_text), why ? why : "refused");
    return err_set(err, ERR_NOT_FOUND, "DNS names nothing for %s: %s", from->host,
                   why ? why : "refused");
}

/* Rows of _why: who asked, words, then PoPs as "NAME: ...", the best first. */
static void why_find(struct from *from)
{
    struct dns_answer answer = {};
    struct err ignored;
    if (ask_dns(from, arena_format(from->cli->arena, "_why.%s", from->host), DNS_TXT, true, &answer,
                &ignored) < 0)
        return;
    for (size_t i = 1; i < answer.text_count && !from->why; i++)
        if (memchr(answer.texts[i].data, ':', answer.texts[i].size) &&
            !slice_starts(answer.texts[i], SLICE("residency")))
            from->why = arena_string(from->cli->arena, answer.texts[i]);
}

/* ---- opening --------------------------------------------------------------------------------- */

static int server_find(struct from *from, struct err *err)
{
    const char *given = cli_option_value(from->cli, "--dns"), *text = given;
    if (!given && control_address(from->cli, "dns", &text, err) < 0)
        return err_wrap(err, "--from asks DNS, and --dns ADDRESS says where");
    if (address_parse(slice_of(text), &from->server, err) == 0 && from->server.kind != ADDRESS_UNIX)
        return 0;
    if (address_parse_ip(slice_of(text), &from->server)) {
        from->server.port = DNS_PORT;
        return 0;
    }
    return cli_usage(
        from->cli, err_set(err, ERR_BAD_INPUT, "--dns wants an address, not '%s'", ERR_TEXT(text)));
}

/* The second of its hosts is below the zone; the port is that of all PoPs. */
static int host_find(struct from *from, const char *endpoint, struct err *err)
{
    struct cli *cli = from->cli;
    const char *zone = cli_option_value(cli, "--zone"), *gateway;
    bool plain = strcmp(cli->project, "default") == 0;
    struct control_answer answer = {};
    struct http_url url = { .port = 0 };
    struct err ignored;
    if (zone && spec_check_host(slice_of(zone), err) < 0)
        return cli_usage(cli, err_wrap(err, "--zone"));
    from->host = plain ? arena_format(cli->arena, "%s.%s", endpoint, zone ? zone : "perigee.test")
                       : arena_format(cli->arena, "%s--%s.%s", endpoint, cli->project,
                                      zone ? zone : "perigee.test");
    bool here = control_gateway_url(cli, &gateway, &ignored) == 0 &&
                http_url_parse(slice_of(gateway), &url, &ignored) == 0;
    if (here && zone) {
        from->port = url.port;
        return 0;
    }
    int r = control_call(
        cli, &CONTROL_REQUEST(.method = "GET", .path = control_endpoint_path(cli, endpoint, "")),
        &answer, err);
    struct slice host = json_slice(yyjson_arr_get(json_member(answer.json, "hosts"), 1));
    struct slice at = json_slice(yyjson_arr_get_first(json_member(answer.json, "urls")));
    if (r == 0 && host.size && !zone && (r = spec_check_host(host, err)) < 0)
        return err_wrap(err, "what control says of where '%s' answers", endpoint);
    if (r == 0 && host.size && !zone)
        from->host = arena_string(cli->arena, host);
    if (!here && r == 0 && at.size)
        (void)!http_url_parse(at, &url, &ignored);
    from->port = url.port;
    if (from->port)
        return 0; /* without control the usual zone is tried */
    return r < 0 ? r
                 : err_set(err, ERR_NOT_FOUND, "control does not say where '%s' answers", endpoint);
}

/* In the place of DNS's answer: to there, and nowhere else. */
static int target_take(struct from *from, const char *url, struct err *err)
{
    struct http_url target;
    if (http_url_parse(slice_of(url), &target, err) < 0)
        return cli_usage(from->cli, err_wrap(err, "--url"));
    if (target.address.kind == ADDRESS_IP4)
        from->answer.ips[0] = ip_from4(target.address.ip);
    else if (target.address.kind == ADDRESS_IP6)
        memcpy(from->answer.ips[0].bytes, target.address.ip, sizeof from->answer.ips[0].bytes);
    else
        return cli_usage(from->cli, err_set(err, ERR_BAD_INPUT,
                                            "--url with --from wants an address, as "
                                            "http://127.0.1.5:8000, not '%s'",
                                            ERR_TEXT(url)));
    from->answer.ip_count = 1;
    from->port = target.port;
    return 0;
}

int from_open(struct cli *cli, const char *endpoint, const char *url, struct from **ret,
              struct err *err)
{
    struct from *from = ARENA_NEW(cli->arena, struct from);
    from->cli = cli;
    from->text = cli_option_value(cli, "--from");
    from->places = box_places(cli);
    from->told = url;
    int r = url ? 0 : server_find(from, err);
    if (r == 0)
        r = stand(from, err);
    if (r == 0)
        r = host_find(from, endpoint, err);
    if (r == 0)
        r = url ? target_take(from, url, err) : resolve(from, err);
    if (r < 0)
        return r;
    if (!url)
        why_find(from);
    *ret = from;
    return 0;
}

const char *from_host(const struct from *from)
{
    return from->host;
}

/* ---- saying ---------------------------------------------------------------------------------- */

/* "127.0.1.5 (tokyo)", where the box says whose it is. */
static const char *pop_text(const struct from *from, const struct ip *ip)
{
    char text[IP_TEXT_BYTES];
    size_t index, count;
    yyjson_val *place;
    struct ip face;
    ip_text(ip, text);
    yyjson_arr_foreach(from->places, index, count, place)
    {
        if (face_of(place, &face) && memcmp(face.bytes, ip->bytes, sizeof face.bytes) == 0)
            return arena_format(from->cli->arena, "%s (%.*s)", text,
                                SLICE_FMT(view_text(place, "name")));
    }
    return arena_string(from->cli->arena, slice_of(text));
}

void from_print(const struct from *from, FILE *out)
{
    char text[IP_TEXT_BYTES];
    const char *client = from->with_subnet ? ip_block_text(&from->subnet, text)
                         : from->bound     ? ip_text(&from->source, text)
                                           : "this machine";
    fprintf(out, "From ");
    cli_print_text(out, slice_of(from->text));
    if (strcmp(client, from->text) != 0)
        fprintf(out, " (%s)", client);
    if (from->told) {
        fprintf(out, "%s to ", from->bound ? "" : ", which this machine is not,");
        cli_print_text(out, slice_of(pop_text(from, &from->answer.ips[0])));
        fprintf(out, ", without asking DNS\n");
        return;
    }
    if (!from->bound)
        fprintf(out, ", told to DNS alone,");
    fprintf(out, " %s is ", from->host);
    for (size_t i = 0; i < from->answer.ip_count; i++) {
        fprintf(out, "%s", i ? ", " : "");
        cli_print_text(out, slice_of(pop_text(from, &from->answer.ips[i])));
    }
    fprintf(out, " for %u s\n", from->answer.ttl);
    if (from->why) {
        fprintf(out, "%s", cli_color(from->cli, CLI_DIM));
        cli_print_text(out, slice_of(from->why));
        fprintf(out, "%s\n", cli_color(from->cli, CLI_PLAIN));
    }
}

/* ---- sending --------------------------------------------------------------------------------- */

static int fetch_at(const struct from *from, const struct ip *ip, struct fetch_request *request,
                    struct fetch_answer *ret, struct err *err)
{
    struct fetch_request there = *request;
    struct address address;
    char text[ADDRESS_TEXT_BYTES], source[IP_TEXT_BYTES];
    address_from_ip(ip, from->port, &address);
    there.url =
        arena_format(from->cli->arena, "http://%s%s", address_text(&address, text), request->url);
    if (from->bound && ip_is4(ip) == ip_is4(&from->source))
        there.source = ip_text(&from->source, source);
    return fetch(from->cli->arena, &there, ret, err);
}

/* Where there is an answer, or none within the request's time, another place is no better. */
static bool over(int r, const struct fetch_answer *answer)
{
    return r == 0 || answer->status != 0 || (r != ERR_OVERLOADED && r != ERR_INTERNAL);
}

static bool same(const struct dns_answer *a, const struct dns_answer *b)
{
    return a->ip_count == b->ip_count && memcmp(a->ips, b->ips, a->ip_count * sizeof *a->ips) == 0;
}

int from_fetch(struct from *from, struct fetch_request *request, struct fetch_answer *ret,
               struct err *err)
{
    bool said = false; /* once is enough */
    int r = 0;
    for (int round = 0; round < ROUNDS_MAX; round++) {
        for (; from->at < from->answer.ip_count; from->at++) {
            const struct ip *ip = &from->answer.ips[from->at];
            r = fetch_at(from, ip, request, ret, err);
            if (from->told || over(r, ret))
                return r;
            if (!said) {
                cli_print_text(stderr, slice_of(pop_text(from, ip)));
                fprintf(stderr, " does not answer, going on: %s\n", err->message);
            }
        }
        struct err ignored;
        struct dns_answer before = from->answer;
        (void)poll(NULL, 0, ROUND_PAUSE_MS);
        if (resolve(from, &ignored) < 0) /* it may name one again */
            from->answer.ip_count = 0;
        said = same(&before, &from->answer);
        if (!said)
            from_print(from, stderr);
    }
    return r < 0 ? r
                 : err_set(err, ERR_OVERLOADED, "DNS names nothing any more for %s", from->host);
}
