-- person: ids that changed hands (merged into another, or erased), and the lock of one shopper.

-- The secret under which ids are hashed below: whoever has a list of ids cannot look them up without it.
CREATE TABLE plumbing.person_secret (
    is_the_one boolean PRIMARY KEY DEFAULT TRUE CHECK (is_the_one),
    secret     bytea   NOT NULL CHECK (octet_length(secret) = 32)
);

INSERT INTO plumbing.person_secret (secret)
VALUES (sha256(convert_to(gen_random_uuid()::text || gen_random_uuid()::text, 'UTF8')));

-- One row an id that is no longer who it was. Ids stand here as hashes only: a row leads from an id to its survivor, and
-- from an erased id to nothing.
CREATE TABLE plumbing.former_ids (
    id_hash   bytea       PRIMARY KEY CHECK (octet_length(id_hash) = 16),
    -- Grows with each change, in the order of commits: a process asks for what is newer than what it knows.
    seq       bigint      NOT NULL UNIQUE,
    stripe    integer     NOT NULL,
    -- Who the id is now; itself never a former id.
    survivor  text        COLLATE "C",
    erased_at timestamptz,
    -- An erased id that the shop, or a newer token, told of again: a new person.
    back_at   timestamptz CHECK (back_at >= erased_at),
    -- What the erased shopper already had of what is given once.
    had       text[]      COLLATE "C" NOT NULL DEFAULT '{}',
    CHECK (survivor IS NOT NULL OR erased_at IS NOT NULL)
);

CREATE INDEX former_ids_by_survivor ON plumbing.former_ids (survivor) WHERE survivor IS NOT NULL;
CREATE INDEX former_ids_by_erasure ON plumbing.former_ids (erased_at) WHERE erased_at IS NOT NULL;

-- The merges of before.
INSERT INTO plumbing.former_ids (id_hash, seq, stripe, survivor)
SELECT substr(told.hash, 1, 16),
       row_number() OVER (ORDER BY told.user_id),
       (get_byte(told.hash, 0) * 256 + get_byte(told.hash, 1)) % 4096,
       told.now_user_id
FROM (
    SELECT former.user_id,
           former.now_user_id,
           sha256(known.secret || convert_to(former.user_id, 'UTF8')) AS hash
    FROM retention.former_ids AS former
    CROSS JOIN plumbing.person_secret AS known
) AS told;

-- Shares the locks of these stripes, in the order given, until the transaction ends. Called in one trip with BEGIN, so
-- that every later statement sees what a merge wrote that was waited for. Fails where an id of these stripes changed
-- hands after `known`.
CREATE FUNCTION plumbing.enter(stripes integer[], known bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_catalog.pg_advisory_xact_lock_shared(1936748400, stripe) FROM unnest(stripes) AS stripe;
    IF EXISTS (SELECT FROM plumbing.former_ids AS former WHERE former.seq > known AND former.stripe = ANY (stripes)) THEN
        RAISE EXCEPTION 'an id has changed hands' USING ERRCODE = 'GR001';
    END IF;
END
$$;

-- Holds the locks alone: for a merge or an erasure.
CREATE FUNCTION plumbing.enter_alone(stripes integer[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_catalog.pg_advisory_xact_lock(1936748400, stripe) FROM unnest(stripes) AS stripe;
END
$$;
