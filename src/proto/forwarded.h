/* SPDX-License-Identifier: Apache-2.0 */
/*
 * forwarded.h -- the client behind proxies, as `Forwarded` (RFC 7239) and X-Forwarded-For tell.
 * Pure; no allocation; any thread. Only to be asked where the peer is a trusted proxy.
 *
 * Each proxy appends whom it saw, so the lists are read from their end: the first address that is
 * no trusted proxy's is the client. All before it may be the client's own invention, and is not
 * looked at. When all are trusted, the first of the list is.
 */
#pragma once

#include <stdbool.h>

#include "base/ip.h"
#include "proto/http.h"

enum { FORWARDED_HOPS_MAX = 32 }; /* trusted proxies one behind the other */

enum forwarded_kind {
    FORWARDED_NONE,    /* neither header is there */
    FORWARDED_UNKNOWN, /* a trusted proxy says that it does not know, or does not tell */
    FORWARDED_IP,
};

struct forwarded {
    enum forwarded_kind kind;
    struct ip ip;
    uint16_t port; /* host order; 0: not told */
};

typedef bool (*forwarded_trusts_cb)(const struct ip *ip, void *data);

/* ERR_BAD_INPUT: a list that cannot be read, more trusted hops than FORWARDED_HOPS_MAX, or two
 * headers that tell of different clients: a proxy that sets one of them must remove the other, or a
 * client would choose where it seems to be. */
[[nodiscard]] int forwarded_client(const struct http_headers *headers, forwarded_trusts_cb trusts,
                                   void *data, struct forwarded *ret, struct err *err);
