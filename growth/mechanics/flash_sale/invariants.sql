-- name: No sale has more units taken than it has
SELECT sale_id, taken, units_total
FROM flash_sale.sales
WHERE taken > units_total OR taken < 0;

-- name: What a sale says is taken is what its claims occupy
SELECT sale.sale_id, sale.taken, coalesce(occupied.units, 0) AS occupied
FROM flash_sale.sales AS sale
LEFT JOIN (
    SELECT sale_id, sum(units - returned_units)::int AS units
    FROM flash_sale.claims
    WHERE state <> 'released'
    GROUP BY sale_id
) AS occupied USING (sale_id)
WHERE sale.taken <> coalesce(occupied.units, 0);

-- name: What a shopper holds is what the shopper's claims occupy
SELECT sale_id, user_id, holding.units, occupied.units AS occupied
FROM flash_sale.holdings AS holding
FULL JOIN (
    SELECT sale_id, user_id, sum(units - returned_units)::int AS units
    FROM flash_sale.claims
    WHERE state <> 'released'
    GROUP BY sale_id, user_id
) AS occupied USING (sale_id, user_id)
WHERE coalesce(holding.units, 0) <> coalesce(occupied.units, 0);

-- name: Every claim has its sale
SELECT claim.claim_id, claim.sale_id
FROM flash_sale.claims AS claim
LEFT JOIN flash_sale.sales AS sale USING (sale_id)
WHERE sale.sale_id IS NULL;

-- name: An order line is either sold or owed back, never both
SELECT owed.order_id, owed.line_id, owed.claim_id
FROM flash_sale.refunds_required AS owed
JOIN flash_sale.claims AS claim USING (claim_id)
WHERE claim.order_id = owed.order_id
  AND claim.state IN ('paid', 'refunded')
  AND owed.reason IN ('flash_sale.sold_out', 'flash_sale.limit_reached', 'flash_sale.paid_late');

-- name: Two live sales of one SKU never overlap
SELECT one.sale_id, other.sale_id AS other_sale_id, one.sku
FROM flash_sale.sales AS one
JOIN flash_sale.sales AS other ON other.sku = one.sku AND other.sale_id > one.sale_id
WHERE one.state IN ('published', 'paused')
  AND other.state IN ('published', 'paused')
  AND one.opens_at < other.closes_at
  AND one.closes_at > other.opens_at;
