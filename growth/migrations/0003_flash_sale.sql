CREATE SCHEMA flash_sale;

-- A series makes sales by a schedule: one sale an item and round.
CREATE TABLE flash_sale.series (
    series_id uuid PRIMARY KEY,
    plan jsonb NOT NULL,
    state text NOT NULL DEFAULT 'draft' CHECK (state IN ('draft', 'published', 'paused', 'ended')),
    version integer NOT NULL DEFAULT 1,
    -- Rounds that open until then were planned, with the plan as it was; an edit is about those after it.
    planned_until timestamptz,
    -- Sales that the series paused, and no operator before it: those to resume.
    paused_sales uuid[] NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL,
    published_at timestamptz,
    ended_at timestamptz
);

CREATE INDEX series_to_plan ON flash_sale.series (planned_until) WHERE state = 'published';

CREATE TABLE flash_sale.sales (
    sale_id uuid PRIMARY KEY,
    series_id uuid REFERENCES flash_sale.series,
    title text NOT NULL,
    sku text COLLATE "C" NOT NULL,
    price_fen bigint NOT NULL CHECK (price_fen >= 0),
    list_price_fen bigint NOT NULL CHECK (list_price_fen >= price_fen),
    units_total integer NOT NULL CHECK (units_total > 0),
    -- Units that are held, paid or refunded and not returned. The last word on stock.
    taken integer NOT NULL DEFAULT 0 CHECK (taken BETWEEN 0 AND units_total),
    max_per_shopper integer NOT NULL CHECK (max_per_shopper > 0),
    opens_at timestamptz NOT NULL,
    closes_at timestamptz NOT NULL CHECK (closes_at > opens_at),
    hold_seconds integer NOT NULL CHECK (hold_seconds BETWEEN 30 AND 3600),
    late_payment text NOT NULL CHECK (late_payment IN ('retake', 'refund')),
    refund_returns_units boolean NOT NULL,
    reminder_lead_seconds integer NOT NULL CHECK (reminder_lead_seconds BETWEEN 0 AND 86400),
    protection jsonb NOT NULL,
    state text NOT NULL DEFAULT 'draft' CHECK (state IN ('draft', 'published', 'paused', 'ended')),
    version integer NOT NULL DEFAULT 1,
    -- Raised by each rebuild of Redis, so that a slow rebuild never replaces a newer one.
    generation integer NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL,
    published_at timestamptz,
    ended_at timestamptz,
    sold_out_at timestamptz,
    drawn_at timestamptz,
    draw_seed text,
    UNIQUE (series_id, opens_at, sku)
) WITH (fillfactor = 50);  -- one hot row a sale: leave room for updates in place

CREATE INDEX sales_live ON flash_sale.sales (opens_at) WHERE state IN ('published', 'paused');
CREATE INDEX sales_by_sku ON flash_sale.sales (sku) WHERE state IN ('published', 'paused');
CREATE INDEX sales_ended ON flash_sale.sales (closes_at) WHERE state = 'ended';

-- No foreign key to sales: each insert would lock the hot row once more. The statement that inserts also raises `taken`.
CREATE TABLE flash_sale.claims (
    claim_id uuid PRIMARY KEY,
    sale_id uuid NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    sku text COLLATE "C" NOT NULL,
    units integer NOT NULL CHECK (units > 0),
    price_fen bigint NOT NULL,
    state text NOT NULL CHECK (state IN ('held', 'paid', 'released', 'refunded')),
    held_at timestamptz NOT NULL,
    held_until timestamptz NOT NULL,
    release_reason text CHECK (release_reason IN ('shopper', 'lapsed', 'order_closed', 'operator')),
    order_id text COLLATE "C",
    paid_at timestamptz,
    ended_at timestamptz,
    refunded_units integer NOT NULL DEFAULT 0 CHECK (refunded_units BETWEEN 0 AND units),
    -- Units put back on sale after a refund.
    returned_units integer NOT NULL DEFAULT 0 CHECK (returned_units BETWEEN 0 AND refunded_units),
    CHECK ((state = 'released') = (release_reason IS NOT NULL)),
    CHECK (state NOT IN ('paid', 'refunded') OR order_id IS NOT NULL),
    CHECK ((state = 'refunded') = (refunded_units = units))
);
CREATE INDEX claims_lapsing ON flash_sale.claims (held_until) WHERE state = 'held';
CREATE INDEX claims_by_sale ON flash_sale.claims (sale_id, state);
CREATE INDEX claims_by_shopper ON flash_sale.claims (user_id, claim_id);
CREATE INDEX claims_by_order ON flash_sale.claims (order_id) WHERE order_id IS NOT NULL;

-- Units that one shopper occupies in one sale: the guard of the limit.
CREATE TABLE flash_sale.holdings (
    sale_id uuid NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    units integer NOT NULL CHECK (units >= 0),
    PRIMARY KEY (sale_id, user_id)
);

-- Money that came in for units that could not be given; once for each order line.
CREATE TABLE flash_sale.refunds_required (
    order_id text COLLATE "C" NOT NULL,
    line_id text COLLATE "C" NOT NULL,
    claim_id uuid NOT NULL,
    reason text NOT NULL,
    at timestamptz NOT NULL,
    PRIMARY KEY (order_id, line_id)
);

-- Shoppers who let holds lapse wait longer each time.
CREATE TABLE flash_sale.lapses (
    user_id text COLLATE "C" PRIMARY KEY,
    lapses integer NOT NULL CHECK (lapses > 0),
    last_lapsed_at timestamptz NOT NULL
);
CREATE INDEX lapses_recent ON flash_sale.lapses (last_lapsed_at);

CREATE TABLE flash_sale.allowed (
    sale_id uuid NOT NULL REFERENCES flash_sale.sales,
    user_id text COLLATE "C" NOT NULL,
    PRIMARY KEY (sale_id, user_id)
);

CREATE TABLE flash_sale.reminders (
    sale_id uuid NOT NULL REFERENCES flash_sale.sales,
    user_id text COLLATE "C" NOT NULL,
    asked_at timestamptz NOT NULL,
    -- Set with the event that tells; a row that has it is kept, so that nobody is told twice.
    sent_at timestamptz,
    PRIMARY KEY (sale_id, user_id)
);
CREATE INDEX reminders_waiting ON flash_sale.reminders (sale_id, user_id) WHERE sent_at IS NULL;
CREATE INDEX reminders_by_shopper ON flash_sale.reminders (user_id) WHERE sent_at IS NULL;

-- Entries to the draw of a sale. Written under a share lock of the sale that finds it not drawn, so none comes after.
CREATE TABLE flash_sale.draw_entries (
    sale_id uuid NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    entry_id uuid NOT NULL,
    units integer NOT NULL CHECK (units > 0),
    entered_at timestamptz NOT NULL,
    -- Of winners only: the place in the order of the draw, from 1, and the claim. Once the sale is drawn, the rest lost.
    place integer CHECK (place > 0),
    claim_id uuid,
    PRIMARY KEY (sale_id, user_id),
    CHECK (claim_id IS NULL OR place IS NOT NULL)
);

-- Rounds of a series whose SKU another sale had; they are planned as soon as it is free, until they would open.
CREATE TABLE flash_sale.skipped_rounds (
    series_id uuid NOT NULL REFERENCES flash_sale.series,
    opens_at timestamptz NOT NULL,
    sku text COLLATE "C" NOT NULL,
    -- The sale as it was to be.
    draft jsonb NOT NULL,
    -- The sale that was in the way.
    sale_id uuid NOT NULL,
    skipped_at timestamptz NOT NULL,
    PRIMARY KEY (series_id, opens_at, sku)
);
CREATE INDEX skipped_rounds_to_come ON flash_sale.skipped_rounds (opens_at);

-- How often each sale said no and why, gathered by every api process and added up every few seconds.
CREATE TABLE flash_sale.refusals (
    sale_id uuid NOT NULL,
    reason text NOT NULL,
    refused bigint NOT NULL,
    PRIMARY KEY (sale_id, reason)
);

-- Claims won in each second of a sale, kept by a listener of the outbox.
CREATE TABLE flash_sale.tempo (
    sale_id uuid NOT NULL,
    second timestamptz NOT NULL,
    claims integer NOT NULL,
    units integer NOT NULL,
    PRIMARY KEY (sale_id, second)
);
