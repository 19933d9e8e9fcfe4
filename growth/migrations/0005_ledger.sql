-- ledger: what shoppers hold, as double entry. Transfers are only ever added; balances follow in the same statement.

CREATE SCHEMA IF NOT EXISTS ledger;

-- One row for each movement. Kept for good: these are the shop's books. An owner is a shopper, or `house/...`.
CREATE TABLE ledger.transfers (
    -- The order in which a page of entries is read.
    position    bigint      NOT NULL GENERATED ALWAYS AS IDENTITY,
    -- Given by whoever asks, so that asking twice moves it once.
    transfer_id uuid        PRIMARY KEY,
    debit       text        COLLATE "C" NOT NULL,
    credit      text        COLLATE "C" NOT NULL,
    currency    text        COLLATE "C" NOT NULL,
    amount      bigint      NOT NULL,
    -- `posted` at once; or `pending`, and later one `post` (whole, or part of it) or one `void`.
    phase       text        COLLATE "C" NOT NULL,
    -- Of `post` and `void`: the pending transfer that it ends.
    resolves    uuid        UNIQUE,
    reason      text        COLLATE "C" NOT NULL,
    -- The id it is about: a check-in's key, an order, a withdrawal.
    subject     text        COLLATE "C" NOT NULL,
    at          timestamptz NOT NULL,
    -- Of points: when the lot ends that this made.
    expires_at  timestamptz,
    -- Whether the debited shopper may come to owe.
    may_owe     boolean     NOT NULL,
    CHECK (debit <> credit),
    CHECK (currency IN ('points', 'commission', 'growth', 'make_up_card', 'freeze_card')),
    CHECK (phase IN ('posted', 'pending', 'post', 'void')),
    CHECK ((resolves IS NOT NULL) = (phase IN ('post', 'void'))),
    CHECK (CASE phase WHEN 'void' THEN amount = 0 ELSE amount > 0 END)
);

-- A shopper's history, newest first, in constant time.
CREATE INDEX transfers_in ON ledger.transfers (credit, currency, position)
    WHERE credit NOT LIKE 'house/%' AND resolves IS NULL;
CREATE INDEX transfers_out ON ledger.transfers (debit, currency, position)
    WHERE debit NOT LIKE 'house/%' AND resolves IS NULL;
-- The newest of all. It has every row: the condition is there so that only those who write it are served. Else Postgres,
-- asked for a shopper's newest in a shop where few have many, would read everybody's until it has found enough.
CREATE INDEX transfers_order ON ledger.transfers (position) WHERE amount >= 0;

-- What each shopper has, by currency.
CREATE TABLE ledger.accounts (
    owner       text   COLLATE "C" NOT NULL CHECK (owner NOT LIKE 'house/%'),
    currency    text   COLLATE "C" NOT NULL,
    posted      bigint NOT NULL,
    pending_in  bigint NOT NULL CHECK (pending_in >= 0),
    pending_out bigint NOT NULL CHECK (pending_out >= 0),
    PRIMARY KEY (owner, currency)
) WITH (fillfactor = 70);

-- The house's side. Every transfer touches it, so nobody may wait for a row of it: moves are added, and folded later.
CREATE TABLE ledger.house (
    owner       text   COLLATE "C" NOT NULL CHECK (owner LIKE 'house/%'),
    currency    text   COLLATE "C" NOT NULL,
    posted      bigint NOT NULL,
    pending_in  bigint NOT NULL,
    pending_out bigint NOT NULL,
    PRIMARY KEY (owner, currency)
);

CREATE TABLE ledger.house_moves (
    position    bigint GENERATED ALWAYS AS IDENTITY (CACHE 128) PRIMARY KEY,
    owner       text   COLLATE "C" NOT NULL,
    currency    text   COLLATE "C" NOT NULL,
    posted      bigint NOT NULL,
    pending_in  bigint NOT NULL,
    pending_out bigint NOT NULL
);

-- Points by when they expire. `remaining` of all lots of a shopper is what the shopper can spend.
CREATE TABLE ledger.lots (
    -- The transfer that brought it.
    lot_id     uuid        PRIMARY KEY,
    owner      text        COLLATE "C" NOT NULL,
    currency   text        COLLATE "C" NOT NULL,
    amount     bigint      NOT NULL CHECK (amount > 0),
    remaining  bigint      NOT NULL,
    expires_at timestamptz NOT NULL,
    CONSTRAINT lots_remaining CHECK (remaining BETWEEN 0 AND amount)
) WITH (fillfactor = 80);

CREATE INDEX lots_to_spend ON ledger.lots (owner, currency, expires_at, lot_id) WHERE remaining > 0;
CREATE INDEX lots_to_expire ON ledger.lots (expires_at) WHERE remaining > 0 AND expires_at < 'infinity';

-- Which lots each spending used up.
CREATE TABLE ledger.takings (
    transfer_id uuid   NOT NULL,
    lot_id      uuid   NOT NULL,
    amount      bigint NOT NULL CHECK (amount > 0),
    PRIMARY KEY (transfer_id, lot_id)
);

-- Books are corrected by adding. Only the name of an erased shopper is taken out of them.
CREATE FUNCTION ledger.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'ledger.% is only ever added to', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END
$$;

CREATE TRIGGER transfers_are_append_only
    BEFORE DELETE OR TRUNCATE ON ledger.transfers
    FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change();

CREATE TRIGGER transfers_keep_their_amounts
    BEFORE UPDATE OF transfer_id, currency, amount, phase, resolves, at, expires_at, may_owe ON ledger.transfers
    FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change();
