/* SPDX-License-Identifier: Apache-2.0 */
/*
 * prober.h -- asks one address again and again whether what stands there is well: by HTTP (a GET
 * that is answered 200 to 399) or by whether it accepts a connection.
 *
 * At first it asks each `begin_ms`, for as long as it was never well and not given up; then each
 * period. What has just been started is asked in haste: each 5 ms for 2 s, each 20 ms up to 10 s,
 * and not given up before it was well. It is well with the first good answer, and no more after
 * `failures` bad ones in a row; that no socket could be had inside its network is none.
 * Loop thread only. The caller owns it; the client is borrowed and outlives it.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"
#include "io/address.h"

struct http_client;
struct http_dialer;
struct loop;
struct prober;

struct probe_plan {
    struct address address;
    struct slice path;      /* of the GET; empty: a connection is enough. Copied */
    struct slice authority; /* its Host line; empty: the address. Copied */
    int64_t begin_ms, period_ms, timeout_ms;
    unsigned failures;
    uint64_t scope; /* the replica in whose network the address is; 0: this machine's */
    const struct http_dialer *dialer; /* with `scope`; the client has the same. Borrowed */
    bool hasty;                       /* instead of begin_ms */
};

/* Told when it has become well, and each time that it is not, with why. Not from inside a call made
 * here; the prober may be freed in it. */
typedef void (*prober_cb)(struct prober *prober, bool well, const char *why, void *data);

struct prober *prober_new(struct loop *loop, struct http_client *client,
                          const struct probe_plan *plan, prober_cb on_seen, void *data);
void prober_free(struct prober *prober); /* NULL is allowed; on_seen is not called any more */
