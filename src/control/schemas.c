/* SPDX-License-Identifier: Apache-2.0 */
#include "control/schemas.h"

#include "base/figures.h"

#define OBJECT(properties) "{\"type\":\"object\",\"properties\":{" properties "}}"
#define NEEDS(names, properties)                                                                   \
    "{\"type\":\"object\",\"required\":[" names "],\"properties\":{" properties "}}"
#define STRING "{\"type\":\"string\"}"
#define NULLABLE "{\"type\":[\"string\",\"null\"]}"
#define TIME "{\"type\":[\"string\",\"null\"],\"format\":\"date-time\"}"
#define NUMBER "{\"type\":\"number\"}"
#define WHOLE "{\"type\":\"integer\",\"minimum\":0}"
#define ACTIVITY                                                                                   \
    "\"ready\":" WHOLE ",\"replicas\":" WHOLE ",\"rate\":" NUMBER ",\"error_rate\":" NUMBER        \
    ",\"running\":" WHOLE ",\"queued\":" WHOLE ",\"p50_ms\":" FIGURE ",\"p99_ms\":" FIGURE
#define WHOLE_OR_NULL "{\"type\":[\"integer\",\"null\"],\"minimum\":1}"
#define FIGURE "{\"type\":[\"number\",\"null\"]}"
#define CLIENT_SUMS ",\"requests\":" WHOLE ",\"rtt_mean_ms\":" FIGURE ",\"under_50ms\":" FIGURE
#define BOOLEAN "{\"type\":\"boolean\"}"
#define REF(name) "{\"$ref\":\"#/components/schemas/" name "\"}"
#define ARRAY(of) "{\"type\":\"array\",\"items\":" of "}"
#define LIST(of)                                                                                   \
    NEEDS("\"items\",\"next\"",                                                                    \
          "\"items\":" ARRAY(REF(of)) ",\"next\":"                                                 \
                                      "{\"type\":[\"string\",\"integer\",\"null\"]}")
#define CLIENTS                                                                                    \
    OBJECT("\"country\":" STRING ",\"latitude\":" NUMBER ",\"longitude\":" NUMBER                  \
           ",\"requests\":" WHOLE)
#define PEER_HEALTH "{\"type\":\"string\",\"enum\":[\"up\",\"draining\",\"down\"]}"
#define PEER                                                                                       \
    OBJECT("\"pop\":" STRING ",\"health\":" PEER_HEALTH ",\"elsewhere\":" BOOLEAN                  \
           ",\"rtt_ms\":{\"type\":[\"number\",\"null\"]}")
/* Why a client goes to a PoP, or not. */
#define CHOICE                                                                                     \
    "\"pop\":" STRING ",\"chosen\":" BOOLEAN ",\"near\":" BOOLEAN ",\"share\":" FIGURE             \
    ",\"rtt_ms\":" FIGURE ",\"queue_ms\":" FIGURE ",\"queue_felt_ms\":" FIGURE                     \
    ",\"service_ms\":" FIGURE ",\"cold_ms\":" FIGURE ",\"cold_felt_ms\":" FIGURE                   \
    ",\"total_ms\":" FIGURE ",\"excluded\":" NULLABLE
#define POP_KIND "{\"type\":\"string\",\"enum\":[\"pop\",\"dns\"]}"
#define IMAGE_BLOB OBJECT("\"digest\":" DIGEST ",\"size\":" WHOLE ",\"media_type\":" STRING)
#define DIGEST "{\"type\":\"string\",\"pattern\":\"^sha256:[0-9a-f]{64}$\"}"
#define USED_FIGURE(name, text) ",\"" #name "\":" WHOLE
#define USED_FIGURES FIGURES(USED_FIGURE)

/* clang-format off */
const struct schema control_schemas[] = {
    { "Empty", "{\"type\":\"object\",\"additionalProperties\":false}" },
    { "SpecPatch", "{\"type\":\"object\",\"description\":\"RFC 7396 on Spec; null is the "
                   "default.\",\"additionalProperties\":true}" },
    { "Rollback", "{\"type\":\"object\",\"required\":[\"revision\"],\"additionalProperties\":false,"
                  "\"properties\":{\"revision\":{\"type\":\"integer\",\"minimum\":1}}}" },
    { "Problem", NEEDS("\"type\",\"title\",\"status\",\"detail\"",
                       "\"type\":" STRING ",\"title\":" STRING ",\"status\":" WHOLE
                       ",\"detail\":" STRING) },
    { "Tensor", NEEDS("\"name\",\"datatype\",\"shape\"",
                      "\"name\":" STRING ",\"datatype\":" STRING ",\"shape\":"
                      "{\"type\":\"array\",\"items\":{\"type\":\"integer\",\"minimum\":-1}},"
                      "\"optional\":" BOOLEAN) },
    { "Model", OBJECT("\"platform\":" NULLABLE ",\"inputs\":" ARRAY(REF("Tensor"))
                      ",\"outputs\":" ARRAY(REF("Tensor")) ",\"properties\":"
                      "{\"type\":[\"object\",\"null\"],\"additionalProperties\":" STRING "}") },
    { "Replica", NEEDS("\"id\",\"name\",\"endpoint\",\"project\",\"revision\",\"pop\",\"state\"",
                       "\"id\":" STRING ",\"name\":" STRING ",\"endpoint\":" STRING
                       ",\"project\":" STRING ",\"revision\":" WHOLE ",\"pop\":" STRING
                       ",\"pid\":" WHOLE ",\"state\":{\"type\":\"string\",\"enum\":[\"pending\","
                       "\"starting\",\"ready\",\"draining\",\"gone\",\"backoff\"]},"
                       "\"since\":" STRING ",\"restarts\":" WHOLE
                       ",\"memory_bytes\":" WHOLE ",\"sandbox\":" STRING
                       ",\"message\":" STRING ",\"endpoint_uid\":" WHOLE) },
    { "Scale", OBJECT("\"pop\":" STRING ",\"replicas\":" WHOLE ",\"reason\":" STRING
                      ",\"text\":" STRING) },
    { "Death", OBJECT("\"replica\":" STRING ",\"revision\":" WHOLE ",\"at\":" TIME
                      ",\"reason\":" STRING ",\"log\":" ARRAY(STRING)) },
    { "Endpoint",
      NEEDS("\"name\",\"project\",\"uid\",\"generation\",\"etag\",\"spec\",\"target\",\"state\"",
            "\"name\":" STRING ",\"project\":" STRING ",\"uid\":" WHOLE ",\"generation\":" WHOLE
            ",\"observed_generation\":" WHOLE
            ",\"etag\":" STRING ",\"created_at\":" TIME ",\"updated_at\":" TIME
            ",\"labels\":{\"type\":\"object\",\"additionalProperties\":" STRING "}"
            ",\"spec\":" REF("Spec") ",\"source\":" NULLABLE ",\"target\":" WHOLE
            ",\"latest\":" WHOLE ",\"serving\":" WHOLE_OR_NULL
            ",\"traffic\":{\"anyOf\":[" OBJECT("\"shares\":"
            ARRAY(OBJECT("\"revision\":" WHOLE ",\"weight\":" WHOLE)) ",\"canary\":" WHOLE)
            ",{\"type\":\"null\"}]}"
            ",\"state\":{\"type\":\"string\",\"enum\":[\"deploying\",\"active\",\"partial\","
            "\"idle\",\"stopped\",\"failed\"]},\"reason\":" STRING ",\"message\":" STRING
            ",\"copying\":{\"anyOf\":[" OBJECT("\"from\":" STRING ",\"bytes\":" WHOLE
            ",\"bytes_done\":" WHOLE ",\"error\":" NULLABLE) ",{\"type\":\"null\"}]}"
            ",\"hosts\":" ARRAY(STRING) ",\"urls\":" ARRAY(STRING)
            ",\"pops\":" ARRAY(OBJECT("\"name\":" STRING ",\"replicas\":" WHOLE ",\"max\":" WHOLE))
            ",\"scale\":" ARRAY(REF("Scale"))
            ",\"volumes\":" ARRAY(OBJECT("\"pop\":" STRING ",\"bytes\":" WHOLE))
            ",\"lines_kept\":" ARRAY(OBJECT("\"pop\":" STRING ",\"lines\":" WHOLE))
            ",\"replicas\":" ARRAY(REF("Replica")) ",\"deaths\":" ARRAY(REF("Death"))
            ",\"model\":{\"anyOf\":[" REF("Model") ",{\"type\":\"null\"}]}") },
    { "EndpointList", LIST("Endpoint") },
    { "Clients", NEEDS("\"endpoint\",\"project\",\"requests\",\"countries\",\"pops\"",
                       "\"endpoint\":" STRING ",\"project\":" STRING CLIENT_SUMS ",\"countries\":"
                       ARRAY(OBJECT("\"country\":" STRING CLIENT_SUMS)) ",\"pops\":"
                       ARRAY(OBJECT("\"pop\":" STRING CLIENT_SUMS))) },
    { "PopAnswer", NEEDS("\"question\"", "\"question\":" WHOLE ",\"decision\":"
                         "{\"type\":[\"object\",\"null\"]}") },
    { "PastRequest", NEEDS("\"request\",\"decisions\"", "\"request\":" STRING ",\"pops_asked\":" WHOLE
                           ",\"pops_answered\":" WHOLE ",\"decisions\":" ARRAY(OBJECT("\"pop\":" STRING
                           ",\"endpoint\":" NULLABLE ",\"at\":" TIME ",\"country\":" NULLABLE
                           ",\"why\":" NULLABLE ",\"chosen\":" NULLABLE ",\"status\":" FIGURE
                           ",\"hop\":" BOOLEAN ",\"client_rtt_ms\":" FIGURE ",\"client_rtt_source\":" NULLABLE ",\"pops\":" ARRAY(OBJECT(CHOICE ",\"rtt_source\":" NULLABLE))))) },
    { "Schedule", NEEDS("\"endpoint\",\"project\",\"min\",\"text\",\"windows\"",
                        "\"endpoint\":" STRING ",\"project\":" STRING ",\"min\":" WHOLE
                        ",\"text\":" NULLABLE ",\"next\":{\"anyOf\":["
                        OBJECT("\"at\":" TIME ",\"min\":" WHOLE ",\"until\":" TIME ",\"tz\":" STRING)
                        ",{\"type\":\"null\"}]},\"windows\":" ARRAY(OBJECT("\"cron\":" STRING
                        ",\"tz\":" STRING ",\"for\":" STRING ",\"min\":" WHOLE ",\"holds\":" BOOLEAN
                        ",\"fires_at\":" TIME ",\"error\":" NULLABLE))) },
    { "Explanation", NEEDS("\"endpoint\",\"project\",\"client\",\"residency\",\"pops\"",
                           "\"endpoint\":" STRING ",\"project\":" STRING ",\"client\":"
                           OBJECT("\"asked\":" STRING ",\"city\":" NULLABLE ",\"country\":" NULLABLE
                                  ",\"latitude\":" FIGURE ",\"longitude\":" FIGURE
                                  ",\"place\":" NULLABLE ",\"source\":" STRING
                                  ",\"midst\":{\"anyOf\":["
                                  OBJECT("\"people_away_km\":" WHOLE ",\"source\":" STRING
                                         ",\"date\":" STRING) ",{\"type\":\"null\"}]}")
                           ",\"residency\":" OBJECT("\"rule\":" WHOLE_OR_NULL ",\"refused\":" NULLABLE)
                           ",\"pops\":" ARRAY(OBJECT(CHOICE ",\"country\":" NULLABLE
                           ",\"state\":" STRING ",\"rtt_source\":" STRING ",\"replicas\":" WHOLE
                           ",\"load_reported\":" BOOLEAN ",\"in_dns\":" BOOLEAN
                           ",\"down\":" BOOLEAN ",\"reached_by\":" WHOLE ",\"missed_by\":" WHOLE
                           ",\"missed\":" ARRAY(STRING)))) },
    { "Placement", NEEDS("\"endpoint\",\"project\",\"wanted\",\"pops\",\"demand\",\"short\"",
                         "\"endpoint\":" STRING ",\"project\":" STRING ",\"wanted\":"
                         OBJECT("\"pops\":" WHOLE ",\"replicas_min\":" WHOLE
                                ",\"replicas_scheduled\":" WHOLE
                                ",\"replicas_max\":" WHOLE ",\"pop_min\":" WHOLE
                                ",\"pop_max\":" WHOLE_OR_NULL)
                         ",\"pops\":" ARRAY(OBJECT("\"pop\":" STRING ",\"country\":" NULLABLE
                         ",\"state\":" STRING ",\"chosen\":" BOOLEAN ",\"replicas\":" WHOLE
                         ",\"ready\":" WHOLE ",\"since\":" TIME ",\"served_rate\":" NUMBER
                         ",\"room\":" WHOLE ",\"price\":" NUMBER ",\"reason\":" STRING))
                         ",\"demand\":" OBJECT("\"rate\":" NUMBER ",\"refused_rate\":" NUMBER
                         ",\"clients\":" ARRAY(OBJECT("\"country\":" NULLABLE ",\"latitude\":" FIGURE
                         ",\"longitude\":" FIGURE ",\"rate\":" NUMBER ",\"pop\":" NULLABLE
                         ",\"rtt_ms\":" FIGURE)))
                         ",\"short\":" ARRAY(STRING)) },
    { "ReplicaList", LIST("Replica") },
    { "Activity", NEEDS("\"at\",\"endpoints\",\"items\"",
                       "\"at\":" TIME ",\"endpoints\":" WHOLE ",\"items\":"
                       ARRAY(OBJECT("\"endpoint\":" STRING ",\"project\":" STRING
                                    ",\"state\":" STRING ",\"revision\":" WHOLE "," ACTIVITY
                                    ",\"pops\":" ARRAY(OBJECT("\"pop\":" STRING "," ACTIVITY))))) },
    { "Revision",
      NEEDS("\"number\",\"uid\",\"spec\",\"model\",\"state\"",
            "\"number\":" WHOLE ",\"uid\":" WHOLE ",\"created_at\":" TIME ",\"created_by\":" STRING
            ",\"spec\":{\"type\":\"object\"},\"digest\":" DIGEST ",\"runtime\":" STRING
            ",\"model\":" OBJECT("\"digest\":{\"anyOf\":[" DIGEST ",{\"type\":\"null\"}]},\"size\":" WHOLE
                                   ",\"source\":" NULLABLE)
            ",\"image\":{\"anyOf\":[" OBJECT("\"digest\":" DIGEST ",\"port\":" WHOLE ",\"config\":" IMAGE_BLOB
                                          ",\"layers\":" ARRAY(IMAGE_BLOB)) ",{\"type\":\"null\"}]}"
            ",\"metadata\":{\"anyOf\":[" REF("Model") ",{\"type\":\"null\"}]}"
            ",\"target\":" BOOLEAN ",\"serving\":" BOOLEAN ",\"state\":" STRING
            ",\"message\":" STRING) },
    { "RevisionList", LIST("Revision") },
    { "Change", OBJECT("\"id\":" WHOLE ",\"at\":" TIME ",\"who\":" STRING ",\"generation\":" WHOLE
                       ",\"revision\":" WHOLE ",\"diff\":"
                       ARRAY(OBJECT("\"key\":" STRING ",\"old\":{},\"new\":{}"))) },
    { "HistoryList", LIST("Change") },
    { "Log", OBJECT("\"id\":" WHOLE ",\"at\":" TIME ",\"pop\":" NULLABLE ",\"replica\":" STRING ",\"stream\":" STRING
                    ",\"line\":" STRING) },
    { "LogList", LIST("Log") },
    { "Event", OBJECT("\"id\":" WHOLE ",\"at\":" TIME ",\"kind\":" STRING ",\"endpoint\":" NULLABLE
                      ",\"project\":" NULLABLE ",\"pop\":" NULLABLE ",\"replica\":" NULLABLE
                      ",\"message\":" STRING) },
    { "EventList", LIST("Event") },
    { "Audit", OBJECT("\"id\":" WHOLE ",\"at\":" TIME ",\"who\":" STRING ",\"action\":" STRING
                      ",\"from\":" STRING ",\"request_id\":" STRING ",\"project\":" STRING
                      ",\"endpoint\":" STRING ",\"before\":" NULLABLE ",\"after\":" NULLABLE) },
    { "AuditList", LIST("Audit") },
    { "Blob", NEEDS("\"digest\",\"size\"", "\"digest\":" DIGEST ",\"size\":" WHOLE) },
    { "PopSpec", NEEDS("\"name\"",
                       "\"name\":" STRING ",\"kind\":" POP_KIND ",\"city\":" STRING ",\"country\":" STRING
                       ",\"latitude\":{\"type\":\"number\"},\"longitude\":{\"type\":\"number\"}"
                       ",\"region\":" STRING ",\"addresses\":" ARRAY(STRING) ",\"port\":" WHOLE ",\"flavors\":"
                       ARRAY(STRING) ",\"limits\":" OBJECT("\"cpu\":" STRING ",\"memory\":" STRING
                       ",\"replicas\":" WHOLE) ",\"prices\":" OBJECT("\"cpu_hour\":" STRING
                       ",\"gib_hour\":" STRING)) },
    { "Pop", OBJECT("\"name\":" STRING ",\"state\":{\"type\":\"string\",\"enum\":[\"joining\","
                    "\"ready\",\"draining\",\"unreachable\",\"retired\"]},\"joined\":" BOOLEAN
                    ",\"spec\":{\"type\":\"object\"},\"created_at\":" TIME ",\"reported_at\":" TIME
                    ",\"instance\":" WHOLE ",\"replicas\":" WHOLE ",\"replicas_ready\":" WHOLE
                    ",\"replicas_placed\":" WHOLE ",\"peers\":" ARRAY(PEER)
                    ",\"sets\":" NULLABLE ",\"sets_differ\":" BOOLEAN) },
    { "PopChanged", NEEDS("\"pop\"", "\"pop\":" REF("Pop") ",\"token\":" STRING
                          ",\"token_expires_at\":" TIME) },
    { "Enrolment", NEEDS("\"secret\"", "\"secret\":" DIGEST ",\"kind\":" POP_KIND) },
    { "Enrolled", NEEDS("\"pop\",\"zone\",\"spec\"", "\"pop\":" STRING ",\"zone\":" STRING
                        ",\"spec\":{\"type\":\"object\"}") },
    { "PopList", LIST("Pop") },
    { "Report", OBJECT("\"instance\":" WHOLE ",\"sequence\":" WHOLE ",\"gateway_port\":" WHOLE
                       ",\"peers\":" ARRAY(PEER) ",\"sets\":" DIGEST ",\"replicas\":"
                       ARRAY("{\"type\":\"object\"}") ",\"endpoints\":"
                       ARRAY(OBJECT("\"uid\":" WHOLE ",\"serving\":" WHOLE_OR_NULL
                                    ",\"generation\":" WHOLE
                                    ",\"target\":" WHOLE ",\"target_state\":{\"type\":\"string\","
                                    "\"enum\":[\"starting\",\"ready\",\"failed\"]},\"message\":"
                                    STRING ",\"lines_kept\":" WHOLE ",\"scale\":" REF("Scale")))
                       ",\"loads\":" ARRAY(OBJECT("\"endpoint_uid\":" WHOLE ",\"wait_ms\":" FIGURE
                                                 ",\"service_ms\":" FIGURE ",\"start_ms\":" FIGURE
                                                 ",\"weight\":" NUMBER
                                                 ",\"last_start_ms\":" FIGURE))
                       ",\"volumes\":" ARRAY(OBJECT("\"endpoint_uid\":" WHOLE ",\"bytes\":" WHOLE))
                       ",\"clients\":" ARRAY(OBJECT("\"endpoint_uid\":" WHOLE ",\"country\":" STRING
                                                   ",\"requests\":" WHOLE ",\"near\":" WHOLE
                                                   ",\"rtt_us\":" WHOLE))
                       ",\"demand\":" OBJECT("\"window_ms\":" WHOLE ",\"endpoints\":"
                                            ARRAY(OBJECT("\"uid\":" WHOLE ",\"clients\":"
                                                         ARRAY(CLIENTS))))
                       ",\"activity\":" ARRAY(OBJECT("\"endpoint_uid\":" WHOLE ",\"window_ms\":" WHOLE
                                                  ",\"requests\":" WHOLE ",\"errors\":" WHOLE
                                                  ",\"running\":" WHOLE ",\"queued\":" WHOLE
                                                  ",\"took\":" ARRAY(ARRAY(WHOLE))))
                       ",\"models\":" ARRAY("{\"type\":\"object\"}") ",\"deaths\":"
                       ARRAY("{\"type\":\"object\"}") ",\"events\":" ARRAY("{\"type\":\"object\"}")
                       ",\"logs\":" ARRAY("{\"type\":\"object\"}")) },
    { "Reported", NEEDS("\"events_seen\"", "\"events_seen\":" WHOLE) },
    { "UsageCounted", NEEDS("\"ledger\",\"counted\",\"check\"", "\"ledger\":" STRING
                            ",\"counted\":" WHOLE ",\"check\":" STRING) },
    { "Usage", NEEDS("\"from\",\"to\",\"by\",\"items\",\"total\"",
                     "\"from\":" TIME ",\"to\":" TIME ",\"by\":" ARRAY(STRING)
                     ",\"currency\":" NULLABLE ",\"items\":" ARRAY(REF("Used"))
                     ",\"total\":" REF("Used")) },
    { "Used", OBJECT("\"at\":" TIME ",\"resolution_s\":" WHOLE ",\"project\":" STRING
                     ",\"endpoint\":" STRING ",\"endpoint_uid\":" WHOLE ",\"revision\":" WHOLE
                     ",\"labels\":{\"type\":\"object\",\"additionalProperties\":" STRING "}"
                     ",\"pop\":" STRING USED_FIGURES ",\"idle_us\":" WHOLE
                     ",\"cost\":" OBJECT("\"busy\":" STRING ",\"idle\":" STRING ",\"memory\":"
                     STRING ",\"requests\":" STRING ",\"total\":" STRING ",\"unpriced\":" BOOLEAN)
                     ",\"always_on\":" OBJECT("\"replicas\":" WHOLE ",\"seconds\":" WHOLE
                     ",\"cost\":" STRING ",\"saved\":" STRING)) },
    { "Prices", NEEDS("\"prices\"", "\"version\":" WHOLE ",\"kind\":" STRING ",\"prices\":"
                      ARRAY(OBJECT("\"from\":" TIME ",\"pop\":" STRING ",\"cpu_second\":" STRING
                      ",\"gib_second\":" STRING ",\"request\":" STRING))) },
    { "RegistrySpec", "{\"type\":\"object\",\"additionalProperties\":false,\"properties\":{"
                      "\"username\":" STRING ",\"password\":" STRING ",\"plain_http\":" BOOLEAN
                      ",\"ca\":" STRING "}}" },
    { "Registry", NEEDS("\"host\",\"username\",\"password\",\"plain_http\"",
                        "\"host\":" STRING ",\"username\":" NULLABLE ",\"password\":" BOOLEAN
                        ",\"plain_http\":" BOOLEAN ",\"ca\":" BOOLEAN ",\"created_at\":" TIME
                        ",\"updated_at\":" TIME) },
    { "RegistryList", LIST("Registry") },
    { "RegistryTested", OBJECT("\"host\":" STRING ",\"asks\":{\"type\":\"string\",\"enum\":["
                               "\"nothing\",\"basic\",\"token\"]},\"took_ms\":" WHOLE) },
    { "SecretSpec", "{\"type\":\"object\",\"required\":[\"value\"],\"additionalProperties\":false,"
                    "\"properties\":{\"value\":{\"type\":\"string\",\"writeOnly\":true}}}" },
    { "Secret", NEEDS("\"name\",\"project\",\"used_by\"",
                      "\"name\":" STRING ",\"project\":" STRING ",\"used_by\":" ARRAY(STRING)
                      ",\"created_at\":" TIME ",\"updated_at\":" TIME) },
    { "SecretList", LIST("Secret") },
    { "Version", OBJECT("\"version\":" STRING ",\"api\":" STRING ",\"schema\":" WHOLE
                        ",\"spec\":" WHOLE) },
    { "object", "{\"type\":\"object\"}" },
};
/* clang-format on */

const size_t control_schema_count = sizeof control_schemas / sizeof *control_schemas;
