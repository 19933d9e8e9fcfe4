-- shop: uses of the lines that were there before. By itself, so that no hook waits for it.

INSERT INTO shop.line_uses (order_id, line_id, kind, id)
SELECT line.order_id, line.line_id, used.kind, used.id::text
FROM shop.order_lines AS line
CROSS JOIN LATERAL (
    VALUES ('flash_sale.claim', line.claim_id),
           ('group_buy.seat', line.seat_id),
           ('coupon.coupon', line.coupon_id)
) AS used (kind, id)
WHERE used.id IS NOT NULL
ON CONFLICT (order_id, line_id, kind) DO NOTHING;
