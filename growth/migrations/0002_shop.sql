-- shop: what the merchant's order system has told, and what became of it.

CREATE SCHEMA IF NOT EXISTS shop;

-- One row for each event heard: what makes it happen once, and what it was answered.
CREATE TABLE shop.events (
    source      text        COLLATE "C" NOT NULL,
    event_id    text        COLLATE "C" NOT NULL,
    type        text        COLLATE "C" NOT NULL,
    -- The order, or the shopper.
    subject     text        COLLATE "C" NOT NULL,
    -- SHA-256 of type and data.
    content     bytea       NOT NULL,
    -- Null only within the transaction that applies the event.
    outcome     text        COLLATE "C",
    code        text        COLLATE "C" NOT NULL DEFAULT '',
    detail      text        NOT NULL DEFAULT '',
    lines       jsonb       NOT NULL DEFAULT '[]',
    received_at timestamptz NOT NULL,
    PRIMARY KEY (source, event_id),
    CHECK (outcome IN ('applied', 'refund_required', 'ignored', 'rejected'))
    -- Room on the page for the outcome, which is written a moment after the row.
) WITH (fillfactor = 70);

-- One row for each order heard of: the facts, each null until it is told, none ever taken back.
CREATE TABLE shop.orders (
    order_id       text        COLLATE "C" PRIMARY KEY,
    user_id        text        COLLATE "C",
    placed_at      timestamptz,
    placed_content bytea,
    paid_at        timestamptz,
    paid_fen       bigint      CHECK (paid_fen >= 0),
    paid_content   bytea,
    closed_at      timestamptz,
    received_at    timestamptz,
    first_heard_at timestamptz NOT NULL,
    CHECK (num_nulls(placed_at, placed_content) IN (0, 2)),
    CHECK (num_nulls(paid_at, paid_fen, paid_content) IN (0, 3)),
    CHECK (user_id IS NOT NULL OR (placed_at IS NULL AND paid_at IS NULL))
) WITH (fillfactor = 70);

-- Who has ever bought.
CREATE INDEX orders_paid_by_user ON shop.orders (user_id) WHERE paid_at IS NOT NULL;

-- The lines as paid; as placed until then.
CREATE TABLE shop.order_lines (
    order_id       text    COLLATE "C" NOT NULL REFERENCES shop.orders,
    line_id        text    COLLATE "C" NOT NULL,
    sku            text    COLLATE "C" NOT NULL,
    units          integer NOT NULL CHECK (units > 0),
    amount_fen     bigint  NOT NULL CHECK (amount_fen >= 0),
    claim_id       uuid,
    seat_id        uuid,
    coupon_id      uuid,
    refunded_units integer NOT NULL DEFAULT 0,
    refunded_fen   bigint  NOT NULL DEFAULT 0,
    PRIMARY KEY (order_id, line_id),
    CHECK (num_nonnulls(claim_id, seat_id) <= 1),
    CONSTRAINT order_lines_refunded_units CHECK (refunded_units BETWEEN 0 AND units),
    CONSTRAINT order_lines_refunded_fen CHECK (refunded_fen BETWEEN 0 AND amount_fen)
) WITH (fillfactor = 90);

-- Refunds as told. One told before the payment may be of more than the line turns out to have: it counts as far as the
-- line goes.
CREATE TABLE shop.refunds (
    order_id    text        COLLATE "C" NOT NULL REFERENCES shop.orders,
    refund_id   text        COLLATE "C" NOT NULL,
    content     bytea       NOT NULL,
    refunded_at timestamptz NOT NULL,
    PRIMARY KEY (order_id, refund_id)
);

CREATE TABLE shop.refund_lines (
    order_id   text    COLLATE "C" NOT NULL,
    refund_id  text    COLLATE "C" NOT NULL,
    line_id    text    COLLATE "C" NOT NULL,
    units      integer NOT NULL CHECK (units >= 0),
    amount_fen bigint  NOT NULL CHECK (amount_fen >= 0),
    PRIMARY KEY (order_id, refund_id, line_id),
    FOREIGN KEY (order_id, refund_id) REFERENCES shop.refunds,
    CHECK (units > 0 OR amount_fen > 0)
);

-- Shoppers as the shop registered them; of several tellings the earliest.
CREATE TABLE shop.shoppers (
    user_id       text        COLLATE "C" PRIMARY KEY,
    registered_at timestamptz NOT NULL,
    source        text        COLLATE "C",
    device_id     text        COLLATE "C",
    address       text        COLLATE "C"
);
