/* SPDX-License-Identifier: Apache-2.0 */
/* Folders that cannot grow: the file, its device. What an engine makes of it is tried by
 * tests/system/test_containers_volumes.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
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

    make_or_skip(16 << 20);
    int r = volume_attach(path, &one, &err);
    if (r == ERR_NOT_SUPPORTED) {
        print_message("%s\n", err.message);
        skip();
    }
    if (r < 0)
        fail_msg("%s", err.message);
    assert_int_equal(0, volume_attach(path, &two, &err));
    assert_int_equal(one.number, two.number);
    assert_string_equal(one.id, two.id);
    fd_close(&one.fd);
    assert_int_equal(0, volume_attach(path, &one, &err));
    assert_int_equal(one.number, two.number); /* it stays while somebody has it */
    fd_close(&one.fd);
    fd_close(&two.fd);
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
        cmocka_unit_test(test_no_file_has_no_device),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
