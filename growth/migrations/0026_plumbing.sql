-- plumbing: whose first answers are, erasing by index, and a statement that shares the locks of shoppers by itself.

-- Whose an answer is: who asked, or whom it is about. It stood within the scope alone, as a piece of text.
ALTER TABLE plumbing.idempotency
    ADD COLUMN person text   COLLATE "C" NOT NULL DEFAULT '',
    -- Others whom it names.
    ADD COLUMN others text[] COLLATE "C" NOT NULL DEFAULT '{}';

-- A scope begins with the person, if there is one: a process of the release before keeps answers in the same form.
UPDATE plumbing.idempotency
SET person = split_part(scope, ' ', 1)
WHERE scope LIKE '% POST withdrawals'
   OR scope LIKE '% POST check-ins/make-ups';

UPDATE plumbing.idempotency
SET person = split_part(scope, ' grants ', 2),
    scope = split_part(scope, ' grants ', 2) || ' ' || split_part(scope, ' grants ', 1) || ' grants'
WHERE scope LIKE '% grants %';

CREATE INDEX idempotency_by_person ON plumbing.idempotency (person) WHERE person <> '';
CREATE INDEX idempotency_by_others ON plumbing.idempotency USING gin (others) WHERE others <> '{}';

-- What erasing and merging look for.
CREATE INDEX events_of_registration ON shop.events (subject) WHERE type = 'shopper.registered';
CREATE INDEX orders_by_user ON shop.orders (user_id) WHERE user_id IS NOT NULL;
DROP INDEX shop.orders_paid_by_user;

-- Whom operators' acts name, by the members that name a person: erasing finds them by an index.
CREATE FUNCTION plumbing.people_named(before jsonb, after jsonb) RETURNS text[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT coalesce(array_agg(DISTINCT told.named #>> '{}'), '{}')
    FROM (VALUES (before), (after)) AS document (told)
    CROSS JOIN LATERAL (
        SELECT jsonb_path_query(document.told, '$.**.user_id')
        UNION ALL SELECT jsonb_path_query(document.told, '$.**.inviter_id')
        UNION ALL SELECT jsonb_path_query(document.told, '$.**.invitee_id')
        UNION ALL SELECT jsonb_path_query(document.told, '$.**.grand_inviter_id')
        UNION ALL SELECT jsonb_path_query(document.told, '$.**.old_user_id')
        UNION ALL SELECT jsonb_path_query(document.told, '$.**.buyer_id')
        UNION ALL SELECT jsonb_path_query(document.told, '$.**.user_ids[*]')
    ) AS told (named)
    WHERE jsonb_typeof(told.named) = 'string'
$$;

CREATE INDEX audit_by_person ON plumbing.audit USING gin (plumbing.people_named(before, after));

-- The locks of shoppers, for the one statement of the log of activities.
CREATE FUNCTION events.enter(stripes integer[], known bigint) RETURNS void LANGUAGE sql VOLATILE AS $$
    SELECT plumbing.enter(stripes, known)
$$;
