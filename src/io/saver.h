/* SPDX-License-Identifier: Apache-2.0 */
/*
 * saver.h -- env.file_save and env.file_append on a thread of their own (sys/disk.c), in the order
 * asked for, while the loop goes on.
 *
 * Loop thread only; on_saved runs on the loop. Bytes that wait are the caller's, who bounds them.
 */
#pragma once

#include "base/env.h"

struct loop;
struct saver;

struct saver *saver_new(struct loop *loop);
/* NULL is allowed. One that is being written is waited for, those that wait are not written; nobody
 * is called back any more. */
void saver_free(struct saver *saver);
/* Fits env_linux_set_saver(). */
void saver_save(void *saver, const char *path, int64_t offset, struct slice bytes,
                env_saved_cb on_saved, void *data);
