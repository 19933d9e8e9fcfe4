-- activity: what stands in the log are activities; "event" is the word of the outbox.

UPDATE plumbing.cursors SET log = 'activity.log' WHERE log = 'events.log';
UPDATE plumbing.dead_letters SET log = 'activity.log' WHERE log = 'events.log';

-- The days of the log, its indexes and what shares the locks of shoppers go along.
ALTER SCHEMA events RENAME TO activity;

-- From here on for processes of the release before, which may run beside this one; the next release drops it all
-- (DROP SCHEMA events CASCADE). They write, read and move activities as before. They neither drop old days nor say how
-- far readers of this log are behind: both wait for this release.
CREATE SCHEMA events;
CREATE VIEW events.log AS SELECT * FROM activity.log;
CREATE VIEW events.departures AS SELECT * FROM activity.departures;
-- They look for rows to prune by their place, and know the readers' cursors by the old name: they are to find nothing.
CREATE VIEW events.log_default AS SELECT ctid, * FROM activity.log_default WHERE FALSE;
CREATE FUNCTION events.enter(stripes integer[], known bigint) RETURNS void LANGUAGE sql VOLATILE AS $$
    SELECT plumbing.enter(stripes, known)
$$;

-- Nor can they make days ahead. Those of the next two weeks look made to them, and are made by this release.
DO $$
DECLARE
    today date := (now() AT TIME ZONE 'UTC')::date;
BEGIN
    FOR ahead IN 0..14 LOOP
        EXECUTE format('CREATE TYPE events.log_%s AS ()', to_char(today + ahead, 'YYYYMMDD'));
    END LOOP;
END
$$;
