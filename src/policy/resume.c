/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/resume.h"

enum resume resume_of(const struct resume_log *log, uint64_t epoch, uint64_t number)
{
    if (epoch == 0)
        return RESUME_FIRST;
    if (epoch != log->epoch)
        return RESUME_EPOCH;
    if (number > log->newest)
        return RESUME_AHEAD;
    return number < log->known ? RESUME_BEHIND : RESUME_ON;
}

const char *resume_word(enum resume resume)
{
    static const char *const words[] = {
#define RESUME(id, word, text) word,
        RESUME_TABLE(RESUME)
#undef RESUME
    };
    return words[resume];
}
