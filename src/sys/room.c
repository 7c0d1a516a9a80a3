/* SPDX-License-Identifier: Apache-2.0 */
#include "sys/room.h"

#include <sys/statvfs.h>

#include "base/err.h"

enum { FLOOR_PART = 16, MIB_BITS = 20 };

#define FLOOR_BYTES_MAX (UINT64_C(256) << MIB_BITS)

uint64_t room_floor(uint64_t disk_bytes)
{
    uint64_t part = disk_bytes / FLOOR_PART;

    return part < FLOOR_BYTES_MAX ? part : FLOOR_BYTES_MAX;
}

uint64_t room_short(uint64_t disk_bytes, uint64_t free_bytes, uint64_t bytes)
{
    uint64_t floor = room_floor(disk_bytes);
    uint64_t need = bytes < UINT64_MAX - floor ? bytes + floor : UINT64_MAX;

    return bytes && need > free_bytes ? need - free_bytes : 0;
}

static uint64_t look(const char *path, uint64_t bytes, uint64_t *ret_disk, uint64_t *ret_free)
{
    struct statvfs disk;

    if (statvfs(path, &disk) < 0)
        return 0;
    *ret_disk = (uint64_t)disk.f_blocks * disk.f_frsize;
    *ret_free = (uint64_t)disk.f_bavail * disk.f_frsize;
    return room_short(*ret_disk, *ret_free, bytes);
}

uint64_t room_lacks(const char *path, uint64_t bytes)
{
    uint64_t disk, free_bytes;

    return look(path, bytes, &disk, &free_bytes);
}

static unsigned long long up_mib(uint64_t bytes)
{
    return (bytes >> MIB_BITS) + (bytes % (1u << MIB_BITS) != 0);
}

int room_check(const char *path, uint64_t bytes, struct err *err)
{
    uint64_t disk = 0, free_bytes = 0;

    if (look(path, bytes, &disk, &free_bytes) == 0)
        return 0;
    return err_set(err, ERR_OVERLOADED,
                   "the disk has no room for it: %llu MiB are needed, %llu MiB are free, and %llu "
                   "MiB of those are left for the database, the table, the ledger and logs",
                   up_mib(bytes), (unsigned long long)(free_bytes >> MIB_BITS),
                   up_mib(room_floor(disk)));
}
