/* SPDX-License-Identifier: Apache-2.0 */
/* llhttp gives spans that may be cut anywhere; they are gathered in one text of the arena, and
 * fields are offsets into it until the head is whole. Bodies never pass through llhttp: it is left
 * at the end of the head, and http1_chunks or a plain count goes on. */
/* clang-format off */
/* llhttp has enumerators of the same names as ours, with other values. */
#define HTTP_GET LLHTTP_GET
#define HTTP_HEAD LLHTTP_HEAD
#define HTTP_POST LLHTTP_POST
#define HTTP_PUT LLHTTP_PUT
#define HTTP_DELETE LLHTTP_DELETE
#define HTTP_PATCH LLHTTP_PATCH
#define HTTP_OPTIONS LLHTTP_OPTIONS
#define HTTP_TRACE LLHTTP_TRACE
#define HTTP_CONNECT LLHTTP_CONNECT
#include <llhttp.h>
#undef HTTP_GET
#undef HTTP_HEAD
#undef HTTP_POST
#undef HTTP_PUT
#undef HTTP_DELETE
#undef HTTP_PATCH
#undef HTTP_OPTIONS
#undef HTTP_TRACE
#undef HTTP_CONNECT
/* clang-format on */

#include "proto/http1.h"

#include <assert.h>
#include <string.h>

#include "base/arena.h"
#include "base/err.h"
#include "proto/proxy.h"

struct span {
    size_t at, size;
};

struct field {
    struct span name, value;
};

struct http1_parser {
    llhttp_t llhttp;
    struct arena *arena;
    struct http1_limits limits;
    char *text;
    size_t text_bytes, text_room;
    struct span method, target;
    struct field *fields;
    size_t field_count, field_room;
    size_t raw_bytes, header_bytes;
    unsigned spaces; /* of a request line */
    bool request, begun, line_done, in_field, whole;
    char last;                         /* raw byte before the next one fed */
    char first[PROXY_SIGNATURE_BYTES]; /* of a request's raw bytes */
    size_t first_count;
    int status; /* 0, or what a callback refused with */
    const char *reason;
};

/* ---- llhttp's callbacks ------------------------------------------------------------------- */

static struct http1_parser *parser_of(llhttp_t *llhttp)
{
    return (struct http1_parser *)(void *)llhttp; /* its first member */
}

static int refuse(struct http1_parser *parser, int status, const char *reason)
{
    parser->status = status;
    parser->reason = reason;
    return HPE_USER;
}

static void text_add(struct http1_parser *parser, struct span *span, const char *data, size_t size)
{
    if (parser->text_bytes + size > parser->text_room) {
        size_t room = parser->text_room ? parser->text_room * 2 : 1024;
        while (room < parser->text_bytes + size)
            room *= 2;
        char *text = arena_alloc(parser->arena, room);
        if (parser->text_bytes)
            memcpy(text, parser->text, parser->text_bytes);
        parser->text = text;
        parser->text_room = room;
    }
    if (!span->size)
        span->at = parser->text_bytes;
    memcpy(parser->text + parser->text_bytes, data, size);
    parser->text_bytes += size;
    span->size += size;
}

static int on_method(llhttp_t *llhttp, const char *data, size_t size)
{
    struct http1_parser *parser = parser_of(llhttp);
    text_add(parser, &parser->method, data, size);
    return 0;
}

static int on_url(llhttp_t *llhttp, const char *data, size_t size)
{
    struct http1_parser *parser = parser_of(llhttp);
    if (parser->target.size + size > parser->limits.target_bytes_max)
        return refuse(parser, 414, "the request target is too long");
    text_add(parser, &parser->target, data, size);
    return 0;
}

static int header_bytes_add(struct http1_parser *parser, size_t size)
{
    parser->header_bytes += size;
    if (parser->header_bytes > parser->limits.head_bytes_max)
        return refuse(parser, 431, "the header lines are too large");
    return 0;
}

static int on_header_field(llhttp_t *llhttp, const char *data, size_t size)
{
    struct http1_parser *parser = parser_of(llhttp);
    if (!parser->in_field) {
        if (parser->field_count == parser->limits.headers_max)
            return refuse(parser, 431, "there are too many header lines");
        if (parser->field_count == parser->field_room) {
            size_t room = parser->field_room ? parser->field_room * 2 : 16;
            struct field *fields = ARENA_ARRAY(parser->arena, struct field, room);
            if (parser->field_count)
                memcpy(fields, parser->fields, parser->field_count * sizeof *fields);
            parser->fields = fields;
            parser->field_room = room;
        }
        parser->field_count++;
        parser->in_field = true;
    }
    int r = header_bytes_add(parser, size);
    if (r == 0)
        text_add(parser, &parser->fields[parser->field_count - 1].name, data, size);
    return r;
}

static int on_header_field_complete(llhttp_t *llhttp)
{
    parser_of(llhttp)->in_field = false;
    return 0;
}

static int on_header_value(llhttp_t *llhttp, const char *data, size_t size)
{
    struct http1_parser *parser = parser_of(llhttp);
    int r = header_bytes_add(parser, size);
    if (r == 0)
        text_add(parser, &parser->fields[parser->field_count - 1].value, data, size);
    return r;
}

static int on_headers_complete(llhttp_t *llhttp)
{
    parser_of(llhttp)->whole = true;
    return HPE_PAUSED; /* stands right behind the head, and is not fed any more */
}

static const llhttp_settings_t settings = {
    .on_method = on_method,
    .on_url = on_url,
    .on_header_field = on_header_field,
    .on_header_field_complete = on_header_field_complete,
    .on_header_value = on_header_value,
    .on_headers_complete = on_headers_complete,
};

/* ---- parsing ------------------------------------------------------------------------------ */

struct http1_parser *http1_parser_new(struct arena *arena, bool request,
                                      const struct http1_limits *limits)
{
    struct http1_parser *parser = ARENA_NEW(arena, struct http1_parser);
    parser->arena = arena;
    parser->limits = *limits;
    parser->request = request;
    llhttp_init(&parser->llhttp, request ? HTTP_REQUEST : HTTP_RESPONSE, &settings);
    return parser;
}

bool http1_parse_begun(const struct http1_parser *parser)
{
    return parser->begun;
}

/* What llhttp lets pass: obs-fold, and more than two spaces in a request line. Sees each byte once.
 */
static int raw_check(struct http1_parser *parser, const char *data, size_t size)
{
    const char *end = data + size;
    if (!parser->line_done) {
        while (!parser->begun && data < end && (*data == '\r' || *data == '\n'))
            data++; /* empty lines before a request are allowed */
        parser->begun |= data < end;
        for (; data < end && !parser->line_done; data++) {
            parser->spaces += *data == ' ';
            parser->line_done = *data == '\n';
        }
        if (parser->request && parser->spaces > 2)
            return refuse(parser, 400, "the request line has more than two spaces");
        parser->last = data > end - size ? data[-1] : parser->last;
        if (data == end)
            return 0;
    }
    if (parser->last == '\n' && (*data == ' ' || *data == '\t'))
        return refuse(parser, 400, "a header line begins with a space");
    parser->last = end[-1];
    for (const char *line = data; (line = memchr(line, '\n', (size_t)(end - line)));) {
        if (++line == end)
            break;
        if (*line == ' ' || *line == '\t')
            return refuse(parser, 400, "a header line begins with a space");
    }
    return 0;
}

static void first_take(struct http1_parser *parser, const char *data, size_t size)
{
    size_t room = sizeof parser->first - parser->first_count, more = size < room ? size : room;
    memcpy(parser->first + parser->first_count, data, more);
    parser->first_count += more;
}

/* Behind the one of a proxy, or not at the connection's beginning, a PROXY header is a client's. */
static bool proxy_begun(const struct http1_parser *parser)
{
    struct proxy_header header;
    size_t used;
    return proxy_parse(parser->first, parser->first_count, &header, &used, NULL) != PROXY_ABSENT;
}

static int refusal(struct http1_parser *parser, enum llhttp_errno error, struct err *err)
{
    const char *at = llhttp_get_error_pos(&parser->llhttp);
    switch (error) {
    case HPE_USER:
        break;
    case HPE_INVALID_METHOD:
        if (proxy_begun(parser)) {
            parser->status = 400;
            parser->reason = "a PROXY header where a request should begin; it is believed once, at "
                             "the beginning of a connection, from --trusted-proxies alone";
            break;
        }
        /* A token that we do not know, or no HTTP at all. */
        parser->status = at && http_name_valid((struct slice){ at, 1 }) ? 501 : 400;
        parser->reason = "the method is not known";
        break;
    case HPE_INVALID_VERSION:
        if (parser->llhttp.http_major == 1 && parser->llhttp.http_minor <= 1) {
            parser->status = 400; /* the version is fine, what stands behind it is not */
            parser->reason = llhttp_get_error_reason(&parser->llhttp);
            break;
        }
        [[fallthrough]];
    case HPE_PAUSED_H2_UPGRADE:
        parser->status = 505;
        parser->reason = "only HTTP/1.0 and HTTP/1.1 are spoken here";
        break;
    default:
        parser->status = 400;
        parser->reason = llhttp_get_error_reason(&parser->llhttp);
        break;
    }
    return err_set_http(err, parser->status, "malformed HTTP: %s",
                        parser->reason && *parser->reason ? parser->reason : "it cannot be read");
}

int http1_parse(struct http1_parser *parser, const char *data, size_t size, size_t *ret_used,
                struct err *err)
{
    assert(!parser->whole && !parser->status);
    *ret_used = size;
    if (!size)
        return 0;
    if (parser->request && parser->first_count < sizeof parser->first)
        first_take(parser, data, size);
    enum llhttp_errno error = llhttp_execute(&parser->llhttp, data, size);
    if (error != HPE_OK && !(error == HPE_PAUSED && parser->whole))
        return refusal(parser, error, err);
    if (parser->whole)
        *ret_used = (size_t)(llhttp_get_error_pos(&parser->llhttp) - data);
    if (*ret_used && raw_check(parser, data, *ret_used) != 0)
        return refusal(parser, HPE_USER, err);
    parser->raw_bytes += *ret_used;
    if (parser->raw_bytes > parser->limits.target_bytes_max + 2 * parser->limits.head_bytes_max) {
        (void)refuse(parser, 431, "the head is too large");
        return refusal(parser, HPE_USER, err);
    }
    return parser->whole;
}

/* ---- what the head says ------------------------------------------------------------------- */

static struct slice span_slice(const struct http1_parser *parser, struct span span)
{
    return span.size ? (struct slice){ parser->text + span.at, span.size }
                     : (struct slice){ "", 0 };
}

static void headers_take(const struct http1_parser *parser, struct http_headers *ret)
{
    *ret = (struct http_headers){
        .items = ARENA_ARRAY(parser->arena, struct http_header, parser->field_count),
        .count = parser->field_count,
    };
    for (size_t i = 0; i < parser->field_count; i++)
        ret->items[i] = (struct http_header){
            span_slice(parser, parser->fields[i].name),
            slice_trim(span_slice(parser, parser->fields[i].value)),
        };
}

static bool keep_alive(const struct http_headers *headers, enum http_version version)
{
    if (http_header_has_token(headers, "connection", "close"))
        return false;
    return version == HTTP_1_1 || http_header_has_token(headers, "connection", "keep-alive");
}

/* All lines of Transfer-Encoding as one list: exactly "chunked", or a status says why not. */
static int encodings_check(const struct http_headers *headers, struct err *err)
{
    struct slice last = {};
    size_t chunked = 0, others = 0;
    for (size_t i = 0; i < headers->count; i++) {
        if (!slice_equal_nocase(headers->items[i].name, SLICE("transfer-encoding")))
            continue;
        struct slice rest = headers->items[i].value;
        while (rest.size) {
            struct slice coding = slice_trim(slice_cut(&rest, ','));
            if (!coding.size)
                continue;
            last = coding;
            if (slice_equal_nocase(coding, SLICE("chunked")))
                chunked++;
            else
                others++;
        }
    }
    if (chunked != 1 || !slice_equal_nocase(last, SLICE("chunked")))
        return err_set_http(err, others && !chunked ? 501 : 400,
                            "Transfer-Encoding '%s' does not end in one chunked", ERR_SLICE(last));
    if (others)
        return err_set_http(err, 501, "of transfer codings only chunked is understood");
    return 0;
}

static int framing_take(const struct http_headers *headers, enum http_version version,
                        struct http1_head *head, struct err *err)
{
    const struct http_header *length = http_header_find(headers, "content-length");
    bool encoded = http_header_find(headers, "transfer-encoding") != NULL;
    if (encoded && (length || version == HTTP_1_0))
        return err_set_http(err, 400,
                            length ? "both Content-Length and Transfer-Encoding are there"
                                   : "Transfer-Encoding is not part of HTTP/1.0");
    if (encoded) {
        int r = encodings_check(headers, err);
        if (r < 0)
            return r;
        head->framing = HTTP1_BODY_CHUNKED;
        return 0;
    }
    if (!length)
        return 0;
    if (http_header_count(headers, "content-length") > 1 ||
        !slice_u64(length->value, &head->length) || head->length > INT64_MAX)
        return err_set_http(err, 400, "Content-Length '%s' is no length", ERR_SLICE(length->value));
    head->framing = head->length ? HTTP1_BODY_LENGTH : HTTP1_BODY_NONE;
    return 0;
}

static int host_take(struct http_request *request, struct err *err)
{
    const struct http_header *host = http_header_find(&request->headers, "host");
    size_t count = http_header_count(&request->headers, "host");
    struct slice ignored;
    uint16_t ignored_port;
    if (count > 1 || (count == 0 && request->version == HTTP_1_1))
        return err_set_http(err, 400, count ? "there is more than one Host" : "there is no Host");
    int r = host ? http_authority_parse(host->value, &ignored, &ignored_port, err) : 0;
    if (r < 0)
        return r;
    if (!request->authority.size && host) /* an absolute target goes before Host */
        request->authority = host->value;
    else if (!request->authority.size && request->method != HTTP_CONNECT && !host &&
             request->target.data[0] == '/')
        return 0; /* HTTP/1.0 */
    return http_authority_parse(request->authority, &request->host, &request->port, err);
}

static int expect_take(struct http_request *request, struct err *err)
{
    const struct http_header *expect = http_header_find(&request->headers, "expect");
    if (!expect || request->version == HTTP_1_0)
        return 0;
    if (!slice_equal_nocase(expect->value, SLICE("100-continue")))
        return err_set_http(err, 417, "Expect '%s' is not understood", ERR_SLICE(expect->value));
    request->expect_continue = true;
    return 0;
}

static enum http_version version_of(const llhttp_t *llhttp)
{
    return (enum http_version)(llhttp->http_major * 10 + llhttp->http_minor);
}

int http1_request(struct http1_parser *parser, struct http_request *request, struct http1_head *ret,
                  struct err *err)
{
    struct http1_head head = {};
    int r;
    assert(parser->whole && parser->request);
    *request = (struct http_request){
        .method_text = span_slice(parser, parser->method),
        .target = span_slice(parser, parser->target),
        .scheme = SLICE("http"),
        .version = version_of(&parser->llhttp),
    };
    request->method = http_method_of(request->method_text);
    headers_take(parser, &request->headers);
    if (request->version != HTTP_1_0 && request->version != HTTP_1_1)
        return err_set_http(err, 505, "only HTTP/1.0 and HTTP/1.1 are spoken here");
    if ((r = framing_take(&request->headers, request->version, &head, err)) < 0 ||
        (r = http_target_parse(parser->arena, request, err)) < 0 ||
        (r = host_take(request, err)) < 0 || (r = expect_take(request, err)) < 0)
        return r;
    request->content_length =
        head.framing == HTTP1_BODY_CHUNKED ? HTTP_LENGTH_UNKNOWN : head.length;
    request->framed =
        head.framing != HTTP1_BODY_NONE || http_header_find(&request->headers, "content-length");
    if (head.framing == HTTP1_BODY_NONE)
        request->expect_continue = false;
    request->upgrade = head.framing == HTTP1_BODY_NONE && request->version == HTTP_1_1 &&
                       http_header_find(&request->headers, "upgrade") &&
                       http_header_has_token(&request->headers, "connection", "upgrade");
    head.keep_alive = keep_alive(&request->headers, request->version);
    *ret = head;
    return 0;
}

int http1_response(struct http1_parser *parser, const char *method, struct http_response *response,
                   struct http1_head *ret, struct err *err)
{
    struct http1_head head = {};
    assert(parser->whole && !parser->request);
    *response = (struct http_response){
        .status = parser->llhttp.status_code,
        .version = version_of(&parser->llhttp),
    };
    headers_take(parser, &response->headers);
    if (response->version != HTTP_1_0 && response->version != HTTP_1_1)
        return err_set_http(err, 502, "the answer is not HTTP/1.0 or HTTP/1.1");
    bool never = response->status < 200 || response->status == 204;     /* a body */
    bool told = response->status == 304 || strcmp(method, "HEAD") == 0; /* how long it would be */
    bool counted = http_header_find(&response->headers, "content-length");
    bool framed = counted || http_header_find(&response->headers, "transfer-encoding");
    int r = never ? 0 : framing_take(&response->headers, response->version, &head, err);
    if (r < 0)
        return r;
    response->content_length = never || (counted && head.framing != HTTP1_BODY_CHUNKED)
                                   ? head.length
                                   : HTTP_LENGTH_UNKNOWN;
    if (never || told)
        head = (struct http1_head){};
    else if (!framed)
        head.framing = HTTP1_BODY_TO_END;
    /* Who frames what has no body may well send one. */
    bool odd =
        never && framed && !slice_is(http_header_get(&response->headers, "content-length"), "0");
    head.keep_alive = head.framing != HTTP1_BODY_TO_END && !odd &&
                      keep_alive(&response->headers, response->version);
    *ret = head;
    return 0;
}
