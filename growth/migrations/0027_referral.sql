-- referral: a first order that is found again is given for under keys of its own.

-- How often a first order was found for the relation; part of the keys of what is given for it. 0 for those found before
-- this was counted, whose keys are without it.
ALTER TABLE referral.relations ADD COLUMN first_times integer NOT NULL DEFAULT 0 CHECK (first_times >= 0);
