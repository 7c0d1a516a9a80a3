/* SPDX-License-Identifier: Apache-2.0 */
/*
 * volume.h -- a folder that cannot grow: a file whose whole size is set aside when it is made, with
 * an ext4 in it, which a loop device shows to who mounts it. Neither takes a capability, but the
 * user that loop devices belong to (root). Mounting is a container engine's: it sees the device
 * wherever it has its own folders.
 *
 * A device lasts as long as somebody has it open or mounted, and goes by itself behind the last.
 * Blocking; one caller per file at a time.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define VOLUME_CONTROL "/dev/loop-control" /* whose user may attach files */

struct err;

/* Makes the file, whole or not at all; one that is there stays. What is in it at first: one folder
 * that everybody may write to. ERR_OVERLOADED: the disk has no room for it. ERR_NOT_SUPPORTED: not
 * on this machine, or on this disk. */
[[nodiscard]] int volume_make(const char *path, uint64_t bytes, struct err *err);

struct volume_device {
    int fd;          /* the caller's: the device stays while it is open; for reading */
    unsigned number; /* of /dev/loopN */
    char id[24];     /* "7:0", as /proc/PID/mountinfo says it */
};

/* The device that the file has already, or a new one: never two for one file. */
[[nodiscard]] int volume_attach(const char *path, struct volume_device *ret, struct err *err);

/* Before it is mounted: what a crash left undone in its file system is done (e2fsck -p). One that
 * somebody has mounted is left alone. ERR_PRECONDITION: that is not enough; it stays as it is. */
[[nodiscard]] int volume_mend(const char *path, const struct volume_device *device,
                              bool *ret_mended, struct err *err);

/* Can files be made and attached here? */
[[nodiscard]] int volume_possible(struct err *err);
