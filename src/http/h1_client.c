/* SPDX-License-Identifier: Apache-2.0 */
/* Who is behind a connection: the PROXY header it may begin with, the forwarding headers of a
 * request, and how far away that is. Of a peer that is not trusted nothing is believed: then a
 * PROXY header is an error, and the other two are not looked at. */
#include "http/h1.h"

#include <assert.h>
#include <string.h>

#include "base/arena.h"
#include "base/auto.h"
#include "base/log.h"
#include "http/crowd.h"
#include "http/server_own.h"
#include "http/trust.h"
#include "proto/forwarded.h"
#include "proto/proxy.h"

enum { RTT_ASKED_MS = 1000 }; /* what the kernel measured is asked again after so long */

/* The bytes of a preface that did not come at once. */
struct h1_preface {
    size_t size;
    char bytes[PROXY_BYTES_MAX];
};

static const struct address *client_of(const struct h1 *h1)
{
    return h1->client ? h1->client : &h1->stream->peer;
}

static void preface_refuse(struct h1 *h1, const struct err *err)
{
    h1->arena = arena_new();
    h1_refuse(h1, NULL, err);
}

/* Whom the peer speaks for is counted from here on, in place of the peer. */
static int client_set(struct h1 *h1, const struct proxy_header *header, struct err *err)
{
    struct crowd *crowd = h1->server->crowd;
    h1->rtt_told = header->rtt_known;
    h1->rtt_us = header->rtt_us;
    if (!header->known)
        return 0;
    struct address *client = h1->client = mem_zalloc(sizeof *client);
    address_from_ip(&header->source, header->source_port, client);
    if (!crowd)
        return 0;
    if (crowd_full(crowd, client)) {
        h1->server->stats.crowded++;
        return err_set(err, ERR_RATE_LIMITED,
                       "this address has as many connections as one may have");
    }
    h1->counted = crowd_enter(crowd, client);
    return 0;
}

static int preface_take(struct h1 *h1, const struct proxy_header *header, struct err *err)
{
    if (!h1->trusted)
        return err_set(err, ERR_BAD_INPUT,
                       "a PROXY header, and this address is none of --trusted-proxies");
    int r = client_set(h1, header, err);
    if (r == 0)
        h1_state_move(&h1->state, H1_IDLE);
    return r;
}

bool h1_preface_absent(const char *data, size_t size)
{
    struct proxy_header header;
    size_t used;
    return proxy_parse(data, size, &header, &used, NULL) == PROXY_ABSENT;
}

size_t h1_preface_feed(struct h1 *h1, const char *data, size_t size, struct slice *ret_back)
{
    struct proxy_header header;
    size_t had = h1->preface ? h1->preface->size : 0, used = 0;
    struct err err;
    if (h1->state == H1_IDLE)
        h1_state_move(&h1->state, H1_PREFACE);
    if (!h1->preface)
        h1->preface = mem_alloc(sizeof *h1->preface);
    struct h1_preface *preface = h1->preface;
    size_t more = size < sizeof preface->bytes - had ? size : sizeof preface->bytes - had;
    memcpy(preface->bytes + had, data, more);
    preface->size = had + more;
    int r = proxy_parse(preface->bytes, preface->size, &header, &used, &err);
    if (r == PROXY_MORE) {
        assert(more == size);
        return size;
    }
    if (r == PROXY_ABSENT) { /* what was kept of it begins a request */
        h1_state_move(&h1->state, H1_IDLE);
        *ret_back = arena_copy(h1_arena(h1), (struct slice){ preface->bytes, had });
    } else if (r < 0 || preface_take(h1, &header, &err) < 0) {
        preface_refuse(h1, &err);
        used = had + size;
    }
    free(h1->preface);
    h1->preface = NULL;
    return used > had ? used - had : 0;
}

void h1_client_free(struct h1 *h1)
{
    free(h1->preface);
    free(h1->client);
}

void h1_client_left(struct h1 *h1)
{
    if (h1->counted)
        crowd_leave(h1->server->crowd, client_of(h1));
    h1->counted = false;
}

static bool trusts(const struct ip *ip, void *data)
{
    return trust_has(data, ip);
}

/* A proxy in front of a proxy must be trusted as well. */
bool h1_forwards(const struct h1 *h1)
{
    return h1->trusted && (!h1->client || trust_has_peer(h1->server->trust, h1->client));
}

int h1_client_find(struct h1 *h1, const struct http_request *request, const struct address **ret,
                   struct err *err)
{
    struct forwarded forwarded;
    *ret = client_of(h1);
    if (!h1_forwards(h1))
        return 0;
    int r = forwarded_client(&request->headers, trusts, (void *)(uintptr_t)h1->server->trust,
                             &forwarded, err);
    if (r < 0 || forwarded.kind == FORWARDED_NONE)
        return r;
    struct address *client = ARENA_NEW(h1->arena, struct address);
    if (forwarded.kind == FORWARDED_IP)
        address_from_ip(&forwarded.ip, forwarded.port, client);
    *ret = client;
    return 0;
}

uint32_t h1_rtt_us(struct h1 *h1)
{
    int64_t now = loop_now_ms(h1->stream->loop);
    if (h1->rtt_told)
        return h1->rtt_us;
    if (!h1->rtt_asked_ms || now - h1->rtt_asked_ms >= RTT_ASKED_MS) {
        h1->rtt_us = stream_rtt_us(h1->stream);
        h1->rtt_asked_ms = now ? now : 1;
    }
    return h1->rtt_us;
}
