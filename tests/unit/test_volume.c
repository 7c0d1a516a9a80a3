/* SPDX-License-Identifier: Apache-2.0 */
/* Folders that cannot grow: the file, its device. What an engine makes of it is tried by
 * tests/system/test_containers_volumes.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <pthread.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/err.h"
#include "sys/fd.h"
#include "sys/volume.h"

static char folder[] = "/tmp/perigee-volume-XXXXXX";
static char path[sizeof folder + 16];

static int setup(void **state)
{
    (void)state;
    if (!mkdtemp(folder))
        return -1;
    snprintf(path, sizeof path, "%s/one", folder);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    (void)unlink(path);
    return rmdir(folder); /* nothing else is left there */
}

static void make_or_skip(uint64_t bytes)
{
    struct err err = {};

    (void)unlink(path);
    int r = volume_make(path, bytes, &err);
    if (r == ERR_NOT_SUPPORTED) {
        print_message("%s\n", err.message);
        skip();
    }
    if (r < 0)
        fail_msg("%s", err.message);
}

static void attach_or_skip(struct volume_device *ret)
{
    struct err err = {};

    make_or_skip(16 << 20);
    int r = volume_attach(path, ret, &err);
    if (r == ERR_NOT_SUPPORTED) {
        print_message("%s\n", err.message);
        skip();
    }
    if (r < 0)
        fail_msg("%s", err.message);
}

static void test_it_takes_all_of_its_room_at_once(void **state)
{
    struct stat st;
    unsigned char super[1024];
    (void)state;

    make_or_skip((16 << 20) + 5);
    auto_close int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0 && fstat(fd, &st) == 0);
    assert_int_equal(st.st_size, 16 << 20);
    assert_true(st.st_blocks * 512 >= 16 << 20);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(pread(fd, super, sizeof super, 1024), sizeof super);
    assert_true(super[0x38] == 0x53 && super[0x39] == 0xef);
}

static void test_there_is_room_or_nothing(void **state)
{
    struct err err = {};
    (void)state;

    (void)unlink(path);
    int r = volume_make(path, UINT64_C(1) << 60, &err);
    assert_true(r == ERR_OVERLOADED || r == ERR_NOT_SUPPORTED);
    assert_true(access(path, F_OK) < 0);
}

static void test_a_file_has_one_device(void **state)
{
    struct volume_device one = { -1 }, two = { -1 };
    struct err err = {};
    (void)state;

    attach_or_skip(&one);
    assert_int_equal(0, volume_attach(path, &two, &err));
    assert_int_equal(one.number, two.number);
    assert_string_equal(one.id, two.id);
    fd_close(&one.fd);
    assert_int_equal(0, volume_attach(path, &one, &err));
    assert_int_equal(one.number, two.number); /* it stays while somebody has it */
    fd_close(&one.fd);
    fd_close(&two.fd);
}

/* Past the file system's back, as a disk does. */
static void scribble(const struct volume_device *device, const void *bytes, size_t size, off_t at)
{
    char shown[32];

    snprintf(shown, sizeof shown, "/dev/loop%u", device->number);
    auto_close int fd = open(shown, O_WRONLY | O_CLOEXEC);
    assert_true(fd >= 0 && pwrite(fd, bytes, size, at) == (ssize_t)size && fsync(fd) == 0);
}

/* As a crash of the machine may. */
static void leave_errors(const struct volume_device *device)
{
    char shown[32], request[] = "set_super_value state 2";
    char *const arguments[] = { "debugfs", "-w", "-R", request, shown, NULL };
    int status = 0;
    pid_t pid;

    snprintf(shown, sizeof shown, "/dev/loop%u", device->number);
    assert_int_equal(0, posix_spawn(&pid, "/usr/sbin/debugfs", NULL, NULL, arguments, environ));
    assert_int_equal(pid, waitpid(pid, &status, 0));
    assert_int_equal(status, 0);
}

static void test_what_is_damaged_is_mended_or_said(void **state)
{
    static const unsigned char nothing[1024];
    struct volume_device device = { -1 };
    struct err err = {};
    bool mended = true;
    (void)state;

    attach_or_skip(&device);
    assert_int_equal(0, volume_mend(path, &device, &mended, &err));
    assert_false(mended);
    leave_errors(&device);
    assert_int_equal(0, volume_mend(path, &device, &mended, &err));
    assert_true(mended);
    assert_int_equal(0, volume_mend(path, &device, &mended, &err));
    assert_false(mended);
    scribble(&device, nothing, sizeof nothing, 1024); /* where its superblock is */
    assert_int_equal(ERR_PRECONDITION, volume_mend(path, &device, &mended, &err));
    assert_false(mended);
    assert_non_null(strstr(err.message, "is damaged"));
    assert_non_null(strstr(err.message, path));
    fd_close(&device.fd);
}

static void test_one_that_somebody_has_is_left_alone(void **state)
{
    static const unsigned char nothing[1024];
    struct volume_device device = { -1 };
    struct err err = {};
    char shown[32];
    bool mended;
    (void)state;

    attach_or_skip(&device);
    scribble(&device, nothing, sizeof nothing, 1024);
    snprintf(shown, sizeof shown, "/dev/loop%u", device.number);
    auto_close int mine = open(shown, O_RDONLY | O_EXCL | O_CLOEXEC); /* as a mount has it */
    assert_true(mine >= 0);
    assert_int_equal(0, volume_mend(path, &device, &mended, &err));
    fd_close(&device.fd);
}

static void *make_one(void *data)
{
    struct err err = {};

    *(int *)data = volume_make(path, 16 << 20, &err);
    return NULL;
}

/* What an agent that was killed has begun lives on beside its heir's. */
static void test_several_that_make_one_do_not_meet(void **state)
{
    enum { MAKERS = 4 };
    pthread_t threads[MAKERS];
    int results[MAKERS];
    struct volume_device device = { -1 };
    struct err err = {};
    bool mended = true;
    (void)state;

    make_or_skip(16 << 20);
    (void)unlink(path);
    for (size_t i = 0; i < MAKERS; i++)
        assert_int_equal(0, pthread_create(&threads[i], NULL, make_one, &results[i]));
    for (size_t i = 0; i < MAKERS; i++)
        assert_int_equal(0, pthread_join(threads[i], NULL));
    for (size_t i = 0; i < MAKERS; i++)
        assert_int_equal(0, results[i]);
    if (volume_attach(path, &device, &err) == ERR_NOT_SUPPORTED)
        skip();
    assert_int_equal(0, volume_mend(path, &device, &mended, &err));
    assert_false(mended);
    fd_close(&device.fd);
}

static void test_no_file_has_no_device(void **state)
{
    struct volume_device device;
    struct err err;
    (void)state;

    (void)unlink(path);
    assert_int_equal(ERR_NOT_FOUND, volume_attach(path, &device, &err));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_it_takes_all_of_its_room_at_once),
        cmocka_unit_test(test_there_is_room_or_nothing),
        cmocka_unit_test(test_a_file_has_one_device),
        cmocka_unit_test(test_what_is_damaged_is_mended_or_said),
        cmocka_unit_test(test_one_that_somebody_has_is_left_alone),
        cmocka_unit_test(test_several_that_make_one_do_not_meet),
        cmocka_unit_test(test_no_file_has_no_device),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
