-- withdrawal: a room by itself, with rules of its own. Minimum and fee were those of whichever referral program was live,
-- and the limits of a day stood among the rules of referral.

CREATE SCHEMA withdrawal;

ALTER TABLE referral.payees SET SCHEMA withdrawal;
ALTER TABLE referral.withdrawals SET SCHEMA withdrawal;
ALTER TABLE referral.withdrawal_days SET SCHEMA withdrawal;
ALTER TABLE withdrawal.withdrawal_days RENAME TO days;
ALTER TABLE referral.sandbox_payouts SET SCHEMA withdrawal;

-- What operators decide about withdrawals: one row, changed under its version.
CREATE TABLE withdrawal.rules (
    rules_id        smallint PRIMARY KEY CHECK (rules_id = 1),
    version         integer  NOT NULL,
    min_fen         bigint   NOT NULL CHECK (min_fen > 0),
    fee_fen         bigint   NOT NULL CHECK (fee_fen >= 0),
    max_per_day     integer  NOT NULL CHECK (max_per_day > 0),
    max_fen_per_day bigint   NOT NULL CHECK (max_fen_per_day > 0)
);

-- Carried over: minimum and fee as the program that is live promises them now, and the limits of a day.
INSERT INTO withdrawal.rules (rules_id, version, min_fen, fee_fen, max_per_day, max_fen_per_day)
SELECT 1, kept.version,
    coalesce((live.draft #>> '{withdrawal,min_fen}')::bigint, 1000),
    coalesce((live.draft #>> '{withdrawal,fee_fen}')::bigint, 0),
    coalesce((kept.rules ->> 'max_per_day')::integer, 3),
    coalesce((kept.rules ->> 'max_fen_per_day')::bigint, 2000000)
FROM referral.rules AS kept
LEFT JOIN LATERAL (
    SELECT terms.draft
    FROM referral.terms AS terms
    WHERE terms.from_at <= now()
      AND (terms.until_at IS NULL OR terms.until_at > now())
      AND (terms.closes_at IS NULL OR terms.closes_at > now())
    ORDER BY terms.from_at DESC, terms.version DESC
    LIMIT 1
) AS live ON TRUE
WHERE kept.name = 'withdrawal';

-- From here on for processes of the release before, which may run beside this one; the next release drops it all. They
-- see and change withdrawals and accounts as before, by the rules as they stood just now. What an operator tells one of
-- them about these rules is refused (412), rather than lost.
CREATE VIEW referral.payees AS SELECT * FROM withdrawal.payees;
CREATE VIEW referral.withdrawals AS SELECT * FROM withdrawal.withdrawals;
CREATE VIEW referral.withdrawal_days AS SELECT * FROM withdrawal.days;
CREATE VIEW referral.sandbox_payouts AS SELECT * FROM withdrawal.sandbox_payouts;

CREATE FUNCTION referral.rules_of_withdrawals_moved() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RETURN NULL;
END
$$;
CREATE TRIGGER rules_of_withdrawals_moved BEFORE UPDATE ON referral.rules
    FOR EACH ROW WHEN (OLD.name = 'withdrawal') EXECUTE FUNCTION referral.rules_of_withdrawals_moved();
