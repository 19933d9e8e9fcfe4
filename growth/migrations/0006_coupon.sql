CREATE SCHEMA coupon;

CREATE TABLE coupon.templates (
    template_id uuid PRIMARY KEY,
    title text NOT NULL,
    description text,
    -- The promise: fixed once published, so that coupons need not keep a copy of it.
    -- {"type": "fixed", "off_fen": 1000} or {"type": "percent", "percent_off": 15, "max_off_fen": 5000}
    discount jsonb NOT NULL,
    threshold_fen bigint NOT NULL CHECK (threshold_fen >= 0),
    -- Empty: all.
    skus jsonb NOT NULL,
    -- {"type": "dates", "valid_from": …, "valid_until": …} or {"type": "days", "days": 30, "starts_in_days": 0}
    validity jsonb NOT NULL,
    after_refund text NOT NULL CHECK (after_refund IN ('return', 'stay_used')),
    -- How coupons are given.
    units_total integer NOT NULL CHECK (units_total > 0),
    units_per_day integer CHECK (units_per_day > 0),
    max_per_shopper integer NOT NULL CHECK (max_per_shopper > 0),
    max_per_shopper_per_day integer CHECK (max_per_shopper_per_day > 0),
    claimable boolean NOT NULL,
    opens_at timestamptz,
    closes_at timestamptz CHECK (closes_at > opens_at),
    expiring_days integer NOT NULL CHECK (expiring_days >= 0),
    -- Coupons there ever were, and units kept for printed codes that nobody has redeemed yet. The last word on quota.
    issued integer NOT NULL DEFAULT 0 CHECK (issued >= 0),
    codes_left integer NOT NULL DEFAULT 0 CHECK (codes_left >= 0),
    -- Of shoppers who took one themselves: how many on the last such day, in the merchant's zone.
    taken_day date,
    taken_on_day integer NOT NULL DEFAULT 0 CHECK (taken_on_day >= 0),
    state text NOT NULL DEFAULT 'draft' CHECK (state IN ('draft', 'published', 'paused', 'ended')),
    version integer NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL,
    published_at timestamptz,
    ended_at timestamptz,
    CHECK (issued + codes_left <= units_total)
) WITH (fillfactor = 50);  -- one hot row a template: leave room for updates in place

CREATE INDEX templates_live ON coupon.templates (template_id) WHERE state IN ('published', 'paused');

-- Kept for good: an order may be told of years later, and a grant that is asked for again is known by its row.
-- No foreign key to templates: each insert would lock the hot row once more. The statement that inserts a coupon also
-- raises its template.
CREATE TABLE coupon.coupons (
    coupon_id uuid PRIMARY KEY,
    template_id uuid NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    state text NOT NULL CHECK (state IN ('issued', 'locked', 'used', 'expired', 'voided')),
    source text NOT NULL CHECK (source IN ('taken', 'code', 'granted')),
    reason text NOT NULL,
    issued_at timestamptz NOT NULL,
    valid_from timestamptz NOT NULL,
    valid_until timestamptz NOT NULL CHECK (valid_until > valid_from),
    -- When to tell that it ends soon; NULL once told, and where it is not to be told.
    expiring_at timestamptz,
    -- The one order that has it.
    order_id text COLLATE "C",
    locked_at timestamptz,
    used_at timestamptz,
    -- Paid for the order lines that it was used on.
    paid_fen bigint CHECK (paid_fen >= 0),
    -- Taken back. A coupon that an order has is voided when the order gives it back.
    revoked_at timestamptz,
    ended_at timestamptz,
    CHECK ((state IN ('locked', 'used')) = (order_id IS NOT NULL)),
    CHECK ((state = 'locked') = (locked_at IS NOT NULL)),
    CHECK ((state = 'used') = (used_at IS NOT NULL)),
    CHECK ((state = 'used') = (paid_fen IS NOT NULL)),
    CHECK ((state IN ('expired', 'voided')) = (ended_at IS NOT NULL)),
    CHECK (state <> 'voided' OR revoked_at IS NOT NULL),
    CHECK (state NOT IN ('issued', 'expired') OR revoked_at IS NULL)
) WITH (fillfactor = 85);

CREATE INDEX coupons_of_shopper ON coupon.coupons (user_id, issued_at DESC, coupon_id DESC);
CREATE INDEX coupons_of_template ON coupon.coupons (template_id, state, coupon_id) INCLUDE (paid_fen);
CREATE INDEX coupons_of_order ON coupon.coupons (order_id) WHERE order_id IS NOT NULL;
CREATE INDEX coupons_ending ON coupon.coupons (valid_until) WHERE state = 'issued';
CREATE INDEX coupons_to_tell ON coupon.coupons (expiring_at) WHERE state = 'issued' AND expiring_at IS NOT NULL;

-- What one shopper took of one template, by hand or by code: the guard of the limits. Grants do not count here.
CREATE TABLE coupon.takings (
    template_id uuid NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    taken integer NOT NULL CHECK (taken > 0),
    -- The last day on which it took one, in the merchant's zone, and how many then.
    day date NOT NULL,
    taken_on_day integer NOT NULL CHECK (taken_on_day > 0),
    PRIMARY KEY (template_id, user_id)
) WITH (fillfactor = 85);
CREATE INDEX takings_of_shopper ON coupon.takings (user_id);

-- Order lines that were paid with a coupon that they could not have; once for each line. Kept as orders are.
CREATE TABLE coupon.refunds_required (
    order_id text COLLATE "C" NOT NULL,
    line_id text COLLATE "C" NOT NULL,
    coupon_id uuid NOT NULL,
    reason text NOT NULL,
    amount_fen bigint NOT NULL CHECK (amount_fen >= 0),
    at timestamptz NOT NULL,
    PRIMARY KEY (order_id, line_id)
);
CREATE INDEX refunds_required_of_coupon ON coupon.refunds_required (coupon_id);

-- Codes for print, made in batches; only their hashes are kept.
CREATE TABLE coupon.code_batches (
    batch_id uuid PRIMARY KEY,
    template_id uuid NOT NULL,
    name text NOT NULL,
    codes integer NOT NULL CHECK (codes BETWEEN 1 AND 10000),
    redeemed integer NOT NULL DEFAULT 0 CHECK (redeemed BETWEEN 0 AND codes),
    made_at timestamptz NOT NULL,
    revoked_at timestamptz
);
CREATE INDEX code_batches_of_template ON coupon.code_batches (template_id, batch_id);

CREATE TABLE coupon.codes (
    -- SHA-256 of the code as it is spelled without dashes.
    code_hash bytea PRIMARY KEY CHECK (octet_length(code_hash) = 32),
    batch_id uuid NOT NULL,
    coupon_id uuid,
    redeemed_at timestamptz,
    CHECK ((coupon_id IS NULL) = (redeemed_at IS NULL))
) WITH (fillfactor = 90);
CREATE INDEX codes_of_batch ON coupon.codes (batch_id);
