/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/from.h"

#include <poll.h>
#include <string.h>

#include "base/arena.h"
#include "base/err.h"
#include "cli/cli.h"
#include "cli/from_own.h"
#include "cli/view.h"
#include "http/client.h"
#include "http/fetch.h"
#include "io/loop.h"
#include "spec/names.h"
#include "spec/units.h"

enum {
    DNS_PORT = 53,
    TRY_MS = 30'000, /* of all calls; then nothing more is tried, what is under way goes on */
    TRY_LEAST_MS = 1000,
    ROUND_PAUSE_MS = 500,
    CONNECT_MS = 5000, /* as fetch() has it */
};

#define MS_NS INT64_C(1'000'000)

const char *const from_flags[] = { "--dns", "--zone", NULL };

/* ---- for how long ---------------------------------------------------------------------------- */

/* No longer than the request has. */
static int64_t try_ms(struct cli *cli)
{
    const char *timeout = cli_option_value(cli, "--timeout");
    uint64_t ns;
    struct err ignored;
    if (!timeout || units_parse_time(slice_of(timeout), &ns, &ignored) < 0 || ns / MS_NS > TRY_MS)
        return TRY_MS;
    return (int64_t)(ns / MS_NS);
}

/* What opening and each request take of it is less for the next ones; the time between, as while
 * input is read, is not. */
static void try_begin(struct from *from)
{
    from->until_ns =
        loop_now_ns() + (from->try_ms > TRY_LEAST_MS ? from->try_ms : TRY_LEAST_MS) * MS_NS;
}

static int try_end(struct from *from, int r)
{
    from->try_ms = from_left_ms(from);
    return r;
}

int64_t from_left_ms(const struct from *from)
{
    int64_t left_ns = from->until_ns - loop_now_ns();
    return left_ns > 0 ? (left_ns + MS_NS - 1) / MS_NS : 0;
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
    from->try_ms = try_ms(cli);
    try_begin(from);
    from->text = cli_option_value(cli, "--from");
    from->places = from_places(cli);
    from->told = url;
    int r = url ? 0 : server_find(from, err);
    if (r == 0)
        r = from_stand(from, err);
    if (r == 0)
        r = host_find(from, endpoint, err);
    if (r == 0)
        r = url ? target_take(from, url, err) : from_resolve(from, err);
    if (r < 0)
        return r;
    if (!url)
        from_why_find(from);
    *ret = from;
    return try_end(from, 0);
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
        if (from_face_of(place, &face) && memcmp(face.bytes, ip->bytes, sizeof face.bytes) == 0)
            return arena_format(from->cli->arena, "%s (%.*s)", text,
                                SLICE_FMT(view_text(place, "name")));
    }
    return arena_string(from->cli->arena, slice_of(text));
}

/* "127.0.1.5 (tokyo), 127.0.1.1 (paris)" */
static const char *pops_text(const struct from *from)
{
    const char *all = "";
    for (size_t i = 0; i < from->answer.ip_count; i++)
        all = arena_format(from->cli->arena, "%s%s%s", all, i ? ", " : "",
                           pop_text(from, &from->answer.ips[i]));
    return all;
}

void from_print(const struct from *from, FILE *out)
{
    struct cli *cli = from->cli;
    char text[IP_TEXT_BYTES];
    const char *client = from->with_subnet ? ip_block_text(&from->subnet, text)
                         : from->bound     ? ip_text(&from->source, text)
                                           : "this machine";
    const char *who = strcmp(client, from->text) == 0
                          ? from->text
                          : arena_format(cli->arena, "%s (%s)", from->text, client);
    const char *said =
        from->told
            ? arena_format(cli->arena, "From %s%s to %s, without asking DNS", who,
                           from->bound ? "" : ", which this machine is not,", pops_text(from))
            : arena_format(cli->arena, "From %s%s %s is %s for %u s", who,
                           from->bound ? "" : ", told to DNS alone,", from->host, pops_text(from),
                           from->answer.ttl);
    cli_print_wrapped(cli, out, slice_of(said), 0, 2);
    if (from->why && !from->told) {
        fprintf(out, "%s", cli_color(cli, CLI_DIM));
        cli_print_wrapped(cli, out, slice_of(from->why), 0, 2);
        fprintf(out, "%s", cli_color(cli, CLI_PLAIN));
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
    int64_t left_ms = from_left_ms(from);
    if (left_ms < CONNECT_MS)
        there.connect_ms = left_ms > 0 ? left_ms : 1;
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
    try_begin(from);
    while (from_left_ms(from) > 0) {
        for (; from->at < from->answer.ip_count && from_left_ms(from) > 0; from->at++) {
            const struct ip *ip = &from->answer.ips[from->at];
            r = fetch_at(from, ip, request, ret, err);
            if (from->told || over(r, ret))
                return try_end(from, r);
            if (!said) {
                cli_print_text(stderr, slice_of(pop_text(from, ip)));
                fprintf(stderr, " does not answer, going on: %s\n", err->message);
            }
        }
        struct err ignored;
        struct dns_answer before = from->answer;
        int64_t left_ms = from_left_ms(from);
        (void)poll(NULL, 0, left_ms < ROUND_PAUSE_MS ? (int)left_ms : ROUND_PAUSE_MS);
        if (from_resolve(from, &ignored) < 0) /* it may name one again */
            from->answer.ip_count = 0;
        said = same(&before, &from->answer);
        if (!said)
            from_print(from, stderr);
    }
    if (r == 0)
        r = err_set(err, ERR_OVERLOADED, "DNS names nothing any more for %s", from->host);
    return err_wrap(err, "tried for %lld s", (long long)(try_ms(from->cli) + 999) / 1000);
}
