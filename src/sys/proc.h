/* SPDX-License-Identifier: Apache-2.0 */
/*
 * proc.h -- what /proc says of a process. Any thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/slice.h"

enum { PROC_TEXT_BYTES = 16 * 1024 };

/* A file of /proc, /sys and the like, terminated, as far as there is room. Returns its size; 0: it
 * is gone, or not shown to us. */
size_t proc_file(const char *path, char *text, size_t room);
/* The same of /proc/PID/NAME. */
size_t proc_read(pid_t pid, const char *name, char *text, size_t room);

/* What follows `key` on its line. data NULL: there is no such line. */
struct slice proc_line(struct slice text, const char *key);
/* The same as a number, blanks before it and what follows left out; UINT64_MAX: none. */
uint64_t proc_number(struct slice text, const char *key, int base);

/* It is gone, or on its way out: what else /proc says is then of a process half taken down. */
bool proc_ending(pid_t pid);

/* What another process has used so far. No privilege is wanted for any of it; who asks knows that
 * it has not been reaped, or bears the answer of another one. False: it is gone. */

/* CPU time of all its threads, those that ended among them, in nanoseconds: its CPU clock
 * (clock_getcpuclockid(3)), which has no ticks. At its end it is the sum of what wait4() says. */
bool proc_cpu_ns(pid_t pid, uint64_t *ret);
/* Resident memory in bytes: VmRSS, so that a page that several share counts at each of them. */
bool proc_resident_bytes(pid_t pid, uint64_t *ret);
/* When it began, in the kernel's ticks since the machine did: with its number it is that process
 * and no other, until the machine begins anew. */
bool proc_started(pid_t pid, uint64_t *ret);
/* Which life of the machine this is; false: it is not told. */
enum { PROC_BOOT_BYTES = 40 };
bool proc_boot(char ret[static PROC_BOOT_BYTES]);
/* How long ago it began, to the kernel's tick. */
bool proc_age_ms(pid_t pid, uint64_t *ret);
