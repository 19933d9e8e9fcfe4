-- plumbing: what erased shoppers had of what is given once, one row a thing. task: rewards of two ids that became one.

-- Person and thing are hashes under the secret of `former_ids`: a row leads from nothing to nothing.
CREATE TABLE plumbing.given_once (
    id_hash   bytea       NOT NULL CHECK (octet_length(id_hash) = 16),
    what      bytea       NOT NULL CHECK (octet_length(what) = 8),
    -- How often: coupons of one template, say.
    units     integer     NOT NULL CHECK (units > 0),
    erased_at timestamptz NOT NULL,
    PRIMARY KEY (id_hash, what)
);

CREATE INDEX given_once_by_erasure ON plumbing.given_once (erased_at);

-- What was remembered before. `former_ids.had` is read by processes of the release before, and written by nobody.
INSERT INTO plumbing.given_once (id_hash, what, units, erased_at)
SELECT former.id_hash,
       substr(sha256(known.secret || convert_to(thing.what, 'UTF8')), 1, 8),
       count(*),
       former.erased_at
FROM plumbing.former_ids AS former
CROSS JOIN plumbing.person_secret AS known
CROSS JOIN LATERAL unnest(former.had) AS thing (what)
WHERE former.erased_at IS NOT NULL
GROUP BY former.id_hash, known.secret, thing.what, former.erased_at;

-- Rewards of rows that this one took the place of: what their grants are keyed by, so that refunds still reach them.
ALTER TABLE task.progress ADD COLUMN others jsonb NOT NULL DEFAULT '[]';
