/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/range.h"

#include "base/err.h"

enum range_answer range_of(struct slice header, uint64_t size, struct range *ret)
{
    struct slice rest = header, unit = slice_cut(&rest, '=');
    struct slice last = slice_trim(rest), first = slice_cut(&last, '-');
    struct range range = {};
    if (!slice_equal_nocase(slice_trim(unit), SLICE("bytes")) || !last.data)
        return RANGE_WHOLE;
    if (first.size == 0) { /* the last so many */
        if (!slice_u64(last, &range.last))
            return RANGE_WHOLE;
        if (range.last == 0 || size == 0)
            return RANGE_OUTSIDE;
        *ret = (struct range){ range.last < size ? size - range.last : 0, size - 1 };
        return RANGE_PART;
    }
    range.last = UINT64_MAX;
    if (!slice_u64(first, &range.first) || (last.size && !slice_u64(last, &range.last)))
        return RANGE_WHOLE;
    if (range.first > range.last || range.first >= size)
        return RANGE_OUTSIDE;
    if (range.last >= size)
        range.last = size - 1;
    *ret = range;
    return RANGE_PART;
}

int range_of_chunk(struct slice header, struct range *ret, struct err *err)
{
    struct slice last = slice_trim(header), first;
    struct range range;
    if (slice_starts(last, SLICE("bytes "))) { /* as RFC 9110 begins it */
        (void)slice_cut(&last, ' ');
        struct slice size = last;
        last = slice_cut(&size, '/');
    }
    first = slice_cut(&last, '-');
    if (slice_u64(first, &range.first) && slice_u64(last, &range.last) &&
        range.first <= range.last && range.last < INT64_MAX) {
        *ret = range;
        return 0;
    }
    return err_set(err, ERR_BAD_INPUT, "Content-Range must be 'FIRST-LAST', not '%s'",
                   ERR_SLICE(header));
}
