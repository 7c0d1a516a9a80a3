/* SPDX-License-Identifier: Apache-2.0 */
/* The life of a connection and its reading side. Reads whose place is unknown go to one scratch
 * buffer of the server and are worked off at once, so that an idle connection owns no buffer; only
 * what cannot be taken yet (pipelined requests, a body nobody has started) is copied to the stash.
 */
#include "http/h1.h"

#include <assert.h>
#include <string.h>

#include "base/arena.h"
#include "base/auto.h"
#include "base/rate.h"
#include "http/server_own.h"

SM_DEFINE(h1_state, H1_STATES)

/* A piece of a chunk shorter than this is not worth a read of its own. */
enum { DIRECT_CHUNK_BYTES_MIN = 8192 };

/* What a small inference takes from head to answer. */
enum { EXCHANGE_BYTES = 6144 };

static uint64_t smaller(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* It may be a secret. */
static void stash_free(struct h1 *h1)
{
    if (h1->stash)
        explicit_bzero(h1->stash, h1->stash_at + h1->stash_bytes);
    free(take_ptr(h1->stash));
    h1->stash_at = h1->stash_bytes = 0;
}

/* ---- life --------------------------------------------------------------------------------- */

static void release(struct h1 *h1)
{
    if (--h1->frames || h1->state != H1_CUT || h1->writes_open)
        return;
    loop_task_cancel(&h1->settle);
    arena_free(h1->arena);
    stash_free(h1);
    h1_client_free(h1);
    free(h1);
}

void h1_cut(struct h1 *h1, const struct err *err)
{
    if (h1->state == H1_CUT)
        return;
    struct exchange *x = h1->x;
    struct err gone;
    if (x && !err) {
        (void)err_set(&gone, ERR_CANCELED, "the connection was closed");
        err = &gone;
    }
    h1->frames++;
    h1_state_move(&h1->state, H1_CUT);
    server_left(h1->server, h1);
    h1->server = NULL;
    /* From here the kernel is given no byte any more: what was written may be let go at once. */
    stream_close(h1->stream);
    if (x) {
        h1_writes_cancel(h1, err);
        h1->x = NULL;
        h1->arena = NULL;
        exchange_close(x, err);
    }
    release(h1);
}

static void linger(struct h1 *h1)
{
    h1_state_move(&h1->state, H1_LINGER);
    stream_shutdown(h1->stream);
}

bool h1_body_ended(const struct h1 *h1)
{
    if (h1->tunnel)
        return h1->read_ended && !h1->stash_bytes;
    switch (h1->head.framing) {
    case HTTP1_BODY_LENGTH:
        return h1->body_left == 0;
    case HTTP1_BODY_CHUNKED:
        return h1->chunks_ended;
    case HTTP1_BODY_NONE:
    case HTTP1_BODY_TO_END:
        break;
    }
    return true;
}

/* The answer is out: what becomes of the connection? */
static void exchange_finished(struct h1 *h1)
{
    struct exchange *x = h1->x;
    bool body_ended = h1_body_ended(h1);
    bool droppable =
        h1->head.framing == HTTP1_BODY_LENGTH && h1->body_left <= h1->server->limits.drop_bytes_max;

    h1->x = NULL;
    h1->arena = NULL;
    h1->parser = NULL;
    h1->request_count++;
    h1->server->stats.body_bytes += x->body_bytes;
    h1->server->stats.body_copied_bytes += x->body_copied_bytes;
    exchange_close(x, NULL);
    if (body_ended && !h1->last_answer)
        h1_state_move(&h1->state, H1_IDLE);
    else if (h1->last_answer && body_ended && !h1->stash_bytes)
        h1_cut(h1, NULL);
    else if (!h1->last_answer && droppable)
        h1_state_move(&h1->state, H1_DROP);
    else
        linger(h1); /* closing now would reset the connection, and the answer might be lost */
}

/* ---- bytes in ----------------------------------------------------------------------------- */

static void body_fail(struct h1 *h1, const struct err *err)
{
    h1->last_answer = true;
    exchange_body_finish(h1->x, err);
}

static void exchange_begin(struct h1 *h1, const struct http_request *request,
                           const struct address *client)
{
    struct http_server *server = h1->server;
    struct h1_exchange *own = ARENA_NEW(h1->arena, struct h1_exchange);
    own->h1 = h1;
    own->x.codec = &h1_codec;
    own->x.arena = h1->arena;
    own->x.loop = server->loop;
    own->x.peer = &h1->stream->peer;
    own->x.client = client;
    own->x.trusted = h1_forwards(h1);
    own->x.rtt_told = h1->rtt_told;
    own->x.request = *request;
    own->x.started_ns = h1->started_ns;
    h1->x = &own->x;
    h1->body_left = h1->head.length;
    h1->chunks_ended = false;
    h1->chunks = (struct http1_chunks){
        .arena = h1->arena,
        .trailer_bytes_max = server->limits.head_bytes_max,
        .trailers_max = server->limits.headers_max,
    };
    h1_state_move(&h1->state, H1_EXCHANGE);
    server->stats.requests++;
    server->events.on_head(h1->x, server->data);
    assert(own->x.handler || own->x.responded);
}

static size_t head_feed(struct h1 *h1, const char *data, size_t size)
{
    const struct address *client = NULL;
    struct http_request request;
    struct err err;
    size_t used;
    int r = http1_parse(h1->parser, data, size, &used, &err);
    if (r < 0) {
        h1_refuse(h1, NULL, &err);
        return size;
    }
    if (r == 0)
        return size;
    r = http1_request(h1->parser, &request, &h1->head, &err);
    if (r == 0)
        r = h1_client_find(h1, &request, &client, &err);
    if (r < 0)
        h1_refuse(h1, &request, &err);
    else
        exchange_begin(h1, &request, client);
    return used;
}

struct arena *h1_arena(struct h1 *h1)
{
    if (!h1->arena)
        h1->arena = arena_new_for(EXCHANGE_BYTES);
    return h1->arena;
}

static void head_begin(struct h1 *h1)
{
    const struct http_server_limits *limits = &h1->server->limits;
    h1->started_ns = loop_now_ns();
    h1->parser = http1_parser_new(h1_arena(h1), true,
                                  &(struct http1_limits){
                                      .target_bytes_max = limits->target_bytes_max,
                                      .head_bytes_max = limits->head_bytes_max,
                                      .headers_max = limits->headers_max,
                                  });
    h1_state_move(&h1->state, H1_HEAD);
}

/* Of a connection that has not said yet whether a proxy begins it. */
static size_t preface_feed(struct h1 *h1, const char *data, size_t size)
{
    struct slice back = {};
    size_t used = h1_preface_feed(h1, data, size, &back);
    if (!back.size)
        return used;
    /* Too few to be a whole head, but enough to be a wrong one. */
    head_begin(h1);
    (void)head_feed(h1, back.data, back.size);
    return h1->state == H1_HEAD ? head_feed(h1, data, size) : size;
}

static bool body_wanted(const struct h1 *h1)
{
    return h1->state == H1_EXCHANGE && h1->x->body == BODY_READING && !h1->x->body_paused &&
           !h1->x->aborted;
}

static size_t chunked_feed(struct h1 *h1, const char *data, size_t size)
{
    struct http1_chunks *chunks = &h1->chunks;
    struct exchange *x = h1->x;
    size_t done = 0;
    while (done < size && !h1->chunks_ended && body_wanted(h1)) {
        struct err err;
        size_t used;
        if (chunks->left) {
            used = exchange_body_deliver(x, data + done, smaller(chunks->left, size - done));
            chunks->left -= used;
            done += used;
            continue;
        }
        int r = http1_chunks_next(chunks, data + done, size - done, &used, &err);
        done += used;
        if (r == HTTP1_CHUNK_DATA && chunks->left > x->body_bytes_max - x->body_bytes)
            r = err_set(&err, ERR_TOO_LARGE, "the body is larger than its limit of %llu bytes",
                        (unsigned long long)x->body_bytes_max);
        if (r < 0) {
            body_fail(h1, &err);
            return size;
        }
        h1->chunks_ended = r == HTTP1_CHUNK_END;
    }
    if (h1->chunks_ended)
        x->trailers = chunks->trailers;
    return done;
}

static size_t body_feed(struct h1 *h1, const char *data, size_t size)
{
    size_t used = 0;
    if (!body_wanted(h1))
        return 0;
    if (h1->tunnel) {
        used = exchange_body_deliver(h1->x, data, size);
    } else if (h1->head.framing == HTTP1_BODY_CHUNKED) {
        used = chunked_feed(h1, data, size);
    } else if (h1->body_left) {
        used = exchange_body_deliver(h1->x, data, smaller(h1->body_left, size));
        h1->body_left -= used;
    }
    if (h1->x->body == BODY_READING && h1_body_ended(h1))
        exchange_body_finish(h1->x, NULL);
    return used;
}

static size_t drop_feed(struct h1 *h1, size_t size)
{
    size_t used = smaller(h1->body_left, size);
    h1->body_left -= used;
    if (!h1->body_left)
        h1_state_move(&h1->state, H1_IDLE);
    return used;
}

/* Takes what can be taken; returns how much that was. */
static size_t feed(struct h1 *h1, const char *data, size_t size)
{
    size_t done = 0, used = 1;
    while (done < size && used) {
        switch (h1->state) {
        case H1_IDLE:
            if (h1->fresh && !h1_preface_absent(data + done, size - done)) {
                h1->fresh = false;
                used = preface_feed(h1, data + done, size - done);
                break;
            }
            h1->fresh = false;
            head_begin(h1);
            used = head_feed(h1, data + done, size - done);
            break;
        case H1_PREFACE:
            used = preface_feed(h1, data + done, size - done);
            break;
        case H1_HEAD:
            used = head_feed(h1, data + done, size - done);
            break;
        case H1_EXCHANGE:
            used = body_feed(h1, data + done, size - done);
            break;
        case H1_DROP:
            used = drop_feed(h1, size - done);
            break;
        case H1_LINGER:
            used = size - done;
            h1->linger_bytes += used;
            if (h1->linger_bytes > h1->server->limits.linger_bytes_max)
                h1_cut(h1, NULL);
            break;
        default:
            return size;
        }
        done += used;
    }
    return done;
}

static bool stash_feed(struct h1 *h1)
{
    size_t used = feed(h1, h1->stash + h1->stash_at, h1->stash_bytes);
    h1->stash_at += used;
    h1->stash_bytes -= used;
    if (!h1->stash_bytes)
        stash_free(h1);
    return used > 0;
}

static void stash_put(struct h1 *h1, const char *data, size_t size)
{
    assert(!h1->stash_bytes);
    stash_free(h1);
    h1->stash = mem_alloc(size);
    memcpy(h1->stash, data, size);
    h1->stash_at = 0;
    h1->stash_bytes = size;
}

static bool read_wanted(const struct h1 *h1)
{
    if (h1->state == H1_CUT || h1->read_ended)
        return false;
    if (h1->state != H1_EXCHANGE)
        return true;
    /* A body waits in the kernel until it has a place. Behind it, one read of what is pipelined is
     * taken: that is how a client that goes away is seen. */
    return !h1->stash_bytes && (h1_body_ended(h1) || body_wanted(h1));
}

/* How many bytes may be read straight to the handler's space; 0: by way of the scratch buffer. */
static uint64_t direct_bytes(const struct h1 *h1)
{
    if (!body_wanted(h1))
        return 0;
    if (h1->tunnel)
        return h1->stash_bytes ? 0 : UINT64_MAX;
    if (h1->head.framing == HTTP1_BODY_LENGTH)
        return h1->body_left;
    return h1->chunks.left >= DIRECT_CHUNK_BYTES_MIN ? h1->chunks.left : 0;
}

static void on_space(void *data, struct iovec *ret_space)
{
    struct h1 *h1 = data;
    uint64_t bytes = direct_bytes(h1);
    h1->direct = false;
    if (!read_wanted(h1))
        return;
    if (!bytes) {
        *ret_space = (struct iovec){ h1->server->scratch, h1->server->limits.read_bytes };
        return;
    }
    struct iovec space = {};
    h1->poked = false;
    h1->frames++; /* not left the usual way: nothing may be settled while libuv is about to read */
    h1->x->handler->on_body_space(h1->x, &space, h1->x->data);
    h1->frames--;
    if (h1->poked || !space.iov_len) {
        h1_poke(h1);
        h1->x->body_paused = !space.iov_len;
        return;
    }
    h1->direct = true;
    *ret_space = (struct iovec){ space.iov_base, smaller(space.iov_len, bytes) };
}

static void on_read(void *data, size_t bytes)
{
    struct h1 *h1 = data;
    h1_enter(h1);
    h1->server->stats.bytes_in += bytes;
    h1->in_bytes += bytes;
    if (h1->direct) {
        h1->direct = false;
        if (h1->tunnel)
            ; /* it has no end of its own */
        else if (h1->head.framing == HTTP1_BODY_LENGTH)
            h1->body_left -= bytes;
        else
            h1->chunks.left -= bytes;
        h1->x->body_bytes += bytes;
        h1->x->handler->on_body(h1->x, bytes, h1->x->data);
    } else {
        /* Scratch is this server's, and a callback that frees the server breaks its contract. */
        const char *scratch = h1->server->scratch;
        size_t used = feed(h1, scratch, bytes);
        if (used < bytes && h1->state != H1_CUT)
            stash_put(h1, scratch + used, bytes - used);
    }
    h1_leave(h1);
}

static void on_read_end(void *data, const struct err *err)
{
    struct h1 *h1 = data;
    struct err gone;
    h1_enter(h1);
    h1->read_ended = true;
    if (!err && h1->state == H1_EXCHANGE && !h1->tunnel && !h1_body_ended(h1)) {
        (void)err_set(&gone, ERR_CANCELED, "the client went away within its request's body");
        err = &gone;
    }
    if (err || h1->state == H1_PREFACE || h1->state == H1_HEAD || h1->state == H1_DROP)
        h1_cut(h1, err);
    h1_leave(h1); /* idle and lingering ones end there, an exchange has gone_ms */
}

static const struct stream_reader reader = { on_space, on_read, on_read_end };

/* ---- settling ----------------------------------------------------------------------------- */

/* One step of what is due; false: nothing was. */
static bool settle_step(struct h1 *h1)
{
    struct exchange *x = h1->x;
    if (h1->state == H1_CUT)
        return false;
    if (x && x->aborted) {
        h1_cut(h1, NULL);
        return false;
    }
    if (x && x->body == BODY_READING && !x->body_paused && h1_body_ended(h1)) {
        exchange_body_finish(x, NULL);
        return true;
    }
    if (x && x->ended && !h1->head_out.size && list_empty(&h1->writes)) {
        exchange_finished(h1);
        return true;
    }
    return h1->stash_bytes && stash_feed(h1);
}

static enum h1_wait wait_choose(const struct h1 *h1)
{
    switch (h1->state) {
    case H1_IDLE:
        return WAIT_IDLE;
    case H1_PREFACE:
    case H1_HEAD:
        return WAIT_HEAD;
    case H1_DROP:
        return WAIT_BODY;
    case H1_LINGER:
        return WAIT_LINGER;
    default:
        break;
    }
    if (stream_write_bytes(h1->stream))
        return WAIT_WRITE;
    if (h1->tunnel)
        return WAIT_NONE;
    if (h1->read_ended)
        return WAIT_GONE;
    if (h1_body_ended(h1))
        return WAIT_NONE;
    return body_wanted(h1) ? WAIT_BODY : WAIT_GONE; /* an end that no read will see */
}

static void settle(struct h1 *h1)
{
    while (settle_step(h1))
        ;
    if (h1->state == H1_EXCHANGE && h1->head_out.size)
        h1_head_flush(h1);
    bool ended = h1->read_ended || (h1->server && h1->server->draining && !h1->server->idle_kept);
    if ((h1->state == H1_IDLE && ended) ||
        (h1->state == H1_LINGER && h1->read_ended && !h1->writes_open))
        h1_cut(h1, NULL);
    if (h1->state == H1_CUT)
        return;
    server_wait(h1->server, h1, wait_choose(h1));
    if (read_wanted(h1))
        stream_read_start(h1->stream);
}

void h1_enter(struct h1 *h1)
{
    h1->frames++;
}

void h1_leave(struct h1 *h1)
{
    if (h1->frames == 1)
        settle(h1);
    release(h1);
}

void h1_poke(struct h1 *h1)
{
    h1->poked = true;
    if (h1->frames == 0)
        loop_defer(h1->stream->loop, &h1->settle);
}

static void on_settle(void *data)
{
    struct h1 *h1 = data;
    h1_enter(h1);
    h1_leave(h1);
}

struct h1 *h1_new(struct http_server *server, struct stream *stream, bool trusted)
{
    struct h1 *h1 = mem_zalloc(sizeof *h1);
    h1->server = server;
    h1->stream = stream;
    h1->wait = WAIT_NONE;
    h1->fresh = true;
    h1->trusted = trusted;
    list_init(&h1->link);
    list_init(&h1->wait_link);
    list_init(&h1->writes);
    loop_task_init(&h1->settle, on_settle, h1);
    stream_set_reader(stream, &reader, h1);
    stream_read_start(stream);
    return h1;
}

void h1_drain(struct h1 *h1)
{
    h1_poke(h1);
}

/* ---- timeouts ----------------------------------------------------------------------------- */

static void head_expire(struct h1 *h1)
{
    struct err err;
    if (h1->state != H1_HEAD || !http1_parse_begun(h1->parser)) { /* no request to answer */
        h1_cut(h1, NULL);
        return;
    }
    (void)err_set_http(&err, 408, "the request's head did not come within %llu ms",
                       (unsigned long long)h1->server->limits.head_ms);
    h1_refuse(h1, NULL, &err);
}

static void body_expire(struct h1 *h1)
{
    struct err err;
    if (h1->state != H1_EXCHANGE) {
        h1_cut(h1, NULL);
        return;
    }
    (void)err_set_http(
        &err, 408, "the body came too slowly: %llu bytes within %llu ms, at least %llu a second",
        (unsigned long long)(h1->in_bytes - h1->wait_bytes),
        (unsigned long long)h1->server->limits.body_ms,
        (unsigned long long)h1->server->limits.body_rate_min);
    body_fail(h1, &err);
}

uint64_t h1_taken(const struct h1 *h1)
{
    uint64_t given = h1->out_bytes - stream_write_bytes(h1->stream);
    uint64_t held = stream_kernel_bytes(h1->stream);
    return given > held ? given - held : 0;
}

static bool enough(uint64_t now, uint64_t before, uint64_t rate, uint64_t ms)
{
    return now > before && rate_enough(now - before, rate, ms);
}

/* It came forward as fast as it must, and waits on. */
static bool progress(struct h1 *h1, enum h1_wait wait)
{
    const struct http_server_limits *limits = &h1->server->limits;
    uint64_t now = h1->in_bytes, before = h1->wait_bytes;
    bool on = false;
    if (wait == WAIT_BODY)
        on = enough(now, before, limits->body_rate_min, limits->body_ms);
    if (wait == WAIT_WRITE) {
        now = h1_taken(h1); /* what it had at the beginning was not asked: that costs a call */
        on = before == WAIT_BYTES_UNKNOWN ||
             enough(now, before, limits->write_rate_min, limits->write_ms);
    }
    if (wait == WAIT_GONE && !h1->read_ended) {
        /* It waits with something unread. Once its end is seen, it has as long as others have. */
        bool ended = stream_ended(h1->stream);
        on = !ended || before == WAIT_BYTES_UNKNOWN;
        now = ended ? 0 : WAIT_BYTES_UNKNOWN;
    }
    if (on)
        server_wait_on(h1->server, h1, now);
    return on;
}

static void timeout_count(struct http_server *server, enum h1_wait wait)
{
    uint64_t *const counts[] = {
#define COUNT(name) &server->stats.timeouts.name,
        HTTP_SERVER_TIMEOUTS(COUNT)
#undef COUNT
    };
    static_assert(sizeof counts / sizeof *counts == WAIT_NONE);
    ++*counts[wait];
}

void h1_expire(struct h1 *h1)
{
    struct err err;
    enum h1_wait wait = h1->wait;
    if (progress(h1, wait))
        return;
    h1_enter(h1);
    server_wait(h1->server, h1, WAIT_NONE);
    if (wait == WAIT_IDLE && stream_readable(h1->stream)) {
        h1_leave(h1); /* a request has come while the loop had others to look after */
        return;
    }
    timeout_count(h1->server, wait);
    switch (wait) {
    case WAIT_HEAD:
        head_expire(h1);
        break;
    case WAIT_BODY:
        body_expire(h1);
        break;
    default:
        (void)err_set(&err, ERR_CANCELED, "the client %s",
                      wait == WAIT_WRITE ? "does not read its answer" : "went away");
        h1_cut(h1, &err);
        break;
    }
    h1_leave(h1);
}
