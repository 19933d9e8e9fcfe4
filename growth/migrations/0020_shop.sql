-- shop: what is owed back, one row a line; and refunds that reach what the whole order cost.

-- Carried over from the rooms that found it out, which keep their own rows: why they turned a line away.
CREATE TABLE shop.refunds_required (
    order_id   text        COLLATE "C" NOT NULL,
    line_id    text        COLLATE "C" NOT NULL,
    -- Code → how much of what the line cost, in fen.
    reasons    jsonb       NOT NULL,
    -- All reasons together, before anything was paid back.
    owed_fen   bigint      NOT NULL CHECK (owed_fen >= 0),
    found_at   timestamptz NOT NULL,
    settled_at timestamptz,
    PRIMARY KEY (order_id, line_id),
    CHECK (settled_at IS NOT NULL OR reasons <> '{}')
) WITH (fillfactor = 90);
CREATE INDEX refunds_required_open ON shop.refunds_required (found_at, order_id, line_id) WHERE settled_at IS NULL;
CREATE INDEX refunds_required_found ON shop.refunds_required (found_at, order_id, line_id);

-- Money that was told of other lines than those it was paid for: all of it is back, so that of every line is.
UPDATE shop.order_lines AS line
SET refunded_fen = line.amount_fen
FROM (
    SELECT heard.order_id
    FROM shop.orders AS heard
    JOIN (
        SELECT order_id, sum(amount_fen) AS fen
        FROM shop.refund_lines
        GROUP BY order_id
    ) AS told USING (order_id)
    JOIN shop.order_lines AS own USING (order_id)
    WHERE heard.paid_at IS NOT NULL
    GROUP BY heard.order_id, heard.paid_fen, told.fen
    HAVING told.fen >= greatest(heard.paid_fen, sum(own.amount_fen))
       AND told.fen > 0
) AS back
WHERE line.order_id = back.order_id
  AND line.refunded_fen < line.amount_fen;

INSERT INTO shop.refunds_required (order_id, line_id, reasons, owed_fen, found_at, settled_at)
SELECT owed.order_id, owed.line_id, owed.reasons, owed.fen, owed.found_at,
    CASE WHEN owed.refunded_units = owed.units OR owed.amount_fen > 0 AND owed.fen <= owed.refunded_fen THEN now() END
FROM (
    SELECT found.order_id, found.line_id, min(found.at) AS found_at, line.amount_fen, line.refunded_fen, line.units,
        line.refunded_units,
        jsonb_object_agg(found.reason, coalesce(found.part_fen, line.amount_fen)) AS reasons,
        least(line.amount_fen, sum(coalesce(found.part_fen, line.amount_fen))) AS fen
    FROM (
        SELECT order_id, line_id, reason, NULL::bigint AS part_fen, at
        FROM flash_sale.refunds_required
        UNION ALL
        SELECT order_id, line_id, reason, CASE WHEN reason = 'group_buy.overpaid' THEN amount_fen END, at
        FROM group_buy.refunds_required
        UNION ALL
        SELECT order_id, line_id, reason, NULL, at
        FROM coupon.refunds_required
    ) AS found
    JOIN shop.order_lines AS line USING (order_id, line_id)
    JOIN shop.orders AS heard ON heard.order_id = found.order_id AND heard.paid_at IS NOT NULL
    GROUP BY found.order_id, found.line_id, line.amount_fen, line.refunded_fen, line.units, line.refunded_units
) AS owed;
