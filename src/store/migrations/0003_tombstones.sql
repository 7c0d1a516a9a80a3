-- SPDX-License-Identifier: Apache-2.0
-- The secret that a deleted PoP had, as the hex of its SHA-256: an agent that comes back with it is
-- told that it is over. It stays when a PoP of that name is made anew.
ALTER TABLE pops ADD COLUMN tombstone TEXT NOT NULL DEFAULT '';
ALTER TABLE pops ADD COLUMN retired_ns INTEGER NOT NULL DEFAULT 0;
