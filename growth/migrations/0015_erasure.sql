-- erasure: shoppers whose names are still to be taken out of what passes by: logs on their way, answers kept for a day.

CREATE TABLE plumbing.erasures (
    erasure_id uuid        PRIMARY KEY,
    -- Taken out of here too, once it is nowhere else.
    user_id    text        COLLATE "C",
    alias      text        COLLATE "C" NOT NULL,
    asked_at   timestamptz NOT NULL,
    -- Tables, or days of one, in which it no longer is.
    swept      text[]      COLLATE "C" NOT NULL DEFAULT '{}',
    done_at    timestamptz,
    CHECK ((done_at IS NULL) = (user_id IS NOT NULL))
);

CREATE INDEX erasures_open ON plumbing.erasures (erasure_id) WHERE done_at IS NULL;

-- What operators did stays told; of an erased shopper it names the alias. Only an erasure may change it, and says so.
CREATE OR REPLACE FUNCTION plumbing.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND pg_catalog.current_setting('growth.erases', TRUE) = 'yes' THEN
        RETURN NULL;
    END IF;
    RAISE EXCEPTION '% is only ever added to', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END
$$;
