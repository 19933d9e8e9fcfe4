CREATE SCHEMA checkin;

CREATE TABLE checkin.programs (
    program_id uuid PRIMARY KEY,
    title text NOT NULL,
    -- Days here and below are of the merchant's zone.
    from_day date NOT NULL,
    until_day date CHECK (until_day >= from_day),
    cycle text NOT NULL CHECK (cycle IN ('weekly', 'monthly', 'every_n', 'endless')),
    -- A row for each day in a row, each a list of rewards.
    rewards jsonb NOT NULL,
    milestones jsonb NOT NULL,
    make_up_within_days integer NOT NULL CHECK (make_up_within_days BETWEEN 0 AND 31),
    make_ups_per_month integer NOT NULL CHECK (make_ups_per_month BETWEEN 0 AND 31),
    uses_freeze_cards boolean NOT NULL,
    pauses jsonb NOT NULL,
    warn_hours integer NOT NULL CHECK (warn_hours BETWEEN 0 AND 23),
    broken_after_days integer NOT NULL CHECK (broken_after_days BETWEEN 1 AND 30),
    budget jsonb,
    state text NOT NULL DEFAULT 'draft' CHECK (state IN ('draft', 'published', 'paused', 'ended')),
    version integer NOT NULL DEFAULT 1,
    terms_id integer,
    -- Spells of days on which it was closed for some of the time; the last has no end while it is paused.
    closures jsonb NOT NULL DEFAULT '[]',
    created_at timestamptz NOT NULL,
    published_at timestamptz,
    ended_at timestamptz,
    CHECK (state NOT IN ('published', 'paused') OR num_nulls(terms_id, published_at) = 0),
    -- The guard of one live program on each day.
    CONSTRAINT programs_one_live EXCLUDE USING gist (daterange(from_day, until_day, '[]') WITH &&)
        WHERE (state IN ('published', 'paused'))
);

-- What each version of a program promised. Only ever added to: days name it, and so no edit rewrites what they earned.
CREATE TABLE checkin.terms (
    terms_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    program_id uuid NOT NULL,
    version integer NOT NULL,
    cycle text NOT NULL,
    rewards jsonb NOT NULL,
    UNIQUE (program_id, version)
);

-- One row a shopper and day that is held; the primary key is the guard of one check-in a day. Kept for good: days are
-- what streaks are made of. Cut into months, so that the index that is written to all day is that of one month and
-- stays in memory however many years there are; a shopper's month, which is what a page shows, is in one of them.
CREATE TABLE checkin.days (
    user_id text COLLATE "C" NOT NULL,
    day date NOT NULL,
    terms_id integer NOT NULL,
    -- Days in a row, with this one; and its row in the table of rewards.
    streak integer NOT NULL CHECK (streak >= 0),
    position integer NOT NULL CHECK (position >= 0),
    -- The row it was paid for when it was written; 0 for one that a repair pays for.
    paid integer NOT NULL CHECK (paid >= 0),
    -- 1 checked in, 2 made up, 3 frozen.
    kind smallint NOT NULL CHECK (kind BETWEEN 1 AND 3),
    CHECK (kind = 3 OR (streak > 0 AND position > 0)),
    CHECK (kind <> 3 OR (position = 0 AND paid = 0)),
    PRIMARY KEY (user_id, day)
) PARTITION BY RANGE (day);
CREATE TABLE checkin.days_default PARTITION OF checkin.days DEFAULT;

-- Makes partitions of `months` months from that of `first` on; says how many were lacking. A month that has rows in the
-- default partition already gets none. Made apart and attached: PARTITION OF would lock out everybody.
CREATE FUNCTION checkin.make_months(first date, months integer) RETURNS integer
LANGUAGE plpgsql
AS $$
DECLARE
    month date;
    name text;
    made integer := 0;
BEGIN
    PERFORM pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended('checkin.make_months', 0));
    FOR number IN 0 .. months - 1 LOOP
        month := (pg_catalog.date_trunc('month', first::timestamp) + number * interval '1 month')::date;
        name := 'days_' || pg_catalog.to_char(month, 'YYYYMM');
        IF pg_catalog.to_regclass('checkin.' || name) IS NULL
            AND NOT EXISTS (
                SELECT FROM checkin.days_default WHERE day >= month AND day < (month + interval '1 month')::date
            )
        THEN
            EXECUTE pg_catalog.format(
                'CREATE TABLE checkin.%I (LIKE checkin.days INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', name
            );
            EXECUTE pg_catalog.format(
                'ALTER TABLE checkin.days ATTACH PARTITION checkin.%I FOR VALUES FROM (%L) TO (%L)',
                name, month, (month + interval '1 month')::date
            );
            made := made + 1;
        END IF;
    END LOOP;
    RETURN made;
END
$$;
SELECT checkin.make_months((now() - interval '1 month')::date, 4);

-- What follows from a shopper's days, kept so that checking in costs the same however many there are. Each shopper's
-- row is also the lock of the shopper's days. No index on what a check-in changes: updates stay in place.
CREATE TABLE checkin.states (
    user_id text COLLATE "C" PRIMARY KEY,
    last_day date,
    last_counted date,
    program_id uuid,
    streak integer NOT NULL DEFAULT 0,
    run integer NOT NULL DEFAULT 0 CHECK (run BETWEEN 0 AND streak),
    position integer NOT NULL DEFAULT 0,
    longest integer NOT NULL DEFAULT 0 CHECK (longest >= streak),
    best integer NOT NULL DEFAULT 0 CHECK (best >= run),
    total integer NOT NULL DEFAULT 0 CHECK (total >= best),
    -- What the newest check-in was answered: told again to whoever asks again that day.
    answer jsonb,
    -- The Idempotency-Key it came under.
    answer_key text,
    wants_reminder boolean NOT NULL DEFAULT FALSE,
    -- Make-ups used in a month: the guard of the limit.
    make_up_month date,
    make_ups_used integer NOT NULL DEFAULT 0 CHECK (make_ups_used >= 0)
) WITH (fillfactor = 70);
CREATE INDEX states_to_remind ON checkin.states (user_id) WHERE wants_reminder;

-- Milestones that shoppers reached: once each.
CREATE TABLE checkin.milestones (
    user_id text COLLATE "C" NOT NULL,
    program_id uuid NOT NULL,
    of text NOT NULL CHECK (of IN ('total', 'streak')),
    days integer NOT NULL,
    at timestamptz NOT NULL,
    PRIMARY KEY (user_id, program_id, of, days)
);

-- Repairs, and what each gave: what later repairs need not give again.
CREATE TABLE checkin.make_ups (
    user_id text COLLATE "C" NOT NULL,
    day date NOT NULL,
    program_id uuid NOT NULL,
    at timestamptz NOT NULL,
    rewards jsonb NOT NULL,
    PRIMARY KEY (user_id, day)
);

-- How far the walks over all shoppers have come: the day they are at, and the last shopper looked at.
CREATE TABLE checkin.walks (
    walk text PRIMARY KEY,
    day date NOT NULL,
    after_user_id text COLLATE "C" NOT NULL DEFAULT ''
);

-- Counted by a listener, for operators.
CREATE TABLE checkin.tally (
    program_id uuid NOT NULL,
    day date NOT NULL,
    what text NOT NULL,
    times bigint NOT NULL,
    amount bigint NOT NULL,
    PRIMARY KEY (program_id, day, what)
);
