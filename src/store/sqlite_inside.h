/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sqlite_inside.h -- what the files of the SQLite store share. Included by them and their tests.
 *
 * Statements are prepared at their first use and kept. A statement that has begun is stepped to its
 * end or given back with db_end().
 */
#pragma once

#include <sqlite3.h>

#include "base/arena.h"
#include "base/err.h"
#include "store/store.h"

struct migration {
    unsigned number;
    const char *name, *sql;
};
extern const struct migration sqlite_migrations[];
extern const unsigned sqlite_migration_count;

#define SQLITE_APPLICATION_ID 0x50657267 /* "Perg": in the file's head */

#define ENDPOINT_COLUMNS                                                                           \
    "e.uid, p.name, e.name, e.spec, e.stopped, e.target, e.latest, e.generation, e.serving,"       \
    " e.target_state, e.target_message, e.created_ns, e.updated_ns, e.stable"                      \
    " FROM endpoints e JOIN projects p ON p.id = e.project"
#define REVISION_COLUMNS                                                                           \
    "endpoint, number, spec, digest, runtime, model, model_bytes, source, created_by, created_ns," \
    " state, message, metadata, image FROM revisions WHERE endpoint = ?1"
#define HISTORY_COLUMNS                                                                            \
    "SELECT id, endpoint, generation, revision, at_ns, who, diff FROM history"                     \
    " WHERE endpoint = ?2 AND id > ?1 ORDER BY id"
#define EVENT_COLUMNS                                                                              \
    "SELECT id, endpoint, at_ns, kind, project, name, pop, replica, message FROM events"           \
    " WHERE id > ?1 AND (?2 = 0 OR endpoint = ?2) AND (?4 = '' OR project = ?4)"                   \
    " AND (?5 = '' OR name = ?5) ORDER BY id"
#define LOG_COLUMNS                                                                                \
    "SELECT id, endpoint, at_ns, pop, replica, stream, line FROM logs"                             \
    " WHERE endpoint = ?2 AND id > ?1 AND (?4 = '' OR replica = ?4) ORDER BY id"
#define AUDIT_COLUMNS                                                                              \
    "SELECT id, at_ns, who, action, came_from, request_id, project, endpoint, before, after"       \
    " FROM audit WHERE id > ?1 ORDER BY id"

#define POP_COLUMNS                                                                                \
    "name, instance, seq, reported_ns, report, spec, wanted, token, token_until_ns, secret,"       \
    " created_ns, tombstone, retired_ns FROM pops"

/* Nobody has it. */
#define BLOB_LOOSE                                                                                 \
    " AND NOT EXISTS (SELECT 1 FROM revision_blobs r WHERE r.digest = blobs.digest)"               \
    " AND NOT EXISTS (SELECT 1 FROM repository_blobs b WHERE b.digest = blobs.digest)"             \
    " AND NOT EXISTS (SELECT 1 FROM manifests m WHERE m.digest = blobs.digest)"
#define MANIFEST_COLUMNS                                                                           \
    "digest, media_type, artifact_type, subject, bytes, created_ns FROM manifests"                 \
    " WHERE repository = ?1"
/* No column goes above 2^53 (FIGURE_MAX): sums of a day's rows fit, and total(), which adds
 * doubles, is exact below it. */
#define USAGE_FIGURES                                                                              \
    "requests, failures, bytes_in, bytes_out, cpu_us, busy_us, start_us, memory_kibs, "            \
    "reserved_kibs, life_ms, idle_ms, starts, cold_starts"
#define USAGE_SUMS                                                                                 \
    "sum(requests), sum(failures), sum(bytes_in), sum(bytes_out), sum(cpu_us), sum(busy_us), "     \
    "sum(start_us), sum(memory_kibs), sum(reserved_kibs), sum(life_ms), sum(idle_ms), "            \
    "sum(starts), sum(cold_starts)"
#define USAGE_TOTALS                                                                               \
    "CAST(min(total(requests), 9007199254740992) AS INTEGER), "                                    \
    "CAST(min(total(failures), 9007199254740992) AS INTEGER), "                                    \
    "CAST(min(total(bytes_in), 9007199254740992) AS INTEGER), "                                    \
    "CAST(min(total(bytes_out), 9007199254740992) AS INTEGER), "                                   \
    "CAST(min(total(cpu_us), 9007199254740992) AS INTEGER), "                                      \
    "CAST(min(total(busy_us), 9007199254740992) AS INTEGER), "                                     \
    "CAST(min(total(start_us), 9007199254740992) AS INTEGER), "                                    \
    "CAST(min(total(memory_kibs), 9007199254740992) AS INTEGER), "                                 \
    "CAST(min(total(reserved_kibs), 9007199254740992) AS INTEGER), "                               \
    "CAST(min(total(life_ms), 9007199254740992) AS INTEGER), "                                     \
    "CAST(min(total(idle_ms), 9007199254740992) AS INTEGER), "                                     \
    "CAST(min(total(starts), 9007199254740992) AS INTEGER), "                                      \
    "CAST(min(total(cold_starts), 9007199254740992) AS INTEGER)"
#define USAGE_REVISION "(revisions = 0 OR ?2 <= revisions)" /* ?2 of endpoint ?1 may have been */
#define USAGE_MERGE                                                                                \
    " ON CONFLICT (start_s, period_s, endpoint, revision, pop) DO UPDATE SET "                     \
    "requests = min(requests + excluded.requests, 9007199254740992), "                             \
    "failures = min(failures + excluded.failures, 9007199254740992), "                             \
    "bytes_in = min(bytes_in + excluded.bytes_in, 9007199254740992), "                             \
    "bytes_out = min(bytes_out + excluded.bytes_out, 9007199254740992), "                          \
    "cpu_us = min(cpu_us + excluded.cpu_us, 9007199254740992), "                                   \
    "busy_us = min(busy_us + excluded.busy_us, 9007199254740992), "                                \
    "start_us = min(start_us + excluded.start_us, 9007199254740992), "                             \
    "memory_kibs = min(memory_kibs + excluded.memory_kibs, 9007199254740992), "                    \
    "reserved_kibs = min(reserved_kibs + excluded.reserved_kibs, 9007199254740992), "              \
    "life_ms = min(life_ms + excluded.life_ms, 9007199254740992), "                                \
    "idle_ms = min(idle_ms + excluded.idle_ms, 9007199254740992), "                                \
    "starts = min(starts + excluded.starts, 9007199254740992), "                                   \
    "cold_starts = min(cold_starts + excluded.cold_starts, 9007199254740992)"

/* X(constant, SQL) */
#define QUERIES(X)                                                                                 \
    X(Q_BEGIN_WRITE, "BEGIN IMMEDIATE")                                                            \
    X(Q_BEGIN_READ, "BEGIN")                                                                       \
    X(Q_COMMIT, "COMMIT")                                                                          \
    X(Q_ROLLBACK, "ROLLBACK")                                                                      \
    X(Q_PROJECT_ENSURE,                                                                            \
      "INSERT INTO projects (name, created_ns) VALUES (?1, ?2) ON CONFLICT DO NOTHING")            \
    X(Q_ENDPOINT_GET, "SELECT " ENDPOINT_COLUMNS " WHERE e.uid = ?1")                              \
    X(Q_ENDPOINT_FIND, "SELECT " ENDPOINT_COLUMNS " WHERE p.name = ?1 AND e.name = ?2")            \
    X(Q_ENDPOINT_LIST, "SELECT " ENDPOINT_COLUMNS " WHERE e.uid > ?1 ORDER BY e.uid LIMIT ?2")     \
    X(Q_ENDPOINT_COUNT, "SELECT count(*) FROM endpoints")                                          \
    X(Q_ENDPOINT_ADD,                                                                              \
      "INSERT INTO endpoints (project, name, spec, stopped, target, latest, generation,"           \
      " created_ns, updated_ns) VALUES ((SELECT id FROM projects WHERE name = ?1), ?2, ?3, ?4,"    \
      " ?5, ?6, ?7, ?8, ?9)")                                                                      \
    X(Q_ENDPOINT_UPDATE,                                                                           \
      "UPDATE endpoints SET spec = ?3, stopped = ?4, target = ?5, latest = ?6, generation = ?7,"   \
      " serving = ?8, target_state = ?9, target_message = ?10, updated_ns = ?11, stable = ?12"     \
      " WHERE uid = ?1 AND generation = ?2")                                                       \
    X(Q_ENDPOINT_DELETE, "DELETE FROM endpoints WHERE uid = ?1")                                   \
    X(Q_REVISION_ADD,                                                                              \
      "INSERT INTO revisions (endpoint, number, spec, digest, runtime, model, model_bytes,"        \
      " source, created_by, created_ns, state, message, metadata, image)"                          \
      " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)")                     \
    X(Q_REVISION_BLOB, "INSERT INTO revision_blobs (endpoint, number, digest) VALUES (?1, ?2, ?3)" \
                       " ON CONFLICT DO NOTHING")                                                  \
    X(Q_REVISION_NEEDS,                                                                            \
      "SELECT number FROM revision_blobs WHERE endpoint = ?1 AND digest = ?2 LIMIT 1")             \
    X(Q_REVISION_GET, "SELECT " REVISION_COLUMNS " AND number = ?2")                               \
    X(Q_REVISION_LIST, "SELECT " REVISION_COLUMNS " ORDER BY number")                              \
    X(Q_REVISION_REPORT, "UPDATE revisions SET state = ?3, message = ?4,"                          \
                         " metadata = CASE WHEN metadata = '' THEN ?5 ELSE metadata END"           \
                         " WHERE endpoint = ?1 AND number = ?2")                                   \
    X(Q_REVISION_PRUNE, "DELETE FROM revisions WHERE endpoint = ?1 AND number NOT IN"              \
                        " (?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) AND number <="                          \
                        " (SELECT number FROM revisions WHERE endpoint = ?1 ORDER BY number DESC"  \
                        " LIMIT 1 OFFSET ?10)")                                                    \
    X(Q_HISTORY_ADD, "INSERT INTO history (endpoint, generation, revision, at_ns, who, diff)"      \
                     " VALUES (?1, ?2, ?3, ?4, ?5, ?6)")                                           \
    X(Q_HISTORY_PRUNE, "DELETE FROM history WHERE endpoint = ?1 AND id <= (SELECT id FROM history" \
                       " WHERE endpoint = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)")                 \
    X(Q_HISTORY_LIST, HISTORY_COLUMNS " LIMIT ?3")                                                 \
    X(Q_HISTORY_END, HISTORY_COLUMNS " DESC LIMIT ?3")                                             \
    X(Q_EVENT_ADD,                                                                                 \
      "INSERT INTO events (endpoint, at_ns, kind, project, name, pop, replica, message)"           \
      " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)")                                                  \
    X(Q_EVENT_PRUNE, "DELETE FROM events WHERE id <= ?1")                                          \
    X(Q_EVENT_LIST, EVENT_COLUMNS " LIMIT ?3")                                                     \
    X(Q_EVENT_END, EVENT_COLUMNS " DESC LIMIT ?3")                                                 \
    X(Q_LOG_ADD, "INSERT INTO logs (endpoint, at_ns, pop, replica, stream, line)"                  \
                 " VALUES (?1, ?2, ?3, ?4, ?5, ?6)")                                               \
    X(Q_LOG_SUM,                                                                                   \
      "INSERT INTO log_sums (endpoint, lines, bytes) VALUES (?1, ?2, ?3) ON CONFLICT (endpoint)"   \
      " DO UPDATE SET lines = lines + excluded.lines, bytes = bytes + excluded.bytes"              \
      " RETURNING lines, bytes")                                                                   \
    X(Q_LOG_PRUNE,                                                                                 \
      "DELETE FROM logs WHERE id IN (SELECT id FROM logs WHERE endpoint = ?1 AND pop = ?2"         \
      " ORDER BY id LIMIT ?3) RETURNING length(CAST(line AS BLOB))")                               \
    X(Q_LOG_POP,                                                                                   \
      "INSERT INTO log_pops (endpoint, pop, lines, bytes) VALUES (?1, ?2, ?3, ?4) ON CONFLICT"     \
      " DO UPDATE SET lines = lines + excluded.lines, bytes = bytes + excluded.bytes")             \
    X(Q_LOG_POP_PRUNE, "DELETE FROM log_pops WHERE endpoint = ?1 AND pop = ?2 AND lines <= 0")     \
    X(Q_LOG_POPS,                                                                                  \
      "SELECT l.pop, l.lines, l.bytes, p.pop IS NOT NULL FROM log_pops l LEFT JOIN placements p"   \
      " ON p.endpoint = l.endpoint AND p.pop = l.pop WHERE l.endpoint = ?1")                       \
    X(Q_LOG_LIST, LOG_COLUMNS " LIMIT ?3")                                                         \
    X(Q_LOG_END, LOG_COLUMNS " DESC LIMIT ?3")                                                     \
    X(Q_DEATH_ADD, "INSERT INTO deaths (endpoint, revision, at_ns, replica, reason, log)"          \
                   " VALUES (?1, ?2, ?3, ?4, ?5, ?6)")                                             \
    X(Q_DEATH_PRUNE, "DELETE FROM deaths WHERE endpoint = ?1 AND id <= (SELECT id FROM deaths"     \
                     " WHERE endpoint = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)")                   \
    X(Q_DEATH_LIST, "SELECT id, endpoint, revision, at_ns, replica, reason, log FROM deaths"       \
                    " WHERE endpoint = ?1 ORDER BY id")                                            \
    X(Q_AUDIT_ADD,                                                                                 \
      "INSERT INTO audit (at_ns, who, action, came_from, request_id, project, endpoint, before,"   \
      " after) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)")                                       \
    X(Q_AUDIT_PRUNE, "DELETE FROM audit WHERE id <= ?1")                                           \
    X(Q_AUDIT_LIST, AUDIT_COLUMNS " LIMIT ?2")                                                     \
    X(Q_AUDIT_END, AUDIT_COLUMNS " DESC LIMIT ?2")                                                 \
    X(Q_POP_REPORT,                                                                                \
      "INSERT INTO pops (name, instance, seq, reported_ns, report) VALUES (?1, ?2, ?3,"            \
      " ?4, ?5) ON CONFLICT (name) DO UPDATE SET instance = excluded.instance, seq ="              \
      " excluded.seq, reported_ns = excluded.reported_ns, report = excluded.report")               \
    X(Q_POP_PRUNE, "DELETE FROM pops WHERE spec = '' AND name IN (SELECT name FROM pops ORDER BY"  \
                   " reported_ns DESC LIMIT -1 OFFSET ?1)")                                        \
    X(Q_POP_COUNT, "SELECT count(*) FROM pops WHERE spec <> '' AND wanted <> 'retired'")           \
    X(Q_POP_PRUNE_RETIRED,                                                                         \
      "DELETE FROM pops WHERE wanted = 'retired' AND name IN (SELECT name FROM pops WHERE"         \
      " wanted = 'retired' ORDER BY retired_ns DESC, name LIMIT -1 OFFSET ?1)")                    \
    X(Q_POP_ADD,                                                                                   \
      "INSERT INTO pops (name, instance, seq, reported_ns, report, spec, wanted, token,"           \
      " token_until_ns, secret, created_ns) VALUES (?1, 0, 0, 0, '', ?2, ?3, ?4, ?5,"              \
      " ?6, ?7)")                                                                                  \
    X(Q_POP_UPDATE,                                                                                \
      "UPDATE pops SET spec = ?2, wanted = ?3, token = ?4, token_until_ns = ?5, secret"            \
      " = ?6, created_ns = ?7, instance = iif(secret = ?6, instance, 0), seq = iif(secret"         \
      " = ?6, seq, 0), report = iif(secret = ?6, report, ''), tombstone = ?8, retired_ns"          \
      " = ?9 WHERE name = ?1")                                                                     \
    X(Q_POP_DELETE, "DELETE FROM pops WHERE name = ?1")                                            \
    X(Q_POP_FORGET, "DELETE FROM pop_endpoints WHERE pop = ?1")                                    \
    X(Q_POP_GET, "SELECT " POP_COLUMNS " WHERE name = ?1")                                         \
    X(Q_POP_BY_TOKEN, "SELECT " POP_COLUMNS " WHERE token = ?1 AND token <> ''")                   \
    X(Q_POP_LIST, "SELECT " POP_COLUMNS " ORDER BY name")                                          \
    X(Q_POP_ENDPOINT_PUT,                                                                          \
      "INSERT INTO pop_endpoints (endpoint, pop, serving, target, state, message)"                 \
      " VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (endpoint, pop) DO UPDATE SET"                 \
      " serving = excluded.serving, target = excluded.target, state = excluded.state,"             \
      " message = excluded.message")                                                               \
    X(Q_POP_ENDPOINT_DELETE, "DELETE FROM pop_endpoints WHERE endpoint = ?1 AND pop = ?2")         \
    X(Q_POP_ENDPOINT_LIST,                                                                         \
      "SELECT endpoint, pop, serving, target, state, message FROM pop_endpoints WHERE"             \
      " endpoint = ?1 ORDER BY pop")                                                               \
    X(Q_POP_ENDPOINT_OF,                                                                           \
      "SELECT endpoint, pop, serving, target, state, message FROM pop_endpoints WHERE"             \
      " pop = ?1 ORDER BY endpoint")                                                               \
    X(Q_PLACEMENT_CLEAR, "DELETE FROM placements WHERE endpoint = ?1")                             \
    X(Q_PLACEMENT_ADD,                                                                             \
      "INSERT INTO placements (endpoint, pop, replicas, since_ns) VALUES (?1, ?2, ?3, ?4)")        \
    X(Q_PLACEMENT_LIST,                                                                            \
      "SELECT endpoint, pop, replicas, since_ns FROM placements ORDER BY endpoint, pop")           \
    X(Q_LEDGER_GET,                                                                                \
      "SELECT ledger, pop, counted, digest, seen_ns FROM usage_ledgers WHERE ledger = ?1")         \
    X(Q_LEDGER_PUT,                                                                                \
      "INSERT INTO usage_ledgers (ledger, pop, counted, digest, seen_ns) VALUES (?1, ?2, ?3, ?4,"  \
      " ?5) ON CONFLICT (ledger) DO UPDATE SET counted = excluded.counted,"                        \
      " digest = excluded.digest, seen_ns = excluded.seen_ns")                                     \
    X(Q_LEDGER_PRUNE,                                                                              \
      "DELETE FROM usage_ledgers WHERE ledger IN (SELECT ledger FROM usage_ledgers WHERE"          \
      " pop = ?1 ORDER BY seen_ns DESC LIMIT -1 OFFSET ?2)")                                       \
    X(Q_USAGE_KNOWN,                                                                               \
      "SELECT count(*) FROM usage_endpoints WHERE endpoint = ?1 AND " USAGE_REVISION)              \
    X(Q_USAGE_PLACED,                                                                              \
      "SELECT count(*) FROM usage_places WHERE endpoint = ?1 AND pop = ?3 AND endpoint IN"         \
      " (SELECT endpoint FROM usage_endpoints WHERE " USAGE_REVISION ")")                          \
    X(Q_USAGE_ADD,                                                                                 \
      "INSERT INTO usage (start_s, period_s, endpoint, revision, pop, " USAGE_FIGURES ") VALUES"   \
      " (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, "             \
      "?18)" USAGE_MERGE)                                                                          \
    X(Q_USAGE_ROLL,                                                                                \
      "INSERT INTO usage (start_s, period_s, endpoint, revision, pop, " USAGE_FIGURES ") SELECT"   \
      " start_s / ?2 * ?2, ?2, endpoint, revision, pop, " USAGE_SUMS " FROM usage WHERE period_s"  \
      " = ?1 AND start_s < ?3 GROUP BY 1, endpoint, revision, pop" USAGE_MERGE)                    \
    X(Q_USAGE_ROLLED, "DELETE FROM usage WHERE period_s = ?1 AND start_s < ?2")                    \
    X(Q_USAGE_FORGET,                                                                              \
      "DELETE FROM usage_endpoints WHERE deleted_s <> 0 AND deleted_s < ?1 AND endpoint NOT IN"    \
      " (SELECT endpoint FROM usage)")                                                             \
    X(Q_USAGE_FORGET_PLACES,                                                                       \
      "DELETE FROM usage_places WHERE endpoint NOT IN (SELECT endpoint FROM usage_endpoints)")     \
    X(Q_USAGE_SUM,                                                                                 \
      "SELECT CASE WHEN ?6 THEN u.endpoint ELSE 0 END, CASE WHEN ?7 THEN u.revision ELSE 0 END,"   \
      " CASE WHEN ?5 OR ?6 THEN n.project ELSE '' END, CASE WHEN ?6 THEN n.name ELSE '' END,"      \
      " CASE WHEN ?8 THEN u.pop ELSE '' END, CASE WHEN ?9 THEN u.start_s / ?9 * ?9 ELSE 0 END,"    \
      " max(u.period_s), " USAGE_TOTALS " FROM usage u JOIN usage_endpoints n ON n.endpoint ="     \
      " u.endpoint WHERE u.start_s >= ?1 AND u.start_s < ?2 AND (?3 = '' OR n.project = ?3) AND"   \
      " (?4 = '' OR n.name = ?4) AND (?10 = '' OR u.pop = ?10) GROUP BY 6, 3, 4, 1, 2, 5"          \
      " ORDER BY 6, 3, 4, 1, 2, 5 LIMIT ?11")                                                      \
    X(Q_PRICES_GET, "SELECT list FROM prices")                                                     \
    X(Q_PRICES_PUT,                                                                                \
      "INSERT INTO prices (id, list, changed_ns) VALUES (1, ?1, ?2) ON CONFLICT (id) DO UPDATE"    \
      " SET list = excluded.list, changed_ns = excluded.changed_ns")                               \
    X(Q_BLOB_PUT, "INSERT INTO blobs (digest, bytes, created_ns) VALUES (?1, ?2, ?3)"              \
                  " ON CONFLICT (digest) DO UPDATE SET created_ns = excluded.created_ns")          \
    X(Q_BLOB_DELETE, "DELETE FROM blobs WHERE digest = ?1")                                        \
    X(Q_BLOB_GARBAGE, "SELECT digest FROM blobs WHERE created_ns < ?1" BLOB_LOOSE " LIMIT ?2")     \
    X(Q_BLOB_LOOSE, "SELECT bytes FROM blobs WHERE digest = ?1 AND created_ns < ?2" BLOB_LOOSE)    \
    X(Q_BLOB_INDEX, "INSERT INTO blobs (digest, bytes, created_ns) VALUES (?1, ?2, ?3) ON"         \
                    " CONFLICT (digest) DO UPDATE SET created_ns = excluded.created_ns"            \
                    " WHERE created_ns <> 0")                                                      \
    X(Q_BLOB_HOLD, "INSERT INTO blobs (digest, bytes, created_ns) VALUES (?1, ?2, 0)"              \
                   " ON CONFLICT (digest) DO NOTHING")                                             \
    X(Q_REPOSITORY_FIND, "SELECT r.id FROM repositories r JOIN projects p ON p.id = r.project"     \
                         " WHERE p.name = ?1 AND r.name = ?2")                                     \
    X(Q_REPOSITORY_COUNT, "SELECT count(*) FROM repositories")                                     \
    X(Q_REPOSITORY_ADD, "INSERT INTO repositories (project, name, created_ns) VALUES ((SELECT id"  \
                        " FROM projects WHERE name = ?1), ?2, ?3)")                                \
    X(Q_REPOSITORY_PRUNE,                                                                          \
      "DELETE FROM repositories WHERE NOT EXISTS (SELECT 1 FROM repository_blobs b WHERE"          \
      " b.repository = id) AND NOT EXISTS (SELECT 1 FROM manifests m WHERE m.repository = id)")    \
    X(Q_REPOSITORY_BLOB_GET,                                                                       \
      "SELECT bytes FROM repository_blobs WHERE repository = ?1 AND digest = ?2")                  \
    X(Q_REPOSITORY_BLOB_ANY, "SELECT bytes FROM repository_blobs WHERE digest = ?1 LIMIT 1")       \
    X(Q_REPOSITORY_BLOB_PUT,                                                                       \
      "INSERT INTO repository_blobs (repository, digest, bytes, touched_ns) VALUES (?1, ?2, ?3,"   \
      " ?4) ON CONFLICT (repository, digest) DO UPDATE SET touched_ns = excluded.touched_ns")      \
    X(Q_REPOSITORY_BLOB_DELETE,                                                                    \
      "DELETE FROM repository_blobs WHERE repository = ?1 AND digest = ?2")                        \
    X(Q_REPOSITORY_BLOB_PRUNE,                                                                     \
      "DELETE FROM repository_blobs WHERE touched_ns < ?1 AND NOT EXISTS (SELECT 1 FROM"           \
      " manifest_parts p WHERE p.repository = repository_blobs.repository AND p.digest ="          \
      " repository_blobs.digest)")                                                                 \
    X(Q_REPOSITORY_BLOB_TOUCH,                                                                     \
      "UPDATE repository_blobs SET touched_ns = ?3 WHERE repository = ?1 AND digest IN (SELECT"    \
      " digest FROM manifest_parts WHERE repository = ?1 AND manifest = ?2)")                      \
    X(Q_MANIFEST_THERE, "SELECT 1 FROM manifests WHERE repository = ?1 AND digest = ?2")           \
    X(Q_MANIFEST_COUNT, "SELECT count(*) FROM manifests WHERE repository = ?1")                    \
    X(Q_MANIFEST_PUT,                                                                              \
      "INSERT INTO manifests (repository, digest, media_type, artifact_type, subject, bytes,"      \
      " created_ns) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (repository, digest) DO"       \
      " UPDATE SET media_type = excluded.media_type")                                              \
    X(Q_MANIFEST_PART,                                                                             \
      "INSERT INTO manifest_parts (repository, manifest, digest) VALUES (?1, ?2, ?3) ON CONFLICT"  \
      " DO NOTHING")                                                                               \
    X(Q_MANIFEST_GET, "SELECT " MANIFEST_COLUMNS " AND digest = ?2")                               \
    X(Q_MANIFEST_TAGGED, "SELECT " MANIFEST_COLUMNS " AND digest = (SELECT t.digest FROM tags t"   \
                         " WHERE t.repository = ?1 AND t.tag = ?2)")                               \
    X(Q_MANIFEST_DELETE, "DELETE FROM manifests WHERE repository = ?1 AND digest = ?2")            \
    X(Q_REFERRER_LIST,                                                                             \
      "SELECT " MANIFEST_COLUMNS " AND subject = ?2 AND subject <> '' AND"                         \
      " (?3 = '' OR artifact_type = ?3) AND digest > ?4 ORDER BY digest LIMIT ?5")                 \
    X(Q_TAG_THERE, "SELECT 1 FROM tags WHERE repository = ?1 AND tag = ?2")                        \
    X(Q_TAG_COUNT, "SELECT count(*) FROM tags WHERE repository = ?1")                              \
    X(Q_TAG_PUT,                                                                                   \
      "INSERT INTO tags (repository, tag, digest, updated_ns) VALUES (?1, ?2, ?3, ?4) ON CONFLICT" \
      " (repository, tag) DO UPDATE SET digest = excluded.digest, updated_ns ="                    \
      " excluded.updated_ns")                                                                      \
    X(Q_TAG_DELETE, "DELETE FROM tags WHERE repository = ?1 AND tag = ?2")                         \
    X(Q_TAG_LIST, "SELECT tag FROM tags WHERE repository = ?1 AND tag > ?2 ORDER BY tag LIMIT ?3") \
    X(Q_REGISTRY_PUT,                                                                              \
      "INSERT INTO registries (host, username, sealed, plain, ca, created_ns, updated_ns) VALUES"  \
      " (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (host) DO UPDATE SET username ="                  \
      " excluded.username, sealed = excluded.sealed, plain = excluded.plain, ca = excluded.ca,"    \
      " updated_ns = excluded.updated_ns")                                                         \
    X(Q_REGISTRY_COUNT, "SELECT count(*) FROM registries")                                         \
    X(Q_REGISTRY_DELETE, "DELETE FROM registries WHERE host = ?1")                                 \
    X(Q_REGISTRY_LIST, "SELECT host, username, sealed, plain, ca, created_ns, updated_ns FROM"     \
                       " registries ORDER BY host")                                                \
    X(Q_SECRET_PUT,                                                                                \
      "INSERT INTO secrets (project, name, sealed, created_ns, updated_ns) VALUES (?1, ?2, ?3,"    \
      " ?4, ?5) ON CONFLICT (project, name) DO UPDATE SET sealed = excluded.sealed, updated_ns ="  \
      " excluded.updated_ns")                                                                      \
    X(Q_SECRET_COUNT, "SELECT count(*) FROM secrets")                                              \
    X(Q_SECRET_DELETE, "DELETE FROM secrets WHERE project = ?1 AND name = ?2")                     \
    X(Q_SECRET_LIST,                                                                               \
      "SELECT project, name, sealed, created_ns, updated_ns FROM secrets ORDER BY project, name")  \
    X(Q_SECRET_SEALED, "SELECT sealed FROM secrets WHERE project = ?1 AND name = ?2")              \
    X(Q_SECRET_NAMES, "SELECT name FROM secrets WHERE project = ?1 ORDER BY name")                 \
    X(Q_SECRET_ENDPOINTS,                                                                          \
      "SELECT DISTINCT e.uid FROM projects p JOIN endpoints e ON e.project = p.id JOIN revisions"  \
      " r ON r.endpoint = e.uid WHERE p.name = ?1 AND instr(r.spec, ?2) > 0 ORDER BY e.uid")       \
    X(Q_ORIGIN_PUT,                                                                                \
      "INSERT INTO origins (digest, bytes, host, repository, created_ns) VALUES (?1, ?2, ?3, ?4,"  \
      " ?5) ON CONFLICT (digest) DO UPDATE SET bytes = excluded.bytes, host = excluded.host,"      \
      " repository = excluded.repository, created_ns = excluded.created_ns")                       \
    X(Q_ORIGIN_FIND, "SELECT digest, bytes, host, repository, created_ns, 0 FROM origins WHERE"    \
                     " digest = ?1")                                                               \
    X(Q_ORIGIN_DELETE, "DELETE FROM origins WHERE digest = ?1")                                    \
    X(Q_ORIGIN_PRUNE,                                                                              \
      "DELETE FROM origins WHERE digest NOT IN (SELECT digest FROM revision_blobs)")               \
    X(Q_ORIGIN_LIST, "SELECT digest, bytes, host, repository, created_ns, 0 FROM origins ORDER BY" \
                     " created_ns, digest")                                                        \
    X(Q_ORIGIN_OF,                                                                                 \
      "SELECT o.digest, o.bytes, o.host, o.repository, o.created_ns, r.number FROM revision_blobs" \
      " r JOIN origins o ON o.digest = r.digest WHERE r.endpoint = ?1 ORDER BY r.number, "         \
      "o.digest")                                                                                  \
    X(Q_ORIGIN_ENDPOINTS,                                                                          \
      "SELECT DISTINCT endpoint FROM revision_blobs WHERE digest = ?1 ORDER BY endpoint")

enum query {
#define QUERY_ENUM(id, sql) id,
    QUERIES(QUERY_ENUM)
#undef QUERY_ENUM
        QUERY_COUNT
};

struct db {
    struct store store;
    sqlite3 *handle;
    char *path;
    struct store_limits limits;
    bool writing; /* the connection may */
    bool inside;  /* a transaction is open */
    sqlite3_stmt *statements[QUERY_COUNT];
};

static inline struct db *db_of(struct store *store)
{
    return (struct db *)store; /* its first member */
}

/* What SQLite said last, as an error for a person. `doing` is "reading the state" or so. */
int db_error(struct db *db, const char *doing, struct err *err);
/* The same for a connection that is no store's. */
int sqlite_error(sqlite3 *handle, const char *path, const char *doing, struct err *err);

/* Binds by letter: i int64_t, u uint64_t, s struct slice. Begins at parameter 1. */
int db_begin(struct db *db, enum query query, sqlite3_stmt **ret, struct err *err,
             const char *types, ...);
/* 1: a row. 0: the end, and the statement is given back, as after an error. */
int db_step(struct db *db, sqlite3_stmt *statement, struct err *err);
void db_end(sqlite3_stmt *statement);
/* What a "SELECT count(*)" without parameters says. */
[[nodiscard]] int db_count(struct db *db, enum query query, uint64_t *ret, struct err *err);
/* Begins and steps to the end. Returns how many rows it changed. */
int db_run(struct db *db, enum query query, struct err *err, const char *types, ...);

struct slice db_text(struct arena *arena, sqlite3_stmt *statement, int column);
static inline uint64_t db_u64(sqlite3_stmt *statement, int column)
{
    return (uint64_t)sqlite3_column_int64(statement, column);
}

/* Reads the present row to *ret, an element of its own type. */
typedef void (*db_read_cb)(sqlite3_stmt *row, struct arena *arena, void *ret);
/* Of rows with one column: a uint64_t, a struct slice. */
void db_read_u64(sqlite3_stmt *row, struct arena *arena, void *ret);
void db_read_text(sqlite3_stmt *row, struct arena *arena, void *ret);
/* Begins what has at most one row, and reads that. 1: it was read. 0: there is none. */
[[nodiscard]] int db_one(struct db *db, enum query query, struct arena *arena, db_read_cb read,
                         void *ret, struct err *err, const char *types, ...);
static inline int db_found(int r) /* of db_one(): 0, or ERR_NOT_FOUND with nothing said of it */
{
    return r < 0 ? r : r == 0 ? ERR_NOT_FOUND : 0;
}
/* Begins, and reads all rows as an array in the arena of elements of `bytes`; *ret_items is a
 * pointer to them. In the order of their ids also where `page` (NULL: none) is read from its end.
 */
[[nodiscard]] int db_list(struct db *db, enum query query, const struct store_page *page,
                          struct arena *arena, db_read_cb read, size_t bytes, void *ret_items,
                          size_t *ret_count, struct err *err, const char *types, ...);
uint32_t page_limit(const struct store_page *page);

void sqlite_elsewhere_fill(struct store *store);
void sqlite_secrets_fill(struct store *store);
void sqlite_endpoints_fill(struct store *store); /* each sets the functions that it has */
void sqlite_pops_fill(struct store *store);
void sqlite_registry_fill(struct store *store);
void sqlite_rows_fill(struct store *store);
void sqlite_usage_fill(struct store *store);

/* Brings the file at `path` to `count` migrations; a copy of it comes first. */
int sqlite_migrate(sqlite3 *handle, const char *path, const struct migration *migrations,
                   unsigned count, struct err *err);
