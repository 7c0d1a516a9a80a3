/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pop.h -- the pop agent as a role of the supervisor's process tree.
 */
#pragma once

/* Runs until the supervisor drains it or is gone; the process' exit code. Takes both descriptors:
 * the channel to the supervisor (contract/messages.h) and the lifeline. */
int pop_main(int channel_fd, int lifeline_fd);
