/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cgroup.h -- where a process's control group is in the file system, and what stands in its files.
 * v1 and v2, through whatever part of a hierarchy is mounted here. Any thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum { CGROUP_PATH_BYTES = 1024 };

/* The folder of the group of `pid` (0: ourselves) in the hierarchy of that controller; "" is v2's.
 * False: there is none, or it is not mounted here. */
bool cgroup_find(pid_t pid, const char *controller, char ret_folder[static CGROUP_PATH_BYTES]);

/* The folder of the group of that path ("/perigee-1-7"), whoever is in it. */
bool cgroup_folder(const char *controller, const char *path,
                   char ret_folder[static CGROUP_PATH_BYTES]);

/* A file of the group, terminated; its size, 0 when it cannot be read. */
size_t cgroup_text(const char *folder, const char *name, char *text, size_t room);
/* Its first number; UINT64_MAX: none, as "max" and -1 are. */
uint64_t cgroup_number(const char *folder, const char *name);
/* CPU time of it and all below, in microseconds; UINT64_MAX: not to be had. v2's own; v1's
 * cpuacct. */
uint64_t cgroup_usage_us(const char *folder);
/* Removes the group of that path ("/perigee-1-7") and those below it in each hierarchy that has it.
 * False: one is not empty yet. */
bool cgroup_remove(const char *path);
/* Those right below the group of that path; one that is in several hierarchies comes as often. */
void cgroup_each(const char *path, void (*on_name)(const char *name, void *data), void *data);
/* How often the kernel killed in it for want of memory. */
uint64_t cgroup_kills(const char *folder);
