-- retention: which mechanics there are, by number: that of their bit in `active_days.kinds`, less 7, so 23 at most.

CREATE TABLE retention.mechanics (
    mechanic smallint PRIMARY KEY CHECK (mechanic BETWEEN 1 AND 23),
    -- As events call it.
    name text COLLATE "C" NOT NULL UNIQUE
);
INSERT INTO retention.mechanics (mechanic, name)
VALUES (1, 'flash_sale'), (2, 'group_buy'), (3, 'referral'), (4, 'checkin'), (5, 'task'), (6, 'coupon');

-- A number has four bits of a segment, as ever, and its higher ones lie above those of the source: every segment that is
-- counted keeps its number, and processes of the release before go on.
ALTER TABLE retention.shoppers
    DROP CONSTRAINT shoppers_mechanic_check,
    ADD CONSTRAINT shoppers_mechanic_check CHECK (mechanic BETWEEN 0 AND 23) NOT VALID;
