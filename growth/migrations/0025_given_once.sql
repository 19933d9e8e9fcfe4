-- What was looked at, answered or given before, so that it is once: milestones of check-ins, keys, points that come back.

-- checkin: the terms by which all milestones up to now were looked at; NULL: with the next check-in all of them are.
ALTER TABLE checkin.states ADD COLUMN judged_terms_id integer;

-- When the newest check-in was answered: its key is kept for a day from then on. Of those before this nothing is known,
-- so their keys are kept no longer.
ALTER TABLE checkin.states ADD COLUMN answered_at timestamptz;

-- ledger: the lot that points were first in, where a return has brought them into another.
ALTER TABLE ledger.lots ADD COLUMN origin uuid;
CREATE INDEX lots_returned ON ledger.lots (origin) WHERE origin IS NOT NULL;
