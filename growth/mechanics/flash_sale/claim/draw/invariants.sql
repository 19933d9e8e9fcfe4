-- name: Whoever won a draw has a claim to the units they entered for, and nobody else has one of it
SELECT entry.sale_id, entry.user_id, entry.place, entry.claim_id, entry.units
FROM flash_sale.draw_entries AS entry
LEFT JOIN flash_sale.claims AS claim USING (claim_id)
WHERE entry.place IS NOT NULL
  AND (claim.claim_id IS NULL
       OR (claim.sale_id, claim.user_id, claim.units) IS DISTINCT FROM (entry.sale_id, entry.user_id, entry.units));

-- name: Only a drawn sale has winners, each with a place of their own
SELECT entry.sale_id, entry.place, count(*) AS winners
FROM flash_sale.draw_entries AS entry
JOIN flash_sale.sales AS sale USING (sale_id)
WHERE entry.place IS NOT NULL
GROUP BY entry.sale_id, entry.place, sale.drawn_at
HAVING count(*) > 1
    OR sale.drawn_at IS NULL;
