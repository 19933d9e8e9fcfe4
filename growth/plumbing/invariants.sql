-- name: No event carries a transaction number that Postgres has not reached.
SELECT event.event_id, event.xid, event.position
FROM plumbing.outbox AS event
WHERE event.xid >= pg_snapshot_xmax(pg_current_snapshot())
ORDER BY event.xid DESC, event.position DESC
LIMIT 10;

-- name: No subscriber has read past a transaction that is still running.
SELECT cursor.subscription, cursor.xid, cursor.position
FROM plumbing.cursors AS cursor
WHERE cursor.xid >= pg_snapshot_xmin(pg_current_snapshot());

-- name: Every operator has a role, and is revoked no earlier than made.
SELECT operator.name, operator.role, operator.created_at, operator.revoked_at
FROM plumbing.operators AS operator
WHERE operator.role NOT IN (1, 2, 3)
   OR operator.revoked_at < operator.created_at;

-- name: An answer is kept for a day, not for two, as long as newer ones come.
SELECT stored.scope, stored.key, stored.created_at
FROM plumbing.idempotency AS stored
WHERE stored.created_at < (SELECT max(newest.created_at) FROM plumbing.idempotency AS newest) - INTERVAL '2 days';

-- name: Nobody leads a task for longer than its lease can be.
SELECT lease.name, lease.holder, lease.expires_at
FROM plumbing.leases AS lease
WHERE lease.expires_at > clock_timestamp() + INTERVAL '2 days';
