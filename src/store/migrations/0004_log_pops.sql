-- SPDX-License-Identifier: Apache-2.0
-- Whose each log line is, and how much each PoP has told of an endpoint: where there is more than is
-- kept, the one with the most gives way.
ALTER TABLE logs ADD COLUMN pop TEXT NOT NULL DEFAULT '';
CREATE INDEX logs_by_pop ON logs (endpoint, pop, id);
CREATE TABLE log_pops (
    endpoint INTEGER NOT NULL REFERENCES endpoints (uid) ON DELETE CASCADE,
    pop TEXT NOT NULL,
    lines INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    PRIMARY KEY (endpoint, pop)
) STRICT, WITHOUT ROWID;
INSERT INTO log_pops SELECT endpoint, '', lines, bytes FROM log_sums;
