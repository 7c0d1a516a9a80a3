-- SPDX-License-Identifier: Apache-2.0
-- What containers are given in their environment, sealed (store/seal.h).
CREATE TABLE secrets (
    project TEXT NOT NULL,
    name TEXT NOT NULL,
    sealed TEXT NOT NULL,
    created_ns INTEGER NOT NULL,
    updated_ns INTEGER NOT NULL,
    PRIMARY KEY (project, name)
) STRICT, WITHOUT ROWID;
