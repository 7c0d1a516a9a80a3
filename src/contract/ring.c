/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The two orders that matter. Data before index: an entry is written, then the index is stored with
 * release, and read with acquire. Index before sleep: the producer publishes, fences, and only then
 * reads `sleeping` (or `armed`); the consumer sets it, fences, and only then looks at the index
 * again. One of the two sees the other, so no wake-up is lost and a busy pair makes no system call.
 */
#include "contract/ring.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/futex.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/err.h"
#include "base/slice.h"

#define PAGE_BYTES ((size_t)4096)
static_assert((PERIGEE_RING_ENTRIES & (PERIGEE_RING_ENTRIES - 1)) == 0, "entries are masked");
static_assert(PERIGEE_SLOTS_MAX / 2 <= PERIGEE_RING_ENTRIES, "no ring is ever full");
static_assert(PERIGEE_SLOTS_OFFSET % 4096 == 0, "slots begin on a page");

/* ---- rings ----------------------------------------------------------------------------------- */

bool submission_publish(struct perigee_submission_lane *lane, uint64_t *own_head,
                        const struct perigee_completion_lane *answers,
                        const struct perigee_submission *submission)
{
    uint64_t taken = atomic_load_explicit(&answers->taken, memory_order_acquire);

    /* A replica that claims more than was published makes the difference huge: no room. */
    if (*own_head - taken >= PERIGEE_RING_ENTRIES)
        return false;
    lane->entries[*own_head % PERIGEE_RING_ENTRIES] = *submission;
    *own_head += 1;
    atomic_store_explicit(&lane->head, *own_head, memory_order_release);
    return true;
}

bool submission_wake(struct perigee_submission_page *page, const struct perigee_status *status,
                     bool force)
{
    atomic_thread_fence(memory_order_seq_cst);
    if (!force && !atomic_load_explicit(&status->sleeping, memory_order_relaxed))
        return false;
    atomic_fetch_add_explicit(&page->wake, 1, memory_order_seq_cst);
    return syscall(SYS_futex, &page->wake, FUTEX_WAKE, 1, NULL, NULL, 0) == 1;
}

int completion_take(const struct perigee_completion_lane *lane, uint64_t *seen, uint64_t published,
                    struct perigee_completion *ret, struct err *err)
{
    uint64_t head = atomic_load_explicit(&lane->head, memory_order_acquire);

    if (head == *seen)
        return 0;
    /* No more than was asked can be answered, and the index never goes back. */
    if (head < *seen || head > published || head - *seen > PERIGEE_RING_ENTRIES)
        return err_set(err, ERR_BAD_INPUT,
                       "completion index jumped from %" PRIu64 " to %" PRIu64 " with %" PRIu64
                       " submitted",
                       *seen, head, published);
    copy_once(ret, &lane->entries[*seen % PERIGEE_RING_ENTRIES], sizeof *ret);
    *seen += 1;
    return 1;
}

int submission_take(const struct perigee_submission_lane *lane, uint64_t *seen,
                    struct perigee_submission *ret)
{
    uint64_t head = atomic_load_explicit(&lane->head, memory_order_acquire);

    if (head == *seen)
        return 0;
    if (head - *seen > PERIGEE_RING_ENTRIES)
        return ERR_BAD_INPUT;
    copy_once(ret, &lane->entries[*seen % PERIGEE_RING_ENTRIES], sizeof *ret);
    *seen += 1;
    return 1;
}

void completion_publish(struct perigee_completion_lane *lane, uint64_t *own_head,
                        const struct perigee_completion *completion)
{
    lane->entries[*own_head % PERIGEE_RING_ENTRIES] = *completion;
    *own_head += 1;
    atomic_store_explicit(&lane->head, *own_head, memory_order_release);
}

void submission_sleep(const struct perigee_submission_page *page, uint32_t seen, int64_t ns_max)
{
    struct timespec wait = { ns_max / 1'000'000'000, ns_max % 1'000'000'000 };

    (void)syscall(SYS_futex, &page->wake, FUTEX_WAIT, seen, ns_max < 0 ? NULL : &wait, NULL, 0);
}

/* ---- sizes and datatypes --------------------------------------------------------------------- */

size_t region_submission_bytes(void)
{
    return (sizeof(struct perigee_submission_page) + PAGE_BYTES - 1) & ~(PAGE_BYTES - 1);
}

size_t region_output_bytes(uint32_t slots, uint64_t slot_bytes)
{
    return PERIGEE_SLOTS_OFFSET + (size_t)slots * slot_bytes;
}

static const struct {
    const char *name;
    size_t bytes;
} datatypes[PERIGEE_DATATYPES_END] = {
    [PERIGEE_BOOL] = { "BOOL", 1 },     [PERIGEE_UINT8] = { "UINT8", 1 },
    [PERIGEE_UINT16] = { "UINT16", 2 }, [PERIGEE_UINT32] = { "UINT32", 4 },
    [PERIGEE_UINT64] = { "UINT64", 8 }, [PERIGEE_INT8] = { "INT8", 1 },
    [PERIGEE_INT16] = { "INT16", 2 },   [PERIGEE_INT32] = { "INT32", 4 },
    [PERIGEE_INT64] = { "INT64", 8 },   [PERIGEE_FP16] = { "FP16", 2 },
    [PERIGEE_FP32] = { "FP32", 4 },     [PERIGEE_FP64] = { "FP64", 8 },
    [PERIGEE_BYTES] = { "BYTES", 0 },   [PERIGEE_BF16] = { "BF16", 2 },
};

size_t datatype_bytes(uint32_t datatype)
{
    return datatype < PERIGEE_DATATYPES_END ? datatypes[datatype].bytes : 0;
}

const char *datatype_name(uint32_t datatype)
{
    const char *name = datatype < PERIGEE_DATATYPES_END ? datatypes[datatype].name : NULL;

    return name ? name : "?";
}

uint32_t datatype_of(const char *name, size_t size)
{
    for (uint32_t i = 1; i < PERIGEE_DATATYPES_END; i++) {
        if (slice_is((struct slice){ name, size }, datatypes[i].name))
            return i;
    }
    return 0;
}

/* ---- tensors --------------------------------------------------------------------------------- */

bool dims_elements(const int64_t *dims, uint32_t rank, uint64_t *ret)
{
    uint64_t product = 1;
    bool empty = false, overflow = false;

    for (uint32_t i = 0; i < rank; i++) {
        if (dims[i] < 0)
            return false;
        empty |= dims[i] == 0;
        overflow |= dims[i] != 0 && __builtin_mul_overflow(product, (uint64_t)dims[i], &product);
    }
    /* A product that overflows beside a zero is refused as well: who multiplies in another order
     * would be surprised. */
    if (overflow)
        return false;
    *ret = empty ? 0 : product;
    return true;
}

int tensor_check(const struct perigee_tensor *tensor, uint64_t room, struct err *err)
{
    uint64_t elements, bytes;

    if (tensor->index >= PERIGEE_TENSORS_MAX)
        return err_set(err, ERR_BAD_INPUT, "tensor index %" PRIu32 " is too high", tensor->index);
    if (tensor->datatype == 0 || tensor->datatype >= PERIGEE_DATATYPES_END)
        return err_set(err, ERR_BAD_INPUT, "tensor %" PRIu32 ": unknown datatype %" PRIu32,
                       tensor->index, tensor->datatype);
    if (tensor->rank > PERIGEE_RANK_MAX)
        return err_set(err, ERR_BAD_INPUT, "tensor %" PRIu32 ": rank %" PRIu32 " is above %u",
                       tensor->index, tensor->rank, PERIGEE_RANK_MAX);
    if (!dims_elements(tensor->dims, tensor->rank, &elements))
        return err_set(err, ERR_BAD_INPUT,
                       "tensor %" PRIu32 ": a dimension is negative, or their product overflows",
                       tensor->index);
    if (tensor->offset % PERIGEE_TENSOR_ALIGN != 0)
        return err_set(err, ERR_BAD_INPUT, "tensor %" PRIu32 ": offset is not a multiple of %u",
                       tensor->index, PERIGEE_TENSOR_ALIGN);
    if (tensor->offset > room || tensor->bytes > room - tensor->offset)
        return err_set(err, ERR_BAD_INPUT, "tensor %" PRIu32 ": its bytes are outside the block",
                       tensor->index);
    if (tensor->datatype == PERIGEE_BYTES) {
        /* Each element has a length of four bytes at least. */
        if (elements > tensor->bytes / 4)
            return err_set(err, ERR_BAD_INPUT, "tensor %" PRIu32 ": too few bytes for its elements",
                           tensor->index);
        return 0;
    }
    if (__builtin_mul_overflow(elements, (uint64_t)datatype_bytes(tensor->datatype), &bytes) ||
        bytes != tensor->bytes)
        return err_set(err, ERR_BAD_INPUT,
                       "tensor %" PRIu32 ": %" PRIu64 " bytes do not match its shape",
                       tensor->index, tensor->bytes);
    return 0;
}

/* ---- the model's metadata -------------------------------------------------------------------- */

static int string_check(const struct perigee_model *model, size_t bytes,
                        struct perigee_string string, const char *what, struct err *err)
{
    if (string.bytes == 0)
        return 0;
    if (string.offset < sizeof *model || string.offset > bytes ||
        string.bytes > bytes - string.offset)
        return err_set(err, ERR_BAD_INPUT, "model metadata: %s is outside", what);

    struct slice text = { (const char *)model + string.offset, string.bytes };
    if (!utf8_valid(text) || memchr(text.data, 0, text.size))
        return err_set(err, ERR_BAD_INPUT, "model metadata: %s is not text", what);
    return 0;
}

static struct slice io_name(const struct perigee_model *model, const struct perigee_io *io)
{
    return (struct slice){ (const char *)model + io->name.offset, io->name.bytes };
}

static int io_check(const struct perigee_model *model, size_t bytes, const struct perigee_io *ios,
                    uint32_t at, const char *what, struct err *err)
{
    const struct perigee_io *io = &ios[at];

    if (io->name.bytes == 0)
        return err_set(err, ERR_BAD_INPUT, "model metadata: an %s has no name", what);
    if (string_check(model, bytes, io->name, "a name", err) < 0)
        return ERR_BAD_INPUT;
    if (io->datatype == 0 || io->datatype >= PERIGEE_DATATYPES_END)
        return err_set(err, ERR_BAD_INPUT, "model metadata: %s '%s' has datatype %" PRIu32, what,
                       ERR_SLICE(io_name(model, io)), io->datatype);
    if (io->rank > PERIGEE_RANK_MAX)
        return err_set(err, ERR_BAD_INPUT, "model metadata: %s '%s' has rank %" PRIu32, what,
                       ERR_SLICE(io_name(model, io)), io->rank);
    for (uint32_t i = 0; i < io->rank; i++) {
        if (io->dims[i] < -1)
            return err_set(err, ERR_BAD_INPUT, "model metadata: %s '%s' has dimension %" PRId64,
                           what, ERR_SLICE(io_name(model, io)), io->dims[i]);
        if (string_check(model, bytes, io->symbols[i], "a dimension's name", err) < 0)
            return ERR_BAD_INPUT;
    }
    for (uint32_t i = 0; i < at; i++) {
        if (slice_equal(io_name(model, io), io_name(model, &ios[i])))
            return err_set(err, ERR_BAD_INPUT, "model metadata: two %ss named '%s'", what,
                           ERR_SLICE(io_name(model, io)));
    }
    return 0;
}

int model_check(const struct perigee_model *model, size_t bytes, struct err *err)
{
    if (bytes < sizeof *model || bytes > PERIGEE_MODEL_BYTES_MAX)
        return err_set(err, ERR_BAD_INPUT, "model metadata: %zu bytes", bytes);
    if (model->input_count > PERIGEE_TENSORS_MAX || model->output_count > PERIGEE_TENSORS_MAX ||
        model->property_count > PERIGEE_PROPERTIES_MAX)
        return err_set(err, ERR_BAD_INPUT, "model metadata: a count is too high");
    if (string_check(model, bytes, model->platform, "the platform", err) < 0)
        return ERR_BAD_INPUT;
    for (uint32_t i = 0; i < model->input_count; i++) {
        if (io_check(model, bytes, model->inputs, i, "input", err) < 0)
            return ERR_BAD_INPUT;
    }
    for (uint32_t i = 0; i < model->output_count; i++) {
        if (io_check(model, bytes, model->outputs, i, "output", err) < 0)
            return ERR_BAD_INPUT;
    }
    for (uint32_t i = 0; i < model->property_count; i++) {
        if (string_check(model, bytes, model->properties[i].key, "a property's key", err) < 0 ||
            string_check(model, bytes, model->properties[i].value, "a property's value", err) < 0)
            return ERR_BAD_INPUT;
    }
    return 0;
}

int model_copy(const void *output_region, size_t region_bytes, struct perigee_model *ret,
               size_t room, size_t *ret_bytes, struct err *err)
{
    const struct perigee_status *status = output_region;
    uint32_t bytes;

    if (region_bytes < PERIGEE_SLOTS_OFFSET)
        return err_set(err, ERR_BAD_INPUT, "output region of %zu bytes", region_bytes);
    copy_once(&bytes, &status->model_bytes, sizeof bytes);
    if (bytes < sizeof *ret || bytes > PERIGEE_MODEL_BYTES_MAX || bytes > room)
        return err_set(err, ERR_BAD_INPUT, "model metadata: %" PRIu32 " bytes", bytes);
    copy_once(ret, (const char *)output_region + PERIGEE_MODEL_OFFSET, bytes);

    int r = model_check(ret, bytes, err);
    if (r < 0)
        return r;
    *ret_bytes = bytes;
    return 0;
}
