-- name: No sale has more units taken than it has
SELECT sale_id, taken, units_total
FROM flash_sale.sales
WHERE taken > units_total OR taken < 0;

-- name: What a sale says is taken is what its claims occupy
-- page: 20 of flash_sale.sales by sale_id uuid
SELECT sale.sale_id, sale.taken, coalesce(occupied.units, 0) AS occupied
FROM page AS sale
LEFT JOIN LATERAL (
    SELECT sum(claim.units - claim.returned_units)::int AS units
    FROM flash_sale.claims AS claim
    WHERE claim.sale_id = sale.sale_id
      AND claim.state <> 'released'
) AS occupied ON TRUE
WHERE sale.taken <> coalesce(occupied.units, 0);

-- name: What a shopper holds is what the shopper's claims occupy
-- page: 10000 of flash_sale.claims by claim_id uuid
WITH claimed AS (
    SELECT DISTINCT sale_id, user_id
    FROM page
)
SELECT sale_id, user_id, holding.units, occupied.units AS occupied
FROM claimed
LEFT JOIN flash_sale.holdings AS holding USING (sale_id, user_id)
LEFT JOIN LATERAL (
    SELECT sum(claim.units - claim.returned_units)::int AS units
    FROM flash_sale.claims AS claim
    WHERE claim.user_id = claimed.user_id
      AND claim.sale_id = claimed.sale_id
      AND claim.state <> 'released'
) AS occupied ON TRUE
WHERE coalesce(holding.units, 0) <> coalesce(occupied.units, 0);

-- name: Who holds something of a sale has claimed it
-- page: 10000 of flash_sale.holdings by sale_id uuid, user_id text
SELECT holding.sale_id, holding.user_id, holding.units
FROM page AS holding
WHERE holding.units <> 0
  AND NOT EXISTS (
      SELECT
      FROM flash_sale.claims AS claim
      WHERE claim.user_id = holding.user_id
        AND claim.sale_id = holding.sale_id
  );

-- name: Every claim has its sale
-- page: 50000 of flash_sale.claims by claim_id uuid
SELECT claim.claim_id, claim.sale_id
FROM page AS claim
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
