/* SPDX-License-Identifier: Apache-2.0 */
#include "io/saver.h"

#include <stdlib.h>

#include "base/auto.h"
#include "base/err.h"
#include "base/list.h"
#include "io/work.h"
#include "sys/env_linux.h"

struct saver {
    struct loop *loop;
    struct work_pool *pool;
    struct list jobs; /* all that are under way */
};

struct job {
    struct work work; /* first */
    struct list link;
    bool orphan; /* the saver is gone */
    char *path;
    int64_t offset;
    struct slice bytes; /* borrowed */
    env_saved_cb on_saved;
    void *data;
    struct err err;
};

static void run(struct work *work)
{
    struct job *job = (struct job *)work;
    (void)disk_save(job->path, job->offset, job->bytes, &job->err);
}

static void on_done(struct work *work, bool)
{
    struct job *job = (struct job *)work;
    list_remove(&job->link);
    if (!job->orphan)
        job->on_saved(job->err.code ? &job->err : NULL, job->data);
    free(job->path);
    free(job);
}

struct saver *saver_new(struct loop *loop)
{
    struct saver *saver = mem_zalloc(sizeof *saver);
    saver->loop = loop;
    saver->pool = work_pool_new("saver", 1);
    list_init(&saver->jobs);
    return saver;
}

void saver_save(void *self, const char *path, int64_t offset, struct slice bytes,
                env_saved_cb on_saved, void *data)
{
    struct saver *saver = self;
    struct job *job = mem_zalloc(sizeof *job);
    job->work.run = run;
    job->work.on_done = on_done;
    job->path = mem_string(slice_of(path));
    job->offset = offset;
    job->bytes = bytes;
    job->on_saved = on_saved;
    job->data = data;
    list_append(&saver->jobs, &job->link);
    work_submit(saver->pool, saver->loop, &job->work);
}

void saver_free(struct saver *saver)
{
    struct job *job;
    if (!saver)
        return;
    work_pool_free(saver->pool);
    LIST_EACH (job, &saver->jobs, struct job, link) { /* the loop has yet to say that they ended */
        job->orphan = true;
        list_remove(&job->link);
    }
    free(saver);
}
