-- What a row says of itself (one order while locked or used, an end exactly while expired or voided, …) is in CHECKs of
-- the table: to look for it here would read ten million coupons in vain.

-- name: No template has given more than it has, kept units for printed codes included
SELECT template_id, issued, codes_left, units_total
FROM coupon.templates
WHERE issued + codes_left > units_total
   OR issued < 0
   OR codes_left < 0;

-- name: What a template says is issued is how many coupons it has
SELECT template.template_id, template.issued, coalesce(counted.coupons, 0) AS coupons
FROM coupon.templates AS template
FULL JOIN (
    SELECT template_id, count(*) AS coupons
    FROM coupon.coupons
    GROUP BY template_id
) AS counted USING (template_id)
WHERE template.issued IS DISTINCT FROM coalesce(counted.coupons, 0);

-- name: What a shopper took of a template is what the shopper has of it, grants aside
SELECT template_id, user_id, taking.taken, counted.coupons
FROM coupon.takings AS taking
FULL JOIN (
    SELECT template_id, user_id, count(*) AS coupons
    FROM coupon.coupons
    WHERE source <> 'granted'
    GROUP BY template_id, user_id
) AS counted USING (template_id, user_id)
WHERE coalesce(taking.taken, 0) <> coalesce(counted.coupons, 0);

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
