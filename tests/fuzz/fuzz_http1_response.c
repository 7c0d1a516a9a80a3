/* SPDX-License-Identifier: Apache-2.0 */
/* An answer's head, as the client reads it: whole and byte by byte. */
#include "proto/http1.h"

#include <assert.h>

#include "base/arena.h"
#include "base/err.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int run(const char *data, size_t size, size_t step, struct http1_head *head)
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
        if (r > 0 && http1_response(parser, "GET", &response, head, &err) < 0)
            r = -1;
        if (r > 0)
            assert(response.status >= 0 && response.status <= 999);
    }
    arena_free(arena);
    return r;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct http1_head whole = {}, parts = {};
    int r = run((const char *)data, size, size ? size : 1, &whole);
    int again = run((const char *)data, size, 1, &parts);
    assert((r > 0) == (again > 0));
    if (r > 0)
        assert(whole.framing == parts.framing && whole.length == parts.length);
    return 0;
}
