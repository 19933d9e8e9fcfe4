-- name: The sum over all accounts is zero, and what is set aside on one side is set aside on the other
SELECT currency, sum(posted) AS posted, sum(pending_in) AS pending_in, sum(pending_out) AS pending_out
FROM (
    SELECT currency, posted, pending_in, pending_out
    FROM ledger.accounts
    UNION ALL
    SELECT currency, posted, pending_in, pending_out
    FROM ledger.house
    UNION ALL
    SELECT currency, posted, pending_in, pending_out
    FROM ledger.house_moves
) AS account
GROUP BY currency
HAVING sum(posted) <> 0 OR sum(pending_in) <> sum(pending_out);

-- name: Nobody owes who was never asked to
SELECT account.owner, account.currency, account.posted, account.pending_out
FROM ledger.accounts AS account
WHERE account.posted - account.pending_out < 0
  AND NOT EXISTS (
      SELECT
      FROM ledger.transfers AS transfer
      WHERE transfer.debit = account.owner
        AND transfer.debit NOT LIKE 'house/%'
        AND transfer.resolves IS NULL
        AND transfer.currency = account.currency
        AND transfer.may_owe
  );

-- Of those who were moved by the last two thousand transfers: the books are too long to be added up every five minutes.
-- name: A balance is what its transfers add up to
WITH moved AS (
    SELECT DISTINCT leg.owner, latest.currency
    FROM (
        SELECT debit, credit, currency
        FROM ledger.transfers
        WHERE amount >= 0
        ORDER BY position DESC
        LIMIT 2000
    ) AS latest
    CROSS JOIN LATERAL (VALUES (latest.debit), (latest.credit)) AS leg (owner)
    WHERE leg.owner NOT LIKE 'house/%'
),
legs AS (
    SELECT moved.owner, moved.currency, transfer.transfer_id, transfer.amount, 1 AS sign, transfer.phase
    FROM moved
    JOIN ledger.transfers AS transfer
         ON transfer.credit = moved.owner
        AND transfer.credit NOT LIKE 'house/%'
        AND transfer.resolves IS NULL
        AND transfer.currency = moved.currency
    UNION ALL
    SELECT moved.owner, moved.currency, transfer.transfer_id, transfer.amount, -1, transfer.phase
    FROM moved
    JOIN ledger.transfers AS transfer
         ON transfer.debit = moved.owner
        AND transfer.debit NOT LIKE 'house/%'
        AND transfer.resolves IS NULL
        AND transfer.currency = moved.currency
),
added AS (
    SELECT legs.owner, legs.currency,
           sum(legs.sign * CASE legs.phase WHEN 'posted' THEN legs.amount ELSE coalesce(ending.amount, 0) END) AS posted,
           coalesce(sum(legs.amount) FILTER (
               WHERE legs.phase = 'pending' AND ending.transfer_id IS NULL AND legs.sign = 1
           ), 0) AS pending_in,
           coalesce(sum(legs.amount) FILTER (
               WHERE legs.phase = 'pending' AND ending.transfer_id IS NULL AND legs.sign = -1
           ), 0) AS pending_out
    FROM legs
    LEFT JOIN ledger.transfers AS ending
           ON ending.resolves = legs.transfer_id
    GROUP BY legs.owner, legs.currency
)
SELECT added.owner, added.currency, added.posted, account.posted AS told, added.pending_in,
       account.pending_in AS pending_in_told, added.pending_out, account.pending_out AS pending_out_told
FROM added
LEFT JOIN ledger.accounts AS account
       ON account.owner = added.owner
      AND account.currency = added.currency
WHERE (added.posted, added.pending_in, added.pending_out)
      IS DISTINCT FROM (account.posted::numeric, account.pending_in::numeric, account.pending_out::numeric);

-- name: What a shopper can spend lies in lots, to the point
WITH moved AS (
    SELECT DISTINCT leg.owner
    FROM (
        SELECT debit, credit, currency
        FROM ledger.transfers
        WHERE amount >= 0
        ORDER BY position DESC
        LIMIT 2000
    ) AS latest
    CROSS JOIN LATERAL (VALUES (latest.debit), (latest.credit)) AS leg (owner)
    WHERE leg.owner NOT LIKE 'house/%'
      AND latest.currency = 'points'
)
SELECT account.owner, account.posted, account.pending_out, coalesce(lots.remaining, 0) AS remaining
FROM moved
JOIN ledger.accounts AS account
     ON account.owner = moved.owner
    AND account.currency = 'points'
LEFT JOIN LATERAL (
    SELECT sum(remaining) AS remaining
    FROM ledger.lots AS lot
    WHERE lot.owner = moved.owner
      AND lot.currency = 'points'
      AND lot.remaining > 0
) AS lots ON TRUE
WHERE coalesce(lots.remaining, 0) <> greatest(account.posted - account.pending_out, 0);

-- name: No more points came back than were spent
WITH moved AS (
    SELECT DISTINCT latest.subject
    FROM (
        SELECT reason, subject
        FROM ledger.transfers
        WHERE amount >= 0
        ORDER BY position DESC
        LIMIT 10000
    ) AS latest
    WHERE latest.reason IN ('points.spent', 'points.returned')
)
SELECT spend.spend_id, spend.points, spend.returned, coalesce(returns.points, 0) AS returns
FROM moved
JOIN ledger.spends AS spend
     ON spend.spend_id = moved.subject
LEFT JOIN LATERAL (
    SELECT sum(points) AS points
    FROM ledger.returns AS returned
    WHERE returned.spend_id = spend.spend_id
) AS returns ON TRUE
WHERE spend.returned <> coalesce(returns.points, 0);
