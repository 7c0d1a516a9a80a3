/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http.h -- an HTTP message's head whatever its version, and the parts of a target. Plain structs;
 * the slices live in the arena of the request. No I/O. Any thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"

struct arena;
struct err;

/* X(constant, text) */
#define HTTP_METHODS(X)                                                                            \
    X(HTTP_GET, "GET")                                                                             \
    X(HTTP_HEAD, "HEAD")                                                                           \
    X(HTTP_POST, "POST")                                                                           \
    X(HTTP_PUT, "PUT")                                                                             \
    X(HTTP_DELETE, "DELETE")                                                                       \
    X(HTTP_PATCH, "PATCH")                                                                         \
    X(HTTP_OPTIONS, "OPTIONS")                                                                     \
    X(HTTP_TRACE, "TRACE")                                                                         \
    X(HTTP_CONNECT, "CONNECT")

enum http_method {
#define HTTP_METHOD_ENUM(constant, text) constant,
    HTTP_METHODS(HTTP_METHOD_ENUM)
#undef HTTP_METHOD_ENUM
        HTTP_METHOD_OTHER, /* http_request.method_text has it */
    HTTP_METHOD_COUNT
};

const char *http_method_text(enum http_method method); /* "OTHER" for HTTP_METHOD_OTHER */
enum http_method http_method_of(struct slice text);
const char *http_reason(int status); /* "" when unknown */

enum http_version { HTTP_1_0 = 10, HTTP_1_1 = 11, HTTP_2 = 20 };

struct http_header {
    struct slice name, value; /* the name as it came (HTTP/2: small letters); value trimmed */
};
#define HTTP_HEADER(name, value) ((struct http_header){ SLICE(name), (value) })

struct http_headers {
    struct http_header *items;
    size_t count;
};

/* The first of that name, ASCII case ignored; NULL: none. */
const struct http_header *http_header_find_slice(const struct http_headers *headers,
                                                 struct slice name);
static inline const struct http_header *http_header_find(const struct http_headers *headers,
                                                         const char *name)
{
    return http_header_find_slice(headers, slice_of(name)); /* a literal's length costs nothing */
}
static inline struct slice http_header_get(const struct http_headers *headers, const char *name)
{
    const struct http_header *header = http_header_find(headers, name);
    return header ? header->value : (struct slice){};
}
size_t http_header_count(const struct http_headers *headers, const char *name);
/* True when a comma list under that name (over all its lines) has the token. */
bool http_header_has_token(const struct http_headers *headers, const char *name, const char *token);
bool http_name_valid(struct slice name);   /* RFC 9110 token */
bool http_value_valid(struct slice value); /* no control characters but tab */

#define HTTP_LENGTH_UNKNOWN UINT64_MAX

struct http_request {
    enum http_method method;
    struct slice method_text;
    enum http_version version;
    struct slice scheme;    /* "http" or "https" */
    struct slice authority; /* host[:port], as sent; of the target where that is absolute */
    struct slice host;      /* of authority, without port and brackets; letters as sent */
    uint16_t port;          /* 0: none given */
    struct slice target;    /* as sent */
    struct slice path;      /* raw, begins with '/'; "*" for OPTIONS *; empty for CONNECT */
    struct slice query;     /* raw, without '?' */
    /* The path's segments, each percent-decoded by itself: %2F stays inside its segment. "/" is one
     * empty segment, "/a/" is "a" and an empty one. Any bytes but NUL. */
    struct slice *segments;
    size_t segment_count;
    struct http_headers headers;
    uint64_t content_length; /* of the body; HTTP_LENGTH_UNKNOWN when chunked; 0 without a body */
    /* Content-Length or Transfer-Encoding was there: without, a handler that needs a body says 411.
     */
    bool framed;
    bool expect_continue;
    /* HTTP/1.1 and no body: Upgrade names other protocols, and Connection says that it does. */
    bool upgrade;
};

struct http_response {
    int status;
    enum http_version version;
    struct http_headers headers;
    uint64_t content_length; /* HTTP_LENGTH_UNKNOWN: chunked, or until the connection ends */
};

/* Splits target into path, query, segments (and authority where absolute). Status 400 on bad form.
 */
[[nodiscard]] int http_target_parse(struct arena *arena, struct http_request *request,
                                    struct err *err);
/* host[:port] into host and port. */
[[nodiscard]] int http_authority_parse(struct slice authority, struct slice *ret_host,
                                       uint16_t *ret_port, struct err *err);

/* %XX decoded; a bad escape or %00 is ERR_BAD_INPUT. plus: '+' is a space (queries). */
[[nodiscard]] int http_percent_decode(struct arena *arena, struct slice text, bool plus,
                                      struct slice *ret, struct err *err);
/* Everything but unreserved characters as %XX: one segment of a path, or a query value. Terminated.
 */
struct slice http_percent_encode(struct arena *arena, struct slice text);

struct http_parameter {
    struct slice name, value; /* decoded */
};
struct http_parameters {
    struct http_parameter *items;
    size_t count;
};
enum { HTTP_PARAMETERS_MAX = 256 };
[[nodiscard]] int http_query_parse(struct arena *arena, struct slice query,
                                   struct http_parameters *ret, struct err *err);
const struct http_parameter *http_parameter_find(const struct http_parameters *parameters,
                                                 const char *name);

/* Matches decoded segments against a pattern such as "/api/v1/endpoints/{name}" or
 * "/v2/models/{model}/infer"; {x} takes one segment that is not empty, {x...} at the end takes all
 * that is left (at least one). ret has as many slices as the pattern has braces; a {x...} one is
 * cut from the raw path. A slash at the end of the path matters. */
enum { HTTP_PATH_PARTS_MAX = 8 };
bool http_path_match(const struct http_request *request, const char *pattern,
                     struct slice ret[static HTTP_PATH_PARTS_MAX]);
