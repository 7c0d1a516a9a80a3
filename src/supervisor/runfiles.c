/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/runfiles.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/env.h"
#include "base/err.h"
#include "base/log.h"
#include "supervisor/supervisor.h"
#include "sys/env_linux.h"

enum { INSTANCES_A_LIFE = 1000, YEAR_2026_S = 1'767'225'600 };

/* A string of JSON. Addresses hold nothing odd, but a socket's path may. */
static char *quote(struct arena *arena, const char *text)
{
    char *quoted = arena_alloc(arena, strlen(text) * 6 + 3), *at = quoted;
    *at++ = '"';
    for (; *text; text++) {
        unsigned char byte = (unsigned char)*text;
        if (byte < 0x20 || byte == '"' || byte == '\\')
            at += snprintf(at, 7, "\\u%04x", byte);
        else
            *at++ = *text;
    }
    *at++ = '"';
    *at = '\0';
    return quoted;
}

int runfiles_addresses(const char *home, const struct supervisor_address *addresses, size_t count,
                       struct err *err)
{
    static const struct {
        uint32_t kind;
        const char *name;
    } rows[] = {
        { LISTENER_GATEWAY, "gateway" }, { LISTENER_TLS, "tls" }, { LISTENER_CONTROL, "control" },
        { LISTENER_ADMIN, "admin" },     { LISTENER_DNS, "dns" },
    };
    struct arena *arena = arena_new();
    const char *text = "{";
    for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
        const char *comma = "";
        text = arena_format(arena, "%s%s\"%s\": [", text, r ? ", " : "", rows[r].name);
        for (size_t i = 0; i < count; i++) {
            if (addresses[i].kind != rows[r].kind || addresses[i].internal)
                continue;
            text = arena_format(arena, "%s%s%s", text, comma, quote(arena, addresses[i].text));
            comma = ", ";
        }
        text = arena_format(arena, "%s]", text);
    }
    text = arena_format(arena, "%s}\n", text);
    int r = disk_replace(arena_format(arena, "%s/run/addresses.json", home), slice_of(text), err);
    arena_free(arena);
    return r;
}

void runfiles_remove(const char *home)
{
    static const char *const names[] = { "addresses.json", "addresses.json.new" };
    char path[MESSAGE_PATH_BYTES + 64];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        (void)snprintf(path, sizeof path, "%s/run/%s", home, names[i]);
        (void)unlink(path);
    }
}

void runfiles_instances(struct env *env, const char *home, uint64_t *ret_base)
{
    struct arena *arena = arena_new();
    char *path = arena_format(arena, "%s/instances", home);
    struct slice text = {};
    struct err err = {};
    uint64_t base = 0;
    int r = env_file_read(env, path, 32, arena, &text, &err);
    while (text.size && text.data[text.size - 1] == '\n')
        text.size--;
    if (r == ERR_NOT_FOUND)
        r = 0;
    else if (r == 0 && (!slice_u64(text, &base) || base > UINT32_MAX / 2))
        r = err_set(&err, ERR_BAD_INPUT, "'%s' holds no such number", path);
    if (r == 0) {
        char *next = arena_format(arena, "%ju\n", (uintmax_t)(base + INSTANCES_A_LIFE));
        r = env_file_replace(env, path, slice_of(next), &err);
    }
    if (r < 0) {
        base = (uint64_t)(env_wall_ns(env) / ENV_S - YEAR_2026_S) & (UINT32_MAX / 2);
        base += UINT32_MAX / 2; /* where no counter comes to */
        log_warn("supervisor", "instances are numbered by the clock", LOG_S("why", err.message));
    }
    *ret_base = base;
    arena_free(arena);
}
