/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gateway.h -- the process that meets clients: N loop threads, and a main thread that talks to the
 * supervisor and the agent. Started by the supervisor as `role gateway`.
 */
#pragma once

/* Limits of HTTP that are other than usual: "NAME=NUMBER,..." (http_server_limits_parse). */
#define GATEWAY_LIMITS_ENVIRONMENT "PERIGEE_LIMITS"

/* What needs its files, before privileges are given up: maps of addresses ($PERIGEE_ADDRESSES,
 * $PERIGEE_GEO). */
void gateway_prepare(void);

/* The whole life of the process, from START to DRAIN; returns its exit status. `channel_fd` is the
 * SOCK_SEQPACKET socket to the supervisor, `lifeline_fd` ends when the supervisor does (-1: none,
 * in tests). Takes both. */
int gateway_main(int channel_fd, int lifeline_fd);
