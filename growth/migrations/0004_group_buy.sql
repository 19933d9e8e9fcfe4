CREATE SCHEMA group_buy;

CREATE TABLE group_buy.campaigns (
    group_buy_id uuid PRIMARY KEY,
    title text NOT NULL,
    sku text COLLATE "C" NOT NULL,
    list_price_fen bigint NOT NULL CHECK (list_price_fen >= price_fen),
    price_fen bigint NOT NULL CHECK (price_fen >= 0),
    leader_price_fen bigint CHECK (leader_price_fen BETWEEN 0 AND price_fen),
    team_size integer NOT NULL CHECK (team_size BETWEEN 2 AND 100),
    -- Sizes that rise and prices that fall: [{"size": 3, "price_fen": 5000}, …]; empty without tiers.
    tiers jsonb NOT NULL,
    team_hours integer NOT NULL CHECK (team_hours BETWEEN 1 AND 168),
    hold_seconds integer NOT NULL CHECK (hold_seconds BETWEEN 60 AND 3600),
    units_total integer NOT NULL CHECK (units_total > 0),
    -- Units of seats that are held, paid or sold. The last word on stock.
    taken integer NOT NULL DEFAULT 0 CHECK (taken BETWEEN 0 AND units_total),
    max_per_shopper integer NOT NULL CHECK (max_per_shopper > 0),
    opens_at timestamptz NOT NULL,
    closes_at timestamptz NOT NULL CHECK (closes_at > opens_at),
    complete_at_least integer CHECK (complete_at_least BETWEEN 1 AND team_size),
    newcomers_at_least integer NOT NULL CHECK (newcomers_at_least BETWEEN 0 AND team_size),
    late_payment text NOT NULL CHECK (late_payment IN ('refund', 'open_new_team')),
    nudge_lead_seconds integer NOT NULL CHECK (nudge_lead_seconds BETWEEN 0 AND 86400),
    state text NOT NULL DEFAULT 'draft' CHECK (state IN ('draft', 'published', 'paused', 'ended')),
    version integer NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL,
    published_at timestamptz,
    ended_at timestamptz
) WITH (fillfactor = 50);  -- one hot row a campaign: leave room for updates in place

CREATE INDEX campaigns_live ON group_buy.campaigns (opens_at) WHERE state IN ('published', 'paused');
CREATE INDEX campaigns_ended ON group_buy.campaigns (closes_at) WHERE state = 'ended';

-- No foreign keys to campaigns and teams: each insert would lock the hot row once more. The statement that inserts a
-- seat also raises its team and its campaign.
CREATE TABLE group_buy.teams (
    team_id uuid PRIMARY KEY,
    group_buy_id uuid NOT NULL,
    state text NOT NULL DEFAULT 'forming' CHECK (state IN ('forming', 'complete', 'failed')),
    -- full, threshold, operator; expired, leader_left, operator.
    end_reason text CHECK (end_reason IN ('full', 'threshold', 'operator', 'expired', 'leader_left')),
    opened_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    ended_at timestamptz,
    -- The terms, as they were when the team was opened.
    team_size integer NOT NULL CHECK (team_size BETWEEN 2 AND 100),
    complete_at_least integer NOT NULL CHECK (complete_at_least BETWEEN 1 AND team_size),
    newcomers_at_least integer NOT NULL CHECK (newcomers_at_least BETWEEN 0 AND team_size),
    -- Of seats that occupy a place: all; those paid; those of shoppers who bought before; paid ones of newcomers.
    seats_taken integer NOT NULL CHECK (seats_taken BETWEEN 0 AND team_size),
    seats_paid integer NOT NULL DEFAULT 0 CHECK (seats_paid BETWEEN 0 AND seats_taken),
    veterans_taken integer NOT NULL CHECK (veterans_taken BETWEEN 0 AND seats_taken),
    newcomers_paid integer NOT NULL DEFAULT 0 CHECK (newcomers_paid BETWEEN 0 AND seats_paid),
    leader_seat_id uuid NOT NULL,
    -- When to say that it expires soon; when that was said, and that one seat is left. Once each.
    nudge_at timestamptz NOT NULL,
    expiring_soon_at timestamptz,
    one_seat_left_at timestamptz,
    CHECK ((state = 'forming') = (end_reason IS NULL)),
    CHECK ((state = 'forming') = (ended_at IS NULL)),
    CHECK (state <> 'complete' OR seats_paid > 0),
    CHECK (state <> 'failed' OR seats_taken = 0)
) WITH (fillfactor = 70);

CREATE INDEX teams_expiring ON group_buy.teams (expires_at) WHERE state = 'forming';
CREATE INDEX teams_joinable ON group_buy.teams (group_buy_id, (team_size - seats_taken), expires_at, team_id)
    WHERE state = 'forming' AND seats_taken < team_size;
CREATE INDEX teams_one_seat_left ON group_buy.teams (expires_at)
    WHERE state = 'forming' AND one_seat_left_at IS NULL AND seats_taken = team_size - 1 AND seats_paid > 0;
CREATE INDEX teams_to_nudge ON group_buy.teams (nudge_at) WHERE state = 'forming' AND expiring_soon_at IS NULL;
CREATE INDEX teams_by_campaign ON group_buy.teams (group_buy_id, team_id);

CREATE TABLE group_buy.seats (
    seat_id uuid PRIMARY KEY,
    team_id uuid NOT NULL,
    group_buy_id uuid NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    -- As others see it: the first character and a star. The whole name is not kept.
    nickname text NOT NULL,
    sku text COLLATE "C" NOT NULL,
    price_fen bigint NOT NULL,
    is_newcomer boolean NOT NULL,
    state text NOT NULL
        CHECK (state IN ('held', 'paid', 'confirmed', 'refund_due', 'refunded', 'released')),
    held_at timestamptz NOT NULL,
    held_until timestamptz NOT NULL,
    release_reason text CHECK (
        release_reason IN ('shopper', 'lapsed', 'order_closed', 'team_complete', 'team_failed', 'newcomers_only')),
    order_id text COLLATE "C",
    line_id text COLLATE "C",
    paid_at timestamptz,
    -- Paid for the order line.
    paid_fen bigint,
    -- When its team was complete.
    confirmed_at timestamptz,
    ended_at timestamptz,
    occupies boolean GENERATED ALWAYS AS (confirmed_at IS NOT NULL OR state IN ('held', 'paid')) STORED,
    CHECK ((state = 'released') = (release_reason IS NOT NULL)),
    CHECK (state IN ('held', 'released') OR num_nulls(order_id, line_id, paid_at, paid_fen) = 0),
    CHECK (confirmed_at IS NULL OR state IN ('confirmed', 'refunded')),
    CHECK (state <> 'confirmed' OR confirmed_at IS NOT NULL)
) WITH (fillfactor = 80);

-- The guard of one live team per shopper and campaign.
CREATE UNIQUE INDEX seats_one_live ON group_buy.seats (group_buy_id, user_id) WHERE state IN ('held', 'paid');
CREATE INDEX seats_of_team ON group_buy.seats (team_id, held_at);
CREATE INDEX seats_lapsing ON group_buy.seats (held_until) WHERE state = 'held';
CREATE INDEX seats_by_shopper ON group_buy.seats (user_id, seat_id);
CREATE INDEX seats_by_order ON group_buy.seats (order_id) WHERE order_id IS NOT NULL;

-- Seats that one shopper occupies in one campaign: the guard of the limit.
CREATE TABLE group_buy.holdings (
    group_buy_id uuid NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    seats integer NOT NULL CHECK (seats >= 0),
    PRIMARY KEY (group_buy_id, user_id)
) WITH (fillfactor = 80);

-- Money to pay back, whole or in part; once for each order line.
CREATE TABLE group_buy.refunds_required (
    order_id text COLLATE "C" NOT NULL,
    line_id text COLLATE "C" NOT NULL,
    seat_id uuid NOT NULL,
    reason text NOT NULL,
    amount_fen bigint NOT NULL CHECK (amount_fen >= 0),
    at timestamptz NOT NULL,
    PRIMARY KEY (order_id, line_id)
);
CREATE INDEX refunds_required_of_seat ON group_buy.refunds_required (seat_id);
