-- name: At most one program is live
SELECT count(*) AS live
FROM referral.programs
WHERE state IN ('published', 'paused')
HAVING count(*) > 1;

-- name: A live program has terms in force, and nothing else has
SELECT program.program_id, program.state, terms.version
FROM referral.programs AS program
FULL JOIN (SELECT program_id, version FROM referral.terms WHERE until_at IS NULL) AS terms USING (program_id)
WHERE coalesce(program.state IN ('published', 'paused'), FALSE) <> (terms.version IS NOT NULL);

-- name: No two versions of terms are in force at one moment
SELECT one.program_id, one.version, other.program_id AS other_program_id, other.version AS other_version
FROM referral.terms AS one
JOIN referral.terms AS other
  ON (other.program_id, other.version) > (one.program_id, one.version)
 AND tstzrange(one.from_at, one.until_at) && tstzrange(other.from_at, other.until_at);

-- name: No more than two levels earn
SELECT program_id, levels
FROM referral.programs
WHERE levels > 2;

-- name: A shopper has one inviter, and is not it
SELECT invitee_id, count(*) AS inviters
FROM referral.relations
WHERE is_current
GROUP BY invitee_id
HAVING count(*) > 1 OR bool_or(inviter_id = invitee_id);

-- name: Nobody brought, through whomever, those who brought them
WITH RECURSIVE line AS (
    -- Who is in a ring was brought, and brought somebody; and the ring is no longer than what is looked at.
    SELECT relation.invitee_id, relation.inviter_id AS above, 1 AS length
    FROM referral.relations AS relation
    WHERE relation.is_current
      AND EXISTS (
        SELECT
        FROM referral.relations AS below
        WHERE below.inviter_id = relation.invitee_id
          AND below.is_current)
    UNION ALL
    SELECT line.invitee_id, relation.inviter_id, line.length + 1
    FROM line
    JOIN referral.relations AS relation ON relation.invitee_id = line.above AND relation.is_current
    WHERE line.above <> line.invitee_id
      AND line.length < 100
)
SELECT invitee_id, length
FROM line
WHERE above = invitee_id;

-- name: An inviter's invitees are counted as they are
SELECT user_id, inviter.invited, counted.invited AS is_invited, inviter.bought, counted.bought AS is_bought,
    inviter.valid, counted.valid AS is_valid
FROM referral.inviters AS inviter
FULL JOIN (
    SELECT inviter_id AS user_id,
        count(*) AS invited,
        count(*) FILTER (WHERE state <> 'bound') AS bought,
        count(*) FILTER (WHERE state = 'valid') AS valid
    FROM referral.relations
    GROUP BY inviter_id
) AS counted USING (user_id)
WHERE (coalesce(inviter.invited, 0), coalesce(inviter.bought, 0), coalesce(inviter.valid, 0))
   <> (coalesce(counted.invited, 0), coalesce(counted.bought, 0), coalesce(counted.valid, 0));

-- name: A month's people are the invitees that became valid in it
SELECT inviter_id, month, one.people, counted.people AS are
FROM referral.inviter_months AS one
FULL JOIN (
    SELECT inviter_id, counted_month AS month, count(*) AS people
    FROM referral.relations
    WHERE counted_month IS NOT NULL
    GROUP BY inviter_id, counted_month
) AS counted USING (inviter_id, month)
WHERE coalesce(one.people, 0) <> coalesce(counted.people, 0);

-- name: Progress in a program is the valid invitees under its terms, and those that were within the caps
SELECT program_id, inviter_id, one.valid, counted.valid AS are_valid, one.rewarded, counted.rewarded AS are_rewarded
FROM referral.progress AS one
FULL JOIN (
    SELECT first_program_id AS program_id,
        inviter_id,
        count(*) AS valid,
        count(rewarded_day) AS rewarded
    FROM referral.relations
    WHERE state = 'valid'
    GROUP BY first_program_id, inviter_id
) AS counted USING (program_id, inviter_id)
WHERE (coalesce(one.valid, 0), coalesce(one.rewarded, 0)) <> (coalesce(counted.valid, 0), coalesce(counted.rewarded, 0));

-- name: A day's rewarded invitees are counted as they are, for as long as the day is kept
SELECT one.program_id, one.inviter_id, one.day, one.rewarded, coalesce(counted.rewarded, 0) AS are
FROM referral.inviter_days AS one
LEFT JOIN (
    SELECT first_program_id AS program_id, inviter_id, rewarded_day AS day, count(*) AS rewarded
    FROM referral.relations
    WHERE rewarded_day IS NOT NULL
    GROUP BY first_program_id, inviter_id, rewarded_day
) AS counted USING (program_id, inviter_id, day)
WHERE one.rewarded <> coalesce(counted.rewarded, 0);

-- name: A milestone is held by who has as many valid invitees
SELECT milestone.program_id, milestone.inviter_id, milestone.invitees, progress.valid
FROM referral.milestones AS milestone
LEFT JOIN referral.progress AS progress USING (program_id, inviter_id)
WHERE milestone.is_held
  AND milestone.invitees > coalesce(progress.valid, 0);

-- name: An invitee has one first order
SELECT invitee_id, count(*) AS first_orders
FROM referral.relations
WHERE first_order_id IS NOT NULL
GROUP BY invitee_id
HAVING count(*) > 1;

-- name: A shopper has one code that is shown
SELECT user_id, count(*) FILTER (WHERE is_main) AS shown
FROM referral.codes
GROUP BY user_id
HAVING count(*) FILTER (WHERE is_main) <> 1;
