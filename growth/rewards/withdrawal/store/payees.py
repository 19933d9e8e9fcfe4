"""Every statement on the accounts that money goes to."""

from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec

from growth.plumbing.postgres.database import Reader, Tx
from growth.rewards.withdrawal.model import Payee


async def find(reader: Reader, user_id: str) -> Payee | None:
    """Return where a shopper's money goes."""
    row = await reader.fetchrow("SELECT kind, account, name FROM withdrawal.payees WHERE user_id = $1", user_id)
    return None if row is None else Payee(**dict(row))


async def keep(tx: Tx, user_id: str, payee: Payee, now: datetime) -> None:
    """Write down where a shopper's money goes from now on."""
    await tx.execute(
        """
        INSERT INTO withdrawal.payees AS known (user_id, kind, account, name, changed_at)
        VALUES ($1, $2, $3, $4, $5)
        ON CONFLICT (user_id) DO UPDATE
        SET kind = excluded.kind,
            account = excluded.account,
            name = excluded.name,
            changed_at = excluded.changed_at
        """,
        user_id,
        payee.kind,
        payee.account,
        payee.name,
        now,
    )


async def accounts(reader: Reader, user_ids: Sequence[str]) -> Mapping[str, tuple[str, str]]:
    """Return the kind and number of the account that each shopper's money goes to; who named none is missing."""
    rows = await reader.fetch(
        """
        SELECT payee.user_id, payee.kind, payee.account
        FROM json_array_elements_text($1::json) AS asked (user_id)
        JOIN withdrawal.payees AS payee ON payee.user_id = asked.user_id COLLATE "C"
        """,
        # One argument: the driver looks at each item of an array in Python.
        msgspec.json.encode(user_ids).decode(),
    )
    return {row["user_id"]: (row["kind"], row["account"]) for row in rows}
