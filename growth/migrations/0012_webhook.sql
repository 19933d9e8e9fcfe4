-- webhook: where events go, and what became of each on its way.

-- Endpoints. They are few (model.MAX_ENDPOINTS) and changed by operators alone, but for the two columns of health.
CREATE TABLE shop.webhook_endpoints (
    endpoint_id   uuid        PRIMARY KEY,
    url           text        NOT NULL CHECK (url ~ '^https?://' AND length(url) <= 1024),
    event_types   text[]      COLLATE "C" NOT NULL CHECK (cardinality(event_types) BETWEEN 1 AND 64),
    description   text,
    state         text        COLLATE "C" NOT NULL CHECK (state IN ('enabled', 'disabled')),
    reason        text        COLLATE "C" CHECK (reason IN ('operator', 'gone', 'failing')),
    version       bigint      NOT NULL DEFAULT 1,
    -- Attempts that failed since the last that did not, and since when.
    failures      integer     NOT NULL DEFAULT 0 CHECK (failures >= 0),
    failing_since timestamptz,
    created_at    timestamptz NOT NULL,
    disabled_at   timestamptz,
    CONSTRAINT endpoint_disabled_says_why CHECK (num_nonnulls(reason, disabled_at) = CASE state WHEN 'disabled' THEN 2 ELSE 0 END),
    CHECK ((failures = 0) = (failing_since IS NULL))
) WITH (fillfactor = 50);

-- Secrets, readable: whoever signs needs them whole. The one without an end is current; those with one are told to
-- receivers beside it until then.
CREATE TABLE shop.webhook_secrets (
    endpoint_id uuid        NOT NULL REFERENCES shop.webhook_endpoints ON DELETE CASCADE,
    made_at     timestamptz NOT NULL,
    secret      text        COLLATE "C" NOT NULL CHECK (secret ~ '^whsec_[A-Za-z0-9+/]+=*$'),
    good_until  timestamptz,
    PRIMARY KEY (endpoint_id, made_at)
);

CREATE UNIQUE INDEX webhook_secrets_current ON shop.webhook_secrets (endpoint_id) WHERE good_until IS NULL;

-- One row for each event and each endpoint that asked for its type: queue and log in one. No foreign key: days are
-- dropped whole, and deliveries of an endpoint that is gone go with their day.
CREATE TABLE shop.webhook_deliveries (
    endpoint_id  uuid        NOT NULL,
    event_at     timestamptz NOT NULL,
    event_id     uuid        NOT NULL,
    delivery_id  uuid        NOT NULL,
    type         text        COLLATE "C" NOT NULL,
    -- The CloudEvent, byte for byte what is signed.
    body         text        NOT NULL,
    state        text        COLLATE "C" NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'delivered', 'exhausted')),
    -- Attempts since it was last queued; the log keeps those before as well.
    attempts     integer     NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    next_try_at  timestamptz,
    -- Grows with every lease: a sender that slept through its own no longer has the number.
    fence        integer     NOT NULL DEFAULT 0,
    is_leased    boolean     NOT NULL DEFAULT FALSE,
    queued_at    timestamptz NOT NULL,
    ended_at     timestamptz,
    -- The last attempts, oldest first: when, how long, status, error.
    log          jsonb       NOT NULL DEFAULT '[]',
    PRIMARY KEY (endpoint_id, event_at, event_id),
    CONSTRAINT delivery_pending_has_a_time CHECK ((state = 'pending') = (next_try_at IS NOT NULL)),
    CONSTRAINT delivery_ended_has_a_time CHECK ((state = 'pending') = (ended_at IS NULL)),
    CONSTRAINT delivery_leased_is_pending CHECK (state = 'pending' OR NOT is_leased)
) PARTITION BY RANGE (event_at);

CREATE INDEX webhook_deliveries_due ON shop.webhook_deliveries (endpoint_id, next_try_at) WHERE state = 'pending';
CREATE INDEX webhook_deliveries_by_id ON shop.webhook_deliveries (delivery_id);

CREATE TABLE shop.webhook_deliveries_default PARTITION OF shop.webhook_deliveries DEFAULT;

-- The first days, in UTC; the schedule makes the others ahead of time.
DO $$
DECLARE
    first_day date := (now() AT TIME ZONE 'UTC')::date;
    day date;
BEGIN
    FOR ahead IN 0..3 LOOP
        day := first_day + ahead;
        EXECUTE format(
            'CREATE TABLE shop.webhook_deliveries_%s PARTITION OF shop.webhook_deliveries FOR VALUES FROM (%L) TO (%L)',
            to_char(day, 'YYYYMMDD'), day || ' 00:00:00+00', day + 1 || ' 00:00:00+00'
        );
    END LOOP;
END
$$;
