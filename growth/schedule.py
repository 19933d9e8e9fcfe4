"""TABLE: clock → what runs. One leader for each task among all workers; and what runs all the time, on each of them."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any

from msgspec import Struct

from growth.bootstrap import Growth
from growth.mechanics.flash_sale.claim.periodic import END_BATCH, LAPSE_BATCH
from growth.mechanics.flash_sale.draw import service as draw
from growth.mechanics.flash_sale.reminder import service as reminder
from growth.mechanics.group_buy.nudge.periodic import NUDGE_BATCH, nudge
from growth.mechanics.group_buy.team import periodic as group_buy
from growth.mechanics.referral import periodic as referral
from growth.mechanics.referral.commission import periodic as commission
from growth.mechanics.task import periodic as task
from growth.plumbing.outbox.retry import RETRY_BATCH, Retries
from growth.plumbing.watch.invariant_rounds import ROUND_SECONDS, SENTENCE_SECONDS
from growth.plumbing.work import housekeeping
from growth.plumbing.work.periodic import PeriodicTask
from growth.reactions import reactions
from growth.rewards.coupon import periodic as coupon
from growth.rewards.ledger.service import FOLD_BATCH
from growth.rewards.withdrawal import periodic as withdrawal

MAX_ROUND_SECONDS = ROUND_SECONDS + 2 * SENTENCE_SECONDS


def schedule(growth: Growth) -> Sequence[PeriodicTask]:
    """Return every task there is."""
    sale, seats = growth.flash_sale, growth.group_buy.keeper
    kept_days = growth.settings.erased_memory_days
    house = housekeeping.Housekeeping(growth.database, growth.invariants, kept_days)
    return [
        PeriodicTask("flash_sale.end_lapsed_holds", 1, sale.keeper.end_lapsed_holds, LAPSE_BATCH),
        PeriodicTask("flash_sale.reconcile", 3, sale.keeper.reconcile),
        PeriodicTask("flash_sale.load_ahead", 5, sale.keeper.load_ahead),
        PeriodicTask("flash_sale.end_closed_sales", 2, sale.keeper.end_closed_sales, END_BATCH),
        PeriodicTask("flash_sale.draw", 1, sale.draws.draw_due),
        PeriodicTask("flash_sale.remind", 1, sale.reminders.remind_due),
        PeriodicTask("flash_sale.plan_series", 30, sale.series.plan_due),
        PeriodicTask("flash_sale.forget_entries", 600, sale.draws.forget_old_entries, draw.FORGET_BATCH),
        PeriodicTask("flash_sale.forget_reminders", 600, sale.reminders.forget_old_reminders, reminder.FORGET_BATCH),
        # Any due team, and the next batch follows at once: batches are bounded by seats too.
        PeriodicTask("group_buy.end_due_teams", 1, seats.end_due_teams, 1),
        PeriodicTask("group_buy.end_lapsed_holds", 1, seats.end_lapsed_holds, group_buy.LAPSE_BATCH),
        PeriodicTask("group_buy.end_closed_campaigns", 2, seats.end_closed_campaigns, group_buy.END_BATCH),
        PeriodicTask("group_buy.nudge", 1, nudge, NUDGE_BATCH),
        PeriodicTask("referral.end_closed_programs", 2, referral.end_closed_programs),
        PeriodicTask("referral.forget_old_days", 600, referral.forget_old_days, referral.FORGET_BATCH),
        PeriodicTask("referral.judge", 2, growth.commission.keeper.judge, commission.JUDGE_BATCH),
        PeriodicTask("referral.settle_due", 5, growth.commission.keeper.settle_due, commission.DUE_BATCH),
        PeriodicTask(
            "referral.forget_commission_days", 600, growth.commission.keeper.forget_days, commission.PRUNE_BATCH
        ),
        PeriodicTask("referral.send_approved", 2, growth.commission.cashier.send_approved, withdrawal.SEND_BATCH),
        PeriodicTask("referral.look_at_paying", 5, growth.commission.cashier.look_at_paying, withdrawal.SEND_BATCH),
        PeriodicTask(
            "referral.forget_withdrawal_days", 600, growth.commission.cashier.forget_days, withdrawal.PRUNE_BATCH
        ),
        PeriodicTask("task.end_closed_tasks", 2, task.end_closed_tasks, task.END_BATCH),
        PeriodicTask("task.forget_old", 600, task.forget_old, task.FORGET_BATCH),
        # Any due shopper, and the next batch follows at once: batches are bounded by lots.
        PeriodicTask("ledger.expire_points", 60, growth.rewards.ledger.expire_due, 1),
        PeriodicTask("ledger.fold_house", 5, growth.rewards.ledger.fold_house, FOLD_BATCH),
        PeriodicTask("shop.webhook_watch", 10, growth.webhook.keeper.watch),
        PeriodicTask("shop.webhook_prepare", 3600, growth.webhook.keeper.prepare),
        PeriodicTask("shop.webhook_prune", 600, growth.webhook.keeper.prune),
        PeriodicTask("events.prepare", 3600, growth.events.keeper.prepare),
        PeriodicTask("events.prune", 600, growth.events.keeper.prune),
        # Any shopper on their way out, and the next batch follows at once.
        PeriodicTask("events.depart", 5, growth.events.keeper.depart, 1),
        PeriodicTask("coupon.expire", 2, coupon.expire_coupons, coupon.EXPIRE_BATCH),
        PeriodicTask("coupon.tell_expiring", 5, coupon.tell_expiring, coupon.TELL_BATCH),
        PeriodicTask(
            "coupon.lapse_locks",
            60,
            partial(coupon.lapse_locks, days=growth.settings.coupon_lock_days),
            coupon.LAPSE_BATCH,
        ),
        PeriodicTask("coupon.end_stale_templates", 30, coupon.end_stale_templates, coupon.END_BATCH),
        # Any shopper looked at, and the next page follows at once.
        PeriodicTask("checkin.end_days", 5, growth.checkin.night.end_days, 1),
        PeriodicTask("checkin.warn", 30, growth.checkin.night.warn, 1),
        PeriodicTask("checkin.end_over_programs", 30, growth.checkin.programs.end_over),
        PeriodicTask("checkin.prepare_months", 3600, growth.checkin.programs.prepare_months),
        PeriodicTask("erasure.sweep", 10, growth.erasures.sweep, 1),
        PeriodicTask("erasure.forget", 3600, house.forget_erased, housekeeping.ERASED_BATCH),
        PeriodicTask(
            "invariants", housekeeping.INVARIANTS_SECONDS, house.check_invariants, max_seconds=MAX_ROUND_SECONDS
        ),
        PeriodicTask("outbox.prepare", 3600, house.prepare_outbox),
        PeriodicTask("outbox.prune", 600, house.prune_outbox),
        PeriodicTask("outbox.retry", 5, Retries(growth.database, reactions(growth)).retry_due, RETRY_BATCH),
        PeriodicTask("idempotency.prune", 60, house.prune_idempotency, housekeeping.IDEMPOTENCY_BATCH),
    ]


class Standing(Struct, frozen=True):
    """What a worker does all the time."""

    name: str
    run: Callable[[asyncio.Event], Coroutine[Any, Any, None]]
    """Runs until the event is set, then ends by itself within seconds."""


def standing(growth: Growth) -> Sequence[Standing]:
    """Return all of it."""
    return [Standing("shop.webhook_send", growth.webhook.sender.run)]
