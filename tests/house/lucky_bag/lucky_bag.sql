-- In the product: growth/migrations/NNNN_lucky_bag.sql.
CREATE SCHEMA lucky_bag;

CREATE TABLE lucky_bag.campaigns (
    lucky_bag_id uuid        PRIMARY KEY,
    title        text        NOT NULL,
    units_total  integer     NOT NULL,
    points       integer     NOT NULL,
    closes_at    timestamptz NOT NULL,
    taken        integer     NOT NULL DEFAULT 0,
    state        text        NOT NULL DEFAULT 'draft' CHECK (state IN ('draft', 'published', 'paused', 'ended')),
    version      integer     NOT NULL DEFAULT 1,
    created_at   timestamptz NOT NULL,
    published_at timestamptz,
    ended_at     timestamptz,
    CHECK (taken BETWEEN 0 AND units_total)
);

CREATE TABLE lucky_bag.openings (
    lucky_bag_id uuid        NOT NULL REFERENCES lucky_bag.campaigns,
    user_id      text        COLLATE "C" NOT NULL,
    opened_at    timestamptz NOT NULL,
    PRIMARY KEY (user_id, lucky_bag_id)
);
