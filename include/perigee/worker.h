/* SPDX-License-Identifier: Apache-2.0 */
/*
 * worker.h -- the worker contract: what an executable `perigee-worker-NAME` must do to be a
 * runtime.
 *
 * Life. The supervisor execs one *template* per runtime with a SOCK_SEQPACKET socket as descriptor
 * 3 and the read end of the lifeline pipe as 4. The template loads its library, reads no byte of
 * any tenant, sends struct perigee_hello, and then obeys one command: struct perigee_clone,
 * answered by struct perigee_cloned. For each it makes a *replica*: clone3(CLONE_PARENT), so that
 * the supervisor is the replica's parent. The replica enters its control group (enum
 * perigee_group) and sends that answer itself, before all else, so that its name is known whatever
 * becomes of its template, or ends when it cannot; the template answers when there is none. What it
 * draws at random is not what another clone draws: its generators are seeded after the clone. The
 * replica keeps the descriptors of the command but those of its group, and nothing else, puts up
 * its walls, and only then opens the model, runs it once on zeros, and sets its phase to READY.
 *
 * Memory (nothing is writable from both sides):
 *   submission page   the gateway writes, the replica reads: rings of submissions, the futex word
 *   input arena       the gateway writes, every replica of the revision reads: requests and tensors
 *   output region     the replica writes, gateway, supervisor and agent read: status page, model
 *                     metadata, rings of completions, answer slots
 * A *lane* is one gateway loop's pair of rings. There are two lane sets, each owned by one gateway
 * instance (set = instance % 2), so that an old gateway drains while a new one serves: lane index =
 * set * loops + loop. Answer slots are shared out the same way: the first half of them is set 0's.
 * A lane's submissions are begun in their order, and lanes in turn; only what joins the batch of an
 * earlier one may pass others. By this the gateway knows when one is overdue, and kills.
 *
 * Everything read from the other side's memory is copied once, checked, then used. All integers are
 * in host order; all offsets are from the start of what the field's comment names. Strings are
 * UTF-8, not terminated unless said. A library that implements this for a runtime written in C is
 * src/runtime/worker.h.
 */
#pragma once

#include <assert.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define PERIGEE_WORKER_VERSION 2u        /* of this contract */
#define PERIGEE_WORKER_VERSION_LEAST 1u  /* the oldest that is spoken: it has no control groups */
#define PERIGEE_WORKER_MAGIC 0x31676550u /* "Peg1" */
#define PERIGEE_CHANNEL_FD 3             /* in a template */
#define PERIGEE_LIFELINE_FD 4 /* in a template: end of file means the supervisor is dead */

#define PERIGEE_LOOPS_MAX 8u
#define PERIGEE_LANES_MAX (2u * PERIGEE_LOOPS_MAX)
#define PERIGEE_RING_ENTRIES                                                                       \
    256u /* a power of two; no fewer than a lane set's slots, so no ring is ever full              \
          */
#define PERIGEE_SLOTS_MAX 512u  /* half of a replica's slots are each lane set's */
#define PERIGEE_TENSORS_MAX 64u /* inputs of a request, outputs of an answer, each */
#define PERIGEE_RANK_MAX 16u
#define PERIGEE_TENSOR_ALIGN 64u               /* every tensor's bytes begin on such a boundary */
#define PERIGEE_MODEL_BYTES_MAX (128u * 1024u) /* struct perigee_model with its strings */

/* Datatypes of the Open Inference Protocol v2. BYTES: each element is its length (u32, little
 * endian) and its bytes. BOOL is one byte, 0 or 1. */
enum perigee_datatype {
    PERIGEE_BOOL = 1,
    PERIGEE_UINT8,
    PERIGEE_UINT16,
    PERIGEE_UINT32,
    PERIGEE_UINT64,
    PERIGEE_INT8,
    PERIGEE_INT16,
    PERIGEE_INT32,
    PERIGEE_INT64,
    PERIGEE_FP16,
    PERIGEE_FP32,
    PERIGEE_FP64,
    PERIGEE_BYTES,
    PERIGEE_BF16,
};
#define PERIGEE_DATATYPES_END (PERIGEE_BF16 + 1)

/* ---- template: messages on descriptor 3 ------------------------------------------------------ */

enum perigee_message { PERIGEE_HELLO = 1, PERIGEE_CLONE, PERIGEE_CLONED };

struct perigee_hello { /* template to supervisor, once, when it can clone */
    uint32_t magic, message;
    uint32_t version_min,
        version_max;  /* of this contract; the supervisor picks one for perigee_clone */
    char runtime[16]; /* "onnx"; terminated */
    char library[64]; /* "ONNX Runtime 1.32.0"; terminated */
    /* What each replica of it puts up before it reads its model, or does not live. A template has
     * read no tenant's byte, so its word counts where a replica's does not. */
    uint32_t walls;        /* bits: enum perigee_wall */
    uint32_t landlock_abi; /* 0: none */
    char walls_off[512];   /* the others with the reason: "user: not permitted here"; terminated */
};

enum perigee_sandbox { PERIGEE_SANDBOX_BEST, PERIGEE_SANDBOX_REQUIRE };

/* How a replica gets into its control group without being moved by another process, for which the
 * kernel waits until all cores have been elsewhere (10 ms and more). One that has not got there is
 * moved by the supervisor, which looks. */
enum perigee_group {
    PERIGEE_GROUP_NONE,
    PERIGEE_GROUP_TASKS,  /* writes "0" into each, with its one thread: v1's `tasks` */
    PERIGEE_GROUP_FOLDER, /* one: is cloned into it (CLONE_INTO_CGROUP): v2 */
};
#define PERIGEE_GROUPS_MAX 2u /* v1: a hierarchy for memory, one for processes */

/* Supervisor to template, with 6 + lanes + groups descriptors in this order. */
enum perigee_clone_fd {
    PERIGEE_FD_SUBMISSION, /* memfd, read-only */
    PERIGEE_FD_OUTPUT,     /* memfd, read-write */
    PERIGEE_FD_ARENA,      /* memfd, read-only */
    PERIGEE_FD_MODEL,      /* the model's folder, a directory */
    PERIGEE_FD_LOG,        /* write end of a pipe: becomes stdout and stderr */
    PERIGEE_FD_LIFELINE,   /* read end: end of file means the supervisor is dead */
    PERIGEE_FD_PIPES,      /* first of `lanes` write ends; a byte wakes that lane's loop */
};                         /* then `groups` of `group`'s kind */

struct perigee_clone {
    uint32_t magic, message;
    uint32_t version;                                     /* of this contract, as chosen */
    uint32_t loops, lanes;                                /* lanes = 2 * loops */
    uint32_t slots;                                       /* answer slots in the output region */
    uint64_t slot_bytes;                                  /* of one; a multiple of the page size */
    uint64_t submission_bytes, output_bytes, arena_bytes; /* sizes of the three */
    uint64_t replica;                                     /* id, for the answer */
    uint64_t memory_bytes_max; /* flavor.memory: what the replica may use beyond the regions */
    uint32_t threads;          /* intra-op threads, at least 1 */
    uint32_t batch_max;        /* rows that may run together; 1: never */
    uint32_t batch_delay_us;   /* how long a batch with room waits for more; 0: not at all */
    uint32_t spin_us;     /* how long it may look at its rings before it sleeps; 0: not at all */
    uint32_t sandbox;     /* enum perigee_sandbox */
    uint32_t uid;         /* 0: keep the template's; else a uid (and gid) of the replica's own */
    char model_file[256]; /* in the model's folder, a relative path; terminated */
    /* From version 2 on; one of version 1 ends here. */
    uint32_t group;  /* enum perigee_group */
    uint32_t groups; /* how many descriptors it has; 0 for none */
};
#define PERIGEE_CLONE_BYTES_1 offsetof(struct perigee_clone, group)

struct perigee_cloned {
    uint32_t magic, message;
    uint64_t replica;
    int32_t pid;   /* in the supervisor's PID namespace; at most 0: it failed */
    int32_t error; /* errno when it failed */
};

/* ---- submission page: the gateway writes, the replica reads ---------------------------------- */

struct perigee_submission {
    uint64_t ticket;         /* never reused; never 0 */
    uint64_t request_offset; /* of struct perigee_request, in the arena; a multiple of 64 */
    uint64_t request_bytes;  /* of the whole block: struct, then tensors */
    uint32_t slot; /* where the answer goes; the gateway's until completed, then till reused */
    uint32_t reserved;
    int64_t deadline_ns; /* CLOCK_MONOTONIC; 0: none. Past it the replica may answer CANCELED */
    uint64_t unused[3];
};
static_assert(sizeof(struct perigee_submission) == 64, "one cache line");

struct perigee_submission_lane {
    alignas(
        64) _Atomic uint64_t head; /* submissions ever published; entry i is at i % RING_ENTRIES */
    alignas(64) _Atomic uint64_t taken; /* completions the loop has consumed */
    alignas(64) _Atomic uint32_t
        armed; /* the loop is asleep or going to: a completion writes to the pipe */
    /* Bit slot % RING_ENTRIES: nobody waits any more for the answer of the submission that has the
     * slot; if it was not begun, the replica may complete it as CANCELED. Hint; may stay 0, and may
     * change at any time. */
    _Atomic uint64_t canceled[PERIGEE_RING_ENTRIES / 64];
    alignas(64) struct perigee_submission entries[PERIGEE_RING_ENTRIES];
};
/* `canceled` is where padding was: a worker that does not know it goes on as before. */
static_assert(offsetof(struct perigee_submission_lane, entries) == 192, "part of the contract");

struct perigee_submission_page {
    uint32_t magic, version;
    alignas(64) _Atomic uint32_t
        wake; /* futex word (shared, not private): changes when a sleeper is woken */
    alignas(
        64) _Atomic uint64_t released[PERIGEE_SLOTS_MAX / 64]; /* a bit per slot: its answer is read
                             no longer; an idle replica may give its pages back. Hint; may stay 0 */
    struct perigee_submission_lane lanes[PERIGEE_LANES_MAX];
};

/* ---- a request in the arena: the gateway writes, the replica reads --------------------------- */

struct perigee_tensor {
    uint32_t index;    /* which of the model's inputs or outputs */
    uint32_t datatype; /* enum perigee_datatype */
    uint32_t rank;
    uint32_t reserved;
    uint64_t offset; /* of the bytes, from the start of the request or of the slot; 64-aligned */
    uint64_t bytes;
    int64_t dims[PERIGEE_RANK_MAX]; /* none negative; their product times the size is `bytes`, but
                                       for BYTES */
};
static_assert(sizeof(struct perigee_tensor) == 160, "part of the contract");

struct perigee_request {
    uint32_t input_count;
    uint32_t reserved;
    uint64_t outputs_wanted; /* bit i: the model's output i */
    struct perigee_tensor
        inputs[]; /* in any order, each index once; missing ones are optional inputs */
};

/* ---- output region: the replica writes, others read ------------------------------------------ */

/* Only forward, but FAILED from anywhere. */
enum perigee_phase {
    PERIGEE_PHASE_NONE,    /* nothing written yet */
    PERIGEE_PHASE_WALLS,   /* cloned, putting up its walls */
    PERIGEE_PHASE_LOADING, /* walls up, reading the model */
    PERIGEE_PHASE_WARMING, /* model loaded, first run */
    PERIGEE_PHASE_READY,   /* takes submissions; a byte was written to every pipe */
    PERIGEE_PHASE_FAILED,  /* `reason` says why; it exits */
};

struct perigee_status { /* offset 0 of the output region; 4096 bytes */
    uint32_t magic, version;
    _Atomic uint32_t phase;    /* enum perigee_phase; the rest of the page is written before it */
    _Atomic uint32_t sleeping; /* waits on the futex word, or is going to */
    int32_t pid;
    int32_t signal;  /* caught by the replica's own handlers; 0: none */
    int32_t syscall; /* refused by seccomp (SIGSYS); -1: none */
    uint32_t walls;  /* bits: enum perigee_wall; the replica's own word, believed by nobody */
    uint32_t landlock_abi;
    uint32_t model_bytes; /* of struct perigee_model, at PERIGEE_MODEL_OFFSET; set before READY */
    uint64_t memory_loaded_bytes; /* private memory once the model is loaded */
    uint64_t load_ns, warm_ns;    /* time in LOADING, in WARMING */
    char reason[1024]; /* terminated; the runtime's own words; only ever shown, never trusted */
    uint64_t walls_ns; /* time in WALLS; a worker that does not say so leaves 0 */
};
static_assert(sizeof(struct perigee_status) <= 4096, "one page");

enum perigee_wall {
    PERIGEE_WALL_NNP = 1 << 0,
    PERIGEE_WALL_RLIMITS = 1 << 1,
    PERIGEE_WALL_ENV = 1 << 2,
    PERIGEE_WALL_FDS = 1 << 3,
    PERIGEE_WALL_SECCOMP = 1 << 4,
    PERIGEE_WALL_LANDLOCK = 1 << 5,
    PERIGEE_WALL_USER = 1 << 6,
    PERIGEE_WALL_MOUNT = 1 << 7,
    PERIGEE_WALL_NET = 1 << 8,
    PERIGEE_WALL_IPC = 1 << 9,
    PERIGEE_WALL_UID = 1 << 10,
};

#define PERIGEE_MODEL_OFFSET 4096u
#define PERIGEE_IO_OPTIONAL 1u

struct perigee_string { /* in the model's string area */
    uint32_t offset;    /* from the start of struct perigee_model */
    uint32_t bytes;
};

struct perigee_io { /* one input or output of the model */
    struct perigee_string name;
    uint32_t datatype;
    uint32_t rank;
    uint32_t flags; /* PERIGEE_IO_OPTIONAL */
    uint32_t reserved;
    int64_t dims[PERIGEE_RANK_MAX];                  /* -1: any */
    struct perigee_string symbols[PERIGEE_RANK_MAX]; /* a name for a dimension of -1, or no bytes */
};

struct perigee_property { /* the model file's own metadata, such as perigee.image.<input> */
    struct perigee_string key, value;
};

#define PERIGEE_PROPERTIES_MAX 64u
#define PERIGEE_BATCH_NONE 0u

struct perigee_model {
    struct perigee_string platform; /* "onnxruntime_onnx" */
    uint32_t input_count, output_count, property_count;
    uint32_t batch_rows_max; /* that may run together; 0: the first dimension is no batch */
    struct perigee_io inputs[PERIGEE_TENSORS_MAX], outputs[PERIGEE_TENSORS_MAX];
    struct perigee_property properties[PERIGEE_PROPERTIES_MAX];
    /* then the strings */
};
static_assert(sizeof(struct perigee_model) < PERIGEE_MODEL_BYTES_MAX, "room for strings is left");

enum perigee_completion_status {
    PERIGEE_DONE,
    PERIGEE_BAD_INPUT, /* the runtime refused the input; message in the answer */
    PERIGEE_TOO_LARGE, /* an output does not fit in the slot */
    PERIGEE_FAULT,     /* the run failed for another reason */
    PERIGEE_CANCELED,  /* past its deadline, or nobody waits for it; not run */
};

struct perigee_completion {
    uint64_t ticket;
    uint64_t start_ns; /* CLOCK_MONOTONIC: taken up to run */
    uint64_t input_ns, infer_ns,
        output_ns;   /* in turn: preparing inputs, running, placing outputs */
    uint64_t cpu_ns; /* thread CPU time, this request's share */
    uint32_t slot;
    uint32_t status; /* enum perigee_completion_status */
    uint32_t output_count;
    uint32_t batch_rows; /* rows (requests of a model without batches) that ran together, at the
                            first of them; 0 at the others. Alone: its own, at least 1 */
};
static_assert(sizeof(struct perigee_completion) == 64, "one cache line");

struct perigee_completion_lane {
    alignas(64) _Atomic uint64_t head;  /* completions ever published */
    alignas(64) _Atomic uint64_t taken; /* submissions the replica has consumed */
    alignas(64) struct perigee_completion entries[PERIGEE_RING_ENTRIES];
};

#define PERIGEE_COMPLETIONS_OFFSET (PERIGEE_MODEL_OFFSET + PERIGEE_MODEL_BYTES_MAX)
#define PERIGEE_SLOTS_OFFSET                                                                       \
    ((PERIGEE_COMPLETIONS_OFFSET + PERIGEE_LANES_MAX * sizeof(struct perigee_completion_lane) +    \
      4095u) &                                                                                     \
     ~4095ul)

struct perigee_answer { /* at the start of a slot; tensors' bytes follow */
    uint32_t output_count;
    uint32_t message_bytes;
    char message[1016]; /* for a status other than DONE; UTF-8 */
    struct perigee_tensor outputs[PERIGEE_TENSORS_MAX];
};

/* Where the bytes of the first output may begin in a slot. */
#define PERIGEE_ANSWER_BYTES ((sizeof(struct perigee_answer) + 63u) & ~(size_t)63u)
