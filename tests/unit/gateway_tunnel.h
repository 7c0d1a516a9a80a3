/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gateway_tunnel.h -- a scene (gateway_scene.h) in which `digits` is an application over HTTP, and
 * clients that ask it for a WebSocket.
 */
#pragma once

#include "gateway_scene.h"

#define TUNNEL_HOST "Host: digits.localhost\r\n"
#define TUNNEL_ASK                                                                                 \
    "GET /chat?a=b HTTP/1.1\r\n" TUNNEL_HOST                                                       \
    "Connection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Key: mine\r\n"

extern struct table_target tunnel_target; /* this PoP's own, where it is served here */
struct world_endpoint tunnel_row(uint32_t state, const struct table_source_placement *placed,
                                 size_t count);
void tunnel_begin(struct scene *scene, enum peer_mode mode); /* it is at `other` alone */
/* At `other`, and at `third`, which is further away and has tunnels. */
void tunnel_begin_both(struct scene *scene, enum peer_mode other);

void tunnel_say(int fd, const char *data, size_t size);
/* The head of its answer, whatever that is; what is behind it is left. */
int tunnel_ask(struct world *world, const char *request, char head[static 4096]);
int tunnel_open(struct world *world); /* answered 101 */
void tunnel_expect(int fd, const char *text);
void tunnel_expect_end(int fd); /* and closes it */
