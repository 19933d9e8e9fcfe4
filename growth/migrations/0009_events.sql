-- events: what shoppers did, as their clients and the shop tell it; and cursors that know which log they are in.

CREATE SCHEMA IF NOT EXISTS events;

-- The log, and in the same row what makes an activity count once: its id, for its shopper and its day. It is read in
-- (xid, position) order like plumbing.outbox; `position` orders the activities of one transaction. Partitioned by the
-- day on which it happened, not on which it came: told again, it always meets itself.
CREATE TABLE events.log (
    day        date        NOT NULL,
    xid        xid8        NOT NULL DEFAULT pg_current_xact_id(),
    position   bigint      NOT NULL,
    -- The shopper's own choice, or "shop/" and a digest of source and id. No client's id has a slash.
    event_id   text        COLLATE "C" NOT NULL,
    type       text        COLLATE "C" NOT NULL,
    -- The shopper.
    subject    text        COLLATE "C" NOT NULL,
    at         timestamptz NOT NULL,
    written_at timestamptz NOT NULL DEFAULT now(),
    data       json        NOT NULL,
    PRIMARY KEY (subject, event_id, day),
    CHECK (day = (at AT TIME ZONE 'UTC')::date)
) PARTITION BY RANGE (day);

CREATE INDEX log_order ON events.log (xid, position);

-- What has no day of its own lands here.
CREATE TABLE events.log_default PARTITION OF events.log DEFAULT;

-- The first days, in UTC, and those just past, which clients may still tell of; the schedule makes the others.
DO $$
DECLARE
    today date := (now() AT TIME ZONE 'UTC')::date;
    day date;
BEGIN
    FOR ahead IN -8..3 LOOP
        day := today + ahead;
        EXECUTE format(
            'CREATE TABLE events.log_%s PARTITION OF events.log FOR VALUES FROM (%L) TO (%L)',
            to_char(day, 'YYYYMMDD'), day, day + 1
        );
    END LOOP;
END
$$;

-- Shoppers whose activities are still to be erased, or to become another's: the first batch goes at once, the schedule
-- takes the rest away. Two ids of one person are merged by the operators' word.
CREATE TABLE events.departures (
    subject   text        COLLATE "C" PRIMARY KEY,
    -- Null to erase.
    successor text        COLLATE "C",
    asked_at  timestamptz NOT NULL DEFAULT now(),
    CHECK (successor <> subject)
);

CREATE INDEX departures_by_successor ON events.departures (successor);

-- Each cursor is in one log: days of a log are dropped when those in it have passed.
ALTER TABLE plumbing.cursors ADD COLUMN log text COLLATE "C" NOT NULL DEFAULT 'plumbing.outbox';
