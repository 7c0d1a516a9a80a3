/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Of sanitized builds alone: a replica's environment is empty, and its walls let no terminal be
 * asked about and no symbolizer be started. Without these a report ended at its first line, as a
 * call that is not allowed, and looked like a fault of the sandbox. The fake stacks that newer
 * clangs make for each thread are 11 MiB, which a limit on memory does not leave.
 */

const char *__asan_default_options(void);
const char *__ubsan_default_options(void);

#define OPTIONS "color=never:symbolize=0:abort_on_error=0"

const char *__asan_default_options(void)
{
    return OPTIONS ":detect_stack_use_after_return=0";
}

const char *__ubsan_default_options(void)
{
    return OPTIONS ":halt_on_error=1";
}
