/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A container image in a file, or a folder (store/image_file.h), to control: its layers where they
 * lie, its configuration, its manifest. The spec keeps the manifest's digest.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/arena.h"
#include "base/auto.h"
#include "base/err.h"
#include "cli/cli.h"
#include "cli/upload.h"
#include "store/image_file.h"
#include "sys/fd.h"

static int open_file(const char *path, struct err *err)
{
    struct stat st;
    auto_close int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 || fstat(fd, &st) < 0)
        return err_set(err, errno == ENOENT ? ERR_NOT_FOUND : ERR_FORBIDDEN, "%s", strerror(errno));
    if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode))
        return err_set(err, ERR_BAD_INPUT, "it is neither a regular file nor a folder");
    return take_fd(fd);
}

static int upload_blob(struct cli *cli, int fd, const struct image_file_blob *blob, struct err *err)
{
    auto_close int part = image_file_open(fd, blob, err);

    return part < 0 ? part
                    : upload_part(cli, part, blob->offset, blob->blob.bytes,
                                  arena_string(cli->arena, blob->blob.digest), err);
}

static int upload_all(struct cli *cli, int fd, const struct image_file *file, struct err *err)
{
    int r = 0;
    for (size_t i = 0; i < file->layer_count && r == 0; i++) {
        r = upload_blob(cli, fd, &file->layers[i], err);
        if (r < 0)
            return err_wrap(err, "layer %zu of %zu", i + 1, file->layer_count);
    }
    r = upload_blob(cli, fd, &file->config_blob, err);
    return r < 0 ? r
                 : upload_text(cli, file->manifest, arena_string(cli->arena, file->digest), err);
}

int control_upload_image(struct cli *cli, const char *path, const char **ret_digest,
                         struct err *err)
{
    struct image_file file;
    auto_close int fd = open_file(path, err);
    int r = fd < 0 ? fd : image_file_read(cli->arena, fd, slice_of(image_machine()), &file, err);
    if (r == 0)
        r = upload_all(cli, fd, &file, err);
    if (r < 0)
        return err_wrap(err, "image '%s'", ERR_TEXT(path));
    *ret_digest = arena_string(cli->arena, file.digest);
    return 0;
}
