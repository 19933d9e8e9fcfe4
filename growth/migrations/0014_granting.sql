-- granting: the one door through which rewards are given, each key once, within the budget of its campaign.

CREATE SCHEMA IF NOT EXISTS granting;

CREATE TABLE granting.grants (
    key        text        COLLATE "C" PRIMARY KEY CHECK (length(key) BETWEEN 1 AND 200),
    -- Also the id of the transfer, or of the coupon, that it became.
    grant_id   uuid        NOT NULL UNIQUE,
    user_id    text        COLLATE "C" NOT NULL,
    reward     jsonb       NOT NULL,
    reason     text        COLLATE "C" NOT NULL,
    subject    text        COLLATE "C" NOT NULL,
    budget_id  uuid,
    outcome    text        COLLATE "C" NOT NULL DEFAULT 'granted',
    granted_at timestamptz NOT NULL,
    revoked_at timestamptz,
    revoked_for text       COLLATE "C",
    CHECK (outcome IN ('granted', 'budget_spent', 'coupon_gone')),
    CHECK (num_nulls(revoked_at, revoked_for) IN (0, 2)),
    CHECK (revoked_at IS NULL OR outcome = 'granted')
);

CREATE INDEX grants_by_user ON granting.grants (user_id, grant_id);

-- How much a campaign may give.
CREATE TABLE granting.budgets (
    budget_id  uuid   PRIMARY KEY,
    max_grants bigint CHECK (max_grants > 0),
    max_value  bigint CHECK (max_value > 0),
    per        text   COLLATE "C" NOT NULL CHECK (per IN ('day', 'all')),
    zone       text   COLLATE "C" NOT NULL,
    -- The most it was ever allowed: an operator may lower a budget below what was given by then.
    most_grants bigint,
    most_value  bigint
);

-- What it has given: on each day, or in all (then the day is -infinity).
CREATE TABLE granting.spendings (
    budget_id uuid   NOT NULL REFERENCES granting.budgets,
    day       date   NOT NULL,
    grants    bigint NOT NULL CHECK (grants >= 0),
    value     bigint NOT NULL CHECK (value >= 0),
    PRIMARY KEY (budget_id, day)
) WITH (fillfactor = 50);
