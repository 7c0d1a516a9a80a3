/* SPDX-License-Identifier: Apache-2.0 */
/*
 * backup and restore: the home's state as one file and back, by the files alone.
 */
#include <inttypes.h>
#include <time.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/err.h"
#include "cli/cli.h"
#include "cli/commands.h"
#include "store/backup.h"
#include "store/seal.h"
#include "store/store.h"
#include "sys/fd.h"
#include "sys/home.h"

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1'000'000'000 + now.tv_nsec;
}

static void say_sealed(const struct backup_result *result, const char *what)
{
    if (result->sealed)
        fprintf(stderr,
                "perigee: %" PRIu64 " sealed value%s (passwords of registries, secrets) %s\n",
                result->sealed, result->sealed == 1 ? "" : "s", what);
}

/* Written all the same: it has all else. */
static void say_unopened(const struct backup_result *result)
{
    if (result->sealed)
        fprintf(stderr,
                "perigee: %" PRIu64 " sealed value%s cannot be opened again (%s): %s; put the key "
                "that they were sealed with in its place and back up again, or tell them again "
                "with `perigee registries add` and `perigee secrets set`\n",
                result->sealed, result->sealed == 1 ? "" : "s", result->which,
                result->other_key ? SEAL_KEY_FILE " of this home does not open them"
                                  : SEAL_KEY_FILE " is not there");
}

static int result_print(struct cli *cli, const char *done, const char *file,
                        const struct backup_result *result)
{
    if (!cli->json) {
        cli_print_text(stdout, slice_of(file));
        printf(": %s: %" PRIu64 " endpoint%s, %" PRIu64 " blob%s, %" PRIu64 " KiB\n", done,
               result->endpoints, result->endpoints == 1 ? "" : "s", result->blobs,
               result->blobs == 1 ? "" : "s", (result->bytes + 1023) / 1024);
        return 0;
    }
    struct json_writer w;
    json_begin(&w, cli->arena, 0);
    json_object_begin(&w);
    json_member_text(&w, "file", file);
    json_member_text(&w, "home", cli->home);
    json_member_u64(&w, "schema", result->schema);
    json_member_u64(&w, "endpoints", result->endpoints);
    json_member_u64(&w, "blobs", result->blobs);
    json_member_u64(&w, "bytes", result->bytes);
    json_object_end(&w);
    return cli_print_written(cli, &w);
}

int cmd_backup(struct cli *cli, struct err *err)
{
    struct cli_progress progress;
    struct backup_result result;
    const char *file = cli->arguments[0];
    cli_progress_begin(&progress, "backup");
    bool with_key = cli_option_value(cli, "--with-key") != NULL;
    int r = store_backup(cli->home, file, with_key, now_ns(), &result, err);
    cli_progress_end(&progress);
    if (r == 0 && with_key)
        say_unopened(&result);
    else if (r == 0)
        say_sealed(&result, "are in it sealed, and the key is not: --with-key takes it along");
    return r < 0 ? r : result_print(cli, "written", file, &result);
}

int cmd_restore(struct cli *cli, struct err *err)
{
    struct cli_progress progress;
    struct backup_result result;
    const char *file = cli->arguments[0];
    if (access(file, R_OK) < 0) /* before a home is made for nothing */
        return err_set(err, ERR_NOT_FOUND, "no file '%s' that can be read", ERR_TEXT(file));
    int r = home_make(cli->home, err);
    if (r < 0)
        return r;
    auto_close int lock = -1;
    r = home_lock(cli->home, &lock, err);
    if (r < 0)
        return err_wrap(err, "restoring");
    r = store_restore_end(cli->home, err);
    if (r < 0)
        return r;
    bool there = access(arena_format(cli->arena, "%s/%s", cli->home, STORE_FILE), F_OK) == 0;
    if (there) {
        char *question = arena_format(
            cli->arena, "The home %s has a state already. Put the backup's in its place?",
            cli->home);
        r = cli_confirm(cli, question, err);
        if (r < 0)
            return r;
    }
    cli_progress_begin(&progress, "restore");
    r = store_restore(cli->home, file, there, now_ns(), &result, err);
    cli_progress_end(&progress);
    if (r == 0)
        say_sealed(&result,
                   result.other_key
                       ? "cannot be opened: " SEAL_KEY_FILE
                         " of this home is another key than they "
                         "were sealed with; put that one in its place, or tell them again with "
                         "`perigee registries add` and `perigee secrets set`"
                       : "cannot be opened without the key they were sealed with: put it into the "
                         "home as " SEAL_KEY_FILE ", or tell them again with `perigee registries "
                         "add` and `perigee secrets set`");
    return r < 0 ? r : result_print(cli, "restored", file, &result);
}
