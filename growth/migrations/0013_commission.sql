-- referral: money for inviters. What an order earns them, what they withdraw, and what is looked at by a person first.

CREATE SCHEMA IF NOT EXISTS referral;

-- One row for each order and level: what the inviter gets for it, as the facts of the order stand. Kept for good: these
-- explain the ledger. Level 3 is impossible here, whatever a program says.
CREATE TABLE referral.commissions (
    commission_id uuid PRIMARY KEY,
    order_id text COLLATE "C" NOT NULL,
    level smallint NOT NULL CHECK (level IN (1, 2)),
    inviter_id text COLLATE "C" NOT NULL,
    -- Who paid the order.
    invitee_id text COLLATE "C" NOT NULL,
    relation_id uuid NOT NULL,
    -- The terms as they were when the order was paid.
    program_id uuid NOT NULL,
    terms_version integer NOT NULL,
    kind text COLLATE "C" NOT NULL CHECK (kind IN ('percent', 'fixed')),
    basis_points integer NOT NULL CHECK (basis_points BETWEEN 0 AND 10000),
    fixed_fen bigint NOT NULL CHECK (fixed_fen >= 0),
    available_after_days integer NOT NULL CHECK (available_after_days >= 0),
    -- What the inviter's day is capped at, and what that left for this one, decided when it first earned.
    cap_fen bigint CHECK (cap_fen > 0),
    granted_fen bigint CHECK (granted_fen >= 0),
    paid_at timestamptz NOT NULL,
    -- The month of the payment in the merchant's zone: the leaderboard's.
    month date NOT NULL CHECK (extract(day FROM month) = 1),
    -- The lines as last told: [{"line_id", "sku", "units", "amount_fen", "refunded_units", "refunded_fen",
    -- "is_in_scope", "kept_fen", "commission_fen"}, …]
    lines jsonb NOT NULL,
    -- Whether anything in scope was not paid back.
    is_kept boolean NOT NULL,
    -- What the ledger has moved or holds for it, never anything else.
    amount_fen bigint NOT NULL CHECK (amount_fen >= 0),
    -- Grows with each change of amount_fen; the ledger's transfers are named by it.
    revision integer NOT NULL CHECK (revision >= 0),
    state text COLLATE "C" NOT NULL CHECK (state IN ('pending', 'review', 'available', 'void')),
    received_at timestamptz,
    -- When it becomes available; unknown until the order is received.
    due_at timestamptz,
    available_at timestamptz,
    -- When risk was last looked at; a list of reasons where something was found.
    judged_at timestamptz,
    review_reasons jsonb NOT NULL DEFAULT '[]',
    -- Released by an operator: not put to review again.
    is_cleared boolean NOT NULL DEFAULT FALSE,
    -- Why an operator released or voided it.
    decision text COLLATE "C",
    created_at timestamptz NOT NULL,
    UNIQUE (order_id, level),
    CHECK (inviter_id <> invitee_id OR state IN ('review', 'void', 'available')),
    CHECK (state <> 'void' OR amount_fen = 0),
    CHECK (state <> 'available' OR available_at IS NOT NULL),
    CHECK ((received_at IS NULL) = (due_at IS NULL)),
    CHECK (amount_fen = 0 OR revision > 0),
    CHECK (amount_fen = 0 OR is_kept),
    CHECK (amount_fen <= fixed_fen OR kind = 'percent'),
    CHECK (amount_fen <= granted_fen),
    CHECK (cap_fen IS NULL OR revision = 0 OR granted_fen IS NOT NULL)
) WITH (fillfactor = 70);

CREATE INDEX commissions_of_inviter ON referral.commissions (inviter_id, commission_id);
CREATE INDEX commissions_of_invitee ON referral.commissions (invitee_id, commission_id);
CREATE INDEX commissions_due ON referral.commissions (due_at, commission_id)
    WHERE state = 'pending' AND due_at IS NOT NULL;
CREATE INDEX commissions_unjudged ON referral.commissions (commission_id)
    WHERE state = 'pending' AND judged_at IS NULL;
CREATE INDEX commissions_in_review ON referral.commissions (commission_id) WHERE state = 'review';
-- Which order of an invitee is the first that was kept.
CREATE INDEX commissions_first_order ON referral.commissions (invitee_id, level, paid_at, order_id)
    WHERE kind = 'fixed' AND is_kept;
CREATE INDEX commissions_first_order_holder ON referral.commissions (invitee_id, level)
    WHERE kind = 'fixed' AND amount_fen > 0;

-- Every change of what a commission is worth, and why. Kept as long as its commission.
CREATE TABLE referral.commission_steps (
    commission_id uuid NOT NULL,
    revision integer NOT NULL CHECK (revision > 0),
    at timestamptz NOT NULL,
    from_fen bigint NOT NULL CHECK (from_fen >= 0),
    to_fen bigint NOT NULL CHECK (to_fen >= 0),
    -- What it was when this happened: the ledger moves another way once it is available.
    state text COLLATE "C" NOT NULL CHECK (state IN ('pending', 'review', 'available')),
    why text COLLATE "C" NOT NULL
        CHECK (why IN ('paid', 'refunded', 'other_first_order', 'first_order', 'voided')),
    PRIMARY KEY (commission_id, revision),
    CHECK (from_fen <> to_fen)
);

-- What one inviter was granted for orders paid on one day: the guard of the cap. Only where terms have one; old days are
-- pruned.
CREATE TABLE referral.commission_days (
    inviter_id text COLLATE "C" NOT NULL,
    day date NOT NULL,
    fen bigint NOT NULL CHECK (fen >= 0),
    -- What the last who asked was granted.
    granted_fen bigint NOT NULL CHECK (granted_fen BETWEEN 0 AND fen),
    PRIMARY KEY (inviter_id, day)
) WITH (fillfactor = 50);
CREATE INDEX commission_days_by_day ON referral.commission_days (day);

-- How fast an inviter's invitees came.
CREATE INDEX relations_by_inviter_time ON referral.relations (inviter_id, bound_at);

-- What operators decide about withdrawals and reviews; one row each, changed under its version.
CREATE TABLE referral.rules (
    name text COLLATE "C" PRIMARY KEY CHECK (name IN ('withdrawal', 'review')),
    version integer NOT NULL DEFAULT 1,
    rules jsonb NOT NULL
);
INSERT INTO referral.rules (name, rules) VALUES ('withdrawal', '{}'), ('review', '{}');

-- Where a shopper's money goes.
CREATE TABLE referral.payees (
    user_id text COLLATE "C" PRIMARY KEY,
    kind text COLLATE "C" NOT NULL CHECK (kind IN ('wechat', 'alipay', 'bank')),
    account text COLLATE "C" NOT NULL,
    name text NOT NULL,
    changed_at timestamptz NOT NULL
);
CREATE INDEX payees_by_account ON referral.payees (kind, account);

-- One row for each withdrawal asked for. Kept for good: these are the shop's books.
CREATE TABLE referral.withdrawals (
    withdrawal_id uuid PRIMARY KEY,
    user_id text COLLATE "C" NOT NULL,
    -- Who may have one open. The shopper; another id only where two ids of one person were merged mid-payment.
    slot text COLLATE "C" NOT NULL,
    amount_fen bigint NOT NULL CHECK (amount_fen > 0),
    -- Part of the amount that the house keeps.
    fee_fen bigint NOT NULL CHECK (fee_fen BETWEEN 0 AND amount_fen - 1),
    -- {"kind", "account", "name"}, as it was when asked for; null if the shopper named none.
    payee jsonb,
    day date NOT NULL,
    state text COLLATE "C" NOT NULL
        CHECK (state IN ('requested', 'approved', 'paying', 'paid', 'failed', 'rejected', 'cancelled')),
    requested_at timestamptz NOT NULL,
    approved_at timestamptz,
    -- Who pays it, decided when approved, so that nobody else pays it too.
    payout text COLLATE "C" CHECK (payout IN ('manual', 'sandbox')),
    -- When the payout was first asked for.
    sent_at timestamptz,
    -- When to look again at what became of it.
    look_at timestamptz,
    looks integer NOT NULL DEFAULT 0 CHECK (looks >= 0),
    -- What the payout service said last.
    said text COLLATE "C",
    ended_at timestamptz,
    reason text COLLATE "C",
    reference text COLLATE "C",
    CHECK ((state IN ('paid', 'failed', 'rejected', 'cancelled')) = (ended_at IS NOT NULL)),
    CHECK ((state IN ('failed', 'rejected')) = (reason IS NOT NULL)),
    CHECK (state NOT IN ('approved', 'paying', 'paid') OR (approved_at IS NOT NULL AND payout IS NOT NULL)),
    CHECK (state <> 'paying' OR (sent_at IS NOT NULL AND look_at IS NOT NULL))
) WITH (fillfactor = 80);

-- The guard of one open withdrawal.
CREATE UNIQUE INDEX withdrawals_one_open ON referral.withdrawals (slot)
    WHERE state IN ('requested', 'approved', 'paying');
CREATE INDEX withdrawals_of_shopper ON referral.withdrawals (user_id, withdrawal_id);
CREATE INDEX withdrawals_open ON referral.withdrawals (state, withdrawal_id)
    WHERE state IN ('requested', 'approved', 'paying');
CREATE INDEX withdrawals_to_look_at ON referral.withdrawals (look_at) WHERE state = 'paying';

-- The guard of the limits of one day.
CREATE TABLE referral.withdrawal_days (
    user_id text COLLATE "C" NOT NULL,
    day date NOT NULL,
    -- Asked for, whatever became of it.
    asked integer NOT NULL CHECK (asked >= 0),
    -- Asked for and not given back.
    fen bigint NOT NULL CHECK (fen >= 0),
    PRIMARY KEY (user_id, day)
);
CREATE INDEX withdrawal_days_by_day ON referral.withdrawal_days (day);

-- What the sandbox that stands in for a payout service knows. Never written in production.
CREATE TABLE referral.sandbox_payouts (
    number uuid PRIMARY KEY,
    amount_fen bigint NOT NULL CHECK (amount_fen > 0),
    -- Decided when first asked for.
    outcome text COLLATE "C" NOT NULL CHECK (outcome IN ('paid', 'failed')),
    -- From then on it says so; before, it says that it is at work.
    known_at timestamptz NOT NULL,
    sends integer NOT NULL DEFAULT 1,
    queries integer NOT NULL DEFAULT 0
);
