-- name: No activity carries a transaction number that Postgres has not reached.
SELECT entry.subject, entry.event_id, entry.xid, entry.position
FROM activity.log AS entry
WHERE entry.xid >= pg_snapshot_xmax(pg_current_snapshot())
ORDER BY entry.xid DESC, entry.position DESC
LIMIT 10;
