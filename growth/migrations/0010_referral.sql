-- referral: who brought whom, and what they earn by it.

CREATE SCHEMA IF NOT EXISTS referral;

CREATE TABLE referral.programs (
    program_id   uuid PRIMARY KEY,
    -- What the operator decided, as the API takes it.
    draft        jsonb NOT NULL,
    -- Inviters above each other who earn from one order: two at most, whatever the code says.
    levels       integer NOT NULL CHECK (levels BETWEEN 1 AND 2),
    closes_at    timestamptz,
    state        text COLLATE "C" NOT NULL DEFAULT 'draft' CHECK (state IN ('draft', 'published', 'paused', 'ended')),
    version      integer NOT NULL DEFAULT 1,
    created_at   timestamptz NOT NULL,
    published_at timestamptz,
    ended_at     timestamptz,
    CHECK (levels = (draft ->> 'levels')::integer),
    CHECK (levels = 2 OR draft ->> 'level_2' IS NULL),
    CHECK ((state = 'ended') = (ended_at IS NOT NULL))
);

-- The guard of one live program at a time.
CREATE UNIQUE INDEX programs_one_live ON referral.programs ((TRUE)) WHERE state IN ('published', 'paused');

-- Versions of what live programs promise; never changed but for their end. Kept: commission names them.
CREATE TABLE referral.terms (
    program_id uuid NOT NULL REFERENCES referral.programs,
    version    integer NOT NULL,
    draft      jsonb NOT NULL,
    levels     integer NOT NULL CHECK (levels BETWEEN 1 AND 2),
    from_at    timestamptz NOT NULL,
    -- When the next version came, or the program's end.
    until_at   timestamptz CHECK (until_at >= from_at),
    closes_at  timestamptz,
    PRIMARY KEY (program_id, version),
    CHECK (levels = (draft ->> 'levels')::integer)
);
CREATE UNIQUE INDEX terms_one_open ON referral.terms ((TRUE)) WHERE until_at IS NULL;
CREATE INDEX terms_by_time ON referral.terms (from_at);

-- One code a shopper, made when first asked for, and never another; two where two ids turned out to be one person's.
CREATE TABLE referral.codes (
    code    text COLLATE "C" PRIMARY KEY CHECK (length(code) BETWEEN 12 AND 30),
    user_id text COLLATE "C" NOT NULL,
    made_at timestamptz NOT NULL,
    -- The one that is shown.
    is_main boolean NOT NULL DEFAULT TRUE
);
CREATE UNIQUE INDEX codes_one_main ON referral.codes (user_id) WHERE is_main;

-- Kept: who brought whom decides what orders earn, and one row a shopper is less than their orders are.
CREATE TABLE referral.relations (
    relation_id       uuid PRIMARY KEY,
    invitee_id        text COLLATE "C" NOT NULL,
    inviter_id        text COLLATE "C" NOT NULL,
    program_id        uuid NOT NULL,
    -- `shopper` by a code, `operator` by hand.
    source            text COLLATE "C" NOT NULL CHECK (source IN ('shopper', 'operator')),
    -- As the inviter sees the invitee: the first character and a star. The whole name is not kept.
    nickname          text NOT NULL,
    -- A digest of the device that the invitee registered with.
    device            text COLLATE "C",
    -- Why it may be no other person: what it shared with the inviter, or with other invitees, when bound.
    signs             jsonb NOT NULL DEFAULT '[]',
    -- Had never bought when bound: only then there is a first order.
    is_new            boolean NOT NULL,
    bound_at          timestamptz NOT NULL,
    -- The end: known when bound, or brought about by somebody. Null for never.
    ends_at           timestamptz CHECK (ends_at >= bound_at),
    end_reason        text COLLATE "C" CHECK (end_reason IN ('fraud', 'mistake', 'shopper_request', 'other', 'merged')),
    -- The one that counts when rings are looked for, and that keeps others out. Past ones remain for orders paid then.
    is_current        boolean NOT NULL DEFAULT TRUE,
    -- The invitee's first order, from its payment on, while it is not paid back whole; and the terms it was paid under.
    first_order_id    text COLLATE "C",
    first_paid_at     timestamptz,
    first_program_id  uuid,
    first_version     integer,
    -- Received: the invitee is valid, and counted in this month; whether within the inviter's caps, on this day.
    first_received_at timestamptz,
    counted_month     date,
    rewarded_day      date,
    state             text COLLATE "C" NOT NULL GENERATED ALWAYS AS (
        CASE
            WHEN first_received_at IS NOT NULL THEN 'valid'
            WHEN first_order_id IS NOT NULL THEN 'bought'
            ELSE 'bound'
        END) STORED,
    CONSTRAINT relations_not_oneself CHECK (inviter_id <> invitee_id),
    CHECK (end_reason IS NULL OR (ends_at IS NOT NULL AND NOT is_current)),
    CHECK (num_nulls(first_order_id, first_paid_at, first_program_id, first_version) IN (0, 4)),
    CHECK (first_received_at IS NULL OR first_order_id IS NOT NULL),
    CHECK ((first_received_at IS NULL) = (counted_month IS NULL)),
    CHECK (rewarded_day IS NULL OR counted_month IS NOT NULL),
    CHECK (first_order_id IS NULL OR is_new)
) WITH (fillfactor = 80);

-- The guard of first touch.
CREATE UNIQUE INDEX relations_one_current ON referral.relations (invitee_id) WHERE is_current;
-- The guard of one first order.
CREATE UNIQUE INDEX relations_one_first_order ON referral.relations (invitee_id) WHERE first_order_id IS NOT NULL;
CREATE INDEX relations_by_invitee ON referral.relations (invitee_id, bound_at);
CREATE INDEX relations_by_inviter ON referral.relations (inviter_id, relation_id);
CREATE INDEX relations_by_device ON referral.relations (inviter_id, device) WHERE device IS NOT NULL;
CREATE INDEX relations_by_program ON referral.relations (program_id, relation_id);

-- Invitees of one inviter, ever: all; those whose first order is paid; those of them who received it.
CREATE TABLE referral.inviters (
    user_id text COLLATE "C" PRIMARY KEY,
    invited integer NOT NULL CHECK (invited >= 0),
    bought  integer NOT NULL DEFAULT 0 CHECK (bought BETWEEN 0 AND invited),
    valid   integer NOT NULL DEFAULT 0 CHECK (valid BETWEEN 0 AND bought)
) WITH (fillfactor = 50);

-- What the leaderboards are read from. People: valid invitees, by the month of receipt. Money: net commission.
CREATE TABLE referral.inviter_months (
    inviter_id text COLLATE "C" NOT NULL,
    -- Its first day.
    month      date NOT NULL CHECK (extract(day FROM month) = 1),
    people     integer NOT NULL DEFAULT 0 CHECK (people >= 0),
    money_fen  bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (inviter_id, month)
) WITH (fillfactor = 50);
CREATE INDEX inviter_months_by_people ON referral.inviter_months (month, people DESC, inviter_id) WHERE people > 0;
CREATE INDEX inviter_months_by_money ON referral.inviter_months (month, money_fen DESC, inviter_id) WHERE money_fen > 0;

-- Valid invitees of one inviter in one program, and those that inviter_rewards were given for: the guard of the cap.
CREATE TABLE referral.progress (
    program_id uuid NOT NULL,
    inviter_id text COLLATE "C" NOT NULL,
    valid      integer NOT NULL CHECK (valid >= 0),
    rewarded   integer NOT NULL DEFAULT 0 CHECK (rewarded BETWEEN 0 AND valid),
    PRIMARY KEY (program_id, inviter_id)
) WITH (fillfactor = 50);

-- The same by day: the guard of the daily cap. Old days are pruned.
CREATE TABLE referral.inviter_days (
    program_id uuid NOT NULL,
    inviter_id text COLLATE "C" NOT NULL,
    day        date NOT NULL,
    rewarded   integer NOT NULL CHECK (rewarded >= 0),
    PRIMARY KEY (program_id, inviter_id, day)
) WITH (fillfactor = 50);
CREATE INDEX inviter_days_by_day ON referral.inviter_days (day);

-- Milestones reached, and lost when invitees' orders were paid back; each time it is reached has a key of its own.
CREATE TABLE referral.milestones (
    -- Part of the keys of what is granted: it stays when ids of one person become one.
    milestone_id uuid PRIMARY KEY,
    program_id   uuid NOT NULL,
    inviter_id   text COLLATE "C" NOT NULL,
    invitees     integer NOT NULL CHECK (invitees > 0),
    times        integer NOT NULL CHECK (times > 0),
    is_held      boolean NOT NULL,
    rewards      jsonb NOT NULL,
    at           timestamptz NOT NULL,
    UNIQUE (program_id, inviter_id, invitees)
) WITH (fillfactor = 70);
