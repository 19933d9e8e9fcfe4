CREATE SCHEMA task;

CREATE TABLE task.tasks (
    task_id uuid PRIMARY KEY,
    title text NOT NULL,
    description text,
    -- What is counted.
    event_type text COLLATE "C" NOT NULL,
    -- [{"field": "sku", "in": ["tea", "cup"]}, …]: all must hold.
    filter jsonb NOT NULL,
    distinct_by text COLLATE "C",
    count integer NOT NULL CHECK (count BETWEEN 1 AND 1000),
    period text NOT NULL CHECK (period IN ('once', 'daily', 'weekly')),
    reward jsonb NOT NULL,
    undo_on_refund text NOT NULL CHECK (undo_on_refund IN ('no', 'whole', 'any')),
    opens_at timestamptz NOT NULL,
    closes_at timestamptz NOT NULL CHECK (closes_at > opens_at),
    budget jsonb,
    state text NOT NULL DEFAULT 'draft' CHECK (state IN ('draft', 'published', 'paused', 'ended')),
    version integer NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL,
    published_at timestamptz,
    ended_at timestamptz,
    -- An ended task whose last row of progress is gone.
    forgotten_at timestamptz,
    CHECK ((state = 'ended') = (ended_at IS NOT NULL)),
    CHECK (state NOT IN ('published', 'paused') OR published_at IS NOT NULL)
);

CREATE INDEX tasks_live ON task.tasks (closes_at) WHERE state IN ('published', 'paused');
CREATE INDEX tasks_ended ON task.tasks (ended_at) WHERE state = 'ended' AND published_at IS NOT NULL;

-- One shopper's progress in one period of one task. No partitions: what is done once belongs to no day, and what a
-- refund may take back is kept longer than the rest. The schedule deletes what is old, task by task.
CREATE TABLE task.progress (
    user_id text COLLATE "C" NOT NULL,
    -- The first day of the period in the merchant's zone; 1970-01-01 for once.
    period_on date NOT NULL,
    task_id uuid NOT NULL,
    -- Rows, or distinct values, of `counted` that were not undone.
    done integer NOT NULL CHECK (done >= 0),
    state text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'done', 'rewarded')),
    -- How often the count was reached. Each time has grants of its own.
    attempt integer NOT NULL DEFAULT 0 CHECK (attempt >= 0),
    -- What the keys of the grants are made of.
    grant_id uuid NOT NULL,
    -- Place in the reward list → the coupon that the last attempt gave.
    coupons jsonb NOT NULL DEFAULT '{}',
    -- Places of coupons that an order had when they were taken back: never given again.
    kept jsonb NOT NULL DEFAULT '[]',
    -- How often a refund took the reward back.
    undone integer NOT NULL DEFAULT 0 CHECK (undone BETWEEN 0 AND attempt),
    reached_at timestamptz,
    changed_at timestamptz NOT NULL,
    PRIMARY KEY (user_id, period_on, task_id),
    CHECK (state = 'open' OR attempt = undone + 1),
    CHECK (state <> 'open' OR attempt = undone)
) WITH (fillfactor = 80);

-- By text, so that it serves only those who ask so: believing a task to be small, Postgres would look for one shopper's
-- row among all of the task's.
CREATE INDEX progress_of_task ON task.progress ((task_id::text), period_on);

-- What counted, or had counted until it was undone: for each row of progress as many as it takes, all where refunds undo.
CREATE TABLE task.counted (
    user_id text COLLATE "C" NOT NULL,
    period_on date NOT NULL,
    task_id uuid NOT NULL,
    -- The distinct value; the occurrence's id where occurrences are counted.
    value text COLLATE "C" NOT NULL,
    -- Which occurrence brought the value, where that matters: where refunds undo. Else empty.
    occurrence_id text COLLATE "C" NOT NULL,
    at timestamptz NOT NULL,
    -- What takes it back.
    undo_key text COLLATE "C",
    undone_at timestamptz,
    PRIMARY KEY (user_id, period_on, task_id, value, occurrence_id)
);

CREATE INDEX counted_to_undo ON task.counted (undo_key) WHERE undo_key IS NOT NULL;

-- Refunds heard of, for what they undo and comes later. Deleted by the schedule once nothing so late counts.
CREATE TABLE task.refunds (
    undo_key text COLLATE "C" PRIMARY KEY,
    at timestamptz NOT NULL
);

CREATE INDEX refunds_old ON task.refunds (at);

-- What deleted rows of progress came to, so that the numbers of a task outlive them.
CREATE TABLE task.past (
    task_id uuid NOT NULL,
    period_on date NOT NULL,
    shoppers_open bigint NOT NULL DEFAULT 0,
    shoppers_done bigint NOT NULL DEFAULT 0,
    shoppers_rewarded bigint NOT NULL DEFAULT 0,
    undone bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (task_id, period_on)
);
