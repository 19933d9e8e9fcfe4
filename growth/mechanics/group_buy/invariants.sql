-- name: No campaign has more units taken than it has
SELECT group_buy_id, taken, units_total
FROM group_buy.campaigns
WHERE taken > units_total OR taken < 0;

-- name: What a campaign says is taken is what its seats occupy
SELECT campaign.group_buy_id, campaign.taken, coalesce(occupied.seats, 0) AS occupied
FROM group_buy.campaigns AS campaign
LEFT JOIN (
    SELECT group_buy_id, count(*) AS seats
    FROM group_buy.seats
    WHERE occupies
    GROUP BY group_buy_id
) AS occupied USING (group_buy_id)
WHERE campaign.taken <> coalesce(occupied.seats, 0);

-- name: What a shopper holds is what the shopper's seats occupy
-- page: 10000 of group_buy.seats by seat_id uuid
WITH seated AS (
    SELECT DISTINCT group_buy_id, user_id
    FROM page
)
SELECT group_buy_id, user_id, holding.seats, occupied.seats AS occupied
FROM seated
LEFT JOIN group_buy.holdings AS holding USING (group_buy_id, user_id)
LEFT JOIN LATERAL (
    SELECT count(*) AS seats
    FROM group_buy.seats AS seat
    WHERE seat.user_id = seated.user_id
      AND seat.group_buy_id = seated.group_buy_id
      AND seat.occupies
) AS occupied ON TRUE
WHERE coalesce(holding.seats, 0) <> occupied.seats;

-- name: Who holds something of a campaign has had a seat in it
-- page: 10000 of group_buy.holdings by group_buy_id uuid, user_id text
SELECT holding.group_buy_id, holding.user_id, holding.seats
FROM page AS holding
WHERE holding.seats <> 0
  AND NOT EXISTS (
      SELECT
      FROM group_buy.seats AS seat
      WHERE seat.user_id = holding.user_id
        AND seat.group_buy_id = holding.group_buy_id
  );

-- name: A team has no more seats than its size, and counts those it has
-- page: 20000 of group_buy.teams by team_id uuid
SELECT team.team_id, team.team_size, team.seats_taken, team.seats_paid, counted.*
FROM page AS team
LEFT JOIN LATERAL (
    SELECT count(*) AS taken,
        count(*) FILTER (WHERE seat.state <> 'held') AS paid,
        count(*) FILTER (WHERE NOT seat.is_newcomer) AS veterans,
        count(*) FILTER (WHERE seat.is_newcomer AND seat.state <> 'held') AS newcomers_paid
    FROM group_buy.seats AS seat
    WHERE seat.team_id = team.team_id
      AND seat.occupies
) AS counted ON TRUE
WHERE team.seats_taken > team.team_size
   OR team.seats_taken <> coalesce(counted.taken, 0)
   OR team.seats_paid <> coalesce(counted.paid, 0)
   OR team.veterans_taken <> coalesce(counted.veterans, 0)
   OR team.newcomers_paid <> coalesce(counted.newcomers_paid, 0);

-- name: Every seat has its team, and the team its campaign
-- page: 50000 of group_buy.seats by seat_id uuid
SELECT seat.seat_id, seat.team_id
FROM page AS seat
LEFT JOIN group_buy.teams AS team USING (team_id)
LEFT JOIN group_buy.campaigns AS campaign ON campaign.group_buy_id = team.group_buy_id
WHERE team.team_id IS NULL
   OR campaign.group_buy_id IS NULL
   OR seat.group_buy_id <> team.group_buy_id;

-- name: A complete team has as many paid members as its end asks for
SELECT team_id, end_reason, seats_paid, complete_at_least, team_size
FROM group_buy.teams
WHERE state = 'complete'
  AND seats_paid < CASE end_reason WHEN 'full' THEN team_size WHEN 'threshold' THEN complete_at_least ELSE 1 END;

-- name: A complete team has the newcomers it was promised
SELECT team_id, newcomers_paid, newcomers_at_least
FROM group_buy.teams
WHERE state = 'complete'
  AND end_reason <> 'operator'
  AND newcomers_paid < newcomers_at_least;

-- name: A team in which every seat is paid is not left forming
SELECT team_id
FROM group_buy.teams
WHERE state = 'forming'
  AND seats_paid = team_size;

-- name: No seat is held or paid in a team that has ended
-- page: 50000 of group_buy.seats by seat_id uuid
SELECT seat.seat_id, seat.state, team.state AS team_state
FROM page AS seat
JOIN group_buy.teams AS team USING (team_id)
WHERE team.state <> 'forming'
  AND seat.state IN ('held', 'paid');

-- name: A seat is confirmed in complete teams, and owed in failed ones alone
-- page: 50000 of group_buy.seats by seat_id uuid
SELECT seat.seat_id, seat.state, team.state AS team_state
FROM page AS seat
JOIN group_buy.teams AS team USING (team_id)
WHERE (seat.state = 'confirmed' AND team.state <> 'complete')
   OR (seat.state = 'refund_due' AND team.state <> 'failed');

-- name: Who paid in a failed team is owed all of it, by the shopper's own order
-- page: 50000 of group_buy.seats by seat_id uuid
SELECT seat.seat_id, seat.order_id, seat.line_id, owed.amount_fen
FROM page AS seat
LEFT JOIN group_buy.refunds_required AS owed USING (order_id, line_id)
WHERE seat.state = 'refund_due'
  AND (owed.order_id IS NULL OR owed.seat_id <> seat.seat_id OR owed.amount_fen <> seat.paid_fen);

-- name: A shopper has one live seat in a campaign
SELECT group_buy_id, user_id, count(*) AS live
FROM group_buy.seats
WHERE state IN ('held', 'paid')
GROUP BY group_buy_id, user_id
HAVING count(*) > 1;

-- name: A forming team is led by a seat that is in it
SELECT team.team_id, team.leader_seat_id
FROM group_buy.teams AS team
LEFT JOIN group_buy.seats AS seat ON seat.seat_id = team.leader_seat_id AND seat.team_id = team.team_id
WHERE team.state = 'forming'
  AND (seat.seat_id IS NULL OR seat.state NOT IN ('held', 'paid'));

-- name: Nobody is told twice to pay back one order line
SELECT order_id, line_id
FROM group_buy.refunds_required
GROUP BY order_id, line_id
HAVING count(*) > 1;

-- name: An order line is either a member's or owed back whole, never both
SELECT owed.order_id, owed.line_id, owed.seat_id, owed.reason, seat.state
FROM group_buy.refunds_required AS owed
JOIN group_buy.seats AS seat ON seat.order_id = owed.order_id AND seat.line_id = owed.line_id
WHERE seat.state IN ('paid', 'confirmed')
  AND owed.reason <> 'group_buy.overpaid';
