/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ledger.h -- the records in which a PoP keeps what was used until control has counted it: on its
 * disk (pop/ledger.h) and on the way to control the same bytes. docs/usage.md has the layout.
 *
 * A ledger is a sequence of records: one FILE first, then WINDOWs and OFFERs. All numbers are
 * little-endian, records are whole multiples of 8 bytes, and each says its length, the ledger that
 * it is of, the sequence numbers that it stands for, and a digest of all its other bytes. A WINDOW
 * is what was used within some time, and how far replicas and counters were counted by then: that
 * it is there whole is what makes both true at once. Merged ones stand for several numbers.
 *
 * Pure: bytes in, structs out; whatever is read was checked. What it returns lies in the arena.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/figures.h"
#include "base/slice.h"

struct arena;
struct err;

#define LEDGER_MAGIC 0x646c6750u /* "Pgld" */
#define LEDGER_VERSION 1u
#define LEDGER_RECORD_BYTES_MAX (8u << 20)
#define LEDGER_ROWS_MAX 32768u  /* of a window */
#define LEDGER_MARKS_MAX 32768u /* of a window, of each kind */
#define LEDGER_REVISION_BITS 24 /* revision uid = endpoint uid << 24 | number */

enum ledger_type { LEDGER_FILE = 1, LEDGER_WINDOW, LEDGER_OFFER };

struct ledger_row {
    uint64_t endpoint; /* uid */
    uint64_t revision; /* number */
    struct figures figures;
};

#define LEDGER_MARK_READY 1u
#define LEDGER_MARK_ENDED 2u /* all of it was counted; its end may be told once more */

struct ledger_replica_mark { /* how far a replica was counted */
    uint64_t replica, revision_uid;
    uint64_t cpu_us;
    int64_t until_ms; /* CLOCK_MONOTONIC */
    uint64_t memory_kib;
    uint64_t reserved_kib;
    uint64_t flags;
};

struct ledger_counter_mark { /* how far the gateway's counts of a revision were taken over */
    uint64_t revision_uid;
    uint64_t requests, failures, bytes_in, bytes_out;
};

struct ledger_id {
    uint8_t bytes[16];
};
struct ledger_check {
    uint8_t bytes[16];
};

struct ledger_marks {
    uint64_t era; /* of the supervisor's life: marks of another one mean nothing */
    struct ledger_replica_mark *replicas;
    uint32_t replica_count;
    struct ledger_counter_mark *counters;
    uint32_t counter_count;
};

struct ledger_record {
    enum ledger_type type;
    struct ledger_id id;
    uint64_t first, last; /* FILE: what control has counted ends at `last`. OFFER: likewise what it
                             may have been sent */
    struct ledger_check check; /* of this record */
    struct slice raw;          /* all its bytes; borrowed from what is read */
    /* FILE */
    char pop[64];
    struct ledger_check counted; /* of the record that ends at `last` */
    /* WINDOW */
    int64_t begin_ms; /* wall, since 1970 */
    uint64_t length_ms;
    bool offered; /* it, and all before it, may have been sent as soon as it was written */
    struct ledger_row *rows; /* by endpoint, then revision; none twice */
    uint32_t row_count;
    /* FILE, WINDOW */
    struct ledger_marks marks;
};

/* ---- reading --------------------------------------------------------------------------------- */

struct ledger_reader {
    struct slice bytes;
    size_t at;
    bool strict;                /* the first damage is an error; else it is jumped over */
    uint64_t damaged;           /* bytes that belong to no whole record, so far */
    size_t damaged_at, damages; /* the first of them; how many stretches */
    size_t whole_end;           /* behind the last whole record */
    uint32_t tries;
};

void ledger_read(struct ledger_reader *reader, struct slice bytes, bool strict);
/* 1: the next whole record. 0: the end. ERR_BAD_INPUT, of a strict one: what is wrong, and where;
 * ERR_NOT_SUPPORTED: a version of another Perigee. */
[[nodiscard]] int ledger_next(struct ledger_reader *reader, struct arena *arena,
                              struct ledger_record *ret, struct err *err);

/* ---- writing --------------------------------------------------------------------------------- */

/* All of the record but its check, which is set in it as well. Rows must be sorted. */
struct slice ledger_write(struct arena *arena, struct ledger_record *record);

/* ---- sums ------------------------------------------------------------------------------------ */

/* Windows in order, each with numbers behind those of the one before, as one: numbers, times, rows
 * by endpoint and revision. The marks are the last one's. False: more rows than one may have. */
bool ledger_merge(struct arena *arena, const struct ledger_record *windows, size_t count,
                  struct ledger_record *ret);
int ledger_row_order(const void *a, const void *b); /* for qsort */
bool ledger_check_equal(const struct ledger_check *a, const struct ledger_check *b);
/* 32 digits and the end. */
void ledger_hex(const uint8_t bytes[static 16], char ret[static 33]);
bool ledger_unhex(struct slice text, uint8_t ret[static 16]);
