/* SPDX-License-Identifier: Apache-2.0 */
/*
 * control.h -- the control plane as a role: REST API, watches, the store.
 *
 * Started by the supervisor as contract/messages.h says: it is sent START, its LISTENERs and GO,
 * and answers READY. One loop serves; the store, reads and blobs have threads of their own.
 */
#pragma once

/* Both descriptors are taken. Returns the exit status: 0 after DRAIN, or when the supervisor went.
 */
int control_main(int channel_fd, int lifeline_fd);

/* The answer of /openapi.json, and docs/api.md, from the table of routes. */
struct arena;
struct slice;
struct slice control_openapi(struct arena *arena);
struct slice control_docs(struct arena *arena);
