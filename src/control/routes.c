/* SPDX-License-Identifier: Apache-2.0 */
#include "control/routes.h"

#include <stdio.h>
#include <string.h>

#define WATCHED (ROUTE_PROJECT | ROUTE_WATCH)

/* clang-format off */
const struct route control_routes[] = {
    /* method, path, scope, flags, body, handler, operation, query, takes, gives, status, summary */
    { HTTP_GET,    "/endpoints", SCOPE_READ, WATCHED, BODY_NONE, endpoints_list,
      "listEndpoints", "limit,cursor,labels,watch", NULL, "EndpointList", 200,
      "List endpoints; with watch=1 their changes as server-sent events." },
    { HTTP_GET,    "/endpoints/{name}", SCOPE_READ, WATCHED, BODY_NONE, endpoint_get,
      "getEndpoint", "watch", NULL, "Endpoint", 200,
      "Show an endpoint; with watch=1 its changes as server-sent events." },
    { HTTP_PUT,    "/endpoints/{name}", SCOPE_MANAGE, ROUTE_PROJECT, BODY_JSON, endpoint_put,
      "putEndpoint", "dry_run", "Spec", "Endpoint", 200,
      "Create or update an endpoint: the spec is the whole truth." },
    { HTTP_PATCH,  "/endpoints/{name}", SCOPE_MANAGE, ROUTE_PROJECT, BODY_PATCH, endpoint_patch,
      "patchEndpoint", "dry_run", "SpecPatch", "Endpoint", 200,
      "Change keys of an endpoint's spec (JSON merge-patch; null is the default)." },
    { HTTP_DELETE, "/endpoints/{name}", SCOPE_MANAGE, ROUTE_PROJECT, BODY_NONE, endpoint_delete,
      "deleteEndpoint", "", NULL, NULL, 204,
      "Delete an endpoint, its revisions and replicas." },
    { HTTP_POST,   "/endpoints/{name}/stop", SCOPE_MANAGE, ROUTE_PROJECT, BODY_JSON, endpoint_stop,
      "stopEndpoint", "", "Empty", "Endpoint", 200,
      "Stop an endpoint: its replicas end, requests are refused." },
    { HTTP_POST,   "/endpoints/{name}/start", SCOPE_MANAGE, ROUTE_PROJECT, BODY_JSON,
      endpoint_start, "startEndpoint", "", "Empty", "Endpoint", 200,
      "Start a stopped endpoint." },
    { HTTP_POST,   "/endpoints/{name}/rollback", SCOPE_MANAGE, ROUTE_PROJECT, BODY_JSON,
      endpoint_rollback, "rollbackEndpoint", "", "Rollback", "Endpoint", 200,
      "Move traffic to an earlier revision; how it is governed stays as it is now." },
    { HTTP_GET,    "/endpoints/{name}/revisions", SCOPE_READ, ROUTE_PROJECT, BODY_NONE,
      revisions_list, "listRevisions", "", NULL, "RevisionList", 200,
      "List the revisions kept." },
    { HTTP_GET,    "/endpoints/{name}/revisions/{number}", SCOPE_READ, ROUTE_PROJECT, BODY_NONE,
      revision_get, "getRevision", "", NULL, "Revision", 200,
      "Show a revision." },
    { HTTP_GET,    "/endpoints/{name}/history", SCOPE_READ, ROUTE_PROJECT, BODY_NONE, history_list,
      "listHistory", "limit,after", NULL, "HistoryList", 200,
      "List changes: when, who, what." },
    { HTTP_GET,    "/endpoints/{name}/replicas", SCOPE_READ, ROUTE_PROJECT, BODY_NONE,
      endpoint_replicas, "listEndpointReplicas", "", NULL, "ReplicaList", 200,
      "List an endpoint's replicas, as PoPs last reported." },
    { HTTP_GET,    "/endpoints/{name}/explain", SCOPE_READ, ROUTE_PROJECT, BODY_NONE,
      endpoint_explain, "explainEndpoint", "client", NULL, "Explanation", 200,
      "Say to which PoP a client is sent and why: each PoP's figures, or what leaves it out." },
    { HTTP_GET,    "/endpoints/{name}/clients", SCOPE_READ, ROUTE_PROJECT, BODY_NONE,
      endpoint_clients, "listEndpointClients", "", NULL, "Clients", 200,
      "Say how far clients of an endpoint are, by country and by PoP." },
    { HTTP_GET,    "/endpoints/{name}/placement", SCOPE_READ, ROUTE_PROJECT, BODY_NONE,
      endpoint_placement, "explainPlacement", "", NULL, "Placement", 200,
      "Say which PoPs have it, why not the others, from where it is asked for, and what is short." },
    { HTTP_GET,    "/endpoints/{name}/schedule", SCOPE_READ, ROUTE_PROJECT, BODY_NONE,
      endpoint_schedule, "getSchedule", "", NULL, "Schedule", 200,
      "Say how many replicas its schedule wants at least now, and what happens next." },
    { HTTP_GET,    "/endpoints/{name}/logs", SCOPE_READ, WATCHED, BODY_NONE, logs_list,
      "listLogs", "limit,after,replica,watch", NULL, "LogList", 200,
      "List what an endpoint's replicas wrote; with watch=1 also what they will." },
    { HTTP_GET,    "/replicas", SCOPE_READ, 0, BODY_NONE, replicas_list,
      "listReplicas", "", NULL, "ReplicaList", 200,
      "List all replicas, as PoPs last reported." },
    { HTTP_GET,    "/activity", SCOPE_READ, ROUTE_PROJECT, BODY_NONE, activity_list,
      "listActivity", "limit", NULL, "Activity", 200,
      "Say what endpoints are asked for, how many replicas they have and how long answers take: those with the most first." },
    { HTTP_GET,    "/events", SCOPE_READ, ROUTE_WATCH, BODY_NONE, events_list,
      "listEvents", "limit,after,endpoint,project,watch", NULL, "EventList", 200,
      "List events; with watch=1 also those to come." },
    { HTTP_GET,    "/audit", SCOPE_MANAGE, 0, BODY_NONE, audit_list,
      "listAudit", "limit,after", NULL, "AuditList", 200,
      "List who changed what, from where." },
    { HTTP_GET,    "/blobs/{digest}", SCOPE_READ, 0, BODY_NONE, blob_get,
      "getBlob", "", NULL, "binary", 200,
      "Fetch a blob. HEAD says whether and how large it is, or how much of an upload is here." },
    { HTTP_PUT,    "/blobs/{digest}", SCOPE_MANAGE, 0, BODY_UPLOAD, blob_put,
      "putBlob", "", "binary", "Blob", 201,
      "Upload a blob; Content-Range goes on with an earlier upload." },
    { HTTP_GET,    "/pops", SCOPE_READ, 0, BODY_NONE, pops_list,
      "listPops", "", NULL, "PopList", 200,
      "List PoPs and when they last reported." },
    { HTTP_POST,   "/pops", SCOPE_MANAGE, 0, BODY_JSON, pop_create,
      "createPop", "ttl", "PopSpec", "PopChanged", 201,
      "Make a PoP; the token in the answer, which it joins with, is shown this once." },
    { HTTP_GET,    "/pops/{pop}", SCOPE_READ, 0, BODY_NONE, pop_get,
      "getPop", "", NULL, "Pop", 200,
      "Show a PoP." },
    { HTTP_DELETE, "/pops/{pop}", SCOPE_MANAGE, 0, BODY_NONE, pop_delete,
      "deletePop", "", NULL, "PopChanged", 200,
      "Retire a PoP: it runs nothing any more, and its secret is worth nothing." },
    { HTTP_POST,   "/pops/{pop}/drain", SCOPE_MANAGE, 0, BODY_JSON, pop_drain,
      "drainPop", "", "Empty", "PopChanged", 200,
      "Have other PoPs take over what it runs." },
    { HTTP_DELETE, "/pops/{pop}/drain", SCOPE_MANAGE, 0, BODY_NONE, pop_undrain,
      "undrainPop", "", NULL, "PopChanged", 200,
      "Let it run replicas again." },
    { HTTP_POST,   "/pops/{pop}/token", SCOPE_MANAGE, 0, BODY_JSON, pop_token,
      "renewPopToken", "ttl", "Empty", "PopChanged", 200,
      "Make a new token for it to join with; who had joined before is out." },
    { HTTP_POST,   "/enrolments", SCOPE_PUBLIC, 0, BODY_JSON, pop_enrol,
      "enrolPop", "", "Enrolment", "Enrolled", 200,
      "A PoP joins, with its token as the bearer. It sends the digest of a secret that it keeps." },
    { HTTP_GET,    "/pops/{pop}/watch", SCOPE_POP, 0, BODY_NONE, pop_watch,
      "watchPop", "", NULL, "events", 200,
      "What a PoP is to run, as server-sent events: all, or what is new since Last-Event-ID; then changes." },
    { HTTP_POST,   "/pops/{pop}/report", SCOPE_POP, 0, BODY_REPORT, pop_report,
      "reportPop", "", "Report", "Reported", 200,
      "A PoP says how everything is now, and what happened." },
    { HTTP_POST,   "/pops/{pop}/answers", SCOPE_POP, 0, BODY_JSON, pop_answer,
      "answerPop", "", "PopAnswer", "Empty", 200,
      "A PoP says whether it remembers a request that it was asked for over its watch." },
    { HTTP_POST,   "/pops/{pop}/usage", SCOPE_POP, 0, BODY_LEDGER, pop_usage,
      "countPopUsage", "", "binary", "UsageCounted", 200,
      "A PoP sends a part of its ledger of usage, and hears how far that is counted." },
    { HTTP_GET,    "/usage", SCOPE_READ, 0, BODY_NONE, usage_list,
      "listUsage", "from,to,by,project,endpoint,pop,format", NULL, "Usage", 200,
      "What was used, by endpoint, revision, project, PoP and time, and what it cost." },
    { HTTP_GET,    "/prices", SCOPE_READ, 0, BODY_NONE, prices_get,
      "getPrices", "", NULL, "Prices", 200,
      "Show the price list." },
    { HTTP_PUT,    "/prices", SCOPE_MANAGE, 0, BODY_JSON, prices_put,
      "putPrices", "", "Prices", "Prices", 200,
      "Set the price list: all of it." },
    { HTTP_GET,    "/registries", SCOPE_READ, 0, BODY_NONE, registries_list,
      "listRegistries", "", NULL, "RegistryList", 200,
      "List other registries that were told of; passwords are never shown." },
    { HTTP_PUT,    "/registries/{host}", SCOPE_MANAGE, ROUTE_SECRET, BODY_JSON, registry_put,
      "putRegistry", "", "RegistrySpec", "Registry", 200,
      "Tell of another registry: who is shown to it, and how it is spoken to. The password is kept sealed." },
    { HTTP_DELETE, "/registries/{host}", SCOPE_MANAGE, 0, BODY_NONE, registry_delete,
      "deleteRegistry", "", NULL, NULL, 204,
      "Forget another registry and its password." },
    { HTTP_POST,   "/registries/{host}/test", SCOPE_MANAGE, 0, BODY_JSON, registry_test,
      "testRegistry", "", "Empty", "RegistryTested", 200,
      "Ask another registry whether it takes what it is shown." },
    { HTTP_GET,    "/secrets", SCOPE_READ, ROUTE_PROJECT, BODY_NONE, secrets_list,
      "listSecrets", "", NULL, "SecretList", 200,
      "List secrets by name, and which endpoints use them; values are never shown." },
    { HTTP_PUT,    "/secrets/{secret}", SCOPE_MANAGE, ROUTE_PROJECT | ROUTE_SECRET, BODY_JSON,
      secret_put,
      "putSecret", "", "SecretSpec", "Secret", 200,
      "Tell a secret for the environment of containers. It is kept sealed, and replicas started from then on have it." },
    { HTTP_DELETE, "/secrets/{secret}", SCOPE_MANAGE, ROUTE_PROJECT, BODY_NONE, secret_delete,
      "deleteSecret", "", NULL, NULL, 204,
      "Forget a secret. One that an endpoint uses is kept (409)." },
    { HTTP_GET,    "/requests/{request}", SCOPE_READ, 0, BODY_NONE, request_explain,
      "explainRequest", "", NULL, "PastRequest", 200,
      "Say where a request went, by its X-Request-Id, and why: of those that PoPs remember." },
    { HTTP_GET,    "/version", SCOPE_PUBLIC, 0, BODY_NONE, system_version,
      "getVersion", "", NULL, "Version", 200,
      "Versions of program, API and schema." },
    { HTTP_GET,    "/openapi.json", SCOPE_PUBLIC, ROUTE_ROOT, BODY_NONE, system_openapi,
      "getOpenapi", "", NULL, "object", 200,
      "This description." },
    { HTTP_GET,    "/healthz", SCOPE_PUBLIC, ROUTE_ROOT, BODY_NONE, system_health,
      "getHealth", "", NULL, "text", 200,
      "Control's process is alive." },
    { HTTP_GET,    "/readyz", SCOPE_PUBLIC, ROUTE_ROOT, BODY_NONE, system_ready,
      "getReadiness", "", NULL, "text", 200,
      "The store can be read, and control is not ending." },
    { HTTP_GET,    "/metrics", SCOPE_PUBLIC, ROUTE_ROOT, BODY_NONE, system_metrics,
      "getMetrics", "", NULL, "text", 200,
      "Control's own metrics, in Prometheus' text form." },
};

const struct query_parameter query_parameters[] = {
    { "limit", "integer", "At most so many items, up to 1000; 100 unless told." },
    { "cursor", "string", "`next` of the answer before." },
    { "labels", "string", "Only those with these labels: key=value, key!=value or key, by comma." },
    { "watch", "integer", "1: answer with server-sent events, which do not end." },
    { "after", "integer", "Only items with an id above this one, oldest first. Without it the "
                          "newest ones come." },
    { "replica", "string", "Only of this replica." },
    { "endpoint", "string", "Only of the endpoint of this name." },
    { "project", "string", "Only of this project." },
    { "from", "string", "From this time on: RFC 3339 in UTC, or a day. A day before `to` unless "
                        "told." },
    { "to", "string", "Up to this time, which is not in it; now unless told." },
    { "by", "string", "What makes a row, by comma: project, endpoint, revision, pop, hour, day; "
                      "endpoint unless told." },
    { "pop", "string", "Only at this PoP." },
    { "format", "string", "json unless told, or csv." },
    { "client", "string", "An address, or a city: the most populous of that name; Paris,US says "
                          "which." },
    { "ttl", "integer", "Seconds that the token is good for; 3600 unless told." },
    { "dry_run", "integer", "1: say what would change, and change nothing." },
};
/* clang-format on */

const size_t control_route_count = sizeof control_routes / sizeof *control_routes;
const size_t query_parameter_count = sizeof query_parameters / sizeof *query_parameters;

const char *routes_path(const struct route *route, bool project,
                        char buffer[static ROUTES_PATH_BYTES])
{
    snprintf(buffer, ROUTES_PATH_BYTES, "%s%s%s", route->flags & ROUTE_ROOT ? "" : "/api/v1",
             project ? "/projects/{project}" : "", route->path);
    return buffer;
}

static bool matches(const struct http_request *head, const struct route *route, bool project,
                    struct slice parts[static HTTP_PATH_PARTS_MAX])
{
    char path[ROUTES_PATH_BYTES];
    return http_path_match(head, routes_path(route, project, path), parts);
}

static void add_method(char allow[static ROUTES_ALLOW_BYTES], enum http_method method)
{
    size_t used = strlen(allow);
    snprintf(allow + used, ROUTES_ALLOW_BYTES - used, "%s%s%s", used ? ", " : "",
             http_method_text(method), method == HTTP_GET ? ", HEAD" : "");
}

int routes_find(const struct route *routes, size_t count, const struct http_request *head,
                const struct route **ret_route, struct slice parts[static HTTP_PATH_PARTS_MAX],
                struct slice *project, char allow[static ROUTES_ALLOW_BYTES], struct err *err)
{
    enum http_method method = head->method == HTTP_HEAD ? HTTP_GET : head->method;
    allow[0] = '\0';
    for (size_t i = 0; i < count; i++) {
        const struct route *route = &routes[i];
        struct slice found[HTTP_PATH_PARTS_MAX] = {};
        bool below = false;
        if (!matches(head, route, false, found)) {
            below = route->flags & ROUTE_PROJECT && matches(head, route, true, found);
            if (!below)
                continue;
        }
        if (route->method != method) {
            add_method(allow, route->method);
            continue;
        }
        if (below)
            *project = found[0];
        for (size_t k = 0; k + below < HTTP_PATH_PARTS_MAX; k++)
            parts[k] = found[k + below];
        *ret_route = route;
        return 0;
    }
    if (allow[0])
        return err_set(err, ERR_BAD_METHOD, "%s is not for this path: use %s",
                       ERR_SLICE(head->method_text), allow);
    return err_set(err, ERR_NOT_FOUND, "no such path: see /openapi.json");
}

static bool takes(const struct route *route, struct slice name)
{
    struct slice rest = slice_of(route->query);
    while (rest.size)
        if (slice_equal(slice_cut(&rest, ','), name))
            return true;
    return false;
}

int routes_check_query(const struct route *route, const struct http_parameters *query,
                       struct err *err)
{
    for (size_t i = 0; i < query->count; i++)
        if (!takes(route, query->items[i].name))
            return err_set(err, ERR_BAD_INPUT, "unknown parameter '?%s='%s%s",
                           ERR_SLICE(query->items[i].name),
                           *route->query ? "; there are " : "; there is none here", route->query);
    return 0;
}
