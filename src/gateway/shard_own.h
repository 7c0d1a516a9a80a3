/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shard_own.h -- what the files of one loop share among themselves: shard.c is its thread,
 * shard_tell.c what the main thread tells it, shard_report.c what it tells the main thread,
 * shard_tick.c what is counted once a second. Loop thread only.
 */
#pragma once

#include <stdint.h>

struct gateway_loop;

void shard_tick(void *data); /* a gateway_loop; starts its timer anew */
/* To the main thread: a replica may be ready; all loops have that table. */
void shard_report_look(struct gateway_loop *gl, uint64_t replica);
void shard_report_served(struct gateway_loop *gl, uint64_t table);
