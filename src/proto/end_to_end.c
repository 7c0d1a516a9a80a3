/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/end_to_end.h"

#include "base/arena.h"

static bool among(struct slice name, const struct slice *names, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (name.size == names[i].size && slice_equal_nocase(name, names[i]))
            return true;
    return false;
}
#define AMONG(name, names) among((name), (names), sizeof(names) / sizeof *(names))

bool http_hop_by_hop(struct slice name)
{
    static const struct slice names[] = {
        SLICE("Connection"),
        SLICE("Keep-Alive"),
        SLICE("Proxy-Connection"),
        SLICE("Proxy-Authenticate"),
        SLICE("Proxy-Authorization"),
        SLICE("TE"),
        SLICE("Trailer"),
        SLICE("Transfer-Encoding"),
        SLICE("Upgrade"),
        SLICE("Content-Length"),
    };
    return AMONG(name, names);
}

/* Nearly always Connection names no header. */
static bool names_any(const struct http_headers *headers)
{
    for (size_t i = 0; i < headers->count; i++) {
        struct slice value = headers->items[i].value;
        if (headers->items[i].name.size == 10 && value.size > 0 &&
            slice_equal_nocase(headers->items[i].name, SLICE("Connection")) &&
            !slice_equal_nocase(value, SLICE("keep-alive")) &&
            !slice_equal_nocase(value, SLICE("close")))
            return true;
    }
    return false;
}

/* Does Connection name it? */
static bool named(const struct http_headers *headers, struct slice name)
{
    for (size_t i = 0; i < headers->count; i++) {
        if (!slice_equal_nocase(headers->items[i].name, SLICE("Connection")))
            continue;
        struct slice rest = headers->items[i].value;
        while (rest.data)
            if (slice_equal_nocase(slice_trim(slice_cut(&rest, ',')), name))
                return true;
    }
    return false;
}

struct http_headers http_end_to_end(struct arena *arena, const struct http_headers *headers,
                                    bool (*left_out)(struct slice name),
                                    bool (*needed)(struct slice name), size_t more)
{
    struct http_headers out = { ARENA_ARRAY(arena, struct http_header, headers->count + more), 0 };
    bool names = names_any(headers);

    for (size_t i = 0; i < headers->count; i++) {
        struct slice name = headers->items[i].name;
        if (http_hop_by_hop(name) || (left_out && left_out(name)) ||
            (names && !(needed && needed(name)) && named(headers, name)))
            continue;
        out.items[out.count++] = headers->items[i];
    }
    return out;
}

bool http_trailer_right(struct slice name)
{
    static const struct slice names[] = {
        SLICE("Host"),          SLICE("Expect"),       SLICE("Max-Forwards"),
        SLICE("Authorization"), SLICE("Cookie"),       SLICE("Set-Cookie"),
        SLICE("Content-Range"), SLICE("Content-Type"), SLICE("Content-Encoding"),
        SLICE("Forwarded"),     SLICE("Via"),          SLICE("Range"),
    };
    const struct slice starts[] = { SLICE("X-Forwarded-"), SLICE("Perigee-") };

    for (size_t i = 0; i < sizeof starts / sizeof *starts; i++)
        if (name.size >= starts[i].size &&
            slice_equal_nocase((struct slice){ name.data, starts[i].size }, starts[i]))
            return false;
    return !http_hop_by_hop(name) && !AMONG(name, names);
}

struct http_headers http_trailers_right(struct arena *arena, const struct http_headers *trailers)
{
    struct http_headers out = { NULL, 0 };

    if (trailers->count == 0)
        return out;
    out.items = ARENA_ARRAY(arena, struct http_header, trailers->count);
    for (size_t i = 0; i < trailers->count; i++)
        if (http_trailer_right(trailers->items[i].name))
            out.items[out.count++] = trailers->items[i];
    return out;
}
