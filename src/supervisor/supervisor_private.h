/* SPDX-License-Identifier: Apache-2.0 */
/*
 * supervisor_private.h -- the shell around the core, shared by supervisor*.c alone: supervisor.c
 * begins it, in another program's place too, and runs it; supervisor_upgrade.c leaves its own place
 * to the next program. One thread.
 */
#pragma once

#include "supervisor/core.h"
#include "supervisor/handover.h"
#include "supervisor/supervisor.h"
#include "supervisor/upgrade.h"
#include "sys/listen.h"

enum { SETS_MAX = HANDOVER_SETS_MAX };

struct supervisor {
    const struct supervisor_config *config; /* `own` */
    struct supervisor_config own;
    struct env_linux *world;
    struct core *core;
    struct family *family;
    int lock_fd, signal_fd, lifeline[2];
    struct listen_set sets[SETS_MAX];
    struct supervisor_address addresses[SETS_MAX];
    size_t set_count;
    struct core_listener listeners[SETS_MAX * LISTEN_SET_MAX];
    size_t listener_count;
    struct env_timer addresses_timer;
    struct upgrade *upgrade;
    uint32_t uid_base;
    uint32_t generation, generation_before, generation_last; /* of programs, counted */
    uint32_t upgrades_done, upgrades_failed;
    uint32_t flags_before; /* of the state that it left */
    int before_fd;         /* the program before this one, until its successor serves */
    char back_text[512];   /* why this is the program from before an upgrade; or empty */
    bool back_due;         /* an upgrade failed half way: the program before is to come back */
    unsigned stops;        /* signals so far */
    bool ended;
};

extern const struct upgrade_host supervisor_upgrade_host; /* data: the supervisor */
/* The program before takes this one's place, once nothing waits to be sent (back_due). */
void supervisor_go_back(struct supervisor *self);
