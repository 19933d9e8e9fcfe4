-- What a row says of itself (one order while locked or used, an end exactly while expired or voided, …) is in CHECKs of
-- the table: to look for it here would read ten million coupons in vain.

-- name: No template has given more than it has, kept units for printed codes included
SELECT template_id, issued, codes_left, units_total
FROM coupon.templates
WHERE issued + codes_left > units_total
   OR issued < 0
   OR codes_left < 0;

-- name: What a template says is issued is how many coupons it has
-- page: 10 of coupon.templates by template_id uuid
SELECT template.template_id, template.issued, counted.coupons
FROM page AS template
LEFT JOIN LATERAL (
    SELECT count(*) AS coupons
    FROM coupon.coupons AS coupon
    WHERE coupon.template_id = template.template_id
) AS counted ON TRUE
WHERE template.issued <> counted.coupons;

-- name: Every coupon has its template
-- page: 50000 of coupon.coupons by coupon_id uuid
SELECT coupon.coupon_id, coupon.template_id
FROM page AS coupon
LEFT JOIN coupon.templates AS template USING (template_id)
WHERE template.template_id IS NULL;

-- name: What a shopper took of a template is what the shopper has of it, grants aside
-- page: 10000 of coupon.coupons by coupon_id uuid
WITH had AS (
    SELECT DISTINCT template_id, user_id
    FROM page
    WHERE source <> 'granted'
)
SELECT template_id, user_id, taking.taken, counted.coupons
FROM had
LEFT JOIN coupon.takings AS taking USING (template_id, user_id)
LEFT JOIN LATERAL (
    SELECT count(*) AS coupons
    FROM coupon.coupons AS coupon
    WHERE coupon.user_id = had.user_id
      AND coupon.template_id = had.template_id
      AND coupon.source <> 'granted'
) AS counted ON TRUE
WHERE coalesce(taking.taken, 0) <> counted.coupons;

-- name: Who took something of a template has a coupon of it
-- page: 10000 of coupon.takings by template_id uuid, user_id text
SELECT taking.template_id, taking.user_id, taking.taken
FROM page AS taking
WHERE taking.taken <> 0
  AND NOT EXISTS (
      SELECT
      FROM coupon.coupons AS coupon
      WHERE coupon.user_id = taking.user_id
        AND coupon.template_id = taking.template_id
        AND coupon.source <> 'granted'
  );

-- name: What a template keeps for printed codes is how many can still be redeemed
SELECT template.template_id, template.codes_left, coalesce(counted.codes, 0) AS codes
FROM coupon.templates AS template
LEFT JOIN (
    SELECT template_id, sum(codes - redeemed) AS codes
    FROM coupon.code_batches
    WHERE revoked_at IS NULL
    GROUP BY template_id
) AS counted USING (template_id)
WHERE template.codes_left <> coalesce(counted.codes, 0);

-- name: A batch counts the codes that were redeemed, and each of them has its coupon
SELECT batch.batch_id, batch.redeemed, coalesce(counted.codes, 0) AS codes, counted.without_coupon
FROM coupon.code_batches AS batch
LEFT JOIN (
    SELECT code.batch_id, count(*) AS codes,
        count(*) FILTER (WHERE coupon.source IS DISTINCT FROM 'code') AS without_coupon
    FROM coupon.codes AS code
    LEFT JOIN coupon.coupons AS coupon USING (coupon_id)
    WHERE code.redeemed_at IS NOT NULL
    GROUP BY code.batch_id
) AS counted USING (batch_id)
WHERE batch.redeemed <> coalesce(counted.codes, 0)
   OR counted.without_coupon > 0;

-- name: No order line is owed back for a coupon that its order has
SELECT owed.order_id, owed.line_id, owed.coupon_id, owed.reason
FROM coupon.refunds_required AS owed
JOIN coupon.coupons AS coupon USING (coupon_id)
WHERE coupon.order_id = owed.order_id;

-- name: No coupon is locked for longer than any setting lets an order keep it
SELECT coupon_id, order_id, locked_at
FROM coupon.coupons
WHERE state = 'locked'
  AND locked_at < now() - INTERVAL '368 days';
