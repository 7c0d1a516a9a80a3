/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pop_metrics.h -- what the agent counts and shows beside the gateway's counters. Gauges are filled
 * in at each scrape; counters live as long as the agent.
 */
#pragma once

#include "base/metrics.h"

/* X(id, name, type, unit, labels, buckets, help) */
/* clang-format off */
#define POP_METRICS(X)                                                                             \
    X(POP_REPLICAS, "perigee_replicas", METRIC_GAUGE, METRIC_ONE,                                  \
      "project,endpoint,revision,state", NULL, "Replicas by state.")                               \
    X(POP_REPLICA_MEMORY, "perigee_replica_resident_bytes", METRIC_GAUGE, METRIC_BYTES,            \
      "project,endpoint,replica", NULL, "Resident memory of a replica.")                           \
    X(POP_REPLICA_CPU, "perigee_replica_cpu_seconds_total", METRIC_COUNTER, METRIC_SECONDS,        \
      "project,endpoint,replica", NULL, "CPU time of a replica since its start.")                  \
    X(POP_START, "perigee_replica_start_seconds", METRIC_HISTOGRAM, METRIC_SECONDS,                \
      "project,endpoint,cold,part", &metric_buckets_latency,                                       \
      "From the decision to start a replica to ready, and of it: spawn, walls, load, first_run (0 of containers); cold: no other was ready.") \
    X(POP_PROCESS_MEMORY, "perigee_process_resident_bytes", METRIC_GAUGE, METRIC_BYTES,            \
      "process", NULL, "Resident memory of Perigee's own processes.")                              \
    X(POP_PROCESS_CPU, "perigee_process_cpu_seconds_total", METRIC_COUNTER, METRIC_SECONDS,        \
      "process", NULL, "CPU time of Perigee's own processes since their start.")                   \
    X(POP_PROCESS_FDS, "perigee_process_open_fds", METRIC_GAUGE, METRIC_ONE,                       \
      "process", NULL, "Open descriptors of Perigee's own processes.")                             \
    X(POP_PROCESS_RESTARTS, "perigee_process_restarts_total", METRIC_COUNTER, METRIC_ONE,          \
      "process", NULL, "How often a process was started again.")                                   \
    X(POP_UPGRADES, "perigee_upgrades_total", METRIC_COUNTER, METRIC_ONE, "result", NULL,          \
      "Upgrades of the running Perigee, done and failed.")                                         \
    X(POP_TABLE, "perigee_table_number", METRIC_GAUGE, METRIC_ONE, "", NULL,                       \
      "Number of the table the agent published last.")                                             \
    X(POP_CONTROL, "perigee_control_connected", METRIC_GAUGE, METRIC_ONE, "", NULL,                \
      "1 while desired state comes from control, 0 while it is the disk's.")                       \
    X(POP_ENDPOINTS, "perigee_endpoints", METRIC_GAUGE, METRIC_ONE, "", NULL,                      \
      "Endpoints this PoP knows.")                                                                 \
    X(POP_VOLUMES, "perigee_volume_bytes", METRIC_GAUGE, METRIC_BYTES, "", NULL,                   \
      "What volumes of containers have set aside on this PoP's disk.")                             \
    X(POP_UNREPORTED, "perigee_report_items_dropped_total", METRIC_COUNTER, METRIC_ONE, "reason",  \
      NULL, "Events, deaths, log lines and models that control was not told of: late, refused.")   \
    X(POP_LEDGER_BYTES, "perigee_ledger_bytes", METRIC_GAUGE, METRIC_BYTES, "", NULL,              \
      "Size of the file in which usage is kept until control has counted it.")                     \
    X(POP_LEDGER_WINDOWS, "perigee_ledger_windows", METRIC_GAUGE, METRIC_ONE, "state", NULL,       \
      "Windows of usage that control has not counted (unsent), those among them that are not on "  \
      "disk (unwritten), and ends of replicas that are in none that is (due).")                    \
    X(POP_LEDGER_LOST, "perigee_ledger_windows_lost_total", METRIC_COUNTER, METRIC_ONE, "", NULL,  \
      "Windows of usage that were damaged, or of which control has counted another copy.")         \
    X(POP_LEDGER_FAILED, "perigee_ledger_writes_failed_total", METRIC_COUNTER, METRIC_ONE, "",     \
      NULL, "Writes of the ledger that failed and were tried again.")                              \
    X(POP_USAGE_SENDS, "perigee_usage_sends_total", METRIC_COUNTER, METRIC_ONE, "", NULL,          \
      "Parts of the ledger sent to control.")                                                      \
    X(POP_MESH_RTT, "perigee_mesh_rtt_seconds", METRIC_GAUGE, METRIC_SECONDS, "peer", NULL,        \
      "Round trip to another PoP's gateway, as this one measures it.")                             \
    X(POP_MESH_UP, "perigee_mesh_up", METRIC_GAUGE, METRIC_ONE, "peer", NULL,                      \
      "1 while another PoP answers this one, by its health with hysteresis.")                      \
    X(POP_MESH_PROBES, "perigee_mesh_probes_total", METRIC_COUNTER, METRIC_ONE, "peer,result",     \
      NULL, "Questions to PoPs' gateways: ok, failed, odd (an answer that is no report).")         \
    X(POP_MESH_LEFT, "perigee_mesh_left_total", METRIC_COUNTER, METRIC_ONE, "peer", NULL,          \
      "Idle connections that another PoP's gateway ended; it was asked at once if it is there.")   \
    X(POP_EXITS, "perigee_replica_exits_total", METRIC_COUNTER, METRIC_ONE,                        \
      "project,endpoint", NULL, "Replicas that ended without having been asked to.")
/* clang-format on */

METRICS_DECLARE(pop_metrics, POP_METRICS)
