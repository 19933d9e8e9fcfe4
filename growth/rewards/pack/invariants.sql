-- name: There is one pack
SELECT count(*) AS packs
FROM pack.packs
HAVING count(*) <> 1;

-- name: Nobody was given more of a pack than was in it
SELECT user_id, rewards, given
FROM pack.recipients
WHERE given > rewards
   OR (outcome = 'merged' AND rewards > 0);
