/* SPDX-License-Identifier: Apache-2.0 */
#include "control/job.h"

#include "control/abroad.h"
#include "control/control_own.h"
#include "store/store.h"

static int in_transaction(struct store *store, void *data, struct err *err)
{
    struct job *job = data;
    return job->run(job, store, err);
}

static void work_run(struct work *work)
{
    struct job *job = LIST_OWNER(work, struct job, work);
    struct control *control = job->control;
    struct store *store = job->place == JOB_WRITE  ? control->store
                          : job->place == JOB_READ ? control->reader
                                                   : NULL;
    job->result = store ? store->transact(store, in_transaction, job, &job->err)
                        : job->run(job, job->place == JOB_STORE ? control->store : NULL, &job->err);
    /* Of the thread that writes, where either place's jobs run. */
    job->in_doubt =
        (job->place == JOB_WRITE || job->place == JOB_STORE) && control->store->in_doubt;
}

static void work_done(struct work *work, bool canceled)
{
    struct job *job = LIST_OWNER(work, struct job, work);
    if (canceled)
        job->result = err_set(&job->err, ERR_CANCELED, "control is ending");
    struct control *control = job->control;
    bool in_doubt = job->in_doubt && !canceled;
    control->jobs--;
    job->done(job, job->result < 0 ? &job->err : NULL);
    if (in_doubt)
        control_anew(control);
}

static void called_off(void *data)
{
    struct job *job = data;
    work_done(&job->work, true);
}

void job_start(struct control *control, struct job *job, enum job_place place, job_run_cb run,
               job_done_cb done, void *data)
{
    *job = (struct job){
        .work = { .run = work_run, .on_done = work_done },
        .control = control,
        .place = place,
        .run = run,
        .done = done,
        .data = data,
    };
    control->jobs++;
    if (control->closing) {
        loop_post(control->loop, called_off, job);
        return;
    }
    work_submit(place == JOB_READ   ? control->read_pool
                : place == JOB_DISK ? control->disk_pool
                : place == JOB_ASK  ? abroad_ask_pool(control)
                : place == JOB_COPY ? abroad_copy_pool(control)
                                    : control->write_pool,
                control->loop, &job->work);
}
