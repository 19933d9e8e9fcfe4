"""Every statement on the rules of withdrawals."""

from growth.plumbing.postgres.database import Reader, Tx
from growth.rewards.withdrawal.model import WithdrawalRules


async def find(reader: Reader) -> tuple[int, WithdrawalRules]:
    """Return the version of the rules, and the rules."""
    row = await reader.fetchrow("SELECT version, min_fen, fee_fen, max_per_day, max_fen_per_day FROM withdrawal.rules")
    assert row is not None, "there since the migration"
    version, *rules = row
    return version, WithdrawalRules(**dict(zip(WithdrawalRules.__struct_fields__, rules, strict=True)))


async def change(tx: Tx, version: int, rules: WithdrawalRules) -> bool:
    """Write rules over those at `version`; False if somebody else has."""
    changed = await tx.fetchval(
        """
        UPDATE withdrawal.rules
        SET version = version + 1, min_fen = $2, fee_fen = $3, max_per_day = $4, max_fen_per_day = $5
        WHERE version = $1::bigint
        RETURNING TRUE
        """,
        version,
        rules.min_fen,
        rules.fee_fen,
        rules.max_per_day,
        rules.max_fen_per_day,
    )
    return bool(changed)
