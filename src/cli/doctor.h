/* SPDX-License-Identifier: Apache-2.0 */
/*
 * doctor.h -- what `perigee doctor` looks at. A check says one or more results, each with advice
 * unless it is well. Texts lie in the command's arena. One thread.
 */
#pragma once

#include <stddef.h>

struct cli;

enum { DOCTOR_RESULTS_MAX = 64, DOCTOR_TEXT_BYTES = 768 };
enum doctor_level { DOCTOR_OK, DOCTOR_WARN, DOCTOR_FAIL };

struct doctor_result {
    const char *check;
    enum doctor_level level;
    const char *text, *advice; /* "" none */
};

struct doctor {
    struct cli *cli;
    const char *check; /* the one that runs */
    struct doctor_result results[DOCTOR_RESULTS_MAX];
    size_t count;
};

[[gnu::format(printf, 3, 4)]] void doctor_say(struct doctor *doctor, enum doctor_level level,
                                              const char *format, ...);
/* Of what was said last. */
[[gnu::format(printf, 2, 3)]] void doctor_advise(struct doctor *doctor, const char *format, ...);

/* The machine (doctor_machine.c). */
void doctor_kernel(struct doctor *doctor);
void doctor_seccomp(struct doctor *doctor);
void doctor_landlock(struct doctor *doctor);
void doctor_namespaces(struct doctor *doctor);
void doctor_proc(struct doctor *doctor);
void doctor_workers(struct doctor *doctor);
void doctor_curl(struct doctor *doctor);
void doctor_memory(struct doctor *doctor);
void doctor_processors(struct doctor *doctor);
void doctor_files(struct doctor *doctor);
void doctor_clock(struct doctor *doctor);
void doctor_zones(struct doctor *doctor);

/* Who runs images (doctor_engine.c). */
void doctor_engine(struct doctor *doctor);

/* The home, and the Perigee of it (doctor_home.c). */
void doctor_home(struct doctor *doctor);
void doctor_disk(struct doctor *doctor);
void doctor_database(struct doctor *doctor);
void doctor_running(struct doctor *doctor);
void doctor_ports(struct doctor *doctor);
