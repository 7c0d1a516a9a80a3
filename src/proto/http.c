/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/http.h"

#include <assert.h>
#include <string.h>
#include <strings.h>

#include "base/arena.h"
#include "base/err.h"

/* ---- methods, reasons --------------------------------------------------------------------- */

static const char *const methods[] = {
#define METHOD_TEXT(constant, text) text,
    HTTP_METHODS(METHOD_TEXT)
#undef METHOD_TEXT
};
static_assert(sizeof methods / sizeof *methods == HTTP_METHOD_OTHER);

const char *http_method_text(enum http_method method)
{
    return (unsigned)method < HTTP_METHOD_OTHER ? methods[method] : "OTHER";
}

enum http_method http_method_of(struct slice text)
{
    for (int i = 0; i < HTTP_METHOD_OTHER; i++)
        if (slice_is(text, methods[i]))
            return (enum http_method)i;
    return HTTP_METHOD_OTHER;
}

/* clang-format off */
static const struct { int status; const char *text; } reasons[] = {
    { 100, "Continue" }, { 101, "Switching Protocols" }, { 103, "Early Hints" },
    { 200, "OK" }, { 201, "Created" }, { 202, "Accepted" }, { 204, "No Content" },
    { 206, "Partial Content" },
    { 301, "Moved Permanently" }, { 302, "Found" }, { 303, "See Other" }, { 304, "Not Modified" },
    { 307, "Temporary Redirect" }, { 308, "Permanent Redirect" },
    { 400, "Bad Request" }, { 401, "Unauthorized" }, { 403, "Forbidden" }, { 404, "Not Found" },
    { 405, "Method Not Allowed" }, { 406, "Not Acceptable" }, { 408, "Request Timeout" },
    { 409, "Conflict" }, { 410, "Gone" }, { 411, "Length Required" },
    { 412, "Precondition Failed" }, { 413, "Content Too Large" }, { 414, "URI Too Long" },
    { 415, "Unsupported Media Type" }, { 416, "Range Not Satisfiable" },
    { 417, "Expectation Failed" }, { 421, "Misdirected Request" },
    { 422, "Unprocessable Content" }, { 426, "Upgrade Required" },
    { 428, "Precondition Required" }, { 429, "Too Many Requests" },
    { 431, "Request Header Fields Too Large" }, { 451, "Unavailable For Legal Reasons" },
    { 499, "Client Closed Request" },
    { 500, "Internal Server Error" }, { 501, "Not Implemented" }, { 502, "Bad Gateway" },
    { 503, "Service Unavailable" }, { 504, "Gateway Timeout" },
    { 505, "HTTP Version Not Supported" }, { 507, "Insufficient Storage" },
};
/* clang-format on */

const char *http_reason(int status)
{
    if (status == 200) /* nearly always */
        return "OK";
    for (size_t i = 0; i < sizeof reasons / sizeof *reasons; i++)
        if (reasons[i].status == status)
            return reasons[i].text;
    return "";
}

/* ---- headers ------------------------------------------------------------------------------ */

const struct http_header *http_header_find_slice(const struct http_headers *headers,
                                                 struct slice name)
{
    for (size_t i = 0; i < headers->count; i++) {
        struct slice candidate = headers->items[i].name;
        /* Most of one length differ in their first letter. */
        if (candidate.size == name.size && ((candidate.data[0] ^ name.data[0]) & ~0x20) == 0 &&
            strncasecmp(candidate.data, name.data, name.size) == 0)
            return &headers->items[i];
    }
    return NULL;
}

size_t http_header_count(const struct http_headers *headers, const char *name)
{
    size_t count = 0;
    for (size_t i = 0; i < headers->count; i++)
        count += headers->items[i].name.size == strlen(name) &&
                 slice_equal_nocase(headers->items[i].name, slice_of(name));
    return count;
}

bool http_header_has_token(const struct http_headers *headers, const char *name, const char *token)
{
    for (size_t i = 0; i < headers->count; i++) {
        if (!slice_equal_nocase(headers->items[i].name, slice_of(name)))
            continue;
        struct slice rest = headers->items[i].value;
        while (rest.size)
            if (slice_equal_nocase(slice_trim(slice_cut(&rest, ',')), slice_of(token)))
                return true;
    }
    return false;
}

static bool alnum(unsigned char c)
{
    return (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z');
}

static bool one_of(unsigned char c, const char *set)
{
    return c && strchr(set, c);
}

bool http_name_valid(struct slice name)
{
    for (size_t i = 0; i < name.size; i++)
        if (!alnum((unsigned char)name.data[i]) &&
            !one_of((unsigned char)name.data[i], "!#$%&'*+-.^_`|~"))
            return false;
    return name.size > 0;
}

bool http_value_valid(struct slice value)
{
    for (size_t i = 0; i < value.size; i++) {
        unsigned char c = (unsigned char)value.data[i];
        if ((c < 0x20 && c != '\t') || c == 0x7f)
            return false;
    }
    return true;
}

/* ---- percent escapes ---------------------------------------------------------------------- */

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int http_percent_decode(struct arena *arena, struct slice text, bool plus, struct slice *ret,
                        struct err *err)
{
    if (!text.size ||
        (!memchr(text.data, '%', text.size) && !(plus && memchr(text.data, '+', text.size)))) {
        *ret = text;
        return 0;
    }
    char *decoded = arena_alloc(arena, text.size + 1);
    size_t size = 0;
    for (size_t i = 0; i < text.size; i++) {
        char c = text.data[i];
        if (c == '%') {
            int high = text.size - i > 2 ? hex_value(text.data[i + 1]) : -1;
            int low = text.size - i > 2 ? hex_value(text.data[i + 2]) : -1;
            if (high < 0 || low < 0)
                return err_set(err, ERR_BAD_INPUT, "'%s' has a %% without two hexadecimal digits",
                               ERR_SLICE(text));
            c = (char)(high << 4 | low);
            if (c == 0)
                return err_set(err, ERR_BAD_INPUT, "'%s' has a %%00", ERR_SLICE(text));
            i += 2;
        } else if (plus && c == '+') {
            c = ' ';
        }
        decoded[size++] = c;
    }
    *ret = (struct slice){ decoded, size };
    return 0;
}

struct slice http_percent_encode(struct arena *arena, struct slice text)
{
    static const char digits[] = "0123456789ABCDEF";
    char *encoded = arena_alloc(arena, text.size * 3 + 1);
    size_t size = 0;
    for (size_t i = 0; i < text.size; i++) {
        unsigned char c = (unsigned char)text.data[i];
        if (alnum(c) || one_of(c, "-._~")) {
            encoded[size++] = (char)c;
        } else {
            encoded[size++] = '%';
            encoded[size++] = digits[c >> 4];
            encoded[size++] = digits[c & 15];
        }
    }
    return (struct slice){ encoded, size };
}

/* ---- targets ------------------------------------------------------------------------------ */

static int port_parse(struct slice text, uint16_t *ret, struct err *err)
{
    uint64_t port = 0;
    if (text.size && (!slice_u64(text, &port) || port > UINT16_MAX))
        return err_set(err, ERR_BAD_INPUT, "'%s' is no port", ERR_SLICE(text));
    *ret = (uint16_t)port;
    return 0;
}

static bool host_valid(struct slice host, bool brackets)
{
    for (size_t i = 0; i < host.size; i++) {
        unsigned char c = (unsigned char)host.data[i];
        bool good = brackets ? hex_value((char)c) >= 0 || c == ':' || c == '.'
                             : alnum(c) || one_of(c, "-._~!$&'()*+,;=%");
        if (!good)
            return false;
    }
    return host.size > 0;
}

int http_authority_parse(struct slice authority, struct slice *ret_host, uint16_t *ret_port,
                         struct err *err)
{
    struct slice host = authority, port = {};
    bool brackets = authority.size && authority.data[0] == '[';
    const char *end;
    if (brackets) {
        end = memchr(authority.data, ']', authority.size);
        if (!end)
            return err_set(err, ERR_BAD_INPUT, "host '%s' has no ]", ERR_SLICE(authority));
        host = (struct slice){ authority.data + 1, (size_t)(end - authority.data) - 1 };
        end++;
    } else {
        end = authority.size ? memchr(authority.data, ':', authority.size) : NULL;
        if (end)
            host.size = (size_t)(end - authority.data);
    }
    if (end && end < authority.data + authority.size) {
        if (*end != ':')
            return err_set(err, ERR_BAD_INPUT, "host '%s' goes on after its ]",
                           ERR_SLICE(authority));
        port = (struct slice){ end + 1, (size_t)(authority.data + authority.size - end) - 1 };
    }
    if (!host_valid(host, brackets))
        return err_set(err, ERR_BAD_INPUT, "'%s' is no host", ERR_SLICE(authority));
    uint16_t number = 0;
    int r = port_parse(port, &number, err);
    if (r < 0)
        return r;
    *ret_host = host;
    *ret_port = number;
    return 0;
}

static int segments_parse(struct arena *arena, struct http_request *request, struct err *err)
{
    struct slice rest = { request->path.data + 1, request->path.size - 1 };
    size_t count = 1;
    for (size_t i = 0; i < rest.size; i++)
        count += rest.data[i] == '/';
    request->segments = ARENA_ARRAY(arena, struct slice, count);
    request->segment_count = count;
    for (size_t i = 0; i < count; i++) {
        int r =
            http_percent_decode(arena, slice_cut(&rest, '/'), false, &request->segments[i], err);
        if (r < 0)
            return r;
    }
    return 0;
}

/* scheme://authority[/path] */
static int absolute_parse(struct http_request *request, struct slice *ret_rest, struct err *err)
{
    struct slice target = request->target;
    for (size_t skip = 7; skip <= 8; skip++) {
        struct slice scheme = skip == 7 ? SLICE("http://") : SLICE("https://");
        if (target.size < skip || !slice_equal_nocase((struct slice){ target.data, skip }, scheme))
            continue;
        struct slice rest = { target.data + skip, target.size - skip };
        size_t end = 0;
        while (end < rest.size && rest.data[end] != '/' && rest.data[end] != '?')
            end++;
        request->scheme = (struct slice){ scheme.data, skip - 3 };
        request->authority = (struct slice){ rest.data, end };
        *ret_rest = (struct slice){ rest.data + end, rest.size - end };
        return 0;
    }
    return err_set(err, ERR_BAD_INPUT, "target '%s' is no path that begins with /",
                   ERR_SLICE(target));
}

int http_target_parse(struct arena *arena, struct http_request *request, struct err *err)
{
    struct slice rest = request->target;
    for (size_t i = 0; i < rest.size; i++)
        if ((unsigned char)rest.data[i] <= 0x20 || (unsigned char)rest.data[i] >= 0x7f ||
            rest.data[i] == '#')
            return err_set(err, ERR_BAD_INPUT, "target '%s' has a character that must be escaped",
                           ERR_SLICE(rest));
    if (request->method == HTTP_CONNECT) {
        request->authority = rest;
        return 0;
    }
    if (slice_is(rest, "*") && request->method == HTTP_OPTIONS) {
        request->path = rest;
        return 0;
    }
    if (!rest.size || rest.data[0] != '/') {
        int r = absolute_parse(request, &rest, err);
        if (r < 0)
            return r;
    }
    const char *mark = rest.size ? memchr(rest.data, '?', rest.size) : NULL;
    request->path = rest;
    if (mark) {
        request->path.size = (size_t)(mark - rest.data);
        request->query = (struct slice){ mark + 1, rest.size - request->path.size - 1 };
    }
    if (!request->path.size) /* http://host and http://host?query */
        request->path = SLICE("/");
    return segments_parse(arena, request, err);
}

/* ---- queries ------------------------------------------------------------------------------ */

int http_query_parse(struct arena *arena, struct slice query, struct http_parameters *ret,
                     struct err *err)
{
    struct http_parameters parameters = {};
    size_t count = query.size > 0;
    for (size_t i = 0; i < query.size; i++)
        count += query.data[i] == '&';
    if (count > HTTP_PARAMETERS_MAX)
        return err_set(err, ERR_BAD_INPUT, "the query has more than %d parameters",
                       HTTP_PARAMETERS_MAX);
    parameters.items = ARENA_ARRAY(arena, struct http_parameter, count);
    while (query.size) {
        struct slice value = slice_cut(&query, '&');
        struct slice name = slice_cut(&value, '=');
        struct http_parameter *parameter = &parameters.items[parameters.count];
        if (!name.size && !value.size)
            continue;
        int r = http_percent_decode(arena, name, true, &parameter->name, err);
        r = r < 0 ? r : http_percent_decode(arena, value, true, &parameter->value, err);
        if (r < 0)
            return r;
        parameters.count++;
    }
    *ret = parameters;
    return 0;
}

const struct http_parameter *http_parameter_find(const struct http_parameters *parameters,
                                                 const char *name)
{
    for (size_t i = 0; i < parameters->count; i++)
        if (slice_is(parameters->items[i].name, name))
            return &parameters->items[i];
    return NULL;
}

/* ---- paths -------------------------------------------------------------------------------- */

/* The raw path from segment `index` on, to its end. */
static struct slice path_from(const struct http_request *request, size_t index)
{
    struct slice rest = request->path;
    for (size_t i = 0; i <= index; i++)
        slice_cut(&rest, '/');
    return rest;
}

bool http_path_match(const struct http_request *request, const char *pattern,
                     struct slice ret[static HTTP_PATH_PARTS_MAX])
{
    struct slice rest = slice_of(pattern + 1);
    size_t at = 0, parts = 0;
    assert(pattern[0] == '/');
    for (bool more = true; more; at++) {
        more = rest.size && memchr(rest.data, '/', rest.size);
        struct slice wanted = slice_cut(&rest, '/');
        if (at >= request->segment_count)
            return false;
        struct slice segment = request->segments[at];
        if (!wanted.size || wanted.data[0] != '{') {
            if (!slice_equal(wanted, segment))
                return false;
            continue;
        }
        assert(parts < HTTP_PATH_PARTS_MAX);
        if (slice_ends(wanted, SLICE("...}"))) {
            ret[parts] = path_from(request, at);
            return ret[parts].size > 0;
        }
        if (!segment.size)
            return false;
        ret[parts++] = segment;
    }
    return at == request->segment_count;
}
