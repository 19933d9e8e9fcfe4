-- name: What a commission is worth is what its steps made it
-- page: 10000 of referral.commissions by commission_id uuid
SELECT commission.commission_id, commission.amount_fen, commission.revision, steps.*
FROM page AS commission
LEFT JOIN LATERAL (
    SELECT sum(step.to_fen - step.from_fen) AS fen, max(step.revision) AS last, count(*) AS steps
    FROM referral.commission_steps AS step
    WHERE step.commission_id = commission.commission_id
) AS steps ON TRUE
WHERE commission.amount_fen <> coalesce(steps.fen, 0)
   OR commission.revision <> coalesce(steps.last, 0)
   OR commission.revision <> coalesce(steps.steps, 0);

-- name: Every step has its commission
-- page: 50000 of referral.commission_steps by commission_id uuid, revision integer
SELECT step.commission_id
FROM page AS step
LEFT JOIN referral.commissions AS commission USING (commission_id)
WHERE commission.commission_id IS NULL;

-- name: A percent commission that is not void is worth what its lines say, or what its cap left
-- page: 20000 of referral.commissions by commission_id uuid
SELECT commission_id, amount_fen, lines.fen, granted_fen
FROM page
CROSS JOIN LATERAL (
    SELECT coalesce(sum((line ->> 'commission_fen')::bigint), 0) AS fen
    FROM jsonb_array_elements(lines) AS line
) AS lines
WHERE kind = 'percent'
  AND state <> 'void'
  AND amount_fen <> least(lines.fen, coalesce(granted_fen, lines.fen));

-- name: A line earns the share of what was kept of it, rounded down
-- page: 20000 of referral.commissions by commission_id uuid
SELECT commission_id, line
FROM page
CROSS JOIN LATERAL jsonb_array_elements(lines) AS line
WHERE (line ->> 'commission_fen')::bigint <> CASE
        WHEN NOT (line ->> 'is_in_scope')::boolean THEN 0
        ELSE (line ->> 'kept_fen')::bigint * basis_points / 10000
    END
   OR (line ->> 'kept_fen')::bigint <> CASE
        WHEN line ->> 'units' = line ->> 'refunded_units' THEN 0
        ELSE (line ->> 'amount_fen')::bigint - (line ->> 'refunded_fen')::bigint
    END;

-- name: One order of an invitee earns the sum for the first
SELECT invitee_id, level, count(*) AS earning
FROM referral.commissions
WHERE kind = 'fixed'
  AND amount_fen > 0
GROUP BY invitee_id, level
HAVING count(*) > 1;

-- name: The first order that was kept is the one that earns
SELECT first.invitee_id, first.level, first.order_id, earning.order_id AS earns
FROM (
    SELECT DISTINCT ON (invitee_id, level) invitee_id, level, order_id, state, granted_fen,
        fixed_fen * kept.fen / kept.paid_fen AS share_fen
    FROM referral.commissions
    CROSS JOIN LATERAL (
        SELECT sum((line ->> 'kept_fen')::bigint)::bigint AS fen,
            sum((line ->> 'amount_fen')::bigint)::bigint AS paid_fen
        FROM jsonb_array_elements(lines) AS line
        WHERE (line ->> 'is_in_scope')::boolean
    ) AS kept
    WHERE kind = 'fixed'
      AND is_kept
      AND EXISTS (
        SELECT
        FROM referral.relations AS relation
        WHERE relation.relation_id = commissions.relation_id
          AND relation.is_new)
    ORDER BY invitee_id, level, paid_at, order_id
) AS first
LEFT JOIN referral.commissions AS earning
       ON earning.invitee_id = first.invitee_id
      AND earning.level = first.level
      AND earning.kind = 'fixed'
      AND earning.amount_fen > 0
WHERE earning.order_id IS DISTINCT FROM first.order_id
  AND (earning.order_id IS NOT NULL
       OR (first.state <> 'void' AND first.granted_fen IS DISTINCT FROM 0 AND first.share_fen > 0));

-- name: Nothing is available before its order was received and the days after that were over
SELECT commission_id, received_at, due_at, available_at
FROM referral.commissions
WHERE state = 'available'
  AND (received_at IS NULL OR available_at < received_at + make_interval(days => available_after_days));

-- name: The leaderboard counts the money that nobody doubts
SELECT inviter_id, month, known.money_fen, earned.fen
FROM referral.inviter_months AS known
FULL JOIN (
    SELECT inviter_id, month, sum(amount_fen) AS fen
    FROM referral.commissions
    WHERE state IN ('pending', 'available')
    GROUP BY inviter_id, month
) AS earned USING (inviter_id, month)
WHERE coalesce(known.money_fen, 0) <> coalesce(earned.fen, 0);
