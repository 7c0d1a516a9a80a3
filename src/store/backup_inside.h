/* SPDX-License-Identifier: Apache-2.0 */
/*
 * backup_inside.h -- what backup.c and restore.c share (backup_aside.c): a job, and a folder of its
 * own in the home, where everything is made before it counts.
 */
#pragma once

#include "base/arena.h"
#include "base/err.h"
#include "store/backup.h"
#include "store/digest.h"
#include "store/seal.h"
#include "store/store.h"

#define HEAD_NAME "perigee-backup.json"
enum {
    FORMAT = 1,
    COPY_BYTES = 256 << 10,
    SCHEMA_REGISTRY = 5,
    SCHEMA_ORIGINS = 9,
    SCHEMA_SECRETS = 11
};
/* What repositories need; from that schema on. A blob that was deleted where a manifest still names
 * it is not among them. */
/* What is still to come from another registry is asked for again. */
#define REVISION_BLOBS                                                                             \
    "SELECT digest FROM revision_blobs WHERE digest NOT IN (SELECT digest FROM origins)"
/* "PURPOSE\tSEALED" */
#define SEALED_PASSWORDS                                                                           \
    "SELECT '" SEAL_FOR_PASSWORD "' || host || char(9) || sealed FROM registries"                  \
    " WHERE sealed <> ''"
#define SEALED_SECRETS                                                                             \
    "SELECT '" SEAL_FOR_SECRET "' || project || '/' || name || char(9) || sealed FROM secrets"
#define REGISTRY_BLOBS "SELECT digest FROM repository_blobs UNION SELECT digest FROM manifests"

struct job {
    struct arena *arena;
    const char *home, *file, *aside; /* aside: NULL until job_aside() */
    int64_t now_ns;
    bool with_key;
    struct arena *key_arena;    /* of the key that a backup takes along; NULL: none */
    const struct seal_key *key; /* NULL: it is not there, or none */
    int tar_fd, aside_fd;       /* aside_fd holds a lock while the folder is somebody's */
    char database[DIGEST_TEXT]; /* of the database in the archive */
    struct backup_result result;
};

[[nodiscard]] int system_error(const char *doing, const char *path, struct err *err); /* errno */
const char *path_of(struct job *job, const char *folder, const char *name);
const char *blob_path(struct job *job, const char *home, const char *digest); /* was checked */
[[nodiscard]] int make_folder(const char *path, struct err *err);
[[nodiscard]] int sync_path(const char *path, struct err *err);
void remove_tree(struct job *job, const char *path, int depth);

/* HOME/WHAT-PID with the folders of a home in it, after what dead processes left is gone. */
[[nodiscard]] int job_aside(struct job *job, const char *what, struct err *err);
void job_end(struct job *job); /* with its folder */

/* Runs fn for the text of each row's first column. */
typedef int (*job_row_cb)(struct job *job, const char *text, struct err *err);
[[nodiscard]] int each_row(const char *path, const char *sql, job_row_cb fn, struct job *job,
                           struct err *err);
int ignore_row(struct job *job, const char *text, struct err *err);
int count_endpoints(struct job *job, const char *text, struct err *err);
int read_schema(struct job *job, const char *text, struct err *err);
