/* SPDX-License-Identifier: Apache-2.0 */
/*
 * handover.h -- what a supervisor leaves to the program that it becomes: its state as one sealed
 * memfd, by version. Descriptors stand in it by their numbers and are kept open over the exec; a
 * child is known by its process id, which stays its own until this process has reaped it.
 *
 * Rows in this order, each array as long as the head says: processes (two gateways, agent, control,
 * dns, then templates), listening sets, revisions, replicas (live ones, then the dead that no
 * agent has heard of), what ended ones used that no agent has on disk, the projects of templates
 * and revisions unless all are the default one, and the bytes of logs. Plain data, 8-byte aligned;
 * whoever made it is trusted, but of another version perhaps: everything is checked on reading. No
 * threads.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "contract/messages.h"
#include "sys/listen.h"

struct err;

#define HANDOVER_MAGIC "PegState"
#define HANDOVER_VERSION 2u
#define HANDOVER_BYTES_MAX (UINT64_C(64) << 20)
#define HANDOVER_ENVIRONMENT                                                                       \
    "PERIGEE_HANDOVER" /* the memfd's number, for the program that begins */

enum { HANDOVER_TEMPLATES_BEFORE = 8 }; /* with HANDOVER_NO_PROJECTS: more were not read */
enum { HANDOVER_ROLES = 5, HANDOVER_SETS_MAX = 5 * LISTEN_ADDRESSES_MAX };

/* flags of the head */
#define HANDOVER_READY_ONCE 1u /* all roles have served once */
#define HANDOVER_CONTROL 2u    /* this node runs one */
#define HANDOVER_DNS 8u
#define HANDOVER_NO_POP 16u          /* neither agent nor gateway */
#define HANDOVER_NO_GATEWAY 32u      /* of an agent beside DNS alone */
#define HANDOVER_PROJECTS 64u        /* there are rows of them; a state of before has none */
#define HANDOVER_READS_PROJECTS 128u /* who wrote this does */
#define HANDOVER_NO_PROJECTS 256u /* for a program of before: few templates, no rows of projects */
#define HANDOVER_BACK 4u /* an upgrade failed, `text` says why: this is the program before it */

struct handover_head {
    char magic[8];
    uint32_t version, head_bytes;
    uint64_t bytes; /* of all */
    uint64_t log_bytes;
    uint32_t process_count, set_count, revision_count, replica_count, dead_count;
    uint32_t flags;
    uint32_t generation; /* of the program that begins; processes have that of the one they run */
    uint32_t generation_before, generation_last;
    uint32_t upgrades_done, upgrades_failed;
    uint16_t gateway;    /* which of the two serves */
    uint16_t used_count; /* 0 in the first states of this version, which had none of those rows */
    uint32_t uid_base;   /* of replicas */
    int32_t lock_fd, lifeline_fds[2], metrics_fd;
    int32_t table_fd, socket_fd, client_fd; /* -1: none */
    int32_t before_fd;                      /* the program before this one; -1: none */
    int32_t dns_metrics_fd;
    int32_t netns_pid; /* of who enters networks: it ends with its channel; 0: none */
    uint64_t messages_dropped;
    struct message_table table;
    struct message_start start;
    char text[512];
};

struct handover_process {
    uint32_t role, state; /* enum process_life */
    uint64_t instance;
    int64_t ready_ns, due_ns; /* CLOCK_MONOTONIC; due 0: no timer */
    uint32_t restarts, failures, generation;
    int32_t pid, channel_fd; /* of one that lives */
    uint8_t fresh, proven, booting, replacing, unwanted;
    uint8_t contract; /* 0 in states of before Perigee spoke two versions: 1 */
    uint8_t reserved[6];
    char name[32], runtime[16], library[64], why[160];
    uint32_t walls, landlock_abi; /* what a template promises */
    char walls_off[512];
};

struct handover_set {
    uint32_t kind, internal, count;
    int32_t fds[LISTEN_SET_MAX];
    uint32_t reserved;
    char text[LISTEN_TEXT_BYTES];
};

struct handover_revision {
    uint64_t uid;
    int32_t arena_fd;
    uint8_t gone, told, reserved[2];
};

struct handover_replica {
    uint32_t state; /* enum replica_state */
    uint32_t end, uid_index;
    int32_t pid;
    uint8_t ending, told, cgroup, out_of_memory;
    int32_t template, revision; /* rows; -1: none */
    int32_t submission_fd, output_fd, model_fd, log_fd, log_write_fd;
    int32_t pipes[PERIGEE_LANES_MAX], pipe_writes[PERIGEE_LANES_MAX];
    uint32_t walls, landlock_abi;
    uint64_t submission_bytes, output_bytes;
    uint64_t log_written, log_told;
    uint64_t log_bytes; /* of the last that it wrote */
    struct message_replica_start start;
    struct message_replica_exited exited; /* of a dead one */
    char end_text[256], walls_off[512];
};

struct handover_project {
    char name[MESSAGE_PROJECT_BYTES];
};

struct handover { /* pointers into one block */
    struct handover_head *head;
    struct handover_process *processes;
    struct handover_set *sets;
    struct handover_revision *revisions;
    struct handover_replica *replicas;
    struct message_replica_used *used; /* oldest first */
    struct handover_project *projects; /* of each template, then each revision; NULL: the default */
    char *logs;
};

/* The size for the head's counts. */
uint64_t handover_bytes(const struct handover_head *head);
/* Where the rows lie, for a head with its counts at `memory` (handover_bytes(), 8-byte aligned). */
void handover_place(void *memory, struct handover *ret);
/* Flags of a state that goes back to the program which wrote one with these. */
uint32_t handover_back_flags(uint32_t flags_before);
/* Writers: magic, version and sizes, for the counts that are in the head. */
void handover_seal(struct handover_head *head);

/* `memory` is 8-byte aligned and not changed. ERR_PRECONDITION: of another version; ERR_BAD_INPUT
 * says what is wrong. After it rows, strings, enums and references are in their bounds, and no
 * descriptor comes twice. */
[[nodiscard]] int handover_read(void *memory, size_t size, struct handover *ret, struct err *err);

/* Calls `each` for every descriptor of it but -1. */
void handover_each_fd(const struct handover *handover, void (*each)(int fd, void *data),
                      void *data);
