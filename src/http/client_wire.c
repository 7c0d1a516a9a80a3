/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes of calls: request out, answer in. */
#include <assert.h>
#include <string.h>

#include "base/auto.h"
#include "http/client_own.h"

/* ---- out ---------------------------------------------------------------------------------- */

/* What was answered may be secret. */
static void stash_free(struct wire *wire)
{
    if (wire->stash)
        explicit_bzero(wire->stash, wire->stash_room);
    free(wire->stash);
    wire->stash = NULL;
}

void wire_release(struct wire *wire)
{
    if (!wire->closed || wire->writes_open)
        return;
    stash_free(wire);
    free(wire);
}

static void write_report(struct call_write *write, const struct err *err)
{
    struct http_call *call = write->call;
    list_remove(&write->link);
    write->call = NULL;
    if (call && write->on_written)
        write->on_written(call, err, write->data);
}

static void on_stream_written(struct stream_write *stream_write, const struct err *err, void *data)
{
    struct call_write *write = data;
    struct wire *wire = write->wire;
    (void)stream_write;
    wire->writes_open--;
    /* An error is told, and left to the reading side: the answer may be there already. */
    if (write->call)
        write_report(write, err);
    free(write);
    wire_release(wire);
}

static void write_send(struct http_call *call, struct call_write *write)
{
    struct wire *wire = call->wire;
    list_append(&call->sent, &write->link);
    write->wire = wire;
    write->write.on_written = on_stream_written;
    write->write.data = write;
    wire->writes_open++;
    for (size_t i = 0; i < write->count; i++)
        call->given_bytes += write->iovecs[i].iov_len;
    stream_write(wire->stream, &write->write, write->iovecs, write->count);
}

static struct call_write *write_new(struct http_call *call, size_t count)
{
    struct call_write *write = mem_zalloc(sizeof *write + count * sizeof *write->iovecs);
    list_init(&write->link);
    write->call = call;
    return write;
}

static void write_add(struct call_write *write, const void *data, size_t size)
{
    if (size)
        write->iovecs[write->count++] = (struct iovec){ (void *)(uintptr_t)data, size };
}

static void write_give(struct http_call *call, struct call_write *write)
{
    if (call->wire && call->phase != CALL_CONNECTING)
        write_send(call, write);
    else
        list_append(&call->writes, &write->link); /* in order, behind the head */
}

void http_call_write(struct http_call *call, const struct iovec *iovecs, size_t count,
                     http_call_written_cb on_written, void *data)
{
    struct call_write *write = write_new(call, count + 2);
    size_t bytes = 0;
    assert((call->streamed || call->tunnel) && !call->ended);
    for (size_t i = 0; i < count; i++)
        bytes += iovecs[i].iov_len;
    write->on_written = on_written;
    write->data = data;
    if (call->chunked && bytes)
        write_add(write, write->prefix, http1_chunk_prefix(write->prefix, bytes));
    for (size_t i = 0; i < count; i++)
        write_add(write, iovecs[i].iov_base, iovecs[i].iov_len);
    if (call->chunked && bytes)
        write_add(write, "\r\n", 2);
    write_give(call, write);
}

uint64_t http_call_delivered(const struct http_call *call)
{
    const struct stream *stream = call->wire ? call->wire->stream : NULL;
    uint64_t held = stream ? stream_write_bytes(stream) + stream_kernel_bytes(stream) : 0;

    return stream && call->given_bytes > held ? call->given_bytes - held : 0;
}

void http_call_end_with(struct http_call *call, const struct http_header *trailers, size_t count)
{
    assert((call->streamed || call->tunnel) && !call->ended);
    call->ended = true;
    if (call->tunnel) {
        stream_shutdown(call->wire->stream);
        return;
    }
    if (!call->chunked)
        return;
    struct call_write *write = write_new(call, 1);
    struct slice tail =
        http1_write_head(call->arena, SLICE("0\r\n"), (struct slice){}, trailers, count);
    write_add(write, tail.data, tail.size);
    write_give(call, write);
}

void http_call_end(struct http_call *call)
{
    http_call_end_with(call, NULL, 0);
}

enum { INFORMED_MAX = 16 };

static void parser_renew(struct http_call *call)
{
    size_t bytes_max = call->client->config.head_bytes_max;
    call->parser = http1_parser_new(call->arena, false,
                                    &(struct http1_limits){
                                        .target_bytes_max = 0,
                                        .head_bytes_max = bytes_max,
                                        .headers_max = 256,
                                    });
}

/* What of the body is there already goes out with the head, in one system call. */
static void write_take(struct call_write *write, struct call_write *from)
{
    for (size_t i = 0; i < from->count; i++) {
        struct iovec part = from->iovecs[i];
        if (part.iov_base == from->prefix) {
            memcpy(write->prefix, from->prefix, sizeof from->prefix);
            part.iov_base = write->prefix;
        }
        write_add(write, part.iov_base, part.iov_len);
    }
    write->on_written = from->on_written;
    write->data = from->data;
    list_remove(&from->link);
    free(from);
}

/* Nearly always the kernel takes a request without a body, or with a small one, at once: then there
 * is nothing to wait for. */
static bool head_try(struct http_call *call)
{
    struct iovec parts[] = {
        { (void *)(uintptr_t)call->head_out.data, call->head_out.size },
        { (void *)(uintptr_t)call->body_out.data, call->body_out.size },
    };
    size_t all = call->head_out.size + call->body_out.size;
    if (!list_empty(&call->writes))
        return false;
    size_t gone = stream_try_write(call->wire->stream, parts, call->body_out.size ? 2 : 1);
    if (gone == all)
        return true;
    if (gone == 0)
        return false;
    struct call_write *rest = write_new(call, 2);
    size_t skip = gone < parts[0].iov_len ? gone : parts[0].iov_len;
    write_add(rest, (char *)parts[0].iov_base + skip, parts[0].iov_len - skip);
    gone -= skip;
    write_add(rest, (char *)parts[1].iov_base + gone, parts[1].iov_len - gone);
    write_send(call, rest);
    return true;
}

void call_send(struct http_call *call)
{
    struct call_write *body = LIST_FIRST(&call->writes, struct call_write, link), *write;
    call->bytes_seen = false;
    call->sent_ns = loop_now_ns();
    parser_renew(call);
    call_phase_set(call, CALL_HEAD, call->client->config.head_ms);
    if (!head_try(call)) {
        struct call_write *first = write_new(call, 2 + (body ? body->count : 0));
        write_add(first, call->head_out.data, call->head_out.size);
        write_add(first, call->body_out.data, call->body_out.size);
        if (body)
            write_take(first, body);
        write_send(call, first);
    }
    while ((write = LIST_FIRST(&call->writes, struct call_write, link))) {
        list_remove(&write->link);
        write_send(call, write);
    }
    stream_read_start(call->wire->stream);
}

void call_writes_cancel(struct http_call *call)
{
    struct call_write *write;
    struct err err;
    (void)err_set(&err, ERR_CANCELED, "the call is over");
    while ((write = LIST_FIRST(&call->sent, struct call_write, link)))
        write_report(write, &err); /* freed when the stream gives it back */
    while ((write = LIST_FIRST(&call->writes, struct call_write, link))) {
        write_report(write, &err);
        free(write);
    }
}

/* ---- in ----------------------------------------------------------------------------------- */

/* The owner's callbacks run in a frame; http_call_cancel() in one only marks. */
static bool stopped(const struct http_call *call)
{
    return call->canceled || call->paused;
}

static void body_give(struct http_call *call, const char *data, size_t size)
{
    if (call->silence_ms)
        call_phase_set(call, CALL_BODY, call->silence_ms);
    if (call->events.on_body)
        call->events.on_body(call, (struct slice){ data, size }, call->data);
}

/* 1: the answer is whole. */
static int head_feed(struct http_call *call, const char *data, size_t size, size_t *ret_used,
                     struct err *err)
{
    int r = http1_parse(call->parser, data, size, ret_used, err);
    if (r <= 0)
        return r;
    r = http1_response(call->parser, call->method, &call->response, &call->head, err);
    if (r < 0)
        return r;
    if (call->response.status == 101 && !call->upgrade)
        return err_set(err, ERR_INTERNAL, "the answer switches protocols, which nobody asked for");
    if (http_informs(&call->response)) {
        if (++call->inform_count > INFORMED_MAX)
            return err_set(err, ERR_INTERNAL, "more than %d answers of 1xx before one",
                           INFORMED_MAX);
        if (call->informed && call->events.on_head)
            call->events.on_head(call, &call->response, call->data);
        parser_renew(call);
        return 0;
    }
    if (call->response.status == 101) {
        call->tunnel = true;
        call->ended = call->chunked = false; /* what is written from here goes as it is */
        call->silence_ms = 0;                /* how long it may be quiet is the owner's to say */
        call->head = (struct http1_head){ .framing = HTTP1_BODY_TO_END };
    }
    call->body_left = call->head.length;
    call->chunks = (struct http1_chunks){
        .arena = call->arena,
        .trailer_bytes_max = call->client->config.head_bytes_max,
        .trailers_max = 64,
    };
    call_phase_set(call, CALL_BODY, call->silence_ms);
    if (call->events.on_head)
        call->events.on_head(call, &call->response, call->data);
    return call->head.framing == HTTP1_BODY_NONE;
}

static int body_feed(struct http_call *call, const char *data, size_t size, size_t *ret_used,
                     struct err *err)
{
    struct http1_chunks *chunks = &call->chunks;
    if (call->head.framing == HTTP1_BODY_TO_END) {
        *ret_used = size;
        body_give(call, data, size);
        return 0;
    }
    if (call->head.framing == HTTP1_BODY_LENGTH) {
        *ret_used = call->body_left < size ? call->body_left : size;
        call->body_left -= *ret_used;
        body_give(call, data, *ret_used);
        return call->body_left == 0;
    }
    if (chunks->left) {
        *ret_used = chunks->left < size ? chunks->left : size;
        chunks->left -= *ret_used;
        body_give(call, data, *ret_used);
        return 0;
    }
    int r = http1_chunks_next(chunks, data, size, ret_used, err);
    return r < 0 ? r : r == HTTP1_CHUNK_END;
}

/* Bytes taken. The call may be over then, and the wire closed or idle. */
static size_t wire_feed(struct wire *wire, const char *data, size_t size)
{
    size_t done = 0;
    while (done < size && wire->call && !stopped(wire->call)) {
        struct http_call *call = wire->call;
        struct err err;
        size_t used = 0;
        call->bytes_seen = call->answered = true;
        int r = call->phase == CALL_HEAD ? head_feed(call, data + done, size - done, &used, &err)
                                         : body_feed(call, data + done, size - done, &used, &err);
        done += used;
        if (r < 0) {
            struct err over; /* what is bad_input from a client is a fault of whoever answered */
            (void)err_set(&over, ERR_INTERNAL, "the answer: %s", err.message);
            call_over(call, &over);
            return size;
        }
        if (r > 0) {
            if (done < size)
                call->head.keep_alive = false; /* it says more than it was asked */
            if (!call->canceled)
                call_over(call, NULL);
            return size;
        }
    }
    return wire->closed ? size : done;
}

static void on_space(void *data, struct iovec *ret_space)
{
    struct wire *wire = data;
    if (wire->stash_bytes || (wire->call && stopped(wire->call)))
        return; /* wire_feed_stash() begins again */
    *ret_space = (struct iovec){ wire->client->scratch, wire->client->config.read_bytes };
}

static void stash_put(struct wire *wire, const char *data, size_t size)
{
    char *stash = mem_alloc(size);
    memcpy(stash, data, size);
    stash_free(wire);
    wire->stash = stash;
    wire->stash_at = 0;
    wire->stash_bytes = wire->stash_room = size;
}

static void on_read(void *data, size_t bytes)
{
    struct wire *wire = data;
    if (!wire->call) {
        wire_close(wire); /* an answer to no question */
        return;
    }
    wire->writes_open++; /* holds it through its owner's callbacks */
    const char *scratch = wire->client->scratch;
    size_t used = wire_feed(wire, scratch, bytes);
    bool wanted = !wire->closed && wire->call && !wire->call->canceled;
    if (used < bytes && wanted)
        stash_put(wire, scratch + used, bytes - used);
    wire->writes_open--;
    wire_release(wire);
}

void wire_feed_stash(struct wire *wire)
{
    wire->writes_open++;
    if (wire->stash_bytes) {
        size_t used = wire_feed(wire, wire->stash + wire->stash_at, wire->stash_bytes);
        wire->stash_at += used;
        wire->stash_bytes -= used;
        if (!wire->stash_bytes)
            stash_free(wire);
    }
    if (!wire->closed && wire->call && !wire->call->paused && !wire->stash_bytes)
        stream_read_start(wire->stream);
    wire->writes_open--;
    wire_release(wire);
}

/* Sent again where that cannot do it twice: nothing was answered, and the method allows it. */
static bool retry(struct http_call *call)
{
    static const char *const safe[] = { "GET", "HEAD", "OPTIONS", "PUT", "DELETE" };
    bool again = false;
    if (!call->wire->used || call->retried || call->bytes_seen || call->streamed ||
        call->canceled || call->once)
        return false;
    for (size_t i = 0; i < sizeof safe / sizeof *safe; i++)
        again |= strcmp(call->method, safe[i]) == 0;
    if (!again)
        return false;
    struct wire *wire = call->wire;
    struct call_write *write;
    while ((write = LIST_FIRST(&call->sent, struct call_write, link))) {
        list_remove(&write->link);
        write->call = NULL;
    }
    call->wire = NULL;
    wire_close(wire);
    call->retried = true;
    call_start(call);
    return true;
}

static void wire_left(struct wire *wire)
{
    const struct http_client_config *config = wire->client ? &wire->client->config : NULL;
    struct address address = wire->address; /* it may be freed now */
    wire_close(wire);
    if (config && config->on_left)
        config->on_left(&address, config->data);
}

static void on_read_end(void *data, const struct err *err)
{
    struct wire *wire = data;
    struct http_call *call = wire->call;
    struct err over;
    if (!call) {
        wire_left(wire);
        return;
    }
    if (!err && call->phase == CALL_BODY && call->head.framing == HTTP1_BODY_TO_END &&
        !call->canceled) {
        call_over(call, NULL);
        return;
    }
    if (call->phase == CALL_HEAD && retry(call))
        return;
    (void)err_set(&over, ERR_OVERLOADED, "the connection was closed %s the answer",
                  call->phase == CALL_HEAD ? "before" : "within");
    call_over(call, &over);
}

static const struct stream_reader reader = { on_space, on_read, on_read_end };

struct wire *wire_new(struct http_client *client, struct stream *stream)
{
    struct wire *wire = mem_zalloc(sizeof *wire);
    wire->client = client;
    wire->stream = stream;
    list_init(&wire->kept_link);
    list_init(&wire->place_link);
    list_append(&client->wires, &wire->link);
    stream_set_reader(stream, &reader, wire);
    return wire;
}
