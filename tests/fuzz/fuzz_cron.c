/* SPDX-License-Identifier: Apache-2.0 */
/* What is read comes: next and last agree with each other, from any time. */
#include <assert.h>

#include "base/err.h"
#include "spec/cron.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const int64_t times[] = { -3'000'000'000, 0, 1'774'742'399, 3'981'000'000,
                                     253'000'000'000 };
    struct cron cron;
    struct err err = {};
    if (cron_parse((struct slice){ (const char *)data, size }, &cron, &err) < 0) {
        assert(err.code == ERR_BAD_INPUT && err.message[0]);
        return 0;
    }
    for (size_t i = 0; i < sizeof times / sizeof *times; i++) {
        int64_t next = cron_next(&cron, times[i]), before = cron_before(&cron, times[i]);
        assert(before <= times[i] && times[i] <= next);
        assert(next % 60 == 0 && before % 60 == 0);
        assert(cron_next(&cron, next) == next && cron_before(&cron, next) == next);
        assert(cron_before(&cron, next - 1) == before || next == times[i]);
        assert(cron_next(&cron, before) == before);
    }
    return 0;
}
