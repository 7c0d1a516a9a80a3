/* SPDX-License-Identifier: Apache-2.0 */
/*
 * routes.h -- the table of routes as it is searched: what serves is what /openapi.json says.
 */
#pragma once

#include "control/request.h"

enum { ROUTES_ALLOW_BYTES = 64, ROUTES_PATH_BYTES = 160 };

/* ERR_NOT_FOUND, or ERR_BAD_METHOD with the methods that there are in `allow`. The project stays as
 * it is where the path has none. HEAD finds GET. */
[[nodiscard]] int routes_find(const struct route *routes, size_t count,
                              const struct http_request *head, const struct route **ret_route,
                              struct slice parts[static HTTP_PATH_PARTS_MAX], struct slice *project,
                              char allow[static ROUTES_ALLOW_BYTES], struct err *err);
/* The whole path of a row: "/api/v1/endpoints/{name}", or that of its form with a project. */
const char *routes_path(const struct route *route, bool project,
                        char buffer[static ROUTES_PATH_BYTES]);

/* Parameters of the query, by name. */
struct query_parameter {
    const char *name, *type, *text;
};
extern const struct query_parameter query_parameters[];
extern const size_t query_parameter_count;
/* A parameter that the row does not take is refused by name. */
[[nodiscard]] int routes_check_query(const struct route *route, const struct http_parameters *query,
                                     struct err *err);

/* Handlers, one file a resource. */
void endpoints_list(struct request *q); /* endpoints.c */
void endpoint_get(struct request *q);
void endpoint_put(struct request *q);
void endpoint_patch(struct request *q);
void endpoint_delete(struct request *q);
void endpoint_stop(struct request *q);
void endpoint_start(struct request *q);
void endpoint_rollback(struct request *q);
void endpoint_replicas(struct request *q);
void endpoint_explain(struct request *q);   /* explain.c */
void endpoint_clients(struct request *q);   /* clients.c */
void endpoint_placement(struct request *q); /* placement_view.c */
void endpoint_schedule(struct request *q);  /* schedule.c */
void activity_list(struct request *q);      /* activity.c */
void request_explain(struct request *q);    /* past.c */
void pop_answer(struct request *q);
void replicas_list(struct request *q);
void revisions_list(struct request *q); /* rows.c */
void revision_get(struct request *q);
void history_list(struct request *q);
void logs_list(struct request *q);
void events_list(struct request *q);
void audit_list(struct request *q);
void blob_get(struct request *q); /* blobs_get.c, blobs_put.c */
void blob_put(struct request *q);
void pops_list(struct request *q); /* pop_rows.c */
void pop_create(struct request *q);
void pop_get(struct request *q);
void pop_drain(struct request *q);
void pop_undrain(struct request *q);
void pop_token(struct request *q);
void pop_delete(struct request *q);
void pop_enrol(struct request *q);
void pop_watch(struct request *q); /* pops.c */
void pop_report(struct request *q);
void pop_usage(struct request *q);  /* usage.c */
void usage_list(struct request *q); /* usage_view.c */
void prices_get(struct request *q); /* prices.c */
void prices_put(struct request *q);
void registries_list(struct request *q); /* registries.c */
void registry_put(struct request *q);
void registry_delete(struct request *q);
void registry_test(struct request *q);
void secrets_list(struct request *q); /* secrets.c */
void secret_put(struct request *q);
void secret_delete(struct request *q);
void system_version(struct request *q); /* system.c */
void system_health(struct request *q);
void system_ready(struct request *q);
void system_metrics(struct request *q);
void system_openapi(struct request *q);
