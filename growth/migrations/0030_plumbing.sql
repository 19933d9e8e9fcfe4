-- How often the one event behind the cursor was tried by itself while the outside failed. It is the event that asks too
-- much, and is set aside, if others get through meanwhile.
ALTER TABLE plumbing.cursors
    ADD COLUMN tries_alone integer NOT NULL DEFAULT 0 CHECK (tries_alone >= 0);
