-- name: Every event was answered: no transaction left one half-way.
SELECT source, event_id, type
FROM shop.events
WHERE outcome IS NULL;

-- name: Of every paid line, as much counts as refunded as the shop told, and never more than the line has.
SELECT line.order_id, line.line_id, line.units, line.refunded_units, line.amount_fen, line.refunded_fen
FROM shop.order_lines AS line
JOIN shop.orders AS heard ON heard.order_id = line.order_id AND heard.paid_at IS NOT NULL
LEFT JOIN (
    SELECT order_id, line_id, sum(units) AS units, sum(amount_fen) AS amount_fen
    FROM shop.refund_lines
    GROUP BY order_id, line_id
) AS told ON told.order_id = line.order_id AND told.line_id = line.line_id
WHERE line.refunded_units <> LEAST(line.units, coalesce(told.units, 0))
   OR line.refunded_fen <> LEAST(line.amount_fen, coalesce(told.amount_fen, 0));

-- name: Nothing counts as refunded before the order is known to be paid.
SELECT line.order_id, line.line_id, line.refunded_units, line.refunded_fen
FROM shop.order_lines AS line
JOIN shop.orders AS heard ON heard.order_id = line.order_id AND heard.paid_at IS NULL
WHERE line.refunded_units > 0
   OR line.refunded_fen > 0;

-- name: An order has lines exactly when it was placed or paid.
SELECT heard.order_id, heard.placed_at, heard.paid_at
FROM shop.orders AS heard
WHERE (heard.placed_at IS NOT NULL OR heard.paid_at IS NOT NULL)
    <> EXISTS (SELECT FROM shop.order_lines AS line WHERE line.order_id = heard.order_id);

-- name: Every refund has an order and at least one line.
SELECT refund.order_id, refund.refund_id
FROM shop.refunds AS refund
WHERE NOT EXISTS (SELECT FROM shop.orders AS heard WHERE heard.order_id = refund.order_id)
   OR NOT EXISTS (
       SELECT
       FROM shop.refund_lines AS line
       WHERE line.order_id = refund.order_id AND line.refund_id = refund.refund_id
   );

-- name: Of every order, something is known.
SELECT heard.order_id
FROM shop.orders AS heard
WHERE num_nonnulls(heard.placed_at, heard.paid_at, heard.closed_at, heard.received_at) = 0
  AND NOT EXISTS (SELECT FROM shop.refunds AS refund WHERE refund.order_id = heard.order_id);
