/* SPDX-License-Identifier: Apache-2.0 */
/* Uploads that have an id, their digests on the way, and who gives way when there are many. */
#include "store/blobs.h"

#include "folder.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"

static char folder[FOLDER_BYTES];
static struct err err;

static int set_up(void **state)
{
    (void)state;
    folder_make(folder);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    return folder_remove(folder);
}

static struct blobs *open_blobs(uint64_t uploads_max)
{
    struct blobs *blobs;
    struct blobs_limits limits = blobs_limits_default();
    limits.uploads_max = uploads_max;
    limits.repository_uploads_max = 2;
    assert_int_equal(blobs_open(folder, &limits, &blobs, &err), 0);
    return blobs;
}

static const char *path_of(const char *id)
{
    static char path[256];
    snprintf(path, sizeof path, "%s/blobs/uploads/%s.session", folder, id);
    return path;
}

/* An upload that has an id: gone on with by another opening, named at its end. */
static void test_sessions(void **state)
{
    (void)state;
    struct blobs *blobs;
    struct blob_upload *upload, *second;
    char digest[DIGEST_TEXT_MAX], digest2[DIGEST_TEXT_MAX], *data;
    uint64_t bytes;
    size_t size;
    const struct blobs_limits limits = { .blob_bytes_max = 16,
                                         .total_bytes_max = 100,
                                         .uploads_max = 2 };
    assert_int_equal(blobs_open(folder, &limits, &blobs, &err), 0);
    assert_int_equal(blobs_put_of(blobs, DIGEST_SHA512, SLICE("hello"), digest, &err), 0);
    assert_int_equal(blobs_delete(blobs, slice_of(digest), &err), 0);

    assert_int_equal(blob_session_begin(blobs, SLICE("a1"), &err), 0);
    assert_true(blob_session_begin(blobs, SLICE("a1"), &err) < 0);
    assert_int_equal(blob_session_begin(blobs, SLICE("a2"), &err), 0);
    assert_int_equal(blob_session_begin(blobs, SLICE("a3"), &err), ERR_OVERLOADED);
    assert_int_equal(blob_session_delete(blobs, SLICE("a2"), &err), 0);
    assert_int_equal(blob_session_have(blobs, SLICE("a2"), &bytes, &err), ERR_NOT_FOUND);
    assert_int_equal(blob_session_have(blobs, SLICE("../a1"), &bytes, &err), ERR_NOT_FOUND);
    assert_int_equal(blob_session_open(blobs, SLICE("a1"), 17, &upload, &err), ERR_TOO_LARGE);
    assert_int_equal(blob_session_open(blobs, SLICE("a1"), 0, &upload, &err), 0);
    assert_int_equal(blob_session_open(blobs, SLICE("a1"), 0, &second, &err), ERR_CONFLICT);
    blob_upload_free(upload); /* empty, and kept */
    assert_int_equal(blob_session_open(blobs, SLICE("a1"), 0, &upload, &err), 0);
    assert_int_equal(blob_upload_write(upload, "he", 2, &err), 0);
    assert_int_equal(blob_upload_write(upload, "0123456789abcdef", 16, &err), ERR_TOO_LARGE);
    blob_upload_free(upload);
    assert_int_equal(blob_session_have(blobs, SLICE("a1"), &bytes, &err), 0);
    assert_int_equal(bytes, 2);
    assert_int_equal(blob_session_open(blobs, SLICE("a1"), 3, &upload, &err), 0);
    assert_int_equal(blob_session_expect(upload, slice_of(digest), &err), 0);
    assert_int_equal(blob_session_hash(upload, &err), 0); /* by the other kind */
    assert_int_equal(blob_upload_write(upload, "llo", 3, &err), 0);
    assert_int_equal(blob_upload_seal(upload, &err), 0);
    assert_int_equal(blobs_find(blobs, slice_of(digest), &bytes, &err), ERR_NOT_FOUND);
    assert_int_equal(blob_upload_name(upload, &err), 0);
    blob_upload_free(upload);
    assert_int_equal(blobs_load(blobs, slice_of(digest), 100, &data, &size, &err), 0);
    assert_string_equal(data, "hello");
    free(data);
    assert_int_equal(blobs_total_bytes(blobs), 5);
    assert_int_equal(blob_session_have(blobs, SLICE("a1"), &bytes, &err), ERR_NOT_FOUND);

    /* Other bytes: it is gone. */
    assert_int_equal(blob_session_begin(blobs, SLICE("a4"), &err), 0);
    assert_int_equal(blob_session_open(blobs, SLICE("a4"), 0, &upload, &err), 0);
    assert_int_equal(blob_session_expect(upload, slice_of(digest), &err), 0);
    assert_int_equal(blob_upload_write(upload, "hullo", 5, &err), 0);
    assert_int_equal(blob_upload_seal(upload, &err), ERR_BAD_INPUT);
    blob_upload_free(upload);
    assert_int_equal(blob_session_have(blobs, SLICE("a4"), &bytes, &err), ERR_NOT_FOUND);

    /* Found again with the other kind; both kinds are swept. */
    assert_int_equal(blobs_put_of(blobs, DIGEST_SHA256, SLICE("x"), digest2, &err), 0);
    blobs_close(blobs);
    assert_int_equal(blobs_open(folder, &limits, &blobs, &err), 0);
    assert_int_equal(blobs_total_bytes(blobs), 6);
    assert_int_equal(blobs_sweep(blobs, INT64_MAX), 2);
    assert_int_equal(blobs_total_bytes(blobs), 0);
    blobs_close(blobs);
}

/* ---- digests on the way --------------------------------------------------------------------- */

static void begin(struct blobs *blobs, const char *id)
{
    if (blob_session_begin(blobs, slice_of(id), &err) < 0)
        fail_msg("%s: %s", id, err.message);
}

static struct blob_upload *open_session(struct blobs *blobs, const char *id)
{
    struct blob_upload *upload;
    if (blob_session_open(blobs, slice_of(id), 0, &upload, &err) < 0)
        fail_msg("%s: %s", id, err.message);
    return upload;
}

static void add(struct blobs *blobs, const char *id, const char *text)
{
    struct blob_upload *upload = open_session(blobs, id);
    assert_int_equal(blob_upload_write(upload, text, strlen(text), &err), 0);
    blob_upload_free(upload);
}

/* What is read again is seen by this. */
static void change_first_byte(const char *id)
{
    int fd = open(path_of(id), O_WRONLY);
    assert_true(fd >= 0 && pwrite(fd, "X", 1, 0) == 1);
    close(fd);
}

static int end(struct blobs *blobs, const char *id, enum digest_kind kind, const char *text)
{
    char digest[DIGEST_TEXT_MAX];
    struct digest *of = digest_new_of(kind);
    struct blob_upload *upload = open_session(blobs, id);
    digest_add(of, text, strlen(text));
    digest_end_of(of, digest);
    digest_free(of);
    assert_int_equal(blob_session_expect(upload, slice_of(digest), &err), 0);
    assert_int_equal(blob_session_hash(upload, &err), 0);
    int r = blob_upload_seal(upload, &err);
    if (r == 0)
        r = blob_upload_name(upload, &err);
    blob_upload_free(upload);
    return r;
}

static const struct {
    const char *id;
    enum digest_kind kind;
    bool expected; /* said at the second part, which was cut off */
    bool anew;     /* by another process */
    bool again;    /* what is there is read again */
} ways[] = {
    { "plain", DIGEST_SHA256, false, false, false },
    { "another", DIGEST_SHA256, false, true, true },
    { "long", DIGEST_SHA512, false, false, true },
    { "said", DIGEST_SHA512, true, false, false },
    { "saidanew", DIGEST_SHA512, true, true, true },
};

static void test_bytes_are_hashed_as_they_come(void **state)
{
    struct blobs *blobs = open_blobs(20);
    (void)state;
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++)
        for (int changed = 0; changed < 2; changed++) {
            char digest[DIGEST_TEXT_MAX];
            begin(blobs, ways[i].id);
            add(blobs, ways[i].id, "one ");
            add(blobs, ways[i].id, "two ");
            if (ways[i].expected) {
                struct digest *any = digest_new_of(ways[i].kind);
                struct blob_upload *upload = open_session(blobs, ways[i].id);
                digest_end_of(any, digest);
                digest_free(any);
                assert_int_equal(blob_session_expect(upload, slice_of(digest), &err), 0);
                assert_int_equal(blob_session_hash(upload, &err), 0);
                blob_upload_free(upload);
            }
            if (ways[i].anew) {
                blobs_close(blobs);
                blobs = open_blobs(20);
            }
            if (changed)
                change_first_byte(ways[i].id);
            add(blobs, ways[i].id, "three");
            int r = end(blobs, ways[i].id, ways[i].kind, "one two three");
            if (r != (changed && ways[i].again ? ERR_BAD_INPUT : 0))
                fail_msg("%s, %d: %d %s", ways[i].id, changed, r, r ? err.message : "");
        }
    blobs_close(blobs);
}

/* A part at a time, where there is much. */
static void test_what_is_read_again_is_read_in_parts(void **state)
{
    static const char zeros[1 << 20];
    const size_t count = (BLOB_HASH_BYTES >> 20) + 1;
    struct blobs *blobs = open_blobs(20);
    char digest[DIGEST_TEXT];
    struct digest *of = digest_new();
    (void)state;
    begin(blobs, "large");
    struct blob_upload *upload = open_session(blobs, "large");
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(blob_upload_write(upload, zeros, sizeof zeros, &err), 0);
        digest_add(of, zeros, sizeof zeros);
    }
    digest_end(of, digest);
    digest_free(of);
    blob_upload_free(upload);
    blobs_close(blobs);
    blobs = open_blobs(20);
    upload = open_session(blobs, "large");
    assert_int_equal(blob_session_expect(upload, slice_of(digest), &err), 0);
    assert_int_equal(blob_session_hash(upload, &err), 1);
    blob_upload_free(upload); /* whoever comes next goes on from there */
    upload = open_session(blobs, "large");
    assert_int_equal(blob_session_expect(upload, slice_of(digest), &err), 0);
    assert_int_equal(blob_session_hash(upload, &err), 0);
    assert_int_equal(blob_upload_seal(upload, &err), 0);
    blob_upload_free(upload);
    blobs_close(blobs);
}

/* More sessions than digests have places: those that came first are made anew. */
static void test_digests_have_so_many_places(void **state)
{
    struct blobs *blobs = open_blobs(2);
    (void)state;
    for (int i = 0; i < 3; i++) {
        char id[8];
        snprintf(id, sizeof id, "s%d", i);
        begin(blobs, id);
        add(blobs, id, "one ");
        if (i == 1) /* ended elsewhere: its place is given up when another wants it */
            assert_int_equal(blob_session_delete(blobs, SLICE("s1"), &err), 0);
    }
    change_first_byte("s2");
    add(blobs, "s0", "two");
    assert_int_equal(end(blobs, "s0", DIGEST_SHA256, "one two"), 0);
    assert_int_equal(end(blobs, "s2", DIGEST_SHA256, "one "), 0);
    blobs_close(blobs);
}

/* ---- who gives way -------------------------------------------------------------------------- */

static void age(const char *id, long minutes)
{
    struct stat st;
    assert_int_equal(stat(path_of(id), &st), 0);
    const struct timespec times[2] = { st.st_mtim, { st.st_mtim.tv_sec - 60 * minutes, 0 } };
    assert_int_equal(utimensat(AT_FDCWD, path_of(id), times, 0), 0);
}

static bool there(struct blobs *blobs, const char *id)
{
    uint64_t bytes;
    return blob_session_have(blobs, slice_of(id), &bytes, &err) == 0;
}

static void test_what_was_left_the_longest_gives_way(void **state)
{
    struct blobs *blobs = open_blobs(3);
    char digest[DIGEST_TEXT];
    struct blob_upload *upload, *other;
    uint64_t offset;
    (void)state;
    begin(blobs, "a1");
    begin(blobs, "a2");
    begin(blobs, "a3");
    assert_int_equal(blob_session_begin(blobs, SLICE("a4"), &err), ERR_OVERLOADED);
    assert_string_equal(err.message, "3 uploads are not whole yet (uploads_max): go on with them, "
                                     "or give them up; one that nobody goes on with gives way "
                                     "after 5 minutes");
    assert_false(there(blobs, "a4"));
    age("a2", 4);
    assert_int_equal(blob_session_begin(blobs, SLICE("a4"), &err), ERR_OVERLOADED);
    age("a1", 20); /* somebody has it open: it is gone on with */
    age("a2", 7);
    age("a3", 6);
    upload = open_session(blobs, "a1");
    begin(blobs, "a4");
    assert_true(there(blobs, "a1") && !there(blobs, "a2") && there(blobs, "a3"));
    /* So do they for a file of an upload by digest; an old one of that is gone on with. */
    digest_of(SLICE("by digest"), digest);
    assert_int_equal(blob_upload_begin(blobs, slice_of(digest), 0, 9, &offset, &other, &err), 0);
    assert_true(there(blobs, "a1") && !there(blobs, "a3") && there(blobs, "a4"));
    assert_int_equal(blob_upload_write(other, "by", 2, &err), 0);
    blob_upload_free(other);
    assert_int_equal(blob_upload_begin(blobs, slice_of(digest), 2, 9, &offset, &other, &err), 0);
    blob_upload_free(other);
    blob_upload_free(upload);
    blobs_close(blobs);
}

#define WEB "0123456789abcdef"
#define OTHER "fedcba9876543210"

static void test_one_repository_does_not_take_all(void **state)
{
    struct blobs *blobs = open_blobs(4);
    (void)state;
    begin(blobs, "o1" OTHER);
    begin(blobs, "w1" WEB);
    begin(blobs, "w2" WEB);
    age("o1" OTHER, 60);
    assert_int_equal(blob_session_begin(blobs, SLICE("w3" WEB), &err), ERR_OVERLOADED);
    assert_non_null(strstr(err.message, "2 uploads into this repository are not whole yet "
                                        "(repository_uploads_max)"));
    begin(blobs, "o2" OTHER);
    age("w2" WEB, 6);
    begin(blobs, "w3" WEB); /* in the place of its own, not of the one that is older */
    assert_true(there(blobs, "o1" OTHER) && there(blobs, "w1" WEB) && !there(blobs, "w2" WEB));
    blobs_close(blobs);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_sessions, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_bytes_are_hashed_as_they_come, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_is_read_again_is_read_in_parts, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_digests_have_so_many_places, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_was_left_the_longest_gives_way, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_one_repository_does_not_take_all, set_up, tear_down),
    };
    return cmocka_run_group_tests_name("blobs_sessions", tests, NULL, NULL);
}
