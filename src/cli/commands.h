/* SPDX-License-Identifier: Apache-2.0 */
/*
 * commands.h -- what the rows of cli_commands call. Each returns 0 or an error (cli.h).
 */
#pragma once

struct cli;
struct err;

int cmd_admin(struct cli *cli, struct err *err);
int cmd_apply(struct cli *cli, struct err *err);
int cmd_backup(struct cli *cli, struct err *err);
int cmd_completion(struct cli *cli, struct err *err);
int cmd_context(struct cli *cli, struct err *err);
int cmd_delete(struct cli *cli, struct err *err);
int cmd_deploy(struct cli *cli, struct err *err);
int cmd_doctor(struct cli *cli, struct err *err);
int cmd_endpoints(struct cli *cli, struct err *err);
int cmd_events(struct cli *cli, struct err *err);
int cmd_explain(struct cli *cli, struct err *err);
int explain_placement(struct cli *cli, const char *name, struct err *err); /* its other form */
int cmd_export(struct cli *cli, struct err *err);
int cmd_fleet(struct cli *cli, struct err *err);
int cmd_infer(struct cli *cli, struct err *err);
int cmd_logs(struct cli *cli, struct err *err);
int cmd_policy(struct cli *cli, struct err *err);
int cmd_pops(struct cli *cli, struct err *err);
int cmd_registries(struct cli *cli, struct err *err);
int cmd_restore(struct cli *cli, struct err *err);
int cmd_rollback(struct cli *cli, struct err *err);
int cmd_scale(struct cli *cli, struct err *err);
int cmd_secrets(struct cli *cli, struct err *err);
int cmd_show(struct cli *cli, struct err *err);
int cmd_start(struct cli *cli, struct err *err);
int cmd_stop(struct cli *cli, struct err *err);
int cmd_top(struct cli *cli, struct err *err);
int cmd_usage(struct cli *cli, struct err *err);
int cmd_version(struct cli *cli, struct err *err);
int cmd_wait(struct cli *cli, struct err *err);
