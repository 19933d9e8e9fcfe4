CREATE SCHEMA pack;

-- The one pack for new shoppers, as operators have configured it.
CREATE TABLE pack.packs (
    pack_id smallint PRIMARY KEY CHECK (pack_id = 1),
    enabled boolean NOT NULL,
    -- [{"type": "points", "points": 10}, …]
    rewards jsonb NOT NULL,
    registered_within_days integer NOT NULL CHECK (registered_within_days BETWEEN 1 AND 365),
    -- {"max_grants": 1000, "max_value": null, "per": "all"}; NULL without one.
    budget jsonb,
    version integer NOT NULL,
    changed_at timestamptz
);
INSERT INTO pack.packs (pack_id, enabled, rewards, registered_within_days, version) VALUES (1, FALSE, '[]', 7, 1);

-- Who had the pack, or never will: once a person. Kept for good, that is what it is for; one short row a shopper.
CREATE TABLE pack.recipients (
    user_id text COLLATE "C" PRIMARY KEY,
    at timestamptz NOT NULL,
    -- given; merged: an id that was merged into another before it had the pack.
    outcome text NOT NULL CHECK (outcome IN ('given', 'merged')),
    -- Rewards in the pack then, and how many of them were given: a spent budget, or a coupon that is gone, gives fewer.
    rewards integer NOT NULL CHECK (rewards >= 0),
    given integer NOT NULL CHECK (given BETWEEN 0 AND rewards)
);
CREATE INDEX recipients_by_time ON pack.recipients (at) WHERE outcome = 'given';
