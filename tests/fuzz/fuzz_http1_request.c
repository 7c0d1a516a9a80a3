/* SPDX-License-Identifier: Apache-2.0 */
/* A request's head and chunked body, whole and in pieces (the first byte says how large): both ways
 * of feeding must come to the same end. */
#include "proto/http1.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/err.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct http1_limits limits = {
    .target_bytes_max = 4096,
    .head_bytes_max = 8192,
    .headers_max = 32,
};

struct outcome {
    int head, body; /* 1: whole, 0: not yet, else minus the status */
    uint64_t body_bytes;
};

static void head_check(struct arena *arena, const struct http_request *request)
{
    struct slice parts[HTTP_PATH_PARTS_MAX];
    struct http_parameters parameters;
    struct err err;
    for (size_t i = 0; i < request->headers.count; i++) {
        assert(http_name_valid(request->headers.items[i].name));
        assert(http_value_valid(request->headers.items[i].value));
    }
    for (size_t i = 0; i < request->segment_count; i++)
        assert(!memchr(request->segments[i].data, 0, request->segments[i].size) ||
               !request->segments[i].size);
    (void)http_path_match(request, "/v2/models/{m}/{rest...}", parts);
    (void)!http_query_parse(arena, request->query, &parameters, &err);
}

static void chunks_run(struct arena *arena, const char *data, size_t size, size_t step,
                       struct outcome *outcome)
{
    struct http1_chunks chunks = { .arena = arena, .trailer_bytes_max = 512, .trailers_max = 8 };
    struct err err;
    for (size_t at = 0, used; at < size; at += used) {
        size_t part = size - at < step ? size - at : step;
        if (chunks.left) {
            used = chunks.left < part ? chunks.left : part;
            chunks.left -= used;
            outcome->body_bytes += used;
            continue;
        }
        int r = http1_chunks_next(&chunks, data + at, part, &used, &err);
        assert(used <= part || r < 0);
        if (r < 0 || r == HTTP1_CHUNK_END) {
            outcome->body = r < 0 ? -err_http(&err) : 1;
            return;
        }
        assert(r == HTTP1_CHUNK_MORE || chunks.left);
    }
}

static struct outcome run(const char *data, size_t size, size_t step)
{
    struct arena *arena = arena_new();
    struct http1_parser *parser = http1_parser_new(arena, true, &limits);
    struct outcome outcome = {};
    struct http_request request;
    struct http1_head head;
    struct err err;
    for (size_t at = 0, used; at < size && !outcome.head; at += used) {
        size_t part = size - at < step ? size - at : step;
        int r = http1_parse(parser, data + at, part, &used, &err);
        assert(r < 0 || used <= part);
        if (r > 0)
            r = http1_request(parser, &request, &head, &err) < 0 ? -1 : 1;
        outcome.head = r < 0 ? -err_http(&err) : r;
        if (r <= 0)
            continue;
        head_check(arena, &request);
        if (head.framing == HTTP1_BODY_CHUNKED)
            chunks_run(arena, data + at + used, size - at - used, step, &outcome);
    }
    arena_free(arena);
    return outcome;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    size_t step = data[0] % 61 + 1;
    struct outcome whole = run((const char *)data + 1, size - 1, size);
    struct outcome parts = run((const char *)data + 1, size - 1, step);
    /* Of two faults either may be met first, so refusals are equal as such, not in status. */
    assert((whole.head > 0) == (parts.head > 0));
    assert((whole.body > 0) == (parts.body > 0));
    assert(whole.body < 0 || parts.body < 0 || whole.body_bytes == parts.body_bytes);
    return 0;
}
