/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http1.h -- HTTP/1.1 heads, bytes to structs and back, by llhttp without any leniency, and what
 * RFC 9112 wants beyond it (Host, framing, obs-fold). No I/O.
 *
 * All memory is the arena's that the parser was made in; the bytes fed need not outlive the call.
 * One thread at a time.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/http.h"

struct arena;
struct err;
struct http1_parser;

struct http1_limits {
    size_t target_bytes_max; /* 414 */
    size_t head_bytes_max;   /* 431: names and values; spaces and empty lines count as well */
    size_t headers_max;      /* 431 */
};

enum http1_framing { HTTP1_BODY_NONE, HTTP1_BODY_LENGTH, HTTP1_BODY_CHUNKED, HTTP1_BODY_TO_END };

struct http1_head {
    enum http1_framing framing;
    uint64_t length; /* of HTTP1_BODY_LENGTH; never 0 */
    bool keep_alive; /* what the peer wishes and its version allows */
};

struct http1_parser *http1_parser_new(struct arena *arena, bool request,
                                      const struct http1_limits *limits);

/* 1: the head is whole, and *ret_used of the bytes were its; 0: all were, more are wanted;
 * negative: err has the status to answer. */
[[nodiscard]] int http1_parse(struct http1_parser *parser, const char *data, size_t size,
                              size_t *ret_used, struct err *err);
bool http1_parse_begun(const struct http1_parser *parser); /* a byte other than an empty line's */

/* After http1_parse() gave 1. On failure what was known stands in *request. */
[[nodiscard]] int http1_request(struct http1_parser *parser, struct http_request *request,
                                struct http1_head *ret, struct err *err);
/* method: of the request this answers (HEAD has no body). */
[[nodiscard]] int http1_response(struct http1_parser *parser, const char *method,
                                 struct http_response *response, struct http1_head *ret,
                                 struct err *err);

/* ---- chunked bodies ----------------------------------------------------------------------- */
/* Framing alone: data is the caller's to take, wherever it stands. Zeroed but for the limits. */
struct http1_chunks {
    struct arena *arena; /* for trailers */
    size_t trailer_bytes_max, trailers_max;
    uint64_t left; /* data bytes that come next; the caller subtracts what it took */
    struct http_headers trailers;
    uint64_t size;
    int state;
    unsigned digits, line_bytes;
    char *text;
    size_t text_bytes, text_room;
};
enum http1_chunk { HTTP1_CHUNK_MORE, HTTP1_CHUNK_DATA, HTTP1_CHUNK_END };
/* Call with left == 0. An enum http1_chunk (DATA: left > 0), or negative. */
[[nodiscard]] int http1_chunks_next(struct http1_chunks *chunks, const char *data, size_t size,
                                    size_t *ret_used, struct err *err);
enum { HTTP1_CHUNK_PREFIX_BYTES = 20 };
/* "1a\r\n"; returns its length. */
size_t http1_chunk_prefix(char buffer[static HTTP1_CHUNK_PREFIX_BYTES], uint64_t bytes);

/* ---- heads out ---------------------------------------------------------------------------- */
/* A status or request line, fixed lines (each with its CRLF), headers, the empty line. Control
 * characters in a value go out as '?': no header is ever made of another's value. Names are
 * trusted: literals, or tokens that http1_parse() let pass. */
struct slice http1_write_head(struct arena *arena, struct slice first_line,
                              struct slice fixed_lines, const struct http_header *headers,
                              size_t count);
struct slice http1_status_line(struct arena *arena, int status); /* with CRLF */
