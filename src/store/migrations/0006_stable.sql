-- SPDX-License-Identifier: Apache-2.0
-- The revision that keeps the rest of the traffic while a newer one is a canary; 0: none does.
ALTER TABLE endpoints ADD COLUMN stable INTEGER NOT NULL DEFAULT 0;
