/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h> /* after the four above */

#include "image_scene.h"
#include "store/digest.h"
#include "store/tar.h"
#include "sys/fd.h"

static struct scene *scene_new(void)
{
    struct scene *scene = calloc(1, sizeof *scene);
    assert_non_null(scene);
    scene->arena = arena_new();
    return scene;
}

int scene_setup(void **state)
{
    struct scene *scene = scene_new();
    scene->fd = memfd_create("image", MFD_CLOEXEC);
    *state = scene;
    return 0;
}

static void make(struct scene *scene)
{
    (void)snprintf(scene->folder, sizeof scene->folder, "/tmp/image-XXXXXX");
    assert_non_null(mkdtemp(scene->folder));
    scene->fd = open(scene->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(scene->fd >= 0);
    scene_add(scene, "oci-layout", "{\"imageLayoutVersion\":\"1.0.0\"}");
}

int scene_setup_folder(void **state)
{
    struct scene *scene = scene_new();
    make(scene);
    *state = scene;
    return 0;
}

static int remove_one(const char *path, const struct stat *status, int type, struct FTW *ftw)
{
    (void)status, (void)type, (void)ftw;
    return remove(path);
}

static void unmake(struct scene *scene)
{
    if (scene->folder[0])
        assert_int_equal(0, nftw(scene->folder, remove_one, 8, FTW_DEPTH | FTW_PHYS));
    close(scene->fd);
}

int scene_teardown(void **state)
{
    struct scene *scene = *state;
    unmake(scene);
    arena_free(scene->arena);
    free(scene);
    return 0;
}

void scene_reset(struct scene *scene)
{
    if (scene->folder[0]) {
        unmake(scene);
        make(scene);
        return;
    }
    assert_int_equal(0, ftruncate(scene->fd, 0));
    assert_int_equal(0, lseek(scene->fd, 0, SEEK_SET));
}

static void add_file(struct scene *scene, const char *name, const char *text)
{
    for (const char *slash = name; (slash = strchr(slash, '/')); slash++) {
        const char *folder = arena_format(scene->arena, "%.*s", (int)(slash - name), name);
        assert_true(mkdirat(scene->fd, folder, 0700) == 0 || errno == EEXIST);
    }
    auto_close int fd = openat(scene->fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(strlen(text), write(fd, text, strlen(text)));
}

void scene_add(struct scene *scene, const char *name, const char *text)
{
    if (scene->folder[0])
        add_file(scene, name, text);
    else
        assert_int_equal(0, tar_write_bytes(scene->fd, name, slice_of(text), 0, &scene->err));
}

/* The sum is put right. */
void scene_add_special(struct scene *scene, const char *name, char type, const char *link)
{
    unsigned char head[TAR_BLOCK];
    unsigned sum = 0;
    tar_head(head, name, 0, 0);
    head[TAR_TYPE_AT] = (unsigned char)type;
    memcpy(head + 157, link, strlen(link));
    memset(head + 148, ' ', 8);
    for (size_t i = 0; i < sizeof head; i++)
        sum += head[i];
    (void)snprintf((char *)head + 148, 8, "%06o", sum);
    assert_int_equal(sizeof head, write(scene->fd, head, sizeof head));
}

const char *scene_digest(struct scene *scene, const char *text)
{
    return digest_of(slice_of(text), arena_alloc(scene->arena, DIGEST_TEXT));
}

void scene_add_blob(struct scene *scene, const char *text)
{
    scene_add(scene, arena_format(scene->arena, "blobs/sha256/%s", scene_digest(scene, text) + 7),
              text);
}

const char *scene_descriptor(struct scene *scene, const char *type, const char *text,
                             const char *more)
{
    return arena_format(scene->arena, "{\"mediaType\":\"%s\",\"digest\":\"%s\",\"size\":%zu%s}",
                        type, scene_digest(scene, text), strlen(text), more);
}

int scene_read(struct scene *scene)
{
    if (!scene->folder[0])
        assert_int_equal(0, tar_write_end(scene->fd, &scene->err));
    return image_file_read(scene->arena, scene->fd, SLICE("amd64"), &scene->file, &scene->err);
}

void scene_refused(struct scene *scene, const char *words)
{
    if (scene_read(scene) >= 0 || !strstr(scene->err.message, words))
        fail_msg("'%s' is not in '%s'", words, scene->err.message);
}
