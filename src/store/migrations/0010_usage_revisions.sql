-- SPDX-License-Identifier: Apache-2.0
-- The newest revision that an endpoint ever had, as usage of it may come when it is deleted.
-- 0: not known, of those that were deleted before.
ALTER TABLE usage_endpoints ADD COLUMN revisions INTEGER NOT NULL DEFAULT 0;
UPDATE usage_endpoints SET revisions =
    coalesce((SELECT max(number) FROM revisions r WHERE r.endpoint = usage_endpoints.endpoint), 0);
CREATE TRIGGER usage_revision_added AFTER INSERT ON revisions BEGIN
    UPDATE usage_endpoints SET revisions = max(revisions, new.number)
        WHERE endpoint = new.endpoint;
END;
