/* SPDX-License-Identifier: Apache-2.0 */
/*
 * messages.h -- what supervisor (S), gateway (G), agent (A), control (C), DNS server (D) and the
 * maker of sockets in containers' networks (N) say to each other over SOCK_SEQPACKET pairs
 * (sys/channel.h). One struct a message; descriptors as the comment says.
 *
 * A role starts like this: S execs /proc/self/exe `role NAME` with the channel as descriptor 3 and
 * the lifeline as 4, then sends START, LISTENERs, PEER, METRICS, TABLE, REPLICAs as far as the role
 * has use for them, then GO. The role answers READY when it serves. A role that restarts is told
 * everything again: nobody keeps state that S or the disk does not have.
 *
 * A receiver checks the size and every field (message_check); an unknown type is dropped and
 * counted.
 */
#pragma once

#include <stdint.h>

#include <perigee/worker.h>

#include "contract/asked.h"

#define MESSAGE_MAGIC 0x6d676550u /* "Pegm" */
#define MESSAGE_VERSION 1u

/* X(type, payload struct, descriptors at most, from -> to: meaning) */
#define MESSAGE_TABLE(X)                                                                           \
    X(MESSAGE_START, message_start, 0, "S -> all: who and where you are")                          \
    X(MESSAGE_LISTENER, message_listener, 1, "S -> G, A, C, D: a listening socket")                \
    X(MESSAGE_PEER, message_empty, 1, "S -> G, A: the other's end; replaces an earlier one")       \
    X(MESSAGE_METRICS, message_region, 1,                                                          \
      "S -> G (writable), A (read-only): the gateway's counters")                                  \
    X(MESSAGE_TABLE_NEW, message_table, 1, "A -> S -> G, D: a published table")                    \
    X(MESSAGE_TABLE_DISK, message_table, 2,                                                        \
      "S -> G, D: the table file and its key, at a cold boot")                                     \
    X(MESSAGE_GO, message_empty, 0, "S -> all: that was all, begin")                               \
    X(MESSAGE_READY, message_empty, 0, "all -> S: serving")                                        \
    X(MESSAGE_DRAIN, message_drain, 0, "S -> all: finish and exit")                                \
    X(MESSAGE_ALONE, message_empty, 0, "S -> G: the gateway beside it has ended")                  \
    X(MESSAGE_PROCESS, message_process, 0, "S -> A: a role or template started, is ready, exited") \
    X(MESSAGE_REPLICA_START, message_replica_start, 1, "A -> S: clone one; the model's folder")    \
    X(MESSAGE_REPLICA_ADDED, message_replica_added, 11,                                            \
      "S -> G: its regions and pipes; S -> A: output region")                                      \
    X(MESSAGE_REPLICA_KILL, message_replica_kill, 0, "A, G -> S: SIGKILL it")                      \
    X(MESSAGE_REPLICA_EXITED, message_replica_exited, 0, "S -> A, G: reaped, or never started")    \
    X(MESSAGE_REPLICA_LOG, message_replica_log, 0, "S -> A: what it wrote")                        \
    X(MESSAGE_REPLICA_READY, message_replica, 0, "G -> A: G saw it become ready")                  \
    X(MESSAGE_REPLICA_DRAIN, message_replica, 0, "A -> G: nothing new to it")                      \
    X(MESSAGE_REPLICA_DRAINED, message_replica, 0, "G -> A: nothing in flight on it")              \
    X(MESSAGE_ARENA_WANT, message_revision, 0, "G -> S: the input arena, before any replica")      \
    X(MESSAGE_ARENA, message_arena, 1, "S -> G: it, writable")                                     \
    X(MESSAGE_ARENA_KEPT, message_revision, 0, "S -> A: there is one; GONE if it is of no use")    \
    X(MESSAGE_REVISION_GONE, message_revision, 0, "A -> S: forget its arena")                      \
    X(MESSAGE_DEMAND, message_demand, 0, "G -> A (by S): requests wait or came; level-triggered")  \
    X(MESSAGE_UPGRADE, message_upgrade, 0, "perigee upgrade -> S: become that program")            \
    X(MESSAGE_UPGRADE_STATE, message_upgrade_state, 0, "S -> perigee upgrade, A: how far it is")   \
    X(MESSAGE_UPGRADE_CHECK, message_empty, 1, "S -> a program to be: can it read this state?")    \
    X(MESSAGE_UPGRADE_CHECKED, message_upgrade_checked, 0, "its answer")                           \
    X(MESSAGE_REPOSITORY, message_repository, 0, "G -> A: load or unload (start, stop)")           \
    X(MESSAGE_REPOSITORY_DONE, message_repository_done, 0, "A -> G: its end")                      \
    X(MESSAGE_REPLICA_LOOK, message_replica, 0, "A, G -> S: it is ready, look at its walls")       \
    X(MESSAGE_REPLICA_WALLS, message_replica_walls, 0,                                             \
      "S -> A, G: what stands, seen from outside")                                                 \
    X(MESSAGE_TABLE_SERVED, message_table_served, 0, "G -> A: every loop of G serves that table")  \
    X(MESSAGE_DENIED, message_denied, 0, "G -> A: requests that residency refused, counts alone")  \
    X(MESSAGE_ADDRESS, message_address, 0, "S -> A, D: where this node listens, what for")         \
    X(MESSAGE_METRICS_DNS, message_region, 1,                                                      \
      "S -> D (writable), A (read-only): the DNS server's counters")                               \
    X(MESSAGE_MESH_NEW, message_mesh, 1, "A -> S -> G, D: what PoPs measure of each other")        \
    X(MESSAGE_PEER_KEY, message_peer_key, 0,                                                       \
      "A -> G: the key that two PoPs have; on their own way")                                      \
    X(MESSAGE_PEER_SEEN, message_peer_seen, 0, "G -> A: how requests to another PoP went")         \
    X(MESSAGE_ASKED, message_asked, 0,                                                             \
      "G -> A: from where an endpoint was asked for, counts alone")                                \
    X(MESSAGE_REPLICA_USED, message_replica_used, 0,                                               \
      "S -> A: the CPU time of one that ended, which no METERED came of")                          \
    X(MESSAGE_REPLICA_METERED, message_replica, 0, "A -> S: all that it used is on disk")          \
    X(MESSAGE_NETNS_WANT, message_empty, 0, "A -> S: N is of use from here on; again is harmless") \
    X(MESSAGE_NETNS, message_netns, 1,                                                             \
      "S -> N: a channel to A or G; S -> A, G: its other end; replaces an earlier one")            \
    X(MESSAGE_NETNS_LOST, message_netns, 0, "G -> S: that loop's end of it has ended")             \
    X(MESSAGE_REVISION_PROJECT, message_revision_project, 0, "A -> S: whose it is, before START")

enum message_type {
    MESSAGE_NONE,
#define MESSAGE_TYPE(type, payload, fds, text) type,
    MESSAGE_TABLE(MESSAGE_TYPE)
#undef MESSAGE_TYPE
        MESSAGE_TYPES_END
};

/* Exit status of a role that starting again would not help (a newer database, say): it has said why
 * on stderr. Before all roles were ready once, the supervisor then ends too; later it backs off. */
#define ROLE_EXIT_HOPELESS 3

enum message_role {
    ROLE_GATEWAY = 1,
    ROLE_AGENT,
    ROLE_CONTROL,
    ROLE_DNS,
    ROLE_TEMPLATE,
    ROLE_NETNS,
};

/* Strings are terminated in their arrays; message_check() refuses one that is not. */
struct message_head {
    uint32_t magic;
    uint16_t type; /* enum message_type */
    uint16_t version;
};

struct message_empty {
    struct message_head head;
};

#define MESSAGE_PATH_BYTES 1024
#define MESSAGE_OPEN 1u /* flags of START: --open was said */
#define MESSAGE_HAS_CONTROL 2u
#define MESSAGE_BESIDE 4u       /* G: another gateway is there, which serves yet or ends */
#define MESSAGE_SANDBOX_SAID 8u /* --sandbox was said: it is no default */
#define MESSAGE_NO_REPLICAS 16u /* `perigee dns`: this node is no PoP and runs none */

#define MESSAGE_SPIN_US_MAX 10'000u

struct message_start {
    struct message_head head;
    uint32_t role;     /* enum message_role */
    uint32_t loops;    /* the gateway's event loops, 1 to PERIGEE_LOOPS_MAX */
    uint64_t instance; /* of this role: 1, 2, 3 ... in this supervisor's life, unique in the home */
    uint32_t sandbox;  /* enum perigee_sandbox */
    uint32_t flags;
    uint32_t walls;     /* enum perigee_wall: what stands on this machine */
    uint32_t spin_us;   /* how long replicas and loops may look for work before they sleep */
    int64_t started_ns; /* CLOCK_MONOTONIC of the supervisor's start */
    char home[MESSAGE_PATH_BYTES];
    char pop[64];    /* this PoP's name; "local" unless told */
    char country[4]; /* ISO 3166-1 alpha-2, or empty */
    char city[64];
    char zone[256];                   /* "perigee.test" */
    char control[MESSAGE_PATH_BYTES]; /* the agent's way to control: "unix:PATH" or a URL; or empty
                                       */
    char api_host[256];               /* or empty */
    char libdir[MESSAGE_PATH_BYTES];  /* where the workers are */
    char walls_off[512];              /* what does not stand, and why */
    char why_from[256];               /* blocks, by comma: who may ask DNS why */
};

enum message_listener_kind {
    LISTENER_GATEWAY = 1,
    LISTENER_TLS,
    LISTENER_CONTROL,
    LISTENER_ADMIN,
    LISTENER_DNS
};

struct message_listener {
    struct message_head head;
    uint32_t kind;
    uint32_t loop;     /* which loop polls it; several loops may have one address (SO_REUSEPORT);
                        * of DNS: SO_TYPE says what it is */
    char address[128]; /* "127.0.0.1:8000", "unix:/path" */
};

struct message_address {
    struct message_head head;
    uint32_t kind; /* enum message_listener_kind */
    uint32_t reserved;
    char address[128];
};

struct message_region {
    struct message_head head;
    uint64_t bytes;
};

struct message_table {
    struct message_head head;
    uint64_t number;
    uint64_t bytes;
};

struct message_mesh { /* contract/mesh.h */
    struct message_head head;
    uint64_t number;
    uint64_t bytes;
};

#define MESSAGE_KEY_BYTES 32
#define MESSAGE_KEYS_FIRST 1u /* forget all that came before */
struct message_peer_key {     /* wiped by both sides once it is used */
    struct message_head head;
    uint32_t flags;
    uint32_t reserved;
    char pop[64]; /* the other one; this one's own name: what it asks itself. Empty: none follows */
    uint8_t key[MESSAGE_KEY_BYTES];
};

#define MESSAGE_SEEN_MAX 1'000'000u
struct message_peer_seen {
    struct message_head head;
    char pop[64];
    uint32_t seen, failed; /* since the message before; failed: could not be had at all */
};

struct message_table_served {
    struct message_head head;
    uint64_t number; /* and all before it */
};

struct message_denied {
    struct message_head head;
    uint64_t endpoint; /* uid */
    uint32_t count;    /* since the message before */
    uint32_t reserved;
    char reason[24]; /* as in perigee_requests_denied_total */
};

struct message_asked {
    struct message_head head;
    uint64_t endpoint; /* uid */
    uint32_t count;    /* of cells */
    uint32_t reserved;
    struct {
        uint32_t cell; /* asked_cell */
        uint32_t requests;
    } cells[ASKED_CELLS_MAX]; /* since the message before */
};

struct message_drain {
    struct message_head head;
    uint32_t within_ms;
    uint32_t idle_ms; /* connections without a request are closed after so long; 0: at once */
};

#define MESSAGE_NO_RESTART UINT32_MAX /* it ended because nothing needs it */

struct message_process {
    struct message_head head;
    uint32_t role;  /* enum message_role */
    uint32_t state; /* enum process_state */
    int32_t pid;
    int32_t wait_status; /* when exited */
    uint32_t restarts;
    uint32_t restart_in_ms; /* when exited: back-off before the next, or MESSAGE_NO_RESTART */
    char name[32];          /* "gateway", "template onnx" */
    char text[256];         /* library of a template; or why */
};

struct message_replica {
    struct message_head head;
    uint64_t replica;
};

struct message_revision {
    struct message_head head;
    uint64_t revision; /* uid */
};

/* What is said over that channel: sys/netns.h. */
struct message_netns {
    struct message_head head;
    uint32_t shows; /* 1: A's, who says which replicas there are; 0: one that asks for them */
    uint32_t loop;  /* of G: whose it is, each loop has its own */
};

#define MESSAGE_PROJECT_BYTES 32

struct message_revision_project {
    struct message_head head;
    uint64_t revision;
    char project[MESSAGE_PROJECT_BYTES]; /* the default one needs no word, and is "" */
};

struct message_replica_start {
    struct message_head head;
    uint64_t replica;  /* id the agent chose: instance << 32 | counter; never again */
    uint64_t revision; /* uid: replicas of one revision share its arena */
    uint64_t memory_bytes_max;
    uint64_t slot_bytes;
    uint32_t slots;
    uint32_t concurrency;
    uint32_t threads;
    uint32_t batch_max; /* rows; 1: each request alone */
    uint32_t batch_delay_us;
    uint32_t places_max; /* instead of concurrency, while runs are short; 0: there is no more */
    char runtime[16];
    char name[64];        /* "digits-1"; for people */
    char model_file[256]; /* in the folder given as descriptor */
};

/* Of `slots`, which are for places_max, those that belong to concurrency: no more of them hold
 * large answers. */
static inline uint32_t message_slots_few(uint32_t slots, uint32_t concurrency, uint32_t places_max)
{
    if (places_max <= concurrency)
        return slots;
    uint32_t few = (uint32_t)((uint64_t)slots * concurrency / places_max);
    return few > 0 ? few : 1;
}

/* To G: submission page (writable), output region (read-only), arena (writable), then one pipe's
 * read end for each loop of its lane set. To A: output region (read-only) alone. */
struct message_replica_added {
    struct message_head head;
    uint64_t replica, revision;
    uint64_t submission_bytes, output_bytes, arena_bytes;
    uint64_t slot_bytes;
    uint32_t slots, concurrency, places_max, loops;
    int32_t pid;
    uint32_t reserved;
    char runtime[16];
    char name[64];
};

/* Why a replica ended, as far as we caused it. */
#define REPLICA_END_TABLE(X)                                                                       \
    X(REPLICA_END_ITSELF, "exited by itself")                                                      \
    X(REPLICA_END_STOPPED, "stopped")                                                              \
    X(REPLICA_END_TIMEOUT, "did not answer within the endpoint's timeout")                         \
    X(REPLICA_END_LIED, "wrote what no worker may write")                                          \
    X(REPLICA_END_STALE, "still held requests of a gateway long gone")                             \
    X(REPLICA_END_NOT_STARTED, "could not be started")                                             \
    X(REPLICA_END_UNWANTED, "nobody asked for it")                                                 \
    X(REPLICA_END_MEMORY, "ran out of memory")

enum replica_end {
#define REPLICA_END(end, text) end,
    REPLICA_END_TABLE(REPLICA_END)
#undef REPLICA_END
        REPLICA_ENDS
};

struct message_replica_kill {
    struct message_head head;
    uint64_t replica;
    uint32_t end; /* enum replica_end */
    char text[256];
};

struct message_replica_exited {
    struct message_head head;
    uint64_t replica, revision;
    uint32_t end;            /* enum replica_end */
    int32_t wait_status;     /* of waitpid; believed */
    int32_t phase;           /* enum perigee_phase it had reached; a hint */
    int32_t signal, syscall; /* from its status page; hints */
    uint64_t cpu_user_us, cpu_system_us, memory_bytes_max; /* the kernel's */
    char text[1024]; /* words: the status page's reason, or ours */
};

/* For usage alone, again to each new agent until it is METERED: EXITED may have come to an agent
 * that was killed before it could write it down. */
struct message_replica_used {
    struct message_head head;
    uint64_t replica, revision;
    uint64_t cpu_us; /* user and system, the kernel's */
};

/* What the supervisor saw from outside, with what the template promised where nothing can be seen
 * (landlock, env, fds). */
struct message_replica_walls {
    struct message_head head;
    uint64_t replica;
    uint32_t walls; /* enum perigee_wall */
    uint32_t landlock_abi;
    char on[64];   /* what has no bit: "cgroup(v2)", or empty */
    char off[640]; /* "user: not permitted here; cgroup: v1 is read-only" */
};

#define MESSAGE_LOG_BYTES 4096
struct message_replica_log {
    struct message_head head;
    uint64_t replica;
    uint32_t bytes;
    uint32_t dropped; /* bytes lost before these: the ring was full */
    char data[MESSAGE_LOG_BYTES];
};

struct message_arena {
    struct message_head head;
    uint64_t revision;
    uint64_t bytes; /* each lane has bytes / PERIGEE_LANES_MAX of it, in lane order */
};

struct message_demand {
    struct message_head head;
    uint64_t revision;
    uint64_t oldest_ms; /* how long the oldest waits */
    uint32_t waiting;   /* requests without a replica */
    uint32_t running;
    /* Since the message before; the last one before it falls silent has all of them 0. */
    uint64_t arrivals;      /* requests that came for a replica */
    uint64_t done, busy_ns; /* runs that ended, and how long they held their places */
    uint32_t set;           /* of the gateway's lanes: two gateways tell in an upgrade */
    uint32_t reserved;
};

enum message_repository_op { REPOSITORY_LOAD = 1, REPOSITORY_UNLOAD };

struct message_repository {
    struct message_head head;
    uint64_t request;  /* the gateway's own number */
    uint64_t endpoint; /* uid */
    uint32_t op;
    uint32_t reserved;
    char unused[64]; /* was the client's request id, which stays at this PoP */
};

struct message_repository_done {
    struct message_head head;
    uint64_t request;
    uint64_t table; /* its end shows in this table: the gateway answers once it has it */
    int32_t code;   /* 0 or enum err_code */
    uint32_t reserved;
    char text[504];
};

struct message_upgrade {
    struct message_head head;
    char binary[MESSAGE_PATH_BYTES]; /* absolute; empty: the path of the running program */
};

enum upgrade_state {
    UPGRADE_STEP = 1, /* text: what was done just now */
    UPGRADE_DONE,
    UPGRADE_FAILED, /* text: why; the program before serves */
    UPGRADE_COUNTS, /* to a new agent: nothing happened */
};

struct message_upgrade_state {
    struct message_head head;
    uint32_t state;        /* enum upgrade_state */
    uint32_t done, failed; /* how often, in the supervisor's life */
    uint32_t reserved;
    char version[64]; /* of what serves now */
    char text[512];
};

struct message_upgrade_checked {
    struct message_head head;
    int32_t code; /* 0 or enum err_code */
    uint32_t reserved;
    char version[64];
    char text[512]; /* why not */
};

struct err;

/* Largest payload. */
union message {
    struct message_head head;
#define MESSAGE_MEMBER(type, payload, fds, text) struct payload as_##type;
    MESSAGE_TABLE(MESSAGE_MEMBER)
#undef MESSAGE_MEMBER
};

/* What was received is of a known type, has its size, at most its descriptors, and its strings are
 * terminated. 0 or ERR_BAD_INPUT. */
[[nodiscard]] int message_check(const union message *message, size_t size, size_t fd_count,
                                struct err *err);
const char *message_name(uint16_t type);
const char *replica_end_text(uint32_t end);
size_t message_size(uint16_t type); /* 0: unknown */

/* The metrics region that S makes for G: sparse, so that unused slots cost nothing. */
#define METRICS_REGION_BYTES (UINT64_C(64) << 20)

/* state of MESSAGE_PROCESS */
enum process_state { PROCESS_STARTED = 1, PROCESS_READY, PROCESS_EXITED };
const char *
role_name(uint32_t role); /* "gateway", "pop", "control", "dns", "template", "netns"; "?" */

#define MESSAGE_INIT(message_type)                                                                 \
    {                                                                                              \
        .head = { MESSAGE_MAGIC, (message_type), MESSAGE_VERSION }                                 \
    }
