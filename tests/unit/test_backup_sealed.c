/* SPDX-License-Identifier: Apache-2.0 */
/* A backup with its key: each sealed value is tried, and what the key does not open is named. */
#include "store_case.h"

#include <sys/stat.h>

#include "store/backup.h"
#include "store/seal.h"

enum { OWN, OTHER, CHANGED, ANOTHERS, KEYS }; /* what it was sealed with, or for */

static const struct row {
    const char *name;
    int secret, password; /* of these; -1: there is none */
    int key;              /* in the home: OWN, OTHER; -1: none; KEYS: a broken one */
    bool with_key;
    unsigned sealed;
    const char *which;
    bool other_key;
} rows[] = {
    { "all open", OWN, OWN, OWN, true, 0, "", true },
    { "nothing is sealed", -1, -1, -1, true, 0, "", false },
    { "without the key they are not tried", OTHER, OWN, OWN, false, 2, "", true },
    { "one by another key", OTHER, OWN, OWN, true, 1, "secret default/hub-token", true },
    { "all by another key", OWN, OWN, OTHER, true, 2,
      "registry hub.example:5000, secret default/hub-token", true },
    { "one was changed", OWN, CHANGED, OWN, true, 1, "registry hub.example:5000", true },
    { "one is another's", ANOTHERS, OWN, OWN, true, 1, "secret default/hub-token", true },
    { "there is no key", OWN, -1, -1, true, 1, "secret default/hub-token", false },
    { "it is none", OWN, -1, KEYS, true, 1, "secret default/hub-token", true },
};

static unsigned char key_bytes[2][SEAL_KEY_BYTES] = { "one", "another" };

static struct slice sealed(struct fixture *f, int how, const char *purpose)
{
    struct arena *secret = arena_new_secret();
    struct slice text;
    const struct seal_key *key = seal_key_of(key_bytes[how == OTHER], "it", secret);
    OK(seal_close(key, slice_of(how == ANOTHERS ? "secret acme/hub-token" : purpose),
                  SLICE("canary-7f3a"), f->arena, &text, &failure));
    arena_free(secret);
    if (how == CHANGED) {
        char *last = (char *)text.data + text.size - 1;
        *last = *last == '0' ? '1' : '0';
    }
    return text;
}

static const struct row *row_now;
static unsigned secrets_now;

static int fill(struct fixture *f, struct store *s, struct err *err)
{
    for (unsigned i = 0; i < secrets_now && row_now->secret >= 0; i++) {
        const char *name = arena_format(f->arena, i ? "hub-token-%u" : "hub-token", i);
        const char *purpose = arena_format(f->arena, SEAL_FOR_SECRET "default/%s", name);
        const struct store_secret row = { .project = SLICE("default"),
                                          .name = slice_of(name),
                                          .sealed = sealed(f, row_now->secret, purpose) };
        OK(s->secret_put(s, &row, err));
    }
    const char *purpose = SEAL_FOR_PASSWORD "hub.example:5000";
    struct store_registry row = { .host = SLICE("hub.example:5000"), .username = SLICE("robot") };
    if (row_now->password < 0)
        return 0;
    row.sealed = sealed(f, row_now->password, purpose);
    return s->registry_put(s, &row, err);
}

static void backup(const struct row *row, unsigned secrets, struct backup_result *ret)
{
    struct store_limits limits = store_limits_default();
    char home[96], path[160], archive[160];
    void *state;
    row_now = row;
    secrets_now = secrets;
    assert_int_equal(case_begin(&state, &limits), 0);
    struct fixture *f = state;
    f->store->close(f->store); /* a home has it elsewhere */
    snprintf(home, sizeof home, "%s/home", f->folder);
    snprintf(path, sizeof path, "%s/control", home);
    assert_int_equal(mkdir(home, 0700), 0);
    assert_int_equal(mkdir(path, 0700), 0);
    snprintf(path, sizeof path, "%s/" STORE_FILE, home);
    OK(store_sqlite_open(path, STORE_WRITE, NULL, &f->store, &failure));
    OK(inside(f, fill, &failure));
    if (row->key >= 0) {
        snprintf(path, sizeof path, "%s/" SEAL_KEY_FILE, home);
        FILE *file = fopen(path, "w");
        assert_non_null(file);
        size_t bytes = row->key == KEYS ? 7 : SEAL_KEY_BYTES;
        assert_int_equal(fwrite(key_bytes[row->key == OTHER], 1, bytes, file), bytes);
        fclose(file);
    }
    snprintf(archive, sizeof archive, "%s/archive", f->folder);
    OK(store_backup(home, archive, row->with_key, 1, ret, &failure));
    assert_int_equal(case_end(&state), 0);
}

static void test_what_the_key_opens(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct backup_result result;
        print_message("  %s\n", rows[i].name);
        backup(&rows[i], 1, &result);
        assert_int_equal(result.sealed, rows[i].sealed);
        assert_string_equal(result.which, rows[i].which);
        assert_int_equal(result.other_key, rows[i].other_key);
    }
}

static void test_many_are_named_as_far_as_there_is_room(void **state)
{
    static const struct row many = { .secret = OTHER, .password = OTHER, .with_key = true };
    struct backup_result result;
    (void)state;
    backup(&many, 100, &result);
    assert_int_equal(result.sealed, 101);
    assert_true(strlen(result.which) > sizeof result.which / 2);
    const char *end = strstr(result.which, " and others");
    assert_non_null(end);
    assert_string_equal(end, " and others");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_the_key_opens),
        cmocka_unit_test(test_many_are_named_as_far_as_there_is_room),
    };
    return cmocka_run_group_tests_name("backup_sealed", tests, NULL, NULL);
}
