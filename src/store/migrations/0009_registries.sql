-- SPDX-License-Identifier: Apache-2.0
-- Other registries, as somebody told of them. What is secret is sealed (store/seal.h).
CREATE TABLE registries (
    host TEXT NOT NULL PRIMARY KEY,
    username TEXT NOT NULL,
    sealed TEXT NOT NULL,
    plain INTEGER NOT NULL,
    ca TEXT NOT NULL,
    created_ns INTEGER NOT NULL,
    updated_ns INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Blobs that a revision needs and that are not here yet: where they are to be had.
CREATE TABLE origins (
    digest TEXT NOT NULL PRIMARY KEY,
    bytes INTEGER NOT NULL,
    host TEXT NOT NULL,
    repository TEXT NOT NULL,
    created_ns INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
