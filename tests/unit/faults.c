/* SPDX-License-Identifier: Apache-2.0 */
#undef _FORTIFY_SOURCE /* its wrappers have the names that are written here */

#include "faults.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static struct {
    bool armed;
    enum fault_kind kind;
    enum fault_mode mode;
    int error;
    long nth, calls;
} disk;

static const char *const calls_of[] = {
#define FAULT_CALLS(kind, calls) calls,
    FAULT_KINDS(FAULT_CALLS)
#undef FAULT_CALLS
};

const char *fault_calls(enum fault_kind kind)
{
    return calls_of[kind];
}

void faults_arm(enum fault_kind kind, long nth, enum fault_mode mode, int error)
{
    disk = (typeof(disk)){ true, kind, mode, error, nth, 0 };
}

void faults_arm_one(const struct fault *fault, long nth)
{
    faults_arm(fault->kind, nth, fault->mode, fault->error);
}

bool faults_end(void)
{
    disk.armed = false;
    return disk.calls >= disk.nth;
}

/* Is this the call? */
static bool now(enum fault_kind kind)
{
    bool changes = kind != FAULT_READ && kind != FAULT_LIST && kind != FAULT_MMAP;
    bool counted = disk.armed && (disk.kind == kind || (disk.kind == FAULT_ANY && changes));
    if (!counted)
        return false;
    disk.calls++;
    return disk.mode == FAULT_STAYS ? disk.calls >= disk.nth : disk.calls == disk.nth;
}

/* It has no bytes that could be written in part. */
static bool fails(enum fault_kind kind)
{
    if (!now(kind) || disk.mode == FAULT_SHORT)
        return false;
    if (disk.mode == FAULT_KILLS)
        _exit(FAULT_KILLED);
    errno = disk.error;
    return true;
}

/* How many of the bytes; 0: it fails. */
static size_t share(enum fault_kind kind, size_t bytes)
{
    if (!now(kind))
        return bytes;
    if (disk.mode == FAULT_SHORT)
        return (bytes + 1) / 2;
    if (disk.mode == FAULT_KILLS)
        return bytes / 2;
    errno = disk.error;
    return 0;
}

static bool kills(void)
{
    return disk.armed && disk.mode == FAULT_KILLS && disk.calls == disk.nth;
}

#define FAULTY [[gnu::visibility("default")]]
#define REAL(name) ((typeof(&name))dlsym(RTLD_NEXT, #name))

/* ---- the calls; with 64-bit offsets these are open64, pwrite64 ... --------------------------- */

FAULTY ssize_t write(int fd, const void *data, size_t bytes)
{
    size_t part = fd > 2 ? share(FAULT_WRITE, bytes) : bytes;
    ssize_t n = part || !bytes ? REAL(write)(fd, data, part) : -1;
    if (fd > 2 && kills())
        _exit(FAULT_KILLED);
    return n;
}

FAULTY ssize_t pwrite(int fd, const void *data, size_t bytes, off_t offset)
{
    size_t part = share(FAULT_WRITE, bytes);
    ssize_t n = part || !bytes ? REAL(pwrite)(fd, data, part, offset) : -1;
    if (kills())
        _exit(FAULT_KILLED);
    return n;
}

FAULTY ssize_t read(int fd, void *data, size_t bytes)
{
    size_t part = share(FAULT_READ, bytes);
    return part || !bytes ? REAL(read)(fd, data, part) : -1;
}

FAULTY ssize_t pread(int fd, void *data, size_t bytes, off_t offset)
{
    size_t part = share(FAULT_READ, bytes);
    return part || !bytes ? REAL(pread)(fd, data, part, offset) : -1;
}

FAULTY struct dirent *readdir(DIR *folder)
{
    return fails(FAULT_LIST) ? NULL : REAL(readdir)(folder);
}

FAULTY int fsync(int fd)
{
    return fails(FAULT_SYNC) ? -1 : REAL(fsync)(fd);
}

FAULTY int fdatasync(int fd)
{
    return fails(FAULT_SYNC) ? -1 : REAL(fdatasync)(fd);
}

FAULTY int ftruncate(int fd, off_t bytes)
{
    return fails(FAULT_TRUNCATE) ? -1 : REAL(ftruncate)(fd, bytes);
}

static mode_t mode_of(int flags, va_list arguments)
{
    return flags & (O_CREAT | __O_TMPFILE) ? (mode_t)va_arg(arguments, int) : 0;
}

FAULTY int open(const char *path, int flags, ...)
{
    va_list arguments;
    va_start(arguments, flags);
    mode_t mode = mode_of(flags, arguments);
    va_end(arguments);
    return fails(FAULT_OPEN) ? -1 : REAL(open)(path, flags, mode);
}

FAULTY int openat(int folder, const char *path, int flags, ...)
{
    va_list arguments;
    va_start(arguments, flags);
    mode_t mode = mode_of(flags, arguments);
    va_end(arguments);
    return fails(FAULT_OPEN) ? -1 : REAL(openat)(folder, path, flags, mode);
}

FAULTY int rename(const char *from, const char *to)
{
    return fails(FAULT_RENAME) ? -1 : REAL(rename)(from, to);
}

FAULTY int renameat(int from_folder, const char *from, int to_folder, const char *to)
{
    return fails(FAULT_RENAME) ? -1 : REAL(renameat)(from_folder, from, to_folder, to);
}

FAULTY int renameat2(int from_folder, const char *from, int to_folder, const char *to,
                     unsigned flags)
{
    return fails(FAULT_RENAME) ? -1 : REAL(renameat2)(from_folder, from, to_folder, to, flags);
}

FAULTY int link(const char *from, const char *to)
{
    return fails(FAULT_RENAME) ? -1 : REAL(link)(from, to);
}

FAULTY int mkdir(const char *path, mode_t mode)
{
    return fails(FAULT_MAKE) ? -1 : REAL(mkdir)(path, mode);
}

FAULTY int unlink(const char *path)
{
    return fails(FAULT_REMOVE) ? -1 : REAL(unlink)(path);
}

FAULTY int unlinkat(int folder, const char *path, int flags)
{
    return fails(FAULT_REMOVE) ? -1 : REAL(unlinkat)(folder, path, flags);
}

/* Not for everybody: the C library's own memory comes from mmap. */
static void *sqlite_mmap(void *at, size_t bytes, int protection, int flags, int fd, off_t offset)
{
    return fails(FAULT_MMAP) ? MAP_FAILED : mmap(at, bytes, protection, flags, fd, offset);
}

static void *sqlite_mremap(void *at, size_t bytes, size_t new_bytes, int flags)
{
    return fails(FAULT_MMAP) ? MAP_FAILED : mremap(at, bytes, new_bytes, flags);
}

void faults_in_sqlite(void)
{
    sqlite3_vfs *vfs = sqlite3_vfs_find(NULL);
    assert_int_equal(vfs->xSetSystemCall(vfs, "mmap", (sqlite3_syscall_ptr)sqlite_mmap), SQLITE_OK);
    assert_int_equal(vfs->xSetSystemCall(vfs, "mremap", (sqlite3_syscall_ptr)sqlite_mremap),
                     SQLITE_OK);
}

/* ---- killed ---------------------------------------------------------------------------------- */

bool faults_kill_at(long nth, void (*act)(void *data), void *data)
{
    int status;
    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        faults_arm(FAULT_ANY, nth, FAULT_KILLS, 0);
        act(data);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    if (!WIFEXITED(status) || (WEXITSTATUS(status) != 0 && WEXITSTATUS(status) != FAULT_KILLED))
        fail_msg("a child that was to be killed ended with status %x", (unsigned)status);
    return WEXITSTATUS(status) == FAULT_KILLED;
}

/* ---- folders --------------------------------------------------------------------------------- */

void folder_make(char *ret)
{
    const char *disk_in_memory = "/dev/shm";
    const char *where = access(disk_in_memory, W_OK | X_OK) == 0 ? disk_in_memory : "/tmp";
    snprintf(ret, FAULT_FOLDER_BYTES, "%s/perigee-faults-XXXXXX", where);
    assert_non_null(mkdtemp(ret));
}

static int remove_one(const char *path, const struct stat *, int, struct FTW *)
{
    return remove(path);
}

void folder_remove(const char *folder)
{
    assert_int_equal(nftw(folder, remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
}

static const char *copy_to;
static size_t copy_from_size;

static int copy_one(const char *path, const struct stat *st, int, struct FTW *)
{
    char to[4096], buffer[16384];
    snprintf(to, sizeof to, "%s%s", copy_to, path + copy_from_size);
    if (S_ISDIR(st->st_mode))
        return mkdir(to, 0700);
    FILE *in = fopen(path, "r"), *out = fopen(to, "w");
    assert_true(in && out);
    for (size_t n; (n = fread(buffer, 1, sizeof buffer, in)) > 0;)
        assert_int_equal(fwrite(buffer, 1, n, out), n);
    fclose(in);
    return fclose(out);
}

void folder_copy(const char *from, const char *to)
{
    copy_to = to;
    copy_from_size = strlen(from);
    assert_int_equal(nftw(from, copy_one, 16, FTW_PHYS), 0);
}

static unsigned long long digest;

static void digest_add_bytes(const void *data, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        digest = (digest ^ ((const unsigned char *)data)[i]) * 0x100000001b3;
}

/* Order does not matter: each file's own digest is added to the sum. */
static unsigned long long digest_sum;

static int digest_one(const char *path, const struct stat *st, int, struct FTW *)
{
    char buffer[8192];
    if (!S_ISREG(st->st_mode))
        return 0;
    digest = 0xcbf29ce484222325;
    digest_add_bytes(path, strlen(path));
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    for (size_t n; (n = fread(buffer, 1, sizeof buffer, file)) > 0;)
        digest_add_bytes(buffer, n);
    fclose(file);
    digest_sum += digest;
    return 0;
}

unsigned long long folder_digest(const char *folder)
{
    digest_sum = 0;
    assert_int_equal(nftw(folder, digest_one, 16, FTW_PHYS), 0);
    return digest_sum;
}
