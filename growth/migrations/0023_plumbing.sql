-- plumbing: events that a reader could not handle, set aside so that it can go on; and how many it set aside in a row.

-- An event of a log (`plumbing.outbox`, `events.log`), copied: the log drops its days whatever waits here. A row goes
-- when its event was handled after all, or when an operator passes it over.
CREATE TABLE plumbing.dead_letters (
    letter       bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    subscription text        COLLATE "C" NOT NULL,
    log          text        COLLATE "C" NOT NULL,
    -- Where it stood in the log.
    xid          xid8        NOT NULL,
    position     bigint      NOT NULL,
    event_id     text        COLLATE "C" NOT NULL,
    type         text        COLLATE "C" NOT NULL,
    subject      text        COLLATE "C" NOT NULL,
    at           timestamptz NOT NULL,
    written_at   timestamptz NOT NULL DEFAULT now(),
    data         json        NOT NULL,
    request_id   text        COLLATE "C",
    -- Unread: of a type or form that the process did not know; one that does takes it up by itself.
    reason       text        COLLATE "C" NOT NULL CHECK (reason IN ('unread', 'failed')),
    -- The kind of error and the place in the code. Never its words: they may name a person.
    error        text        COLLATE "C" NOT NULL,
    tries        integer     NOT NULL DEFAULT 1 CHECK (tries > 0),
    parked_at    timestamptz NOT NULL,
    tried_at     timestamptz NOT NULL,
    -- Since when an operator wants it to be tried again.
    retry_at     timestamptz
);

CREATE INDEX dead_letters_by_subscription ON plumbing.dead_letters (subscription, reason);
CREATE INDEX dead_letters_asked_for ON plumbing.dead_letters (letter) WHERE retry_at IS NOT NULL;
CREATE INDEX dead_letters_unread ON plumbing.dead_letters (letter) WHERE reason = 'unread';

-- How far sentences that must always hold have walked through tables that are too long to be read at once.
CREATE TABLE plumbing.invariant_walks (
    room      text        COLLATE "C" NOT NULL,
    name      text        COLLATE "C" NOT NULL,
    -- The key of the last row that was looked at, as text. Null at the start.
    after     text[]      COLLATE "C",
    began_at  timestamptz NOT NULL,
    -- When the last walk reached the end.
    walked_at timestamptz,
    PRIMARY KEY (room, name)
);

-- Since an event was last handled.
ALTER TABLE plumbing.cursors ADD COLUMN parked_in_a_row integer NOT NULL DEFAULT 0;
