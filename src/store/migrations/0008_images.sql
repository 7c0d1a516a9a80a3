-- SPDX-License-Identifier: Apache-2.0
-- What an image revision's PoPs must know of it (docs/api.md), as JSON; empty: it is of something else.
ALTER TABLE revisions ADD COLUMN image TEXT NOT NULL DEFAULT '';
