/* SPDX-License-Identifier: Apache-2.0 */
#include "sys/shm.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <cmocka.h> /* after the four above */

#include "base/err.h"
#include "sys/fd.h"

enum { BYTES = 16 * 4096 };

static void test_read_only_stays_so(void **state)
{
    (void)state;
    struct err err;
    auto_close int fd = -1;
    auto_close int reader = -1;
    void *writable, *readable, *none = NULL;
    assert_int_equal(shm_create("test", BYTES, &fd, &err), 0);
    assert_int_equal(shm_reopen_readonly(fd, &reader, &err), 0);
    assert_int_equal(shm_map(fd, BYTES, true, &writable, &err), 0);
    assert_int_equal(shm_map(reader, BYTES, false, &readable, &err), 0);
    strcpy(writable, "seen");
    assert_string_equal(readable, "seen");

    assert_int_equal(shm_map(reader, BYTES, true, &none, &err), ERR_FORBIDDEN);
    assert_int_equal(mprotect(readable, BYTES, PROT_READ | PROT_WRITE), -1);
    assert_int_equal(errno, EACCES);
    if (geteuid() != 0) { /* root is asked no mode; its replicas have a uid of their own */
        char path[64];
        (void)snprintf(path, sizeof path, "/proc/self/fd/%d", reader);
        assert_int_equal(open(path, O_RDWR), -1);
        assert_int_equal(errno, EACCES);
    }
    shm_unmap(readable, BYTES);
    shm_unmap(writable, BYTES);
}

static void test_it_neither_grows_nor_shrinks(void **state)
{
    (void)state;
    struct err err;
    auto_close int fd = -1;
    void *memory;
    assert_int_equal(shm_create("test", BYTES, &fd, &err), 0);
    assert_int_equal(ftruncate(fd, BYTES * 2), -1);
    assert_int_equal(ftruncate(fd, 4096), -1);
    assert_int_equal(shm_map(fd, BYTES / 2, true, &memory, &err), ERR_BAD_INPUT);
    assert_int_equal(shm_map(fd, BYTES * 2, true, &memory, &err), ERR_BAD_INPUT);
    assert_int_equal(shm_create("test", 0, &fd, &err), ERR_BAD_INPUT);
    auto_close int plain = memfd_create("plain", MFD_CLOEXEC);
    assert_int_equal(ftruncate(plain, BYTES), 0);
    assert_int_equal(shm_map(plain, BYTES, false, &memory, &err), ERR_BAD_INPUT);
}

static void test_a_huge_one_costs_nothing(void **state)
{
    (void)state;
    size_t bytes = UINT64_C(64) << 30;
    struct err err;
    auto_close int fd = -1;
    void *memory;
    assert_int_equal(shm_create("huge", bytes, &fd, &err), 0);
    assert_int_equal(shm_map(fd, bytes, true, &memory, &err), 0);
    char *last = (char *)memory + bytes - 4096;
    *last = 1;
    shm_punch(last, 4096);
    assert_int_equal(*last, 0);
    shm_unmap(memory, bytes);
}

static void test_published_is_final(void **state)
{
    (void)state;
    struct err err;
    auto_close int fd = -1;
    auto_close int region = -1;
    const void *data;
    size_t bytes;
    assert_int_equal(shm_publish("table", "words", 5, &fd, &err), 0);
    assert_int_equal(shm_map_published(fd, 5, &data, &bytes, &err), 0);
    assert_int_equal(bytes, 5);
    assert_memory_equal(data, "words", 5);
    munmap((void *)data, bytes);
    assert_int_equal(pwrite(fd, "x", 1, 0), -1);
    assert_int_equal(shm_map_published(fd, 4, &data, &bytes, &err), ERR_BAD_INPUT);
    assert_int_equal(shm_create("region", BYTES, &region, &err), 0);
    assert_int_equal(shm_map_published(region, BYTES, &data, &bytes, &err), ERR_BAD_INPUT);
}

static int begins_with_w(struct slice bytes, struct err *err)
{
    return bytes.data[0] == 'w' ? 0 : err_set(err, ERR_CONFLICT, "no w");
}

static void test_what_a_check_refuses_is_not_taken(void **state)
{
    (void)state;
    struct err err;
    auto_close int fd = -1;
    auto_close int other = -1;
    struct slice bytes = {};
    assert_int_equal(shm_publish("table", "other", 5, &other, &err), 0);
    assert_int_equal(shm_map_checked(other, 5, begins_with_w, &bytes, &err), ERR_CONFLICT);
    assert_null(bytes.data);
    assert_int_equal(shm_publish("table", "words", 5, &fd, &err), 0);
    assert_int_equal(shm_map_checked(fd, 4, begins_with_w, &bytes, &err), ERR_BAD_INPUT);
    assert_int_equal(shm_map_checked(fd, 5, begins_with_w, &bytes, &err), 0);
    assert_true(slice_is(bytes, "words"));
    shm_unmap((void *)bytes.data, bytes.size);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_read_only_stays_so),
        cmocka_unit_test(test_it_neither_grows_nor_shrinks),
        cmocka_unit_test(test_a_huge_one_costs_nothing),
        cmocka_unit_test(test_published_is_final),
        cmocka_unit_test(test_what_a_check_refuses_is_not_taken),
    };
    return cmocka_run_group_tests_name("shm", tests, NULL, NULL);
}
