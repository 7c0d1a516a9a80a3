/* SPDX-License-Identifier: Apache-2.0 */
/* Blobs, manifests, archives, backup and restore. */
#include "store/blobs.h"

#include "folder.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/err.h"
#include "store/backup.h"
#include "store/manifest.h"
#include "store/store.h"
#include "store/tar.h"

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

static const char *below(const char *name)
{
    static char paths[8][256];
    static unsigned next;
    char *path = paths[next++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

/* ---- blobs ---------------------------------------------------------------------------------- */

static void test_upload(void **state)
{
    (void)state;
    struct blobs *blobs;
    struct blob_upload *upload, *second;
    char digest[DIGEST_TEXT], *data;
    uint64_t offset, bytes;
    size_t size;
    struct slice text = SLICE("0123456789");
    digest_of(text, digest);
    assert_string_equal(digest,
                        "sha256:84d89877f0d4041efb6bf91a16f0248f2fd573e6af05c19f96bedb9f882f7882");
    assert_int_equal(blobs_open(folder, NULL, &blobs, &err), 0);
    assert_int_equal(blobs_find(blobs, slice_of(digest), &bytes, &err), ERR_NOT_FOUND);

    /* One of a larger blob was begun and left: nothing of it is in the next. */
    assert_int_equal(blob_upload_begin(blobs, slice_of(digest), 0, 20, &offset, &upload, &err), 0);
    assert_int_equal(blob_upload_write(upload, "0123456789ab", 12, &err), 0);
    blob_upload_free(upload);
    assert_int_equal(blob_upload_have(blobs, slice_of(digest)), 12);
    assert_int_equal(blob_upload_begin(blobs, slice_of(digest), 0, 10, &offset, &upload, &err), 0);
    assert_int_equal(blob_upload_begin(blobs, slice_of(digest), 0, 10, &offset, &second, &err),
                     ERR_CONFLICT);
    assert_int_equal(blob_upload_write(upload, text.data, 6, &err), 0);
    blob_upload_free(upload);
    assert_int_equal(blob_upload_have(blobs, slice_of(digest)), 6);
    assert_int_equal(blob_upload_begin(blobs, slice_of(digest), 7, 10, &offset, &upload, &err),
                     ERR_BAD_INPUT);
    assert_int_equal(err_http(&err), 416);
    assert_int_equal(offset, 6);
    assert_int_equal(blob_upload_begin(blobs, slice_of(digest), 4, 10, &offset, &upload, &err), 0);
    assert_int_equal(blob_upload_write(upload, text.data + 4, 7, &err), ERR_TOO_LARGE);
    assert_int_equal(blob_upload_write(upload, text.data + 4, 6, &err), 0);
    assert_int_equal(blob_upload_finish(upload, &err), 0);
    blob_upload_free(upload);
    assert_int_equal(blobs_load(blobs, slice_of(digest), 100, &data, &size, &err), 0);
    assert_string_equal(data, "0123456789");
    free(data);
    assert_int_equal(blobs_load(blobs, slice_of(digest), 9, &data, &size, &err), ERR_TOO_LARGE);
    blobs_close(blobs);

    assert_int_equal(blobs_open(folder, NULL, &blobs, &err), 0);
    assert_int_equal(blobs_total_bytes(blobs), 10);
    assert_int_equal(blobs_delete(blobs, slice_of(digest), &err), 0);
    assert_int_equal(blobs_delete(blobs, slice_of(digest), &err), 0);
    assert_int_equal(blobs_total_bytes(blobs), 0);
    blobs_close(blobs);
}

static void test_wrong_bytes_and_bounds(void **state)
{
    (void)state;
    const struct blobs_limits limits = { .blob_bytes_max = 10,
                                         .total_bytes_max = 15,
                                         .uploads_max = 1 };
    struct blobs *blobs;
    struct blob_upload *upload, *other;
    char digest[DIGEST_TEXT], digest2[DIGEST_TEXT];
    uint64_t offset;
    assert_int_equal(blobs_open(folder, &limits, &blobs, &err), 0);
    digest_of(SLICE("right"), digest);
    digest_of(SLICE("other"), digest2);
    assert_int_equal(blob_upload_begin(blobs, slice_of(digest), 0, 5, &offset, &upload, &err), 0);
    assert_int_equal(blob_upload_begin(blobs, slice_of(digest2), 0, 5, &offset, &other, &err),
                     ERR_OVERLOADED);
    assert_int_equal(blob_upload_write(upload, "wrong", 5, &err), 0);
    assert_int_equal(blob_upload_finish(upload, &err), ERR_BAD_INPUT);
    blob_upload_free(upload);
    assert_int_equal(blob_upload_have(blobs, slice_of(digest)), 0);
    assert_int_equal(blobs_put(blobs, SLICE("0123456789A"), digest, &err), ERR_TOO_LARGE);
    assert_int_equal(blobs_put(blobs, SLICE("0123456789"), digest, &err), 0);
    assert_int_equal(blobs_put(blobs, SLICE("0123456789"), digest, &err), 0);
    assert_int_equal(blobs_put(blobs, SLICE("abcdef"), digest, &err), ERR_TOO_LARGE);
    assert_int_equal(blobs_find(blobs, SLICE("sha256:../../etc/passwd"), &offset, &err),
                     ERR_BAD_INPUT);
    /* Uploads nobody goes on with. */
    digest_of(SLICE("right"), digest);
    assert_int_equal(blob_upload_begin(blobs, slice_of(digest), 0, 5, &offset, &upload, &err), 0);
    assert_int_equal(blob_upload_write(upload, "ri", 2, &err), 0);
    assert_int_equal(blobs_sweep_uploads(blobs, INT64_MAX), 0); /* it is being written */
    blob_upload_free(upload);
    assert_int_equal(blobs_sweep_uploads(blobs, 1), 0);
    assert_int_equal(blobs_sweep_uploads(blobs, INT64_MAX), 1);
    /* Whole ones, where they are needed for a while only. */
    uint64_t total = blobs_total_bytes(blobs);
    assert_true(total > 0);
    assert_int_equal(blobs_sweep(blobs, 1), 0);
    assert_int_equal(blobs_total_bytes(blobs), total);
    assert_int_equal(blobs_sweep(blobs, INT64_MAX), 1);
    assert_int_equal(blobs_total_bytes(blobs), 0);
    blobs_close(blobs);
}

/* ---- manifests ------------------------------------------------------------------------------ */

#define D "sha256:84d89877f0d4041efb6bf91a16f0248f2fd573e6af05c19f96bedb9f882f7882"

static void test_manifest(void **state)
{
    (void)state;
    struct arena *arena = arena_new();
    struct manifest_file files[] = { { SLICE("b"), SLICE(D), 2 }, { SLICE("a/c"), SLICE(D), 3 } };
    struct manifest manifest = { files, 2, 0 }, read;
    struct slice text, again;
    assert_int_equal(manifest_print(arena, &manifest, &text, &err), 0);
    assert_true(manifest_is(text));
    assert_int_equal(manifest_parse(arena, text, &read, &err), 0);
    assert_int_equal(read.count, 2);
    assert_int_equal(read.bytes, 5);
    assert_true(slice_is(read.files[0].path, "a/c"));
    assert_int_equal(manifest_print(arena, &read, &again, &err), 0);
    assert_true(slice_equal(text, again));
    assert_false(manifest_is(SLICE("{}")));
    assert_false(manifest_is(SLICE("\x08\x07")));
    files[0] = (struct manifest_file){ SLICE("a"), SLICE(D), 2 }; /* beside a/c */
    files[1] = (struct manifest_file){ SLICE("a/c"), SLICE(D), 3 };
    assert_int_equal(manifest_print(arena, &manifest, &text, &err), ERR_BAD_INPUT);
    files[0] = (struct manifest_file){ SLICE("x"), SLICE(D), UINT64_MAX };
    assert_int_equal(manifest_print(arena, &manifest, &text, &err), ERR_TOO_LARGE);
    arena_free(arena);
}

static const struct {
    const char *path;
    bool good;
} paths[] = {
    { "model.onnx", true }, { "a/b/c", true },   { "..a/b..", true }, { "a b/\xc3\xa9", true },
    { "", false },          { "/a", false },     { "a/", false },     { "a//b", false },
    { "..", false },        { "a/../b", false }, { "./a", false },    { "a\nb", false },
    { "\xff", false },      { "a/.", false },
};

static void test_paths(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        print_message("  '%s'\n", paths[i].path);
        assert_int_equal(manifest_check_path(slice_of(paths[i].path), &err) == 0, paths[i].good);
    }
}

/* ---- archives ------------------------------------------------------------------------------- */

static void test_tar(void **state)
{
    (void)state;
    unsigned char head[TAR_BLOCK];
    struct tar_entry entry;
    char text[32] = {}, command[400];
    int fd = open(below("a.tar"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(tar_write_bytes(fd, "one.txt", SLICE("hello"), 1, &err), 0);
    assert_int_equal(tar_write_bytes(fd, "d/two", SLICE(""), 1, &err), 0);
    assert_int_equal(tar_write_end(fd, &err), 0);
    snprintf(command, sizeof command, "test \"$(tar tf %s | tr '\\n' ' ')\" = 'one.txt d/two '",
             below("a.tar"));
    assert_int_equal(system(command), 0); /* any tar reads it */

    lseek(fd, 0, SEEK_SET);
    struct tar_reader reader = { .fd = fd };
    assert_int_equal(tar_read_next(&reader, &entry, &err), 1);
    assert_string_equal(entry.name, "one.txt");
    assert_int_equal(tar_read(&reader, text, 3, &err), 3); /* the rest is skipped */
    assert_int_equal(tar_read_next(&reader, &entry, &err), 1);
    assert_string_equal(entry.name, "d/two");
    assert_int_equal(entry.bytes, 0);
    assert_int_equal(tar_read_next(&reader, &entry, &err), 0);

    assert_int_equal(pread(fd, head, sizeof head, 0), sizeof head);
    for (size_t i = 0; i < sizeof head; i++) { /* a wrong bit anywhere is seen */
        if (i == 155)                          /* stands behind the sum's end */
            continue;
        head[i] ^= 1;
        assert_true(tar_head_parse(head, &entry, &err) < 0);
        head[i] ^= 1;
    }
    assert_int_equal(tar_head_parse(head, &entry, &err), 1);
    close(fd);
}

/* ---- backup --------------------------------------------------------------------------------- */

static int fill(struct store *s, void *data, struct err *error)
{
    const char *digest = data;
    struct store_endpoint e = { .project = SLICE("default"),
                                .name = SLICE("digits"),
                                .spec = SLICE("{}"),
                                .target = 1,
                                .latest = 1,
                                .generation = 1 };
    int r = s->project_ensure(s, SLICE("default"), 1, error);
    if (r == 0)
        r = s->endpoint_add(s, &e, error);
    struct slice blob = slice_of(digest);
    struct store_revision revision = { .endpoint_uid = e.uid,
                                       .number = 1,
                                       .spec = SLICE("{}"),
                                       .digest = SLICE("d"),
                                       .model = blob,
                                       .state = SLICE("new") };
    return r < 0 ? r : s->revision_add(s, &revision, &blob, 1, error);
}

static int add_one(struct store *s, void *data, struct err *error)
{
    struct store_endpoint e = {
        .project = SLICE("default"), .name = SLICE("later"), .spec = SLICE("{}"), .generation = 1
    };
    int r = s->endpoint_add(s, &e, error);
    *(uint64_t *)data = e.uid;
    return r;
}

static struct store *open_home(const char *home)
{
    struct store *store;
    struct arena *arena = arena_new();
    const char *path;
    assert_int_equal(store_path(home, arena, &path, &err), 0);
    if (store_sqlite_open(path, STORE_WRITE, NULL, &store, &err) < 0)
        fail_msg("%s", err.message);
    arena_free(arena);
    return store;
}

static void make_home(char digest[static DIGEST_TEXT], struct store **ret_store)
{
    struct blobs *blobs;
    char unneeded[DIGEST_TEXT];
    assert_int_equal(mkdir(below("home"), 0700), 0);
    assert_int_equal(blobs_open(below("home"), NULL, &blobs, &err), 0);
    assert_int_equal(blobs_put(blobs, SLICE("a model"), digest, &err), 0);
    assert_int_equal(blobs_put(blobs, SLICE("nobody needs it"), unneeded, &err), 0);
    blobs_close(blobs);
    *ret_store = open_home(below("home"));
    assert_int_equal((*ret_store)->transact(*ret_store, fill, digest, &err), 0);
}

static void check_home(const char *home, const char *digest)
{
    struct store *store = open_home(home);
    struct arena *arena = arena_new();
    struct store_endpoint e;
    struct blobs *blobs;
    uint64_t bytes, uid;
    assert_int_equal(
        store->endpoint_find(store, SLICE("default"), SLICE("digits"), arena, &e, &err), 0);
    assert_int_equal(store->transact(store, add_one, &uid, &err), 0);
    assert_true(uid > 1'000'000); /* no number of the time since is given again */
    store->close(store);
    assert_int_equal(blobs_open(home, NULL, &blobs, &err), 0);
    assert_int_equal(blobs_find(blobs, slice_of(digest), &bytes, &err), 0);
    assert_int_equal(bytes, 7);
    blobs_close(blobs);
    arena_free(arena);
}

static void test_backup(void **state)
{
    (void)state;
    struct store *store;
    struct backup_result result;
    char digest[DIGEST_TEXT], home2[256], tar[256], home[256];
    make_home(digest, &store);
    snprintf(home, sizeof home, "%s/home", folder);
    snprintf(home2, sizeof home2, "%s/home2", folder);
    snprintf(tar, sizeof tar, "%s/b.tar", folder);
    /* Control has it open meanwhile. */
    if (store_backup(home, tar, false, 5, &result, &err) < 0)
        fail_msg("%s", err.message);
    assert_int_equal(result.endpoints, 1);
    assert_int_equal(result.blobs, 1);
    assert_int_equal(result.schema, store_schema());
    assert_int_equal(store_backup(home, tar, false, 5, &result, &err), ERR_CONFLICT);
    store->close(store);

    if (store_restore(home2, tar, false, 6, &result, &err) < 0)
        fail_msg("%s", err.message);
    check_home(home2, digest);
    assert_int_equal(store_restore(home2, tar, false, 6, &result, &err), ERR_CONFLICT);
    assert_int_equal(store_restore(home2, tar, true, 7'000'000'000, &result, &err), 0);
    assert_int_equal(access(below("home2/control/store.db.replaced-7"), R_OK), 0);
    check_home(home2, digest);
}

static void test_damaged_backup(void **state)
{
    (void)state;
    struct store *store;
    struct backup_result result;
    struct stat st;
    char digest[DIGEST_TEXT], home[256], tar[256], home2[256];
    make_home(digest, &store);
    store->close(store);
    snprintf(home, sizeof home, "%s/home", folder);
    snprintf(home2, sizeof home2, "%s/home2", folder);
    snprintf(tar, sizeof tar, "%s/b.tar", folder);
    assert_int_equal(store_backup(home, tar, false, 5, &result, &err), 0);
    assert_int_equal(stat(tar, &st), 0);
    /* Cut anywhere, or with wrong bytes in the last blob: refused, and the home stays empty. */
    for (off_t size = st.st_size - 1024; size >= 0; size -= 512 * 37) {
        assert_int_equal(truncate(tar, size), 0);
        assert_true(store_restore(home2, tar, false, 6, &result, &err) < 0);
        assert_true(access(below("home2/control/store.db"), F_OK) < 0);
    }
    assert_int_equal(truncate(tar, TAR_BLOCK - 1), 0);
    assert_true(store_restore(home2, tar, false, 6, &result, &err) < 0);
    assert_non_null(strstr(err.message, "is no backup that can be restored: its 511 bytes"));
    assert_int_equal(unlink(tar), 0);
    assert_int_equal(store_restore(home2, tar, false, 6, &result, &err), ERR_NOT_FOUND);
    assert_int_equal(store_backup(home, tar, false, 5, &result, &err), 0);
    int fd = open(tar, O_WRONLY | O_CLOEXEC);
    assert_int_equal(pwrite(fd, "X", 1, st.st_size - 3 * 512), 1);
    close(fd);
    assert_true(store_restore(home2, tar, false, 6, &result, &err) < 0);
    assert_non_null(strstr(err.message, "damaged"));
    /* A blob that is needed and missing. */
    snprintf(home2, sizeof home2, "%s/home/blobs/sha256/%s", folder, digest + 7);
    assert_int_equal(unlink(home2), 0);
    assert_int_equal(unlink(tar), 0);
    assert_true(store_backup(home, tar, false, 5, &result, &err) < 0);
    assert_non_null(strstr(err.message, digest));
    assert_true(access(tar, F_OK) < 0);
}

static int64_t find(int fd, const char *text)
{
    static char bytes[1 << 20];
    ssize_t size = pread(fd, bytes, sizeof bytes, 0);
    const char *at = size > 0 ? memmem(bytes, (size_t)size, text, strlen(text)) : NULL;
    assert_non_null(at);
    return at - bytes;
}

/* Whole to look at, and not what was put in. What is written: at so many bytes behind a text; or a
 * file more, behind the last. */
static void test_changed_backup(void **state)
{
    static const struct {
        const char *text;
        int64_t behind;
        const char *bytes, *name, *said;
    } rows[] = {
        { "SQLite format 3", 80, "X", NULL,
          "damaged: 'control/store.db'" }, /* SQLite would take it */
        { "\"schema\":", 9, "99", NULL, "schema version 99" },
        { "\"format\":", 9, "9", NULL, "format 9" },
        { NULL, 0, "x", "keys/table", "no place in a backup" },
        { NULL, 0, "x", "control/other.db", "no place in a backup" },
        { NULL, 0, "x", "blobs/sha256/x", "no place in a backup" },
        { NULL, 0, "x", "blobs/x", "no place in a backup" },
        { NULL, 0, "x", "x", "no place in a backup" },
    };
    struct store *store;
    struct backup_result result;
    char digest[DIGEST_TEXT], home[256], tar[256], home2[256];
    (void)state;
    make_home(digest, &store);
    store->close(store);
    snprintf(home, sizeof home, "%s/home", folder);
    snprintf(home2, sizeof home2, "%s/home2", folder);
    snprintf(tar, sizeof tar, "%s/b.tar", folder);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        assert_int_equal(store_backup(home, tar, false, 5, &result, &err), 0);
        int fd = open(tar, O_RDWR | O_CLOEXEC);
        if (rows[i].text) {
            int64_t at = find(fd, rows[i].text) + rows[i].behind;
            assert_int_equal(pwrite(fd, rows[i].bytes, strlen(rows[i].bytes), at),
                             strlen(rows[i].bytes));
        } else {
            off_t end = lseek(fd, 0, SEEK_END) - 2 * TAR_BLOCK;
            assert_int_equal(ftruncate(fd, end), 0);
            assert_int_equal(lseek(fd, end, SEEK_SET), end);
            assert_int_equal(tar_write_bytes(fd, rows[i].name, slice_of(rows[i].bytes), 5, &err),
                             0);
            assert_int_equal(tar_write_end(fd, &err), 0);
        }
        close(fd);
        assert_true(store_restore(home2, tar, false, 6, &result, &err) < 0);
        if (!strstr(err.message, rows[i].said))
            fail_msg("row %zu: %s", i, err.message);
        assert_true(access(below("home2/control/store.db"), F_OK) < 0);
        assert_int_equal(unlink(tar), 0);
    }
    assert_int_equal(store_backup(home, tar, false, 5, &result, &err), 0);
    assert_int_equal(store_restore(home2, tar, false, 6, &result, &err), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_upload, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_wrong_bytes_and_bounds, set_up, tear_down),
        cmocka_unit_test(test_manifest),
        cmocka_unit_test(test_paths),
        cmocka_unit_test_setup_teardown(test_tar, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_backup, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_damaged_backup, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_changed_backup, set_up, tear_down),
    };
    return cmocka_run_group_tests_name("blobs", tests, NULL, NULL);
}
