"""Rooms: what each is made of, and how it is put together."""

from zoneinfo import ZoneInfo

from msgspec import Struct

from growth.listeners.retention.report.service import Reports
from growth.listeners.retention.service import RetentionProjection
from growth.mechanics.checkin.service import CheckinPrograms
from growth.mechanics.checkin.streak.calendar.service import Calendars
from growth.mechanics.checkin.streak.day_end.periodic import Night
from growth.mechanics.checkin.streak.programs_cache import Almanacs
from growth.mechanics.checkin.streak.repair.service import Repairs
from growth.mechanics.checkin.streak.service import CheckIns
from growth.mechanics.flash_sale.board import SaleBoard
from growth.mechanics.flash_sale.claim.periodic import ClaimKeeper
from growth.mechanics.flash_sale.claim.redis_sync import Loader
from growth.mechanics.flash_sale.claim.service import Claims
from growth.mechanics.flash_sale.claim.settlement.service import ClaimSettlement
from growth.mechanics.flash_sale.draw.service import Draws
from growth.mechanics.flash_sale.reminder.service import Reminders
from growth.mechanics.flash_sale.series.service import SeriesService
from growth.mechanics.flash_sale.service import Sales
from growth.mechanics.flash_sale.stock import Stock
from growth.mechanics.group_buy.board import GroupBuyBoard as GroupBoard
from growth.mechanics.group_buy.service import GroupBuys
from growth.mechanics.group_buy.team.payment.settlement import SeatSettlement
from growth.mechanics.group_buy.team.periodic import TeamKeeper
from growth.mechanics.group_buy.team.service import Teams
from growth.mechanics.referral.again import Again
from growth.mechanics.referral.commission.periodic import CommissionKeeper
from growth.mechanics.referral.commission.service import Commissions
from growth.mechanics.referral.commission.settlement import CommissionSettlement
from growth.mechanics.referral.correction.service import Corrections
from growth.mechanics.referral.inviter.service import Standings
from growth.mechanics.referral.relation.service import MAX_ATTEMPTS, MAX_ATTEMPTS_PER_SECOND, Relations
from growth.mechanics.referral.review.service import Reviews
from growth.mechanics.referral.reward.settlement import ReferralSettlement
from growth.mechanics.referral.service import ReferralPrograms
from growth.mechanics.task.board import TaskBoard
from growth.mechanics.task.progress.service import TaskProjection
from growth.mechanics.task.service import Tasks
from growth.plumbing.http.limits import Limiter
from growth.plumbing.postgres.database import Database
from growth.plumbing.redis.client import AnyRedis
from growth.plumbing.settings import Settings
from growth.rewards.coupon.code.service import Codes
from growth.rewards.coupon.payment.settlement import CouponSettlement
from growth.rewards.coupon.quote.service import Quotes
from growth.rewards.coupon.service import Coupons
from growth.rewards.coupon.take.service import Takes
from growth.rewards.coupon.template.service import Templates
from growth.rewards.granting.service import Granting
from growth.rewards.ledger.service import Ledger
from growth.rewards.ledger.spending.service import Spending
from growth.rewards.withdrawal.approval.service import Desk
from growth.rewards.withdrawal.payout.service import payout_of
from growth.rewards.withdrawal.periodic import Cashier
from growth.rewards.withdrawal.service import Withdrawals
from growth.shop.order.model import OrderParticipant
from growth.shop.order.service import ShopService
from growth.shopper.activity.model import MAX_EVENTS
from growth.shopper.activity.periodic import EventsKeeper
from growth.shopper.activity.service import Events
from growth.vocabulary.clock import now
from growth.webhook.delivery.courier import Courier
from growth.webhook.delivery.periodic import DeliveryKeeper
from growth.webhook.delivery.queue import Queue
from growth.webhook.delivery.sender import Sender
from growth.webhook.delivery.service import Deliveries
from growth.webhook.service import Webhooks

SECONDS_A_MINUTE = 60


class Stores(Struct, frozen=True):
    """What every room is made with."""

    settings: Settings
    database: Database
    replica: Database
    """For reports."""
    redis: AnyRedis

    @property
    def zone(self) -> ZoneInfo:
        """The merchant's, which says what a day is."""
        return ZoneInfo(self.settings.zone)


class EventsIn(Struct):
    """The room of what shoppers do."""

    events: Events
    keeper: EventsKeeper


class FlashSale(Struct):
    """The room of flash sales."""

    stock: Stock
    board: SaleBoard
    loader: Loader
    sales: Sales
    claims: Claims
    draws: Draws
    reminders: Reminders
    series: SeriesService
    keeper: ClaimKeeper


class GroupBuyRoom(Struct):
    """The room of group buys."""

    board: GroupBoard
    group_buys: GroupBuys
    teams: Teams
    keeper: TeamKeeper


class Rewards(Struct):
    """What shoppers can hold."""

    ledger: Ledger
    granting: Granting


class CouponRoom(Struct):
    """The room of coupons."""

    templates: Templates
    coupons: Coupons
    takes: Takes
    codes: Codes
    quotes: Quotes


class Webhook(Struct):
    """The room of webhooks out."""

    courier: Courier
    queue: Queue
    sender: Sender
    webhooks: Webhooks
    deliveries: Deliveries
    keeper: DeliveryKeeper


class TaskRoom(Struct):
    """The room of tasks."""

    tasks: Tasks
    projection: TaskProjection


class CommissionRoom(Struct):
    """The rooms of inviters' money: commissions, reviews, withdrawals."""

    commissions: Commissions
    keeper: CommissionKeeper
    reviews: Reviews
    withdrawals: Withdrawals
    desk: Desk
    cashier: Cashier


class Referral(Struct):
    """The room of referrals."""

    again: Again
    programs: ReferralPrograms
    relations: Relations
    standings: Standings
    corrections: Corrections


class Retention(Struct):
    """The room of retention."""

    projection: RetentionProjection
    reports: Reports


class Checkin(Struct):
    """The room of check-ins."""

    almanacs: Almanacs
    programs: CheckinPrograms
    check_ins: CheckIns
    repairs: Repairs
    calendars: Calendars
    night: Night


def make_events(stores: Stores) -> EventsIn:
    """Make the room of what shoppers do."""
    a_minute = stores.settings.shopper_events_per_minute
    limiter = Limiter(stores.redis, "events", per_second=a_minute / SECONDS_A_MINUTE, burst=max(MAX_EVENTS, a_minute))
    return EventsIn(
        events=Events(stores.database, limiter),
        keeper=EventsKeeper(stores.database, stores.settings.events_keep_days),
    )


def make_shop(stores: Stores, stock: Stock, events: Events) -> ShopService:
    """Make the order system's way in, with whoever takes part in orders."""
    participants: list[OrderParticipant] = [ClaimSettlement(stock), SeatSettlement(), CouponSettlement()]
    # Before the rooms of money: they ask which order is an invitee's first.
    participants.append(ReferralSettlement(stores.settings.zone))
    participants.append(CommissionSettlement(stores.zone))
    return ShopService(stores.database, participants, stores.settings.shop_secrets, events, Spending())


def make_flash_sale(stores: Stores, stock: Stock, shop: ShopService) -> FlashSale:
    """Make the room of flash sales."""
    database = stores.database
    board = SaleBoard(database, stock, now)
    loader = Loader(database, stock, now)
    draws = Draws(database, stock)
    sales = Sales(database, stock, board, loader, shop)
    return FlashSale(
        stock=stock,
        board=board,
        loader=loader,
        sales=sales,
        claims=Claims(database, stock, board, loader, draws, shop),
        draws=draws,
        reminders=Reminders(database),
        series=SeriesService(database, stock, sales),
        keeper=ClaimKeeper(database, stock, loader),
    )


def make_group_buy(stores: Stores) -> GroupBuyRoom:
    """Make the room of group buys."""
    board = GroupBoard(stores.database, now)
    return GroupBuyRoom(
        board=board,
        group_buys=GroupBuys(stores.database, board),
        teams=Teams(stores.database),
        keeper=TeamKeeper(),
    )


def make_task(stores: Stores) -> TaskRoom:
    """Make the room of tasks."""
    return TaskRoom(
        tasks=Tasks(stores.database, TaskBoard(stores.database), stores.zone),
        projection=TaskProjection(stores.zone),
    )


def make_retention(stores: Stores) -> Retention:
    """Make the room of retention."""
    zone = stores.settings.zone
    return Retention(RetentionProjection(zone), Reports(stores.replica, zone))


def make_referral(stores: Stores) -> Referral:
    """Make the room of referrals."""
    settings, database, redis = stores.settings, stores.database, stores.redis
    attempts = Limiter(redis, "referral", per_second=MAX_ATTEMPTS_PER_SECOND, burst=MAX_ATTEMPTS, guards_secrets=True)
    relations = Relations(database, attempts)
    return Referral(
        again=Again(settings.zone),
        programs=ReferralPrograms(database, settings.zone),
        relations=relations,
        standings=Standings(database, relations, settings.zone),
        corrections=Corrections(database),
    )


def make_commission(stores: Stores) -> CommissionRoom:
    """Make the rooms of inviters' money."""
    settings, database = stores.settings, stores.database
    payout = payout_of(settings.payout, database, now)
    return CommissionRoom(
        commissions=Commissions(database, stores.zone),
        keeper=CommissionKeeper(),
        reviews=Reviews(database),
        withdrawals=Withdrawals(database, ZoneInfo(settings.zone)),
        desk=Desk(database, payout),
        cashier=Cashier(database, payout),
    )


def make_coupon(stores: Stores) -> CouponRoom:
    """Make the room of coupons."""
    database, redis, zone = stores.database, stores.redis, stores.zone
    return CouponRoom(
        templates=Templates(database, zone),
        coupons=Coupons(database),
        takes=Takes(database, zone),
        codes=Codes(database, redis, zone),
        quotes=Quotes(database),
    )


def make_webhook(stores: Stores) -> Webhook:
    """Make the room of webhooks out."""
    settings, database = stores.settings, stores.database
    courier = Courier(settings.webhook_allowed_hosts, now)
    sender = Sender(database, courier, now)
    queue = Queue(settings.event_source, now, sender.wake)
    return Webhook(
        courier=courier,
        queue=queue,
        sender=sender,
        webhooks=Webhooks(database, courier),
        deliveries=Deliveries(database, courier, queue, settings.event_source),
        keeper=DeliveryKeeper(database),
    )


def make_checkin(stores: Stores) -> Checkin:
    """Make the room of check-ins."""
    database, zone = stores.database, stores.settings.zone
    almanacs = Almanacs(zone)
    repairs = Repairs(database, almanacs)
    return Checkin(
        almanacs=almanacs,
        programs=CheckinPrograms(database, almanacs),
        check_ins=CheckIns(database, almanacs, repairs),
        repairs=repairs,
        calendars=Calendars(database, almanacs),
        night=Night(almanacs),
    )
