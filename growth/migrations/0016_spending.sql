-- spending: points that shoppers spent in the shop, and what of them came back.

CREATE TABLE ledger.spends (
    -- The shop's own.
    spend_id text        COLLATE "C" PRIMARY KEY,
    user_id  text        COLLATE "C" NOT NULL,
    points   bigint      NOT NULL CHECK (points > 0),
    returned bigint      NOT NULL DEFAULT 0,
    -- The transfer that took them.
    transfer_id uuid     NOT NULL UNIQUE,
    spent_at timestamptz NOT NULL,
    CONSTRAINT spends_returned CHECK (returned BETWEEN 0 AND points)
);

CREATE INDEX spends_by_user ON ledger.spends (user_id);

CREATE TABLE ledger.returns (
    spend_id    text        COLLATE "C" NOT NULL REFERENCES ledger.spends,
    return_id   text        COLLATE "C" NOT NULL,
    points      bigint      NOT NULL CHECK (points > 0),
    returned_at timestamptz NOT NULL,
    PRIMARY KEY (spend_id, return_id)
);
