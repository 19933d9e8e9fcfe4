-- Small sources give way to new ones: made-up names, which anybody can put into a link, must not fill the table for ever.
ALTER TABLE retention.sources
    -- Shoppers counted under it.
    ADD COLUMN shoppers integer NOT NULL DEFAULT 0 CHECK (shoppers >= 0),
    ADD COLUMN named_at timestamptz NOT NULL DEFAULT now(),
    -- Of those without a source of their own nobody has chosen a name.
    ALTER COLUMN name DROP NOT NULL;

-- A source that is really called so has a number of its own from now on.
UPDATE retention.sources SET name = NULL WHERE source = 1;

UPDATE retention.sources
SET shoppers = counted.shoppers
FROM (SELECT source, count(*) AS shoppers FROM retention.shoppers GROUP BY source) AS counted
WHERE counted.source = sources.source;

CREATE INDEX shoppers_by_source ON retention.shoppers (source) WHERE source > 1;
