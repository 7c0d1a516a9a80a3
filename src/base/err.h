/* SPDX-License-Identifier: Apache-2.0 */
/*
 * err.h -- one error type, said once, meant for a person.
 *
 * A function that can fail returns 0 (or a count) or a negative enum err_code, and takes `struct
 * err *err` last. The caller owns the struct; nothing in it needs freeing. The one table below
 * gives the name in Perigee-Error, the HTTP status, the gRPC status and the page docs/errors.md.
 * Any thread.
 */
#pragma once

#include <stddef.h>

/* X(constant, name, HTTP status, gRPC status (google.rpc.Code), what it means and what to do) */
#define ERR_TABLE(X)                                                                               \
    X(ERR_BAD_INPUT, "bad_input", 400, 3, "The request is wrong; the message says where.")         \
    X(ERR_UNAUTHENTICATED, "unauthenticated", 401, 16, "No key, or one that is not known.")        \
    X(ERR_FORBIDDEN, "forbidden", 403, 7, "The caller may not do this.")                           \
    X(ERR_NOT_FOUND, "not_found", 404, 5, "There is nothing of that name here.")                   \
    X(ERR_BAD_METHOD, "bad_method", 405, 12, "The path is right, the method is not; see Allow.")   \
    X(ERR_CONFLICT, "conflict", 409, 10, "It exists already, or changed meanwhile.")               \
    X(ERR_PRECONDITION, "precondition", 412, 9, "If-Match does not hold, or a state is missing.")  \
    X(ERR_TOO_LARGE, "too_large", 413, 8, "Above a limit; the message names the limit.")           \
    X(ERR_MISDIRECTED, "misdirected", 421, 5, "The Host is none of ours.")                         \
    X(ERR_RATE_LIMITED, "rate_limited", 429, 8, "Above a rate; see Retry-After.")                  \
    X(ERR_BUDGET, "budget", 429, 8, "The budget is used up.")                                      \
    X(ERR_RESIDENCY, "residency", 451, 9, "No place that may process this can serve it.")          \
    X(ERR_INTERNAL, "internal", 500, 13, "A fault of ours; the log has more.")                     \
    X(ERR_NOT_SUPPORTED, "not_supported", 501, 12, "Not yet, or not here; named in the message.")  \
    X(ERR_REPLICA_DIED, "replica_died", 502, 14, "The replica died while it had the request.")     \
    X(ERR_OVERLOADED, "overloaded", 503, 14, "Everything is busy; see Retry-After.")               \
    X(ERR_STOPPED, "stopped", 503, 14, "The endpoint is stopped; start it first.")                 \
    X(ERR_DEADLINE, "deadline", 504, 4, "The time allowed ran out.")                               \
    X(ERR_STARTING, "starting", 504, 4, "No replica was up within queue.cold.")                    \
    X(ERR_CANCELED, "canceled", 499, 1, "The caller went away or took it back.")                   \
    X(ERR_GONE, "gone", 410, 5, "It was deleted; to ask again is of no use.")

enum err_index {
#define ERR_INDEX(code, name, http, grpc, text) code##_INDEX,
    ERR_TABLE(ERR_INDEX)
#undef ERR_INDEX
        ERR_COUNT
};

/* Negative, so that one int carries a count or an error. */
enum err_code {
    ERR_OK = 0,
#define ERR_CODE(code, name, http, grpc, text) code = -1 - code##_INDEX,
    ERR_TABLE(ERR_CODE)
#undef ERR_CODE
};

struct err {
    int code;   /* enum err_code */
    int http;   /* 0, or the exact HTTP status where it differs from the table's (411, 431) */
    int system; /* errno, where who gets it may want to know: of a connection that was not made */
    char message[504]; /* a sentence without a full stop; outside text in it is escaped */
};

struct err_info {
    const char *name;
    int http, grpc;
    const char *text;
};

/* Never NULL: an unknown code is reported as internal. */
const struct err_info *err_info(int code);
int err_http(const struct err *err);

/* Both return `code` (err_wrap: the code already there), so that `return err_set(...)` works.
 * `err` may be NULL. */
[[nodiscard, gnu::format(printf, 3, 4)]] int err_set(struct err *err, enum err_code code,
                                                     const char *format, ...);
[[nodiscard, gnu::format(printf, 3, 4)]] int
err_set_http(struct err *err, int http, const char *format, ...); /* nearest code is chosen */
[[nodiscard, gnu::format(printf, 2, 3)]] int err_wrap(struct err *err, const char *format,
                                                      ...); /* "context: message" */

/* An analyzer sees one file at a time: tell it that an error is never 0. */
#if defined(__clang_analyzer__) && !defined(ERR_OWN)
#define err_set(...) ((void)(err_set)(__VA_ARGS__), -1)
#define err_set_http(...) ((void)(err_set_http)(__VA_ARGS__), -1)
#define err_wrap(...) ((void)(err_wrap)(__VA_ARGS__), -1)
#endif

/* `text` with control characters, quotes' ticks and bytes outside UTF-8 as \xNN, cut at 64 bytes;
 * for outside text in a message: err_set(err, ..., "no endpoint '%s'", ERR_TEXT(name)). */
#define ERR_TEXT_BYTES (64 * 4 + 4) /* all of it escaped, dots, the end */
const char *err_text(char buffer[static ERR_TEXT_BYTES], const char *data, size_t size);
#define ERR_TEXT(string) err_text((char[ERR_TEXT_BYTES]){}, (string), __builtin_strlen(string))
#define ERR_SLICE(slice) err_text((char[ERR_TEXT_BYTES]){}, (slice).data, (slice).size)
