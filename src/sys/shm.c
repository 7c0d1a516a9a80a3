/* SPDX-License-Identifier: Apache-2.0 */
#include "sys/shm.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "sys/fd.h"

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U /* Linux 6.3 */
#endif

enum {
    SEALS_REGION = F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL,
    SEALS_PUBLISHED = SEALS_REGION | F_SEAL_WRITE,
};

static int memfd_new(const char *name, size_t bytes, int *ret_fd, struct err *err)
{
    if (bytes == 0 || bytes > INT64_MAX)
        return err_set(err, ERR_BAD_INPUT, "a region of %zu bytes is none", bytes);
    auto_close int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);
    if (fd < 0 && errno == EINVAL) /* an older kernel */
        fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return err_set(err, ERR_INTERNAL, "making shared memory '%s': %s", name, strerror(errno));
    /* Whoever gets the read-only reopening must not reopen it for writing in turn through
     * /proc/self/fd, which asks the file's mode alone (Landlock lets memfds through). */
    if (fchmod(fd, 0400) < 0 || ftruncate(fd, (off_t)bytes) < 0)
        return err_set(err, ERR_INTERNAL, "sizing shared memory '%s' to %zu bytes: %s", name, bytes,
                       strerror(errno));
    *ret_fd = take_fd(fd);
    return 0;
}

int shm_create(const char *name, size_t bytes, int *ret_fd, struct err *err)
{
    auto_close int fd = -1;
    int r = memfd_new(name, bytes, &fd, err);
    if (r < 0)
        return r;
    if (fcntl(fd, F_ADD_SEALS, SEALS_REGION) < 0)
        return err_set(err, ERR_INTERNAL, "sealing shared memory '%s': %s", name, strerror(errno));
    *ret_fd = take_fd(fd);
    return 0;
}

int shm_reopen_readonly(int fd, int *ret_fd, struct err *err)
{
    char path[64];
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    int reopened = open(path, O_RDONLY | O_CLOEXEC);
    if (reopened < 0)
        return err_set(err, ERR_INTERNAL, "reopening shared memory: %s", strerror(errno));
    *ret_fd = reopened;
    return 0;
}

static int check(int fd, int seals, uint64_t *ret_bytes, struct err *err)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return err_set(err, ERR_INTERNAL, "looking at shared memory: %s", strerror(errno));
    int has = fcntl(fd, F_GET_SEALS);
    if (!S_ISREG(st.st_mode) || has < 0 || (has & seals) != seals)
        return err_set(err, ERR_BAD_INPUT, "a descriptor is no sealed shared memory");
    *ret_bytes = (uint64_t)st.st_size;
    return 0;
}

int shm_map(int fd, size_t bytes, bool writable, void **ret_memory, struct err *err)
{
    uint64_t size = 0;
    int r = check(fd, SEALS_REGION, &size, err);
    if (r < 0)
        return r;
    if (size != bytes || bytes == 0)
        return err_set(err, ERR_BAD_INPUT, "shared memory has %ju bytes, not %zu", (uintmax_t)size,
                       bytes);
    int protection = writable ? PROT_READ | PROT_WRITE : PROT_READ;
    void *memory = mmap(NULL, bytes, protection, MAP_SHARED, fd, 0);
    if (memory == MAP_FAILED)
        return err_set(err, errno == EACCES ? ERR_FORBIDDEN : ERR_INTERNAL,
                       "mapping %zu bytes of shared memory: %s", bytes, strerror(errno));
    (void)madvise(memory, bytes, MADV_DONTDUMP); /* a core holds no tenant's bytes */
    *ret_memory = memory;
    return 0;
}

void shm_unmap(void *memory, size_t bytes)
{
    if (memory)
        munmap(memory, bytes);
}

int shm_publish(const char *name, const void *data, size_t bytes, int *ret_fd, struct err *err)
{
    auto_close int fd = -1;
    int r = memfd_new(name, bytes, &fd, err);
    if (r < 0)
        return r;
    for (size_t done = 0; done < bytes;) {
        ssize_t n = pwrite(fd, (const char *)data + done, bytes - done, (off_t)done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return err_set(err, ERR_INTERNAL, "filling shared memory '%s': %s", name,
                           n < 0 ? strerror(errno) : "it takes no more");
        done += (size_t)n;
    }
    if (fcntl(fd, F_ADD_SEALS, SEALS_PUBLISHED) < 0)
        return err_set(err, ERR_INTERNAL, "sealing shared memory '%s': %s", name, strerror(errno));
    *ret_fd = take_fd(fd);
    return 0;
}

int shm_map_published(int fd, size_t bytes_max, const void **ret_data, size_t *ret_bytes,
                      struct err *err)
{
    uint64_t size = 0;
    int r = check(fd, SEALS_PUBLISHED, &size, err);
    if (r < 0)
        return r;
    if (size == 0 || size > bytes_max)
        return err_set(err, ERR_BAD_INPUT, "published memory has %ju bytes; at most %zu are taken",
                       (uintmax_t)size, bytes_max);
    /* Private, because before Linux 6.7 a shared mapping of write-sealed memory is refused even
     * for reading. Nobody can write to it any more, so it is the same memory. */
    void *memory = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (memory == MAP_FAILED)
        return err_set(err, ERR_INTERNAL, "mapping published memory: %s", strerror(errno));
    *ret_data = memory;
    *ret_bytes = size;
    return 0;
}

int shm_map_checked(int fd, size_t bytes_max, int (*valid)(struct slice bytes, struct err *err),
                    struct slice *ret, struct err *err)
{
    const void *data;
    size_t bytes;
    int r = shm_map_published(fd, bytes_max, &data, &bytes, err);
    if (r < 0)
        return r;
    r = valid((struct slice){ data, bytes }, err);
    if (r < 0) {
        shm_unmap((void *)(uintptr_t)data, bytes);
        return r;
    }
    *ret = (struct slice){ data, bytes };
    return 0;
}

void shm_punch(void *memory, size_t bytes)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t begin = ((uintptr_t)memory + page - 1) & ~(page - 1);
    uintptr_t end = ((uintptr_t)memory + bytes) & ~(page - 1);
    if (begin < end)
        (void)madvise((void *)begin, end - begin, MADV_REMOVE);
}

void shm_punch_fd(int fd, uint64_t offset, uint64_t bytes)
{
    (void)fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)bytes);
}
