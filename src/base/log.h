/* SPDX-License-Identifier: Apache-2.0 */
/*
 * log.h -- structured lines on stderr, one write each:
 *
 *     2026-11-23T06:01:02.345Z info  gateway  request done request=7f3a status=200 took_ms=41
 *
 *     log_info("gateway", "request done", LOG_S("request", id), LOG_I("status", 200));
 *
 * Level, subsystem, a fixed phrase, key=value. Values from outside are escaped and quoted where
 * needed. No payloads, keys or tokens, ever. debug = for us; info = the operator did something;
 * warn = we went on without ("..., ignoring"); error = somebody lost something. Any thread.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };

struct log_field {
    const char *key; /* NULL ends the list */
    enum { LOG_TEXT, LOG_INT, LOG_UINT } kind;
    struct slice text;
    int64_t number;
};

#define LOG_S(key, string) ((struct log_field){ (key), LOG_TEXT, slice_of(string), 0 })
#define LOG_SLICE(key, slice) ((struct log_field){ (key), LOG_TEXT, (slice), 0 })
#define LOG_I(key, value) ((struct log_field){ (key), LOG_INT, {}, (int64_t)(value) })
#define LOG_U(key, value) ((struct log_field){ (key), LOG_UINT, {}, (int64_t)(value) })

void log_write(enum log_level level, const char *subsystem, const char *phrase,
               const struct log_field *fields);

#define LOG_FIELDS(...) ((const struct log_field[]){ __VA_ARGS__ __VA_OPT__(, ){} })
#define log_debug(subsystem, phrase, ...)                                                          \
    log_write(LOG_DEBUG, (subsystem), (phrase), LOG_FIELDS(__VA_ARGS__))
#define log_info(subsystem, phrase, ...)                                                           \
    log_write(LOG_INFO, (subsystem), (phrase), LOG_FIELDS(__VA_ARGS__))
#define log_warn(subsystem, phrase, ...)                                                           \
    log_write(LOG_WARN, (subsystem), (phrase), LOG_FIELDS(__VA_ARGS__))
#define log_error(subsystem, phrase, ...)                                                          \
    log_write(LOG_ERROR, (subsystem), (phrase), LOG_FIELDS(__VA_ARGS__))

/* Lines below `level` are dropped. From $PERIGEE_LOG (debug, info, warn, error) unless set; info.
 */
void log_level_set(enum log_level level);
enum log_level log_level_get(void);
int log_level_parse(struct slice name, enum log_level *ret_level); /* -1: none of the four */
