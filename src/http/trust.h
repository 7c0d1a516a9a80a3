/* SPDX-License-Identifier: Apache-2.0 */
/*
 * trust.h -- the peers whose word is taken on who is behind them: `--trusted-proxies CIDR,...`.
 *
 * From these alone a connection may begin with a PROXY header (proto/proxy.h), and Forwarded and
 * X-Forwarded-For are believed (proto/forwarded.h). Immutable once made: any thread.
 */
#pragma once

#include <stdbool.h>

#include "base/ip.h"

struct address;
struct err;
struct trust;

/* Where `perigee up` leaves them for its processes. */
#define TRUST_ENVIRONMENT "PERIGEE_TRUSTED_PROXIES"

enum { TRUST_BLOCKS_MAX = 256 };

/* Blocks and addresses by commas. */
[[nodiscard]] int trust_parse(struct slice text, struct trust **ret, struct err *err);
/* What the environment has; NULL: nothing, or what `perigee up` would have refused, logged. */
struct trust *trust_of_environment(void);
void trust_free(struct trust *trust); /* NULL is allowed */

/* Is that listener ("unix:PATH", as the messages have it) a Unix socket in the home? Who may open
 * the home alone reaches it, and is trusted. */
bool trust_in_home(const char *listener, const char *home);

/* `trust` NULL: nobody is trusted. */
bool trust_has(const struct trust *trust, const struct ip *ip);
bool trust_has_peer(const struct trust *trust, const struct address *peer); /* of an IP address */
