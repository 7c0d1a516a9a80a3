/* SPDX-License-Identifier: Apache-2.0 */
#include "runtime/task.h"

#include <inttypes.h>
#include <string.h>

#include "base/err.h"
#include "base/slice.h"
#include "contract/ring.h"

static struct slice io_name(const struct perigee_model *model, const struct perigee_io *io)
{
    return (struct slice){ (const char *)model + io->name.offset, io->name.bytes };
}

static int check_input(const struct perigee_model *model, const struct perigee_tensor *tensor,
                       struct err *err)
{
    const struct perigee_io *io = &model->inputs[tensor->index];

    if (tensor->datatype != io->datatype)
        return err_set(err, ERR_BAD_INPUT, "input '%s' is %s, not %s",
                       ERR_SLICE(io_name(model, io)), datatype_name(io->datatype),
                       datatype_name(tensor->datatype));
    if (tensor->rank != io->rank)
        return err_set(err, ERR_BAD_INPUT, "input '%s' has %" PRIu32 " dimensions, not %" PRIu32,
                       ERR_SLICE(io_name(model, io)), io->rank, tensor->rank);
    for (uint32_t i = 0; i < io->rank; i++) {
        if (io->dims[i] >= 0 && io->dims[i] != tensor->dims[i])
            return err_set(err, ERR_BAD_INPUT,
                           "input '%s': dimension %" PRIu32 " is %" PRId64 ", not %" PRId64,
                           ERR_SLICE(io_name(model, io)), i, io->dims[i], tensor->dims[i]);
    }
    return 0;
}

int task_read(struct task *task, const char *arena, uint64_t arena_bytes,
              const struct perigee_model *model, struct err *err)
{
    const struct perigee_submission *submission = &task->submission;
    struct runtime_job *job = &task->job;
    uint64_t offset = submission->request_offset, given = 0;
    struct perigee_request head;

    if (offset % PERIGEE_TENSOR_ALIGN != 0 || submission->request_bytes < sizeof head ||
        offset > arena_bytes || submission->request_bytes > arena_bytes - offset)
        return err_set(err, ERR_BAD_INPUT, "the request is outside the arena");
    job->block = arena + offset;
    copy_once(&head, job->block, sizeof head);
    if (head.input_count > PERIGEE_TENSORS_MAX ||
        sizeof head + head.input_count * sizeof(struct perigee_tensor) > submission->request_bytes)
        return err_set(err, ERR_BAD_INPUT, "%" PRIu32 " inputs", head.input_count);

    for (uint32_t i = 0; i < head.input_count; i++) {
        struct perigee_tensor tensor;
        copy_once(&tensor, job->block + sizeof head + i * sizeof tensor, sizeof tensor);
        int r = tensor_check(&tensor, submission->request_bytes, err);
        if (r < 0)
            return r;
        if (tensor.index >= model->input_count || (given & UINT64_C(1) << tensor.index))
            return err_set(err, ERR_BAD_INPUT, "no input %" PRIu32 ", or twice", tensor.index);
        r = check_input(model, &tensor, err);
        if (r < 0)
            return r;
        given |= UINT64_C(1) << tensor.index;
        task->inputs[tensor.index] = tensor;
    }
    uint32_t count = 0;
    for (uint32_t i = 0; i < model->input_count; i++) {
        if (given & UINT64_C(1) << i) {
            if (count < i)
                task->inputs[count] = task->inputs[i];
            count++;
        } else if (!(model->inputs[i].flags & PERIGEE_IO_OPTIONAL)) {
            return err_set(err, ERR_BAD_INPUT, "input '%s' is missing",
                           ERR_SLICE(io_name(model, &model->inputs[i])));
        }
    }
    uint64_t all =
        model->output_count >= 64 ? ~UINT64_C(0) : (UINT64_C(1) << model->output_count) - 1;
    if ((head.outputs_wanted & ~all) != 0 || head.outputs_wanted == 0)
        return err_set(err, ERR_BAD_INPUT, "an output is wanted that the model does not have");
    job->inputs = task->inputs;
    job->input_count = count;
    job->outputs_wanted = head.outputs_wanted;
    return 0;
}
