/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Heads as they go to a replica and back. What says who the client is (X-Forwarded-*, Forwarded) is
 * continued where a trusted proxy sent it, and else written anew, so that a client cannot choose
 * where it seems to be. Via tells a request that comes back here by its own upstream.
 */
#include <string.h>

#include "base/arena.h"
#include "gateway/proxy.h"
#include "gateway/request.h"
#include "proto/end_to_end.h"

enum { OWN_HEADERS = 10 };

static bool starts_nocase(struct slice name, struct slice start)
{
    return name.size >= start.size &&
           slice_equal_nocase((struct slice){ name.data, start.size }, start);
}

/* Written anew, or of the gateway's own. */
static bool left_out(struct slice name)
{
    switch (name.size ? name.data[0] | 0x20 : 0) {
    case 'h':
        return slice_equal_nocase(name, SLICE("Host"));
    case 'e':
        return slice_equal_nocase(name, SLICE("Expect"));
    case 'v':
        return slice_equal_nocase(name, SLICE("Via"));
    case 'f':
        return slice_equal_nocase(name, SLICE("Forwarded"));
    case 'p':
        return starts_nocase(name, SLICE("Perigee-"));
    case 'x':
        return slice_equal_nocase(name, SLICE("X-Request-Id")) ||
               slice_equal_nocase(name, SLICE("X-Forwarded-For")) ||
               slice_equal_nocase(name, SLICE("X-Forwarded-Proto")) ||
               slice_equal_nocase(name, SLICE("X-Forwarded-Host"));
    default:
        return false;
    }
}

/* As a CGI or WSGI server reads it, to which X_Real_IP and X-Real-IP are one name. */
static bool reads_as(struct slice name, struct slice as)
{
    if (name.size != as.size)
        return false;
    for (size_t i = 0; i < as.size; i++)
        if (as.data[i] == '-' ? name.data[i] != '-' && name.data[i] != '_'
                              : (name.data[i] | 0x20) != (as.data[i] | 0x20))
            return false;
    return true;
}

static bool left_out_untrusted(struct slice name)
{
    static const struct slice forwarded = SLICE("X-Forwarded-"), real = SLICE("X-Real-IP");

    if (name.size == 0 || (name.data[0] | 0x20) != 'x')
        return left_out(name);
    return left_out(name) || reads_as(name, real) ||
           (name.size > forwarded.size &&
            reads_as((struct slice){ name.data, forwarded.size }, forwarded));
}

static bool left_out_of_answer(struct slice name)
{
    return slice_equal_nocase(name, SLICE("Date")) || starts_nocase(name, SLICE("Perigee-")) ||
           slice_equal_nocase(name, SLICE("X-Request-Id")) ||
           slice_equal_nocase(name, SLICE("Alt-Svc")); /* where else *it* is reached */
}

/* ---- text ----------------------------------------------------------------------------------- */

struct line {
    char *data;
    size_t used, room;
};

static struct line line_new(struct arena *arena, size_t room)
{
    return (struct line){ arena_alloc(arena, room + 1), 0, room };
}

static void put(struct line *line, struct slice text)
{
    if (text.size > line->room - line->used)
        return;
    memcpy(line->data + line->used, text.data, text.size);
    line->used += text.size;
}

static struct slice line_slice(const struct line *line)
{
    return (struct slice){ line->data, line->used };
}

static void add(struct http_headers *headers, struct slice name, struct slice value)
{
    headers->items[headers->count++] = (struct http_header){ name, value };
}

/* All lines of that name as one list, and `last` behind it. */
static struct slice list_with(struct arena *arena, const struct http_headers *headers,
                              const char *name, struct slice last)
{
    size_t room = last.size;

    for (size_t i = 0; i < headers->count; i++)
        if (slice_equal_nocase(headers->items[i].name, slice_of(name)))
            room += headers->items[i].value.size + 2;
    struct line line = line_new(arena, room);
    for (size_t i = 0; i < headers->count; i++) {
        if (!slice_equal_nocase(headers->items[i].name, slice_of(name)) ||
            headers->items[i].value.size == 0)
            continue;
        put(&line, headers->items[i].value);
        put(&line, SLICE(", "));
    }
    put(&line, last);
    return line_slice(&line);
}

/* ---- who is behind it ----------------------------------------------------------------------- */

/* Without its port; "unknown" where there is no address, or it is not ours to tell. */
static struct slice who(const struct request *request, const struct address *address,
                        char buffer[static IP_TEXT_BYTES])
{
    struct ip ip;

    if (request->hop || !address_ip(address, &ip))
        return SLICE("unknown");
    return slice_of(ip_text(&ip, buffer));
}

/* for=1.2.3.4;host=shop.localhost;proto=http, as RFC 7239 has it. */
static struct slice element(struct request *request, struct slice client)
{
    const struct http_request *http = exchange_request(request->x);
    bool ip6 = memchr(client.data, ':', client.size);
    struct line line = line_new(request->arena, client.size + http->authority.size + 40);

    put(&line, ip6 ? SLICE("for=\"[") : SLICE("for="));
    put(&line, client);
    put(&line, ip6 ? SLICE("]\"") : SLICE(""));
    if (http->authority.size && !memchr(http->authority.data, '"', http->authority.size) &&
        !memchr(http->authority.data, '\\', http->authority.size)) {
        put(&line, SLICE(";host=\""));
        put(&line, http->authority);
        put(&line, SLICE("\""));
    }
    put(&line, SLICE(";proto=http"));
    return line_slice(&line);
}

static struct slice kept_or(const struct request *request, const char *name, struct slice own)
{
    const struct http_request *http = exchange_request(request->x);
    struct slice told = exchange_trusted(request->x) && !request->hop
                            ? http_header_get(&http->headers, name)
                            : (struct slice){};
    return told.size ? told : own;
}

static void add_forwarding(struct request *request, struct http_headers *out)
{
    const struct http_headers *headers = &exchange_request(request->x)->headers;
    char client_text[IP_TEXT_BYTES], peer_text[IP_TEXT_BYTES];
    bool trusted = exchange_trusted(request->x) && !request->hop;
    bool for_told = trusted && http_header_find(headers, "X-Forwarded-For");
    bool forwarded_told = trusted && http_header_find(headers, "Forwarded");
    struct slice client = who(request, exchange_client(request->x), client_text);
    struct slice peer = trusted ? who(request, exchange_peer(request->x), peer_text) : client;

    add(out, SLICE("X-Forwarded-For"),
        for_told ? list_with(request->arena, headers, "X-Forwarded-For", peer)
                 : arena_copy(request->arena, client));
    add(out, SLICE("X-Forwarded-Proto"), kept_or(request, "X-Forwarded-Proto", SLICE("http")));
    add(out, SLICE("X-Forwarded-Host"),
        kept_or(request, "X-Forwarded-Host", exchange_request(request->x)->authority));
    add(out, SLICE("Forwarded"),
        forwarded_told ? list_with(request->arena, headers, "Forwarded", element(request, peer))
                       : element(request, client));
}

/* ---- Via ------------------------------------------------------------------------------------ */

/* "1.1 shop.default.fra1.perigee": of one endpoint at one PoP. */
static struct slice via_own(struct request *request)
{
    const struct table_head *table = request->table->head;
    const struct slice parts[] = { SLICE("1.1 "),    table_text(table, request->row->name),
                                   SLICE("."),       table_text(table, request->row->project),
                                   SLICE("."),       table_text(table, table->pop),
                                   SLICE(".perigee") };
    size_t room = 0;

    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        room += parts[i].size;
    struct line line = line_new(request->arena, room);
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        put(&line, parts[i]);
    return line_slice(&line);
}

static bool via_has(const struct http_headers *headers, struct slice own)
{
    for (size_t i = 0; i < headers->count; i++) {
        if (!slice_equal_nocase(headers->items[i].name, SLICE("Via")))
            continue;
        struct slice rest = headers->items[i].value;
        while (rest.data)
            if (slice_equal(slice_trim(slice_cut(&rest, ',')), own))
                return true;
    }
    return false;
}

/* ---- whole ---------------------------------------------------------------------------------- */

bool proxy_upgrades(const struct http_request *http)
{
    return http->upgrade &&
           slice_equal_nocase(slice_trim(http_header_get(&http->headers, "Upgrade")),
                              SLICE("websocket"));
}

bool proxy_idempotent(const struct http_request *http)
{
    switch (http->method) {
    case HTTP_GET:
    case HTTP_HEAD:
    case HTTP_OPTIONS:
    case HTTP_PUT:
    case HTTP_DELETE:
        return true;
    default:
        return false;
    }
}

bool proxy_once(const struct http_request *http)
{
    return proxy_upgrades(http) || !proxy_idempotent(http);
}

struct slice proxy_target(struct request *request)
{
    const struct http_request *http = exchange_request(request->x);

    if (http->target.size && (http->target.data[0] == '/' || slice_is(http->target, "*")))
        return http->target;
    struct line line = line_new(request->arena, http->path.size + http->query.size + 2);
    put(&line, http->path.size ? http->path : SLICE("/"));
    if (http->query.size) {
        put(&line, SLICE("?"));
        put(&line, http->query);
    }
    return line_slice(&line);
}

int proxy_request_headers(struct request *request, bool upgrade, struct http_headers *ret,
                          struct err *err)
{
    const struct http_request *http = exchange_request(request->x);
    bool trusted = exchange_trusted(request->x) && !request->hop;
    struct slice via = via_own(request);

    if (via_has(&http->headers, via))
        return err_set(err, ERR_BAD_INPUT, "the upstream of endpoint '%.*s' leads back here",
                       SLICE_FMT(table_text(request->table->head, request->row->name)));
    *ret = http_end_to_end(request->arena, &http->headers, trusted ? left_out : left_out_untrusted,
                           NULL, OWN_HEADERS);
    add(ret, SLICE("X-Request-Id"), slice_of(request->id));
    add_forwarding(request, ret);
    add(ret, SLICE("Via"), list_with(request->arena, &http->headers, "Via", via));
    if (upgrade) {
        add(ret, SLICE("Connection"), SLICE("Upgrade"));
        add(ret, SLICE("Upgrade"), SLICE("websocket"));
    } else if (http_header_has_token(&http->headers, "te", "trailers")) {
        add(ret, SLICE("TE"), SLICE("trailers"));
        add(ret, SLICE("Connection"), SLICE("TE"));
    }
    return 0;
}

struct http_headers proxy_answer_headers(struct request *request,
                                         const struct http_headers *headers, size_t more)
{
    return http_end_to_end(request->arena, headers, left_out_of_answer, NULL, more);
}
