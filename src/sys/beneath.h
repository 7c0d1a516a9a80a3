/* SPDX-License-Identifier: Apache-2.0 */
/*
 * beneath.h -- opening what lies in a folder that is somebody else's work. Any thread.
 */
#pragma once

/* `path` from the folder on. Links are followed as long as they stay in it: one that leads out of
 * it, or is absolute, is EXDEV. Flags as open()'s, without O_CREAT. -1: errno says why not. */
[[nodiscard]] int beneath_open(int folder, const char *path, int flags);
