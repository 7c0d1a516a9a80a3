/* SPDX-License-Identifier: Apache-2.0 */
#include "sys/proc.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "sys/fd.h"

size_t proc_file(const char *path, char *text, size_t room)
{
    size_t at = 0;
    ssize_t size = 1;
    auto_close int fd = open(path, O_RDONLY | O_CLOEXEC);
    while (fd >= 0 && size > 0 && at < room - 1) {
        size = read(fd, text + at, room - 1 - at);
        at += size > 0 ? (size_t)size : 0;
    }
    text[at] = '\0';
    return at;
}

size_t proc_read(pid_t pid, const char *name, char *text, size_t room)
{
    char path[64];
    (void)snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, name);
    return proc_file(path, text, room);
}

struct slice proc_line(struct slice text, const char *key)
{
    while (text.size) {
        struct slice line = slice_cut(&text, '\n');
        if (slice_starts(line, slice_of(key)))
            return (struct slice){ line.data + strlen(key), line.size - strlen(key) };
    }
    return (struct slice){};
}

uint64_t proc_number(struct slice text, const char *key, int base)
{
    struct slice value = proc_line(text, key);
    char digits[32];

    while (value.size && (*value.data == ' ' || *value.data == '\t')) {
        value.data++;
        value.size--;
    }
    if (!value.size)
        return UINT64_MAX;
    (void)snprintf(digits, sizeof digits, "%.*s", SLICE_FMT(value));
    return strtoull(digits, NULL, base);
}

bool proc_ending(pid_t pid)
{
    enum { EXITING = 4 }; /* PF_EXITING, since Linux 2.4 */
    char text[1024];
    unsigned flags;
    size_t size = proc_read(pid, "stat", text, sizeof text);
    const char *name_end = size ? strrchr(text, ')') : NULL;

    return !name_end || sscanf(name_end, ") %*c %*d %*d %*d %*d %*d %u", &flags) != 1 ||
           (flags & EXITING) != 0;
}

/* ---- what it has used ------------------------------------------------------------------------ */

bool proc_cpu_ns(pid_t pid, uint64_t *ret)
{
    clockid_t clock;
    struct timespec used;
    if (clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &used) < 0)
        return false;
    *ret = (uint64_t)used.tv_sec * 1'000'000'000 + (uint64_t)used.tv_nsec;
    return true;
}

bool proc_resident_bytes(pid_t pid, uint64_t *ret)
{
    char text[256];
    unsigned long pages;
    if (!proc_read(pid, "statm", text, sizeof text) || sscanf(text, "%*u %lu", &pages) != 1)
        return false;
    *ret = (uint64_t)pages * (uint64_t)sysconf(_SC_PAGESIZE);
    return true;
}

bool proc_started(pid_t pid, uint64_t *ret)
{
    char text[1024];
    unsigned long long started;
    if (!proc_read(pid, "stat", text, sizeof text))
        return false;
    const char *behind = strrchr(text, ')'); /* the name may hold anything */
    if (!behind || sscanf(behind + 1,
                          " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d "
                          "%*d %*d %llu",
                          &started) != 1)
        return false;
    *ret = started;
    return true;
}

bool proc_age_ms(pid_t pid, uint64_t *ret)
{
    uint64_t started;
    struct timespec now;
    if (!proc_started(pid, &started) || clock_gettime(CLOCK_BOOTTIME, &now) < 0)
        return false;
    uint64_t now_ms = (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1'000'000;
    uint64_t then_ms = started * 1000 / (uint64_t)sysconf(_SC_CLK_TCK);
    *ret = now_ms > then_ms ? now_ms - then_ms : 0;
    return true;
}

bool proc_boot(char ret[static PROC_BOOT_BYTES])
{
    size_t size = proc_file("/proc/sys/kernel/random/boot_id", ret, PROC_BOOT_BYTES);

    ret[size && ret[size - 1] == '\n' ? size - 1 : size] = '\0';
    return ret[0] != '\0';
}
