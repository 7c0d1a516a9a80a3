-- SPDX-License-Identifier: Apache-2.0
-- Times are nanoseconds since 1970. AUTOINCREMENT: a number is never given twice.
CREATE TABLE projects (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    created_ns INTEGER NOT NULL
) STRICT;

CREATE TABLE endpoints (
    uid INTEGER PRIMARY KEY AUTOINCREMENT,
    project INTEGER NOT NULL REFERENCES projects (id),
    name TEXT NOT NULL,
    spec TEXT NOT NULL,
    stopped INTEGER NOT NULL,
    target INTEGER NOT NULL,
    latest INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    serving INTEGER NOT NULL DEFAULT 0,
    target_state TEXT NOT NULL DEFAULT '',
    target_message TEXT NOT NULL DEFAULT '',
    created_ns INTEGER NOT NULL,
    updated_ns INTEGER NOT NULL,
    UNIQUE (project, name)
) STRICT;

CREATE TABLE revisions (
    endpoint INTEGER NOT NULL REFERENCES endpoints (uid) ON DELETE CASCADE,
    number INTEGER NOT NULL,
    spec TEXT NOT NULL,
    digest TEXT NOT NULL,
    runtime TEXT NOT NULL,
    model TEXT NOT NULL,
    model_bytes INTEGER NOT NULL,
    source TEXT NOT NULL,
    created_by TEXT NOT NULL,
    created_ns INTEGER NOT NULL,
    state TEXT NOT NULL,
    message TEXT NOT NULL,
    metadata TEXT NOT NULL,
    PRIMARY KEY (endpoint, number)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER revisions_are_immutable
BEFORE UPDATE OF endpoint, number, spec, digest, runtime, model, model_bytes, source, created_by,
    created_ns ON revisions
BEGIN
    SELECT RAISE(ABORT, 'a revision never changes');
END;

CREATE TRIGGER metadata_is_set_once
BEFORE UPDATE OF metadata ON revisions WHEN OLD.metadata <> '' AND NEW.metadata <> OLD.metadata
BEGIN
    SELECT RAISE(ABORT, 'metadata of a revision never changes');
END;

-- What a revision needs of blobs/: its model, and the files of a folder.
CREATE TABLE revision_blobs (
    endpoint INTEGER NOT NULL,
    number INTEGER NOT NULL,
    digest TEXT NOT NULL,
    PRIMARY KEY (endpoint, number, digest),
    FOREIGN KEY (endpoint, number) REFERENCES revisions (endpoint, number) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX revision_blobs_by_digest ON revision_blobs (digest);

CREATE TABLE blobs (
    digest TEXT PRIMARY KEY,
    bytes INTEGER NOT NULL,
    created_ns INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE history (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    endpoint INTEGER NOT NULL REFERENCES endpoints (uid) ON DELETE CASCADE,
    generation INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    at_ns INTEGER NOT NULL,
    who TEXT NOT NULL,
    diff TEXT NOT NULL
) STRICT;
CREATE INDEX history_by_endpoint ON history (endpoint, id);

-- Events outlive their endpoint: no reference.
CREATE TABLE events (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    endpoint INTEGER NOT NULL,
    at_ns INTEGER NOT NULL,
    kind TEXT NOT NULL,
    project TEXT NOT NULL,
    name TEXT NOT NULL,
    pop TEXT NOT NULL,
    replica TEXT NOT NULL,
    message TEXT NOT NULL
) STRICT;
CREATE INDEX events_by_endpoint ON events (endpoint, id);

CREATE TABLE logs (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    endpoint INTEGER NOT NULL REFERENCES endpoints (uid) ON DELETE CASCADE,
    at_ns INTEGER NOT NULL,
    replica TEXT NOT NULL,
    stream TEXT NOT NULL,
    line TEXT NOT NULL
) STRICT;
CREATE INDEX logs_by_endpoint ON logs (endpoint, id);

-- How much is in logs, so that the bound costs no counting.
CREATE TABLE log_sums (
    endpoint INTEGER PRIMARY KEY REFERENCES endpoints (uid) ON DELETE CASCADE,
    lines INTEGER NOT NULL,
    bytes INTEGER NOT NULL
) STRICT;

CREATE TABLE deaths (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    endpoint INTEGER NOT NULL REFERENCES endpoints (uid) ON DELETE CASCADE,
    revision INTEGER NOT NULL,
    at_ns INTEGER NOT NULL,
    replica TEXT NOT NULL,
    reason TEXT NOT NULL,
    log TEXT NOT NULL
) STRICT;
CREATE INDEX deaths_by_endpoint ON deaths (endpoint, id);

CREATE TABLE audit (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at_ns INTEGER NOT NULL,
    who TEXT NOT NULL,
    action TEXT NOT NULL,
    came_from TEXT NOT NULL,
    request_id TEXT NOT NULL,
    project TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    before TEXT NOT NULL,
    after TEXT NOT NULL
) STRICT;

CREATE TABLE pops (
    name TEXT PRIMARY KEY,
    instance INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    reported_ns INTEGER NOT NULL,
    report TEXT NOT NULL
) STRICT, WITHOUT ROWID;
