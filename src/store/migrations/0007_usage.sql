-- SPDX-License-Identifier: Apache-2.0
-- What was used, as sums of some time: of a minute, an hour, or a day (period_s).
CREATE TABLE usage (
    start_s INTEGER NOT NULL,
    period_s INTEGER NOT NULL,
    endpoint INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    pop TEXT NOT NULL,
    requests INTEGER NOT NULL,
    failures INTEGER NOT NULL,
    bytes_in INTEGER NOT NULL,
    bytes_out INTEGER NOT NULL,
    cpu_us INTEGER NOT NULL,
    busy_us INTEGER NOT NULL,
    start_us INTEGER NOT NULL,
    memory_kibs INTEGER NOT NULL,
    reserved_kibs INTEGER NOT NULL,
    life_ms INTEGER NOT NULL,
    idle_ms INTEGER NOT NULL,
    starts INTEGER NOT NULL,
    cold_starts INTEGER NOT NULL,
    PRIMARY KEY (start_s, period_s, endpoint, revision, pop)
) STRICT, WITHOUT ROWID;
CREATE INDEX usage_by_period ON usage (period_s, start_s);

-- How far each PoP's ledger was counted: the number and the digest of its last window.
CREATE TABLE usage_ledgers (
    ledger TEXT NOT NULL PRIMARY KEY,
    pop TEXT NOT NULL,
    counted INTEGER NOT NULL,
    digest TEXT NOT NULL,
    seen_ns INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX usage_ledgers_by_pop ON usage_ledgers (pop, seen_ns);

-- Endpoints that there are or were, as usage comes late and is asked for later.
CREATE TABLE usage_endpoints (
    endpoint INTEGER NOT NULL PRIMARY KEY,
    project TEXT NOT NULL,
    name TEXT NOT NULL,
    created_ns INTEGER NOT NULL,
    deleted_s INTEGER NOT NULL DEFAULT 0
) STRICT;
INSERT INTO usage_endpoints (endpoint, project, name, created_ns)
    SELECT e.uid, p.name, e.name, e.created_ns FROM endpoints e JOIN projects p ON p.id = e.project;
CREATE TRIGGER usage_endpoint_added AFTER INSERT ON endpoints BEGIN
    INSERT INTO usage_endpoints (endpoint, project, name, created_ns)
        VALUES (new.uid, (SELECT name FROM projects WHERE id = new.project), new.name,
                new.created_ns);
END;
CREATE TRIGGER usage_endpoint_deleted AFTER DELETE ON endpoints BEGIN
    UPDATE usage_endpoints SET deleted_s = CAST(strftime('%s', 'now') AS INTEGER)
        WHERE endpoint = old.uid;
END;

-- Where endpoints were ever placed: of others a PoP that has joined is not believed.
CREATE TABLE usage_places (
    endpoint INTEGER NOT NULL,
    pop TEXT NOT NULL,
    PRIMARY KEY (endpoint, pop)
) STRICT, WITHOUT ROWID;
INSERT INTO usage_places (endpoint, pop) SELECT endpoint, pop FROM placements;
CREATE TRIGGER usage_placed AFTER INSERT ON placements BEGIN
    INSERT INTO usage_places (endpoint, pop) VALUES (new.endpoint, new.pop) ON CONFLICT DO NOTHING;
END;

-- The price list, as JSON; at most one row.
CREATE TABLE prices (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    list TEXT NOT NULL,
    changed_ns INTEGER NOT NULL
) STRICT;
