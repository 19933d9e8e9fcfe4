"""What withdrawals add to the house."""

from growth.kit.room import Person, Room, Rooms, Stores
from growth.plumbing.work.periodic import PeriodicTask
from growth.rewards.withdrawal import periodic, person, routes
from growth.rewards.withdrawal.approval import admin
from growth.rewards.withdrawal.approval.service import Approvals
from growth.rewards.withdrawal.payout.service import payout_of
from growth.rewards.withdrawal.service import Withdrawals
from growth.vocabulary.clock import now


def room(stores: Stores, below: Rooms) -> Room:  # noqa: ARG001 - every room is made so
    """Make the room of money that leaves."""
    payout = payout_of(stores.settings.payout, stores.database, now)
    withdrawals, approvals = Withdrawals(stores.database, stores.zone), Approvals(stores.database, payout)
    keeper = periodic.WithdrawalKeeper(stores.database, payout)
    return Room(
        name="withdrawal",
        services=[withdrawals, approvals, keeper],
        gives={"withdrawals": withdrawals, "approvals": approvals},
        routers=[routes.router, admin.router],
        tasks=[
            PeriodicTask("referral.send_approved", 2, keeper.send_approved, periodic.SEND_BATCH),
            PeriodicTask("referral.look_at_paying", 5, keeper.look_at_paying, periodic.SEND_BATCH),
            PeriodicTask("referral.forget_withdrawal_days", 600, keeper.forget_days, periodic.PRUNE_BATCH),
        ],
        persons={
            "withdrawal": Person(export=person.export, erase=person.erase, merge=person.merge, refuses=[person.BUSY])
        },
    )
