-- name: No shopper holds a day twice
SELECT user_id, day, count(*) AS rows
FROM checkin.days
WHERE day >= current_date - 40
GROUP BY user_id, day
HAVING count(*) > 1;

-- name: What is known of a shopper is what the newest days say
SELECT state.user_id, state.last_day, state.last_counted, state.streak, newest.day, newest.streak AS streak_of_day
FROM checkin.states AS state
JOIN LATERAL (
    SELECT held.day, held.streak, held.kind
    FROM checkin.days AS held
    WHERE held.user_id = state.user_id
      AND held.day >= current_date - 40
    ORDER BY held.day DESC
    LIMIT 1
) AS newest ON TRUE
WHERE state.last_day >= current_date - 2
  AND (newest.day <> state.last_day
       OR newest.streak <> state.streak
       OR (newest.kind <> 3 AND state.last_counted IS DISTINCT FROM state.last_day));

-- name: Every day of late has the shopper's row
SELECT held.user_id, held.day
FROM checkin.days AS held
LEFT JOIN checkin.states AS state USING (user_id)
WHERE held.day >= current_date - 2
  AND (state.user_id IS NULL OR state.last_day IS NULL OR state.last_day < held.day);

-- name: A streak grows by one from day to day, and ice keeps it
SELECT today.user_id, today.day, today.streak, before.streak AS streak_before
FROM checkin.days AS today
JOIN checkin.days AS before ON before.user_id = today.user_id AND before.day = today.day - 1
WHERE today.day >= current_date - 2
  AND before.day >= current_date - 3
  AND today.streak <> before.streak + CASE today.kind WHEN 3 THEN 0 ELSE 1 END;

-- name: Two live programs share no day
SELECT one.program_id, other.program_id AS other_id
FROM checkin.programs AS one
JOIN checkin.programs AS other ON other.program_id > one.program_id
WHERE one.state IN ('published', 'paused')
  AND other.state IN ('published', 'paused')
  AND daterange(one.from_day, one.until_day, '[]') && daterange(other.from_day, other.until_day, '[]');

-- name: Every day made up of late is noted as a repair
SELECT held.user_id, held.day
FROM checkin.days AS held
LEFT JOIN checkin.make_ups AS repair USING (user_id, day)
WHERE held.kind = 2
  AND held.day >= current_date - 40
  AND repair.user_id IS NULL;
