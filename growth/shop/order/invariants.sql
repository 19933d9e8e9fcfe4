-- name: Every event was answered: no transaction left one half-way.
-- page: 50000 of shop.events by source text, event_id text
SELECT source, event_id, type
FROM page
WHERE outcome IS NULL;

-- name: Of every paid line, as much counts as refunded as the shop told, and never more than the line has
-- page: 10000 of shop.order_lines by order_id text, line_id text
SELECT line.order_id, line.line_id, line.units, line.refunded_units, line.amount_fen, line.refunded_fen
FROM page AS line
JOIN shop.orders AS heard ON heard.order_id = line.order_id AND heard.paid_at IS NOT NULL
LEFT JOIN LATERAL (
    SELECT sum(refunded.units) AS units, sum(refunded.amount_fen) AS amount_fen
    FROM shop.refund_lines AS refunded
    WHERE refunded.order_id = line.order_id
      AND refunded.line_id = line.line_id
) AS told ON TRUE
-- All that the order cost is back, of whatever lines it was told: so that of each is.
CROSS JOIN LATERAL (
    SELECT back.fen > 0 AND back.fen >= greatest(heard.paid_fen, cost.fen) AS is_back
    FROM (SELECT coalesce(sum(amount_fen), 0) AS fen FROM shop.refund_lines WHERE order_id = line.order_id) AS back
    CROSS JOIN (SELECT sum(amount_fen) AS fen FROM shop.order_lines WHERE order_id = line.order_id) AS cost
) AS whole
WHERE line.refunded_units <> LEAST(line.units, coalesce(told.units, 0))
   OR line.refunded_fen <> CASE
        WHEN whole.is_back THEN line.amount_fen
        ELSE LEAST(line.amount_fen, coalesce(told.amount_fen, 0))
    END;

-- name: What is owed back is owed of a paid line, and never more than that cost
-- page: 50000 of shop.refunds_required by order_id text, line_id text
SELECT owed.order_id, owed.line_id, owed.owed_fen, line.amount_fen
FROM page AS owed
LEFT JOIN shop.orders AS heard ON heard.order_id = owed.order_id AND heard.paid_at IS NOT NULL
LEFT JOIN shop.order_lines AS line
       ON line.order_id = heard.order_id
      AND line.line_id = owed.line_id
WHERE line.line_id IS NULL
   OR owed.owed_fen > line.amount_fen;

-- name: Nothing is owed back of a line that was paid back
-- page: 50000 of shop.refunds_required by order_id text, line_id text
SELECT owed.order_id, owed.line_id, owed.reasons
FROM page AS owed
JOIN shop.order_lines AS line USING (order_id, line_id)
WHERE owed.settled_at IS NULL
  AND (line.refunded_units = line.units OR line.amount_fen > 0 AND owed.owed_fen <= line.refunded_fen);

-- name: Nothing counts as refunded before the order is known to be paid.
-- page: 50000 of shop.order_lines by order_id text, line_id text
SELECT line.order_id, line.line_id, line.refunded_units, line.refunded_fen
FROM page AS line
JOIN shop.orders AS heard ON heard.order_id = line.order_id AND heard.paid_at IS NULL
WHERE line.refunded_units > 0
   OR line.refunded_fen > 0;

-- name: An order has lines exactly when it was placed or paid.
-- page: 20000 of shop.orders by order_id text
SELECT heard.order_id, heard.placed_at, heard.paid_at
FROM page AS heard
WHERE (heard.placed_at IS NOT NULL OR heard.paid_at IS NOT NULL)
    <> EXISTS (SELECT FROM shop.order_lines AS line WHERE line.order_id = heard.order_id);

-- name: Every refund has an order and at least one line.
-- page: 20000 of shop.refunds by order_id text, refund_id text
SELECT refund.order_id, refund.refund_id
FROM page AS refund
WHERE NOT EXISTS (SELECT FROM shop.orders AS heard WHERE heard.order_id = refund.order_id)
   OR NOT EXISTS (
       SELECT
       FROM shop.refund_lines AS line
       WHERE line.order_id = refund.order_id AND line.refund_id = refund.refund_id
   );

-- name: Of every order, something is known.
-- page: 50000 of shop.orders by order_id text
SELECT heard.order_id
FROM page AS heard
WHERE num_nonnulls(heard.placed_at, heard.paid_at, heard.closed_at, heard.received_at) = 0
  AND NOT EXISTS (SELECT FROM shop.refunds AS refund WHERE refund.order_id = heard.order_id);

-- name: A line uses what the columns of the release before say, and of their kinds nothing else.
-- page: 20000 of shop.order_lines by order_id text, line_id text
SELECT line.order_id, line.line_id, line.claim_id, line.seat_id, line.coupon_id
FROM page AS line
WHERE jsonb_strip_nulls(jsonb_build_object(
        'flash_sale.claim', line.claim_id, 'group_buy.seat', line.seat_id, 'coupon.coupon', line.coupon_id))
    <> (
        SELECT coalesce(jsonb_object_agg(used.kind, used.id), '{}')
        FROM shop.line_uses AS used
        WHERE used.order_id = line.order_id
          AND used.line_id = line.line_id
          AND used.kind IN ('flash_sale.claim', 'group_buy.seat', 'coupon.coupon')
    );
