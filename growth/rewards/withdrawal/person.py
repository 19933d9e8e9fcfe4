"""What withdrawals know of one shopper: told, erased, merged."""

from datetime import datetime

from msgspec import Struct

from growth.plumbing.postgres.database import Reader, Tx
from growth.rewards.withdrawal.model import Payee, Withdrawal, WithdrawalFilter
from growth.rewards.withdrawal.service import give_back
from growth.rewards.withdrawal.store import payees, person
from growth.rewards.withdrawal.store import withdrawals as store
from growth.vocabulary.refusals import Kind, Refusal

BUSY = Kind("withdrawal.shopper_busy", "Money is on its way to the shopper. Try again when the withdrawal has ended.")
MAX_TOLD = 100


class WithdrawalsKnown(Struct, frozen=True):
    """What a shopper withdrew, and where money goes."""

    payee: Payee | None
    withdrawals: list[Withdrawal]
    """The newest 100."""


async def export(reader: Reader, user_id: str) -> WithdrawalsKnown:
    """Return the account, and the newest withdrawals."""
    which = WithdrawalFilter(user_id=user_id)
    return WithdrawalsKnown(
        await payees.find(reader, user_id), await store.page(reader, which, before=None, limit=MAX_TOLD)
    )


async def erase(tx: Tx, user_id: str, alias: str) -> None:
    """Leave what was paid under the alias, without the account.

    Raises `Refusal` `withdrawal.shopper_busy` while a withdrawal is open.
    """
    if await person.lock_open(tx, [user_id]):
        raise Refusal(BUSY)
    await person.forget_accounts(tx, user_id)
    await person.rename(tx, user_id, alias)


async def merge(tx: Tx, old_user_id: str, user_id: str, now: datetime) -> None:
    """Make withdrawals of two ids one person's. One stays open: the earlier, unless the later may be paid already.

    If both may be paid already, both go on. The id that stays keeps its account. Before the ledger is merged.
    """
    if old_user_id == user_id:
        return
    open_now = await person.lock_open(tx, sorted([old_user_id, user_id]))
    under_way = [one for one in open_now if one.state == "paying"]
    waiting = [one for one in open_now if one.state != "paying"]
    for one in waiting if under_way else waiting[1:]:
        ended = await store.end(tx, one.withdrawal_id, ["requested", "approved"], "rejected", now, reason="merged")
        assert ended is not None, "locked, so nobody else moved it"
        await give_back(tx, ended, now)
    await person.rename(tx, old_user_id, user_id)
