-- name: Nobody has two withdrawals open
SELECT user_id, count(*) AS open
FROM withdrawal.withdrawals
WHERE state IN ('requested', 'approved', 'paying')
  AND slot = user_id
GROUP BY user_id
HAVING count(*) > 1;

-- name: A withdrawal that was never sent did not fail at the payout service
SELECT withdrawal_id, state, reason, sent_at
FROM withdrawal.withdrawals
WHERE reason = 'payout_failed'
  AND sent_at IS NULL
  AND payout <> 'manual';

-- name: What a day counts is what was asked for on it and not given back
SELECT user_id, day, known.fen, known.asked, asked.fen AS asked_fen, asked.asked AS asked_for
FROM withdrawal.days AS known
JOIN (
    SELECT user_id, day, count(*) AS asked,
        sum(CASE WHEN state IN ('failed', 'rejected', 'cancelled') THEN 0 ELSE amount_fen END) AS fen
    FROM withdrawal.withdrawals
    GROUP BY user_id, day
) AS asked USING (user_id, day)
WHERE known.fen <> asked.fen
   OR known.asked <> asked.asked;

-- name: The sandbox paid what was withdrawn, and no number that nobody sent
SELECT paid.number, paid.amount_fen, withdrawal.state
FROM withdrawal.sandbox_payouts AS paid
LEFT JOIN withdrawal.withdrawals AS withdrawal ON withdrawal.withdrawal_id = paid.number
WHERE withdrawal.withdrawal_id IS NULL
   OR withdrawal.amount_fen - withdrawal.fee_fen <> paid.amount_fen
   OR (paid.outcome = 'paid' AND withdrawal.state NOT IN ('paying', 'paid'))
   OR (paid.outcome = 'failed' AND withdrawal.state = 'paid');
