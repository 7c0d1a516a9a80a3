/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sleeper.h -- to be asked before a loop polls, and told when it has: for work that comes through
 * shared memory, where the other side must know whether it has to wake us. Loop thread only.
 */
#pragma once

struct loop;
struct sleeper;

/* on_sleep: right before each poll, once or twice; what it defers is run before that poll, what it
 * starts is seen by it. on_wake: right after the poll, before events deferred to the end of the
 * pass. Does not keep the loop alive. */
struct sleeper *sleeper_new(struct loop *loop, void (*on_sleep)(void *data),
                            void (*on_wake)(void *data), void *data);
void sleeper_free(struct sleeper *sleeper); /* NULL is allowed */
