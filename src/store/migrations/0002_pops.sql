-- SPDX-License-Identifier: Apache-2.0
-- PoPs that an operator made, beside the one that `up` brings along. Tokens and secrets are there
-- as the hex of their SHA-256 alone.
ALTER TABLE pops ADD COLUMN spec TEXT NOT NULL DEFAULT '';
ALTER TABLE pops ADD COLUMN wanted TEXT NOT NULL DEFAULT '';
ALTER TABLE pops ADD COLUMN token TEXT NOT NULL DEFAULT '';
ALTER TABLE pops ADD COLUMN token_until_ns INTEGER NOT NULL DEFAULT 0;
ALTER TABLE pops ADD COLUMN secret TEXT NOT NULL DEFAULT '';
ALTER TABLE pops ADD COLUMN created_ns INTEGER NOT NULL DEFAULT 0;
CREATE INDEX pops_by_token ON pops (token) WHERE token <> '';

-- How an endpoint is on each PoP, as that last said.
CREATE TABLE pop_endpoints (
    endpoint INTEGER NOT NULL REFERENCES endpoints (uid) ON DELETE CASCADE,
    pop TEXT NOT NULL,
    serving INTEGER NOT NULL,
    target INTEGER NOT NULL,
    state TEXT NOT NULL,
    message TEXT NOT NULL,
    PRIMARY KEY (endpoint, pop)
) STRICT, WITHOUT ROWID;
CREATE INDEX pop_endpoints_by_pop ON pop_endpoints (pop);

-- Which PoPs are to run how many replicas.
CREATE TABLE placements (
    endpoint INTEGER NOT NULL REFERENCES endpoints (uid) ON DELETE CASCADE,
    pop TEXT NOT NULL,
    replicas INTEGER NOT NULL,
    since_ns INTEGER NOT NULL,
    PRIMARY KEY (endpoint, pop)
) STRICT, WITHOUT ROWID;
