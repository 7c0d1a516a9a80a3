/* SPDX-License-Identifier: Apache-2.0 */
/*
 * image_scene.h -- an image that is read by store/image_file.h, as a tar or as a folder: put
 * together piece by piece, then read or refused.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/err.h"
#include "store/image_file.h"

#define GZIP "\x1f\x8b\x08 a layer"
#define DIFF "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define CONFIG(layers)                                                                             \
    "{\"os\":\"linux\",\"architecture\":\"amd64\",\"rootfs\":{\"diff_ids\":[" layers "]},"         \
    "\"config\":{\"Entrypoint\":[\"/a\"]}}"
#define ONE CONFIG("\"" DIFF "\"")
#define TWO CONFIG("\"" DIFF "\",\"" DIFF "\"")

struct scene {
    struct arena *arena;
    int fd;          /* of the tar, or the folder */
    char folder[32]; /* empty: it is a tar */
    struct image_file file;
    struct err err;
};

/* As cmocka calls them; its state is the scene. */
int scene_setup(void **state);
int scene_setup_folder(void **state);
int scene_teardown(void **state);

void scene_reset(struct scene *scene); /* nothing is in it any more */
void scene_add(struct scene *scene, const char *name, const char *text);
/* Of a tar: its type, and what it points to. */
void scene_add_special(struct scene *scene, const char *name, char type, const char *link);
void scene_add_blob(struct scene *scene, const char *text); /* under its digest */
/* Both in the arena. */
const char *scene_digest(struct scene *scene, const char *text);
const char *scene_descriptor(struct scene *scene, const char *type, const char *text,
                             const char *more);

int scene_read(struct scene *scene);
void scene_refused(struct scene *scene, const char *words); /* the error has them */
