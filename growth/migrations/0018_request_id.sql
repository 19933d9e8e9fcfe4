-- request_id: which request an event came of, so that it can be followed to the worker and to the webhooks.

-- Null where there was none (the clock's doing), where several had a hand in it, and in what older versions wrote.
-- Not indexed: it is asked for by people, with a time, and every event would pay for it.
ALTER TABLE plumbing.outbox ADD COLUMN request_id text COLLATE "C";
