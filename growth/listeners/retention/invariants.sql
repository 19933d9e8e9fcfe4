-- Everything here looks at a sample drawn anew each time, so that asking costs the same however many shoppers there are.

-- name: The first and last day of a shopper are days with activity, and no such day lies outside.
SELECT sampled.shopper_id, sampled.first_day, sampled.last_day, known.first_day AS first_active, known.last_day AS last_active
FROM (
    SELECT shopper_id, first_day, last_day
    FROM retention.shoppers
    WHERE shopper_id > (SELECT floor(random() * greatest(0, max(shopper_id) - 500)) FROM retention.shoppers)::bigint
    ORDER BY shopper_id
    LIMIT 500
) AS sampled
CROSS JOIN LATERAL (
    SELECT min(day) AS first_day, max(day) AS last_day
    FROM retention.active_days
    WHERE shopper_id = sampled.shopper_id
) AS known
WHERE known.first_day IS DISTINCT FROM sampled.first_day
   OR known.last_day IS DISTINCT FROM sampled.last_day;

-- name: Cells say what counting the days of a cohort's shoppers anew says.
WITH picked AS MATERIALIZED (
    SELECT cohort_day
    FROM retention.cells
    WHERE segment = 0
      AND n = 0
      AND active <= 20000
    ORDER BY random()
    LIMIT 2
),
counted AS MATERIALIZED (
    SELECT member.segment, (active.day - shopper.first_day)::smallint AS n, shopper.first_day AS cohort_day,
           count(*) AS active, count(*) FILTER (WHERE active.day < shopper.last_day) AS returned
    FROM picked
    JOIN retention.shoppers AS shopper
         ON shopper.first_day = picked.cohort_day
    CROSS JOIN LATERAL unnest(shopper.segments) AS member (segment)
    JOIN retention.active_days AS active
         ON active.shopper_id = shopper.shopper_id
        AND active.day <= shopper.first_day + 365
    GROUP BY member.segment, n, shopper.first_day
),
-- Where segments have the number of a mechanic, or of none.
met AS (
    SELECT 0 AS bits
    UNION ALL
    SELECT (mechanic >> 4 << 16) + ((mechanic & 15) << 4) FROM retention.mechanics
),
-- All segments there can be, on the first days of life; and wherever somebody was counted.
looked_at AS (
    SELECT segment, n, cohort_day
    FROM counted
    UNION
    SELECT possible.segment, days.n::smallint, picked.cohort_day
    FROM picked
    CROSS JOIN generate_series(0, 30) AS days (n)
    CROSS JOIN (
        SELECT 0 AS segment
        UNION ALL
        SELECT (1 << 24) + (source << 8) FROM retention.sources
        UNION ALL
        SELECT (2 << 24) + met.bits + tail FROM met, generate_series(0, 1) AS tail
        UNION ALL
        SELECT (3 << 24) + (source << 8) + met.bits + tail
        FROM retention.sources, met, generate_series(0, 1) AS tail
        UNION ALL
        SELECT (4 << 24) + met.bits + tail FROM met, generate_series(0, 6) AS tail WHERE met.bits > 0
    ) AS possible
)
SELECT looked_at.segment, looked_at.n, looked_at.cohort_day, counted.active, counted.returned, cell.active AS cell_active,
       cell.returned AS cell_returned
FROM looked_at
LEFT JOIN counted
       ON counted.segment = looked_at.segment
      AND counted.n = looked_at.n
      AND counted.cohort_day = looked_at.cohort_day
LEFT JOIN LATERAL (
    SELECT active, returned
    FROM retention.cells
    WHERE segment = looked_at.segment
      AND n = looked_at.n
      AND cohort_day = looked_at.cohort_day
    LIMIT 1
) AS cell
       ON TRUE
WHERE coalesce(counted.active, 0) <> coalesce(cell.active, 0)
   OR coalesce(counted.returned, 0) <> coalesce(cell.returned, 0);

-- name: Actives of a day are the cells on its diagonal, and those seen for longer than cells reach.
SELECT sampled.day, sampled.shoppers, diagonal.shoppers AS in_cells
FROM (
    SELECT day, sum(shoppers) AS shoppers
    FROM retention.returns
    WHERE day >= (SELECT max(day) - floor(random() * (max(day) - min(day) + 1))::integer FROM retention.returns)
    GROUP BY day
    ORDER BY day
    LIMIT 10
) AS sampled
CROSS JOIN LATERAL (
    SELECT coalesce(sum(cell.active), 0) AS shoppers
    FROM generate_series(0, 365) AS life (n)
    CROSS JOIN LATERAL (
        SELECT active
        FROM retention.cells
        WHERE segment = 0
          AND n = life.n::smallint
          AND cohort_day = sampled.day - life.n
        LIMIT 1
    ) AS cell
) AS diagonal
CROSS JOIN (SELECT min(first_day) AS day FROM retention.shoppers) AS oldest
WHERE sampled.shoppers < diagonal.shoppers
   OR (sampled.day - oldest.day <= 365 AND sampled.shoppers > diagonal.shoppers);

-- name: Of those who enter a funnel on one day, no more take a step than took the one before it.
SELECT later.funnel, later.step, later.start_day, later.shoppers, earlier.shoppers AS before
FROM (
    SELECT funnel, step, start_day, sum(shoppers) AS shoppers
    FROM retention.funnel_steps
    GROUP BY funnel, step, start_day
) AS later
LEFT JOIN (
    SELECT funnel, step, start_day, sum(shoppers) AS shoppers
    FROM retention.funnel_steps
    GROUP BY funnel, step, start_day
) AS earlier
       ON earlier.funnel = later.funnel
      AND earlier.start_day = later.start_day
      AND earlier.step = later.step - 1
WHERE later.step > 0
  AND later.shoppers > coalesce(earlier.shoppers, 0);

-- name: An id that is another's now has neither shopper nor other ids of its own.
SELECT former.user_id, former.now_user_id
FROM retention.former_ids AS former
WHERE EXISTS (SELECT FROM retention.shoppers AS shopper WHERE shopper.user_id = former.user_id)
   OR EXISTS (SELECT FROM retention.former_ids AS later WHERE later.user_id = former.now_user_id)
LIMIT 10;

-- name: As many shoppers as are counted under a source have it.
SELECT picked.source, picked.name, picked.shoppers, counted.shoppers AS have_it
FROM (
    SELECT source, name, shoppers
    FROM retention.sources
    WHERE source > 1
      AND shoppers <= 1000
    ORDER BY random()
    LIMIT 5
) AS picked
CROSS JOIN LATERAL (
    SELECT count(*) AS shoppers
    FROM (SELECT FROM retention.shoppers WHERE source = picked.source AND source > 1 LIMIT 1001) AS found
) AS counted
WHERE picked.shoppers <> counted.shoppers;

-- name: The mechanic that a shopper met first is one that there is.
SELECT sampled.shopper_id, sampled.mechanic
FROM (
    SELECT shopper_id, mechanic
    FROM retention.shoppers
    WHERE shopper_id > (SELECT floor(random() * greatest(0, max(shopper_id) - 500)) FROM retention.shoppers)::bigint
    ORDER BY shopper_id
    LIMIT 500
) AS sampled
WHERE sampled.mechanic > 0
  AND NOT EXISTS (SELECT FROM retention.mechanics AS known WHERE known.mechanic = sampled.mechanic);
