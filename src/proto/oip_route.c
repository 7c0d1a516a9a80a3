/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/oip.h"

#include <string.h>

#include "base/arena.h"
#include "base/err.h"

enum method { METHOD_OTHER, METHOD_GET = 1, METHOD_POST = 2, METHOD_BOTH = 3 };

#define GENERATE "generate"
#define SYSTEM "system_shared_memory"
#define CUDA "cuda_shared_memory"

#define ROW(before, last)                                                                          \
    before last,                                                                                   \
    {                                                                                              \
        last, sizeof last - 1                                                                      \
    }

/* "*" takes one segment that is not empty; "**" one or more, and is the model's name, which may
 * hold '/'. The first row that fits holds, so what ends a path comes before what is cut short. */
static const struct row {
    const char *pattern;
    struct slice last; /* segment of the pattern: tells most rows apart at once */
    enum method methods;
    enum oip_call call;
    const char *unsupported;
} rows[] = {
    /* clang-format off */
    { ROW("", "v2"),                                          METHOD_GET,  OIP_SERVER_METADATA,  NULL },
    { ROW("v2/health/", "live"),                              METHOD_GET,  OIP_SERVER_LIVE,      NULL },
    { ROW("v2/health/", "ready"),                             METHOD_GET,  OIP_SERVER_READY,     NULL },
    { ROW("v2/models/", "stats"),                             METHOD_GET,  OIP_MODEL_STATS,      NULL },
    { ROW("v2/models/**/versions/*/", "infer"),               METHOD_POST, OIP_INFER,            NULL },
    { ROW("v2/models/**/versions/*/", "ready"),               METHOD_GET,  OIP_MODEL_READY,      NULL },
    { ROW("v2/models/**/versions/*/", "config"),              METHOD_GET,  OIP_MODEL_CONFIG,     NULL },
    { ROW("v2/models/**/versions/*/", "stats"),               METHOD_GET,  OIP_MODEL_STATS,      NULL },
    { ROW("v2/models/**/versions/*/", "generate"),            METHOD_POST, OIP_UNSUPPORTED,      GENERATE },
    { ROW("v2/models/**/versions/*/", "generate_stream"),     METHOD_POST, OIP_UNSUPPORTED,      GENERATE },
    { ROW("v2/models/**/versions/*/trace/", "setting"),       METHOD_BOTH, OIP_UNSUPPORTED,      "trace" },
    { ROW("v2/models/**/versions/", "*"),                     METHOD_GET,  OIP_MODEL_METADATA,   NULL },
    { ROW("v2/models/**/", "infer"),                          METHOD_POST, OIP_INFER,            NULL },
    { ROW("v2/models/**/", "ready"),                          METHOD_GET,  OIP_MODEL_READY,      NULL },
    { ROW("v2/models/**/", "config"),                         METHOD_GET,  OIP_MODEL_CONFIG,     NULL },
    { ROW("v2/models/**/", "stats"),                          METHOD_GET,  OIP_MODEL_STATS,      NULL },
    { ROW("v2/models/**/", "generate"),                       METHOD_POST, OIP_UNSUPPORTED,      GENERATE },
    { ROW("v2/models/**/", "generate_stream"),                METHOD_POST, OIP_UNSUPPORTED,      GENERATE },
    { ROW("v2/models/**/trace/", "setting"),                  METHOD_BOTH, OIP_UNSUPPORTED,      "trace" },
    { ROW("v2/models/", "**"),                                METHOD_GET,  OIP_MODEL_METADATA,   NULL },
    { ROW("v2/repository/", "index"),                         METHOD_POST, OIP_REPOSITORY_INDEX, NULL },
    { ROW("v2/repository/models/**/", "load"),                METHOD_POST, OIP_REPOSITORY_LOAD,  NULL },
    { ROW("v2/repository/models/**/", "unload"),              METHOD_POST, OIP_REPOSITORY_UNLOAD, NULL },
    { ROW("v2/trace/", "setting"),                            METHOD_BOTH, OIP_UNSUPPORTED,      "trace" },
    { ROW("v2/", "logging"),                                  METHOD_BOTH, OIP_UNSUPPORTED,      "logging" },
    { ROW("v2/systemsharedmemory/", "status"),                METHOD_GET,  OIP_SHM_STATUS,       NULL },
    { ROW("v2/systemsharedmemory/region/*/", "status"),       METHOD_GET,  OIP_SHM_STATUS,       NULL },
    { ROW("v2/systemsharedmemory/", "unregister"),            METHOD_POST, OIP_UNSUPPORTED,      SYSTEM },
    { ROW("v2/systemsharedmemory/region/*/", "register"),     METHOD_POST, OIP_UNSUPPORTED,      SYSTEM },
    { ROW("v2/systemsharedmemory/region/*/", "unregister"),   METHOD_POST, OIP_UNSUPPORTED,      SYSTEM },
    { ROW("v2/cudasharedmemory/", "status"),                  METHOD_GET,  OIP_SHM_STATUS,       NULL },
    { ROW("v2/cudasharedmemory/region/*/", "status"),         METHOD_GET,  OIP_SHM_STATUS,       NULL },
    { ROW("v2/cudasharedmemory/", "unregister"),              METHOD_POST, OIP_UNSUPPORTED,      CUDA },
    { ROW("v2/cudasharedmemory/region/*/", "register"),       METHOD_POST, OIP_UNSUPPORTED,      CUDA },
    { ROW("v2/cudasharedmemory/region/*/", "unregister"),     METHOD_POST, OIP_UNSUPPORTED,      CUDA },
    /* clang-format on */
};

#define SEGMENTS_MAX 32

struct segments {
    struct slice items[SEGMENTS_MAX];
    uint32_t count;
};

static bool split(struct slice text, struct segments *ret)
{
    ret->count = 0;
    while (text.data) {
        if (ret->count == SEGMENTS_MAX)
            return false;
        ret->items[ret->count++] = slice_cut(&text, '/');
    }
    return true;
}

static bool segment_fits(struct slice pattern, struct slice segment)
{
    return pattern.data[0] == '*' ? segment.size > 0 : slice_equal(pattern, segment);
}

/* The model's name is what "**" took, still encoded; the version what "*" took behind it. */
static bool fits(const struct row *row, const struct segments *path, struct slice *ret_model,
                 struct slice *ret_star)
{
    struct segments wanted;
    uint32_t at = 0, taken;

    *ret_model = *ret_star = (struct slice){};
    if (!segment_fits(row->last, path->items[path->count - 1]) ||
        !split(slice_of(row->pattern), &wanted) || path->count < wanted.count)
        return false;
    for (uint32_t i = 0; i < wanted.count; i++, at += taken) {
        taken = 1;
        if (slice_is(wanted.items[i], "**")) {
            struct slice first = path->items[at], last;

            taken = path->count - wanted.count + 1;
            for (uint32_t j = 0; j < taken; j++)
                if (path->items[at + j].size == 0)
                    return false;
            last = path->items[at + taken - 1];
            *ret_model = (struct slice){ first.data, (size_t)(last.data + last.size - first.data) };
        } else if (!segment_fits(wanted.items[i], path->items[at])) {
            return false;
        } else if (slice_is(wanted.items[i], "*")) {
            *ret_star = path->items[at];
        }
    }
    return at == path->count;
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

static int decode(struct arena *arena, struct slice text, struct slice *ret, struct err *err)
{
    char *out = arena_alloc(arena, text.size + 1);
    size_t size = 0;

    for (size_t i = 0; i < text.size; i++) {
        int high, low;

        if (text.data[i] != '%') {
            out[size++] = text.data[i];
            continue;
        }
        high = i + 2 < text.size ? hex_digit(text.data[i + 1]) : -1;
        low = i + 2 < text.size ? hex_digit(text.data[i + 2]) : -1;
        if (high < 0 || low < 0 || (high | low) == 0)
            return err_set(err, ERR_BAD_INPUT, "broken percent-encoding in '%s'", ERR_SLICE(text));
        out[size++] = (char)(high << 4 | low);
        i += 2;
    }
    *ret = (struct slice){ out, size };
    return 0;
}

static const char *allow_of(enum method methods)
{
    return methods == METHOD_GET    ? "GET, HEAD"
           : methods == METHOD_POST ? "POST"
                                    : "GET, HEAD, POST";
}

static int route_fill(struct arena *arena, const struct row *row, struct slice model,
                      struct slice version, struct oip_route *ret, struct err *err)
{
    struct oip_route route = { .call = row->call, .unsupported = row->unsupported };
    int r = decode(arena, model, &route.model, err);

    if (r < 0)
        return r;
    if (model.data && version.data && row->call != OIP_UNSUPPORTED &&
        (!slice_u64(version, &route.version) || route.version == 0))
        return err_set(err, ERR_NOT_FOUND,
                       "model '%s' has no version '%s': versions are numbers, 1 and up",
                       ERR_SLICE(route.model), ERR_SLICE(version));
    *ret = route;
    return 0;
}

int oip_route_find(struct arena *arena, struct slice method, struct slice path,
                   struct oip_route *ret, const char **ret_allow, struct err *err)
{
    enum method given = slice_is(method, "GET") || slice_is(method, "HEAD") ? METHOD_GET
                        : slice_is(method, "POST")                          ? METHOD_POST
                                                                            : METHOD_OTHER;
    struct slice shown = path, model, star;
    struct segments segments;

    if (path.size > 0 && path.data[0] == '/')
        path = (struct slice){ path.data + 1, path.size - 1 };
    if (path.size > 0 && path.data[path.size - 1] == '/') /* "v2/" is how OIP writes it */
        path.size--;
    if (path.size > 0 && split(path, &segments)) {
        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
            if (!fits(&rows[i], &segments, &model, &star))
                continue;
            if (rows[i].methods & given)
                return route_fill(arena, &rows[i], model, star, ret, err);
            *ret_allow = allow_of(rows[i].methods);
            return err_set(err, ERR_BAD_METHOD, "'%s' takes %s, not '%s'", ERR_SLICE(shown),
                           *ret_allow, ERR_SLICE(method));
        }
    }
    return err_set(err, ERR_NOT_FOUND, "the Open Inference Protocol has no '%s'", ERR_SLICE(shown));
}
