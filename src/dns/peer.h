/* SPDX-License-Identifier: Apache-2.0 */
/*
 * peer.h -- socket addresses as base/ip.h has them. Any thread.
 */
#pragma once

#include <stdbool.h>

#include "base/ip.h"

struct sockaddr_storage;

bool dns_peer_ip(const struct sockaddr_storage *storage, struct ip *ret); /* false: neither IP */
/* What the socket is bound to, or connected from; false: all addresses. */
bool dns_local_ip(int fd, struct ip *ret);
