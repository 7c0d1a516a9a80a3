/* SPDX-License-Identifier: Apache-2.0 */
/* An answer's head, as the client reads it, to a GET and to a HEAD: whole and byte by byte. What is
 * understood of its framing holds together, and what of it goes further frames nothing. */
#include "proto/http1.h"

#include <assert.h>
#include <string.h>

#include "base/arena.h"
#include "base/err.h"
#include "proto/end_to_end.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void right(struct arena *arena, const char *method, const struct http_response *response,
                  const struct http1_head *head)
{
    bool bodyless = response->status < 200 || response->status == 204 || response->status == 304 ||
                    strcmp(method, "HEAD") == 0;
    struct http_headers further = http_end_to_end(arena, &response->headers, NULL, NULL, 0);

    assert(response->status >= 0 && response->status <= 999);
    assert(!bodyless || head->framing == HTTP1_BODY_NONE);
    assert((head->framing == HTTP1_BODY_LENGTH) == (head->length > 0));
    assert(head->framing != HTTP1_BODY_TO_END || !head->keep_alive);
    assert(head->framing != HTTP1_BODY_CHUNKED || response->version == HTTP_1_1);
    assert(head->framing != HTTP1_BODY_LENGTH || response->content_length == head->length);
    assert(further.count <= response->headers.count);
    assert(!http_header_find(&further, "content-length"));
    assert(!http_header_find(&further, "transfer-encoding"));
    assert(!http_header_find(&further, "connection"));
}

static int run(const char *method, const char *data, size_t size, size_t step,
               struct http1_head *head)
{
    static const struct http1_limits limits = { .head_bytes_max = 4096, .headers_max = 32 };
    struct arena *arena = arena_new();
    struct http1_parser *parser = http1_parser_new(arena, false, &limits);
    struct http_response response;
    struct err err;
    int r = 0;
    for (size_t at = 0, used; at < size && r == 0; at += used) {
        size_t part = size - at < step ? size - at : step;
        r = http1_parse(parser, data + at, part, &used, &err);
        assert(r < 0 || used <= part);
        if (r > 0 && http1_response(parser, method, &response, head, &err) < 0)
            r = -1;
        if (r > 0)
            right(arena, method, &response, head);
    }
    arena_free(arena);
    return r;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const methods[] = { "GET", "HEAD" };
    for (size_t i = 0; i < 2; i++) {
        struct http1_head whole = {}, parts = {};
        int r = run(methods[i], (const char *)data, size, size ? size : 1, &whole);
        int again = run(methods[i], (const char *)data, size, 1, &parts);
        assert((r > 0) == (again > 0));
        if (r > 0)
            assert(whole.framing == parts.framing && whole.length == parts.length);
    }
    return 0;
}
