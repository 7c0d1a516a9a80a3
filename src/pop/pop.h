/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pop.h -- the pop agent as a role of the supervisor's process tree.
 */
#pragma once

/* Of a PoP that has joined a control elsewhere, in its home, mode 0600: what its agent shows. */
#define POP_SECRET_FILE "pop/secret"
#define POP_SECRET_BYTES_MAX 96
/* And what it was told: name, zone, where it stands, as JSON. */
#define POP_JOINED_FILE "pop/joined.json"

/* How many bytes model folders may have that nothing runs any more, with those that something
 * runs: "NB" in the environment. */
#define MODELS_ENVIRONMENT "PERIGEE_MODEL_CACHE"
#define ENGINE_ENVIRONMENT "PERIGEE_ENGINE"     /* "unix:PATH": --engine */
#define POP_BESIDE_ENVIRONMENT "PERIGEE_BESIDE" /* of a DNS server, the PoP's name: --beside */
#define MODELS_BYTES_MAX (UINT64_C(10) << 30)

/* Runs until the supervisor drains it or is gone; the process' exit code. Takes both descriptors:
 * the channel to the supervisor (contract/messages.h) and the lifeline. */
int pop_main(int channel_fd, int lifeline_fd);
