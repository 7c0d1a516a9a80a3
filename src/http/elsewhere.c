/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a registry says of itself is not repeated but for its code of an error: messages end in logs
 * and on screens, and a proxy's may hold what it was shown.
 */
#include "http/elsewhere.h"

#include <arpa/inet.h>
#include <assert.h>
#include <openssl/evp.h>
#include <string.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/json.h"
#include "http/fetch.h"
#include "io/loop.h"
#include "proto/challenge.h"
#include "proto/http.h"

enum {
    ANSWER_BYTES = 64 << 10,
    TOKEN_BYTES_MAX = 16 << 10,
    TOKEN_MS = 15'000,
    REDIRECTS_MAX = 5,
    HEADERS_MAX = 8,
    CONNECT_MS = 10'000,
    RETRY_S_MAX = 3600,
    CODE_BYTES_MAX = 40,
    NS_A_MS = 1'000'000,
};

struct calling {
    struct elsewhere *elsewhere;
    const struct elsewhere_call *call;
    struct arena *arena;
    struct elsewhere_trouble *trouble;
    int64_t until_ns;       /* 0: there is no such time */
    struct fetch_url first; /* the registry's own; its origin alone may see credentials */
    bool authorized;        /* the challenge was answered once */
    struct err *err;
};

/* ---- hosts ----------------------------------------------------------------------------------- */

static struct slice without_port(struct slice host)
{
    if (host.size && host.data[0] == '[') {
        const char *end = memchr(host.data, ']', host.size);
        return end ? (struct slice){ host.data + 1, (size_t)(end - host.data - 1) } : host;
    }
    return slice_cut(&host, ':');
}

bool elsewhere_is_loopback(struct slice host)
{
    struct slice name = without_port(host);
    char text[INET6_ADDRSTRLEN];
    struct in_addr four;
    struct in6_addr six;
    if (slice_equal_nocase(name, SLICE("localhost")))
        return true;
    if (name.size >= sizeof text)
        return false;
    memcpy(text, name.data, name.size);
    text[name.size] = '\0';
    return (inet_pton(AF_INET, text, &four) == 1 && ntohl(four.s_addr) >> 24 == 127) ||
           (inet_pton(AF_INET6, text, &six) == 1 && IN6_IS_ADDR_LOOPBACK(&six));
}

/* Docker's registry is not where its name says. */
static bool is_docker(const char *host)
{
    struct slice name = slice_of(host);
    return slice_equal_nocase(name, SLICE("docker.io")) ||
           slice_equal_nocase(name, SLICE("index.docker.io"));
}

static const char *url_of(struct calling *calling)
{
    const struct elsewhere *elsewhere = calling->elsewhere;
    const char *host = elsewhere->registry.host, *repository = elsewhere->repository;
    bool docker = is_docker(host);
    const char *begin =
        arena_format(calling->arena, "%s://%s/v2/", elsewhere->registry.plain ? "http" : "https",
                     docker ? "registry-1.docker.io" : host);
    if (!repository)
        return begin;
    return arena_format(calling->arena, "%s%s%s/%s", begin,
                        docker && !strchr(repository, '/') ? "library/" : "", repository,
                        calling->call->path);
}

/* ---- the time that it has -------------------------------------------------------------------- */

/* What is left of it, `most_ms` (0: any time) at most; 0: there is no bound. */
static int64_t left_ms(const struct calling *calling, int64_t most_ms)
{
    if (!calling->until_ns)
        return most_ms;
    int64_t left = (calling->until_ns - loop_now_ns()) / NS_A_MS;
    left = left < 1 ? 1 : left;
    return most_ms && most_ms < left ? most_ms : left;
}

/* ---- where it may lead ----------------------------------------------------------------------- */

/* By https to whoever has a certificate; by plain http to the very host that was told of so: else
 * one answer, which anybody on the way may have written, would have control ask any machine that it
 * reaches for anything. */
static bool may_lead(const struct calling *calling, const struct fetch_url *to)
{
    return !to->plain ||
           (calling->elsewhere->registry.plain && strcmp(to->host, calling->first.host) == 0);
}

/* What errors call a host that a registry's header names. */
static const char *sent_to(const struct calling *calling, const struct fetch_url *url)
{
    return arena_format(calling->arena, "%s, to which %s sends,", ERR_TEXT(url->host),
                        calling->elsewhere->registry.host);
}

/* ---- what goes wrong ------------------------------------------------------------------------- */

static int lasting(struct calling *calling, int r)
{
    calling->trouble->lasting = true;
    return r;
}

/* {"errors": [{"code": "MANIFEST_UNKNOWN"}]} as " (MANIFEST_UNKNOWN)"; or "". */
static const char *code_of(struct arena *arena, struct slice body)
{
    static const struct json_limits limits = { .bytes_max = ANSWER_BYTES };
    yyjson_val *root;
    if (json_parse(arena, body, &limits, &root, NULL) < 0)
        return "";
    struct slice code =
        json_slice(json_member(yyjson_arr_get_first(json_member(root, "errors")), "code"));
    bool good = code.size > 0 && code.size <= CODE_BYTES_MAX;
    for (size_t i = 0; i < code.size && good; i++)
        good = (code.data[i] >= 'A' && code.data[i] <= 'Z') || code.data[i] == '_';
    return good ? arena_format(arena, " (%.*s)", SLICE_FMT(code)) : "";
}

static void retry_after(struct calling *calling, const struct fetch_answer *answer)
{
    uint64_t seconds;
    if (slice_u64(fetch_header_get(answer, "Retry-After"), &seconds))
        calling->trouble->retry_ms =
            (int64_t)(seconds < RETRY_S_MAX ? seconds : RETRY_S_MAX) * 1000;
}

/* `sent`: it is neither the registry nor who gives its tokens, and was shown nothing. */
static int refused(struct calling *calling, const struct fetch_answer *answer, const char *who,
                   bool sent)
{
    const struct elsewhere *elsewhere = calling->elsewhere;
    const char *code = code_of(calling->arena, answer->body);
    int status = answer->status;
    retry_after(calling, answer);
    if (status == 429 || status >= 500)
        return err_set(calling->err, ERR_OVERLOADED, "%s answers %d%s%s", who, status, code,
                       status == 429 ? ": it is asked too often" : "");
    if ((status == 401 || status == 403) && sent) /* it was shown none */
        return err_set(calling->err, ERR_OVERLOADED,
                       "%s does not give it (%d%s): the way there may have run out", who, status,
                       code);
    if (status == 401 || status == 403) {
        const char *host = elsewhere->registry.host;
        if (elsewhere->registry.username.size)
            return lasting(calling,
                           err_set(calling->err, ERR_BAD_INPUT,
                                   "%s refuses the credentials that are kept for it, or they may "
                                   "not read this (%d%s); `perigee registries add %s` sets others",
                                   who, status, code, host));
        return lasting(calling,
                       err_set(calling->err, ERR_BAD_INPUT,
                               "%s does not give it to everybody, or there is none (%d%s); "
                               "`perigee registries add %s` tells credentials",
                               who, status, code, host));
    }
    if (status == 404)
        return lasting(calling,
                       err_set(calling->err, ERR_BAD_INPUT, "%s does not have it%s", who, code));
    return lasting(calling,
                   err_set(calling->err, ERR_BAD_INPUT, "%s answers %d%s", who, status, code));
}

/* ---- credentials ----------------------------------------------------------------------------- */

static const char *basic(struct elsewhere *elsewhere)
{
    const struct elsewhere_registry *registry = &elsewhere->registry;
    const char *pair = arena_format(elsewhere->secret, "%.*s:%.*s", SLICE_FMT(registry->username),
                                    SLICE_FMT(registry->password));
    size_t bytes = registry->username.size + 1 + registry->password.size;
    char *text = arena_alloc(elsewhere->secret, 4 * ((bytes + 2) / 3) + 1);
    (void)EVP_EncodeBlock((unsigned char *)text, (const unsigned char *)pair, (int)bytes);
    return arena_format(elsewhere->secret, "Authorization: Basic %s", text);
}

static const char *token_url(struct calling *calling, const char *realm,
                             const struct challenge *challenge)
{
    struct arena *arena = calling->arena;
    const char *repository = calling->elsewhere->repository, *url = realm;
    struct slice scope = challenge->scope;
    if (!scope.size && repository)
        scope = slice_of(arena_format(arena, "repository:%s:pull", repository));
    char join = strchr(realm, '?') ? '&' : '?';
    if (challenge->service.size) {
        url = arena_format(arena, "%s%cservice=%s", url, join,
                           http_percent_encode(arena, challenge->service).data);
        join = '&';
    }
    return scope.size ? arena_format(arena, "%s%cscope=%s", url, join,
                                     http_percent_encode(arena, scope).data)
                      : url;
}

static int token_read(struct calling *calling, struct slice body, const char *who)
{
    static const struct json_limits limits = { .bytes_max = ANSWER_BYTES };
    struct elsewhere *elsewhere = calling->elsewhere;
    struct slice token = {};
    yyjson_val *root;
    if (json_parse(elsewhere->secret, body, &limits, &root, NULL) == 0) {
        token = json_slice(json_member(root, "token"));
        if (!token.size)
            token = json_slice(json_member(root, "access_token"));
    }
    bool good = token.size > 0 && token.size <= TOKEN_BYTES_MAX;
    for (size_t i = 0; i < token.size && good; i++)
        good = token.data[i] > ' ' && token.data[i] < 0x7f;
    if (!good)
        return err_set(calling->err, ERR_BAD_INPUT, "%s gives no token that can be used", who);
    elsewhere->authorization =
        arena_format(elsewhere->secret, "Authorization: Bearer %.*s", SLICE_FMT(token));
    return 0;
}

static int token_get(struct calling *calling, const struct challenge *challenge)
{
    struct elsewhere *elsewhere = calling->elsewhere;
    const char *host = elsewhere->registry.host;
    struct fetch_answer answer;
    struct fetch_url url;
    int r = fetch_url(calling->arena, NULL, arena_string(calling->arena, challenge->realm), &url,
                      calling->err);
    if (r < 0)
        return lasting(calling, err_wrap(calling->err, "where %s says that tokens are", host));
    if (!may_lead(calling, &url))
        return lasting(calling,
                       err_set(calling->err, ERR_BAD_INPUT,
                               "%s wants a token fetched by plain http from '%s', where everybody "
                               "could read it",
                               host, ERR_TEXT(url.host)));
    const char *who =
        arena_format(calling->arena, "%s, which gives tokens for %s,", ERR_TEXT(url.host), host);
    const char *headers[] = { elsewhere->registry.username.size ? basic(elsewhere) : NULL, NULL };
    const struct fetch_request request = {
        .method = "GET",
        .url = token_url(calling, url.url, challenge),
        .headers = headers,
        .body_fd = -1,
        .connect_ms = CONNECT_MS,
        .timeout_ms = left_ms(calling, TOKEN_MS),
        .answer_bytes_max = ANSWER_BYTES,
        .stop = elsewhere->stop,
        .shown = who,
        .ca = elsewhere->registry.ca,
        .proxied = !elsewhere_is_loopback(slice_of(url.host)),
    };
    r = fetch(elsewhere->secret, &request, &answer, calling->err);
    if (r < 0)
        return r;
    return answer.status == 200 ? token_read(calling, answer.body, who)
                                : refused(calling, &answer, who, false);
}

/* 1: *ret is what a scheme's challenge says. */
static int challenged(struct calling *calling, const struct fetch_answer *answer,
                      const char *scheme, struct challenge *ret)
{
    int r = 0;
    for (size_t i = 0; i < answer->header_count && r == 0; i++)
        if (slice_equal_nocase(answer->headers[i].name, SLICE("WWW-Authenticate")))
            r = challenge_find(calling->arena, answer->headers[i].value, scheme, ret, calling->err);
    return r < 0 ? lasting(calling, err_wrap(calling->err, "%s", calling->elsewhere->registry.host))
                 : r;
}

static int authorize(struct calling *calling, const struct fetch_answer *answer)
{
    struct elsewhere *elsewhere = calling->elsewhere;
    struct challenge challenge;
    calling->authorized = true;
    elsewhere->authorization = NULL; /* an old token: no more */
    int r = challenged(calling, answer, "Bearer", &challenge);
    if (r == 1)
        return token_get(calling, &challenge);
    if (r == 0)
        r = challenged(calling, answer, "Basic", &challenge);
    if (r < 0)
        return r;
    if (r == 0 || !elsewhere->registry.username.size)
        return refused(calling, answer, elsewhere->registry.host, false);
    elsewhere->authorization = basic(elsewhere);
    return 0;
}

/* ---- the call -------------------------------------------------------------------------------- */

static int send_one(struct calling *calling, const struct fetch_url *url, struct fetch_answer *ret)
{
    const struct elsewhere *elsewhere = calling->elsewhere;
    const struct elsewhere_call *call = calling->call;
    bool own = strcmp(url->origin, calling->first.origin) == 0;
    const char *headers[HEADERS_MAX + 1] = {};
    size_t count = 0;
    if (own && elsewhere->authorization)
        headers[count++] = elsewhere->authorization;
    for (size_t i = 0; call->accept && call->accept[i]; i++) {
        assert(count < HEADERS_MAX - 1);
        headers[count++] = call->accept[i];
    }
    if (call->from)
        headers[count++] =
            arena_format(calling->arena, "Range: bytes=%llu-", (unsigned long long)call->from);
    const struct fetch_request request = {
        .method = "GET",
        .url = url->url,
        .headers = headers,
        .body_fd = -1,
        .connect_ms = CONNECT_MS,
        .timeout_ms = left_ms(calling, 0),
        .idle_ms = call->idle_ms,
        .answer_bytes_max = call->answer_bytes_max ? call->answer_bytes_max : ANSWER_BYTES,
        .on_body = call->on_body,
        .body_status = call->from ? 206 : 200,
        .data = call->data,
        .stop = elsewhere->stop,
        .shown = own ? elsewhere->registry.host : sent_to(calling, url),
        .ca = elsewhere->registry.ca,
        .proxied = !elsewhere_is_loopback(slice_of(url->host)),
    };
    return fetch(calling->arena, &request, ret, calling->err);
}

/* A signed URL is a secret for a while: errors have hosts alone. */
static int follow(struct calling *calling, const struct fetch_answer *answer, struct fetch_url *url)
{
    const char *host = calling->elsewhere->registry.host;
    struct slice location = fetch_header_get(answer, "Location");
    struct fetch_url next;
    int r = fetch_url(calling->arena, url->url, arena_string(calling->arena, location), &next,
                      calling->err);
    if (r == 0 && !may_lead(calling, &next))
        r = err_set(calling->err, ERR_BAD_INPUT,
                    calling->elsewhere->registry.plain
                        ? "it leads to '%s' by plain http, where it may lead to its own host alone"
                        : "it leads from https to '%s' by plain http",
                    ERR_TEXT(next.host));
    if (r < 0)
        return lasting(calling, err_wrap(calling->err, "where %s sends to", host));
    *url = next;
    return 0;
}

static bool is_redirect(int status)
{
    return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

static int call_all(struct calling *calling, struct fetch_answer *ret)
{
    const char *host = calling->elsewhere->registry.host;
    struct fetch_url url;
    unsigned hops = 0;
    int r = fetch_url(calling->arena, NULL, url_of(calling), &calling->first, calling->err);
    if (r < 0)
        return lasting(calling, err_wrap(calling->err, "%s", host));
    url = calling->first;
    for (;;) {
        bool own = strcmp(url.origin, calling->first.origin) == 0;
        r = send_one(calling, &url, ret);
        if (r < 0)
            return r;
        if (ret->status == 200 || ret->status == 206)
            return 0;
        if (ret->status == 401 && own && !calling->authorized) {
            r = authorize(calling, ret);
            url = calling->first;
        } else if (is_redirect(ret->status) && hops++ < REDIRECTS_MAX) {
            r = follow(calling, ret, &url);
        } else if (is_redirect(ret->status)) {
            r = lasting(calling, err_set(calling->err, ERR_BAD_INPUT,
                                         "%s sends from one place to the next more than %d times",
                                         host, (int)REDIRECTS_MAX));
        } else {
            r = refused(calling, ret, own ? host : sent_to(calling, &url), !own);
        }
        if (r < 0)
            return r;
    }
}

int elsewhere_call(struct elsewhere *elsewhere, const struct elsewhere_call *call,
                   struct arena *arena, struct fetch_answer *ret,
                   struct elsewhere_trouble *ret_trouble, struct err *err)
{
    struct calling calling = {
        .elsewhere = elsewhere,
        .call = call,
        .arena = arena,
        .trouble = ret_trouble,
        .err = err,
        .until_ns = call->timeout_ms ? loop_now_ns() + call->timeout_ms * NS_A_MS : 0,
    };
    *ret_trouble = (struct elsewhere_trouble){};
    return call_all(&calling, ret);
}

void elsewhere_open(struct elsewhere *elsewhere, const struct elsewhere_registry *registry,
                    const char *repository, const atomic_bool *stop)
{
    *elsewhere = (struct elsewhere){
        .registry = *registry,
        .repository = repository,
        .stop = stop,
        .secret = arena_new_secret(),
    };
}

void elsewhere_close(struct elsewhere *elsewhere)
{
    arena_free(elsewhere->secret);
}
