/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { LINE_BYTES = 2048, VALUE_BYTES_MAX = 768 };

static const char *const names[] = { "debug", "info", "warn", "error" };
static _Atomic int level_now = -1;

int log_level_parse(struct slice name, enum log_level *ret_level)
{
    for (int i = 0; i < 4; i++)
        if (slice_is(name, names[i])) {
            *ret_level = (enum log_level)i;
            return 0;
        }
    return -1;
}

void log_level_set(enum log_level level)
{
    atomic_store_explicit(&level_now, (int)level, memory_order_relaxed);
}

enum log_level log_level_get(void)
{
    int level = atomic_load_explicit(&level_now, memory_order_relaxed);
    if (level < 0) {
        enum log_level parsed = LOG_INFO;
        const char *wanted = getenv("PERIGEE_LOG");
        if (wanted)
            (void)log_level_parse(slice_of(wanted), &parsed);
        log_level_set(parsed);
        return parsed;
    }
    return (enum log_level)level;
}

struct line {
    size_t used;
    char bytes[LINE_BYTES];
};

static void put(struct line *line, const char *data, size_t size)
{
    size_t room = sizeof line->bytes - 1 - line->used; /* one is kept for the newline */
    if (size > room)
        size = room;
    memcpy(line->bytes + line->used, data, size);
    line->used += size;
}

static bool plain(struct slice text)
{
    for (size_t i = 0; i < text.size; i++) {
        unsigned char c = (unsigned char)text.data[i];
        if (c <= ' ' || c >= 0x7f || c == '"' || c == '=' || c == '\\')
            return false;
    }
    return text.size > 0;
}

static void put_text(struct line *line, struct slice text)
{
    if (text.size > VALUE_BYTES_MAX)
        text.size = VALUE_BYTES_MAX;
    if (plain(text)) {
        put(line, text.data, text.size);
        return;
    }
    put(line, "\"", 1);
    for (size_t i = 0; i < text.size;) {
        unsigned char c = (unsigned char)text.data[i];
        size_t length = utf8_length((struct slice){ text.data + i, text.size - i });
        bool control = c < 0x20 || c == 0x7f ||
                       (c == 0xc2 && length == 2 && (unsigned char)text.data[i + 1] < 0xa0);
        if (c == '"' || c == '\\') {
            put(line, (char[]){ '\\', (char)c }, 2);
            i++;
        } else if (length == 0 || control) {
            char escaped[8];
            put(line, escaped, (size_t)snprintf(escaped, sizeof escaped, "\\x%02x", c));
            i++;
        } else {
            put(line, text.data + i, length);
            i += length;
        }
    }
    put(line, "\"", 1);
}

static void put_time(struct line *line)
{
    /* The one clock read outside struct env: a log line's own stamp decides nothing. */
    struct timespec now;
    struct tm utc;
    char text[40];
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    size_t used = strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &utc);
    used += (size_t)snprintf(text + used, sizeof text - used, ".%03ldZ", now.tv_nsec / 1'000'000);
    put(line, text, used);
}

void log_write(enum log_level level, const char *subsystem, const char *phrase,
               const struct log_field *fields)
{
    if (level < log_level_get())
        return;
    struct line line = {};
    char text[256];
    put_time(&line);
    put(&line, text,
        (size_t)snprintf(text, sizeof text, " %-5s %-8.32s %.160s", names[level], subsystem,
                         phrase));
    for (const struct log_field *field = fields; field->key; field++) {
        put(&line, " ", 1);
        put(&line, field->key, strlen(field->key));
        put(&line, "=", 1);
        if (field->kind == LOG_TEXT)
            put_text(&line, field->text);
        else if (field->kind == LOG_INT)
            put(&line, text, (size_t)snprintf(text, sizeof text, "%" PRId64, field->number));
        else
            put(&line, text,
                (size_t)snprintf(text, sizeof text, "%" PRIu64, (uint64_t)field->number));
    }
    line.bytes[line.used++] = '\n';
    ssize_t written = write(STDERR_FILENO, line.bytes, line.used);
    (void)written; /* nobody is left to tell */
}
