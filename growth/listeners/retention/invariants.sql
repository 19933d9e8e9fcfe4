-- name: Nobody is kept under an id that is another's now.
SELECT shopper.user_id
FROM retention.former_ids AS former
JOIN retention.shoppers AS shopper
     ON shopper.user_id = former.user_id
LIMIT 10;
