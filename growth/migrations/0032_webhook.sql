-- webhook: a room by itself; its tables stood in the schema of the shop.

CREATE SCHEMA webhook;

ALTER TABLE shop.webhook_endpoints SET SCHEMA webhook;
ALTER TABLE webhook.webhook_endpoints RENAME TO endpoints;
ALTER TABLE shop.webhook_secrets SET SCHEMA webhook;
ALTER TABLE webhook.webhook_secrets RENAME TO secrets;
ALTER TABLE shop.webhook_deliveries SET SCHEMA webhook;
ALTER TABLE webhook.webhook_deliveries RENAME TO deliveries;

DO $$
DECLARE
    part name;
BEGIN
    FOR part IN
        SELECT child.relname
        FROM pg_catalog.pg_inherits AS tree
        JOIN pg_catalog.pg_class AS child ON child.oid = tree.inhrelid
        WHERE tree.inhparent = 'webhook.deliveries'::regclass
    LOOP
        EXECUTE format('ALTER TABLE shop.%I SET SCHEMA webhook', part);
        EXECUTE format('ALTER TABLE webhook.%I RENAME TO %I', part, substr(part, length('webhook_') + 1));
    END LOOP;
END
$$;

-- From here on for processes of the release before, which may run beside this one; the next release drops it all. They
-- queue and send as before. They do not drop old days, which waits for this release, nor sweep erased shoppers out of
-- deliveries: that fails there, and is done here.
CREATE VIEW shop.webhook_endpoints AS SELECT * FROM webhook.endpoints;
CREATE VIEW shop.webhook_secrets AS SELECT * FROM webhook.secrets;
CREATE VIEW shop.webhook_deliveries AS SELECT * FROM webhook.deliveries;
-- They find rows to prune by their place.
CREATE VIEW shop.webhook_deliveries_default AS SELECT ctid, * FROM webhook.deliveries_default;

-- Nor can they make days ahead. Those of the next two weeks look made to them, and are made by this release.
DO $$
DECLARE
    today date := (now() AT TIME ZONE 'UTC')::date;
BEGIN
    FOR ahead IN 0..14 LOOP
        EXECUTE format('CREATE TYPE shop.webhook_deliveries_%s AS ()', to_char(today + ahead, 'YYYYMMDD'));
    END LOOP;
END
$$;
