/* SPDX-License-Identifier: Apache-2.0 */
#include "faults_maps.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h> /* after the four above */

#include <dirent.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

static _Atomic bool armed;
static _Atomic long first, last, calls;

void faults_maps_arm(long nth, long count)
{
    atomic_store(&first, nth);
    atomic_store(&last, nth + count - 1);
    atomic_store(&calls, 0);
    atomic_store(&armed, true);
}

bool faults_maps_end(void)
{
    atomic_store(&armed, false);
    return atomic_load(&calls) >= atomic_load(&first);
}

static bool fails(int fd)
{
    if (fd < 0 || !atomic_load(&armed))
        return false;
    long call = atomic_fetch_add(&calls, 1) + 1;
    if (call < atomic_load(&first) || call > atomic_load(&last))
        return false;
    errno = ENOMEM;
    return true;
}

/* With 64-bit offsets our code calls mmap64(). */
void *__real_mmap(void *at, size_t bytes, int protection, int flags, int fd, off_t offset);
void *__real_mmap64(void *at, size_t bytes, int protection, int flags, int fd, off_t offset);
void *__wrap_mmap(void *at, size_t bytes, int protection, int flags, int fd, off_t offset);
void *__wrap_mmap64(void *at, size_t bytes, int protection, int flags, int fd, off_t offset);

void *__wrap_mmap(void *at, size_t bytes, int protection, int flags, int fd, off_t offset)
{
    return fails(fd) ? MAP_FAILED : __real_mmap(at, bytes, protection, flags, fd, offset);
}

void *__wrap_mmap64(void *at, size_t bytes, int protection, int flags, int fd, off_t offset)
{
    return fails(fd) ? MAP_FAILED : __real_mmap64(at, bytes, protection, flags, fd, offset);
}

struct faults_maps_kept faults_maps_kept(void)
{
    struct faults_maps_kept kept = {};
    char line[512];
    DIR *fds = opendir("/proc/self/fd");
    FILE *maps = fopen("/proc/self/maps", "re");
    assert_true(fds && maps);
    while (readdir(fds))
        kept.fds++;
    while (fgets(line, sizeof line, maps))
        kept.maps += strstr(line, "/memfd:") != NULL;
    closedir(fds);
    (void)fclose(maps);
    return kept;
}

void faults_maps_kept_check(struct faults_maps_kept before)
{
    struct faults_maps_kept now = faults_maps_kept();
    assert_int_equal(now.fds, before.fds);
    assert_int_equal(now.maps, before.maps);
}
