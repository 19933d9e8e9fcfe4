"""Settings → pools → stores → services: one plain object, one attribute a room."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from zoneinfo import ZoneInfo

from msgspec import Struct

from growth.events.model import MAX_EVENTS
from growth.events.periodic import Keeper as EventsKeeper
from growth.events.service import Events
from growth.listeners.retention.report.service import Reports
from growth.listeners.retention.service import Projection as RetentionProjection
from growth.mechanics.checkin.service import Programs as CheckinPrograms
from growth.mechanics.checkin.streak.almanac import Almanacs
from growth.mechanics.checkin.streak.calendar.service import Calendars
from growth.mechanics.checkin.streak.night.periodic import Night
from growth.mechanics.checkin.streak.repair.service import Repairs
from growth.mechanics.checkin.streak.service import CheckIns
from growth.mechanics.flash_sale.board import MAX_AGE_SECONDS, Board
from growth.mechanics.flash_sale.claim.loading import Loader
from growth.mechanics.flash_sale.claim.periodic import Keeper
from growth.mechanics.flash_sale.claim.service import Claims
from growth.mechanics.flash_sale.claim.settlement.service import Settlement
from growth.mechanics.flash_sale.draw.service import Draws
from growth.mechanics.flash_sale.reminder.service import Reminders
from growth.mechanics.flash_sale.series.service import SeriesService
from growth.mechanics.flash_sale.service import Sales
from growth.mechanics.flash_sale.stock import Stock
from growth.mechanics.group_buy.board import Board as GroupBoard
from growth.mechanics.group_buy.service import GroupBuys
from growth.mechanics.group_buy.team.payment.settlement import Settlement as SeatSettlement
from growth.mechanics.group_buy.team.periodic import Keeper as TeamKeeper
from growth.mechanics.group_buy.team.service import Teams
from growth.mechanics.referral.commission.periodic import Keeper as CommissionKeeper
from growth.mechanics.referral.commission.service import Commissions
from growth.mechanics.referral.commission.settlement import Settlement as CommissionSettlement
from growth.mechanics.referral.correction.service import Corrections
from growth.mechanics.referral.relation.service import MAX_ATTEMPTS, MAX_ATTEMPTS_PER_SECOND, Relations
from growth.mechanics.referral.reward.settlement import Settlement as ReferralSettlement
from growth.mechanics.referral.risk.service import Reviews
from growth.mechanics.referral.service import Programs as ReferralPrograms
from growth.mechanics.referral.standing.service import Standings
from growth.mechanics.referral.withdrawal.desk.service import Desk
from growth.mechanics.referral.withdrawal.payout.service import payout_of
from growth.mechanics.referral.withdrawal.periodic import Cashier
from growth.mechanics.referral.withdrawal.service import Withdrawals
from growth.mechanics.task.board import Board as TaskBoard
from growth.mechanics.task.progress.service import Projection
from growth.mechanics.task.service import Tasks
from growth.plumbing.erasure import Erasures
from growth.plumbing.identity import Identity
from growth.plumbing.limits import Limiter
from growth.plumbing.operators import Operators
from growth.plumbing.postgres import Database, connect_postgres
from growth.plumbing.redis import AnyRedis, connect_redis
from growth.rewards.coupon.code.service import Codes
from growth.rewards.coupon.payment.settlement import Settlement as CouponSettlement
from growth.rewards.coupon.quote.service import Quotes
from growth.rewards.coupon.service import Coupons
from growth.rewards.coupon.take.service import Takes
from growth.rewards.coupon.template.service import Templates
from growth.rewards.granting.service import Granting
from growth.rewards.ledger.service import Ledger
from growth.rewards.ledger.spending.service import Spending
from growth.rewards.pack.service import Packs
from growth.settings import Settings
from growth.shop.model import OrderParticipant
from growth.shop.service import ShopService
from growth.shop.webhook.delivery.courier import Courier
from growth.shop.webhook.delivery.periodic import Keeper as DeliveryKeeper
from growth.shop.webhook.delivery.queue import Queue
from growth.shop.webhook.delivery.sender import Sender
from growth.shop.webhook.delivery.service import Deliveries
from growth.shop.webhook.service import Webhooks
from growth.shoppers import SWEPT, Shoppers
from growth.vocabulary.clock import now

SECONDS_A_MINUTE = 60


REPLICA_MAX_CONNECTIONS = 4
"""Of one process: reports are few, and may wait for one another."""
REPLICA_STATEMENT_SECONDS = 30.0


class Limits(Struct):
    """How much one caller may ask of what reaches the stores."""

    shopper: Limiter
    operator: Limiter
    address: Limiter


class EventsIn(Struct):
    """The room of what shoppers do."""

    events: Events
    keeper: EventsKeeper


class FlashSale(Struct):
    """The room of flash sales."""

    stock: Stock
    board: Board
    loader: Loader
    sales: Sales
    claims: Claims
    draws: Draws
    reminders: Reminders
    series: SeriesService
    keeper: Keeper


class GroupBuy(Struct):
    """The room of group buys."""

    board: GroupBoard
    group_buys: GroupBuys
    teams: Teams
    keeper: TeamKeeper


class Rewards(Struct):
    """What shoppers can hold."""

    ledger: Ledger
    granting: Granting


class Coupon(Struct):
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
    projection: Projection


class Commission(Struct):
    """The rooms of inviters' money: commissions, reviews, withdrawals."""

    commissions: Commissions
    keeper: CommissionKeeper
    reviews: Reviews
    withdrawals: Withdrawals
    desk: Desk
    cashier: Cashier


class Referral(Struct):
    """The room of referrals."""

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


class Growth(Struct):
    """Everything that runs in one process."""

    settings: Settings
    database: Database
    redis: AnyRedis
    identity: Identity
    operators: Operators
    limits: Limits
    shop: ShopService
    events: EventsIn
    webhook: Webhook
    rewards: Rewards
    coupon: Coupon
    pack: Packs
    flash_sale: FlashSale
    group_buy: GroupBuy
    retention: Retention
    task: TaskRoom
    referral: Referral
    commission: Commission
    checkin: Checkin
    shoppers: Shoppers
    erasures: Erasures


@asynccontextmanager
async def assembled(settings: Settings) -> AsyncIterator[Growth]:
    """Connect and assemble; on leaving, let what is under way end and close the pools."""
    database = await connect_postgres(
        settings.postgres_dsn,
        max_connections=settings.postgres_max_connections,
        acquire_seconds=settings.postgres_acquire_seconds,
        statement_seconds=settings.postgres_statement_seconds,
        statement_cache=settings.postgres_statement_cache,
    )
    replica = database
    if settings.postgres_replica_dsn is not None:
        # A replica that is away stops its reports, and nothing else.
        replica = await connect_postgres(
            settings.postgres_replica_dsn,
            max_connections=REPLICA_MAX_CONNECTIONS,
            acquire_seconds=settings.postgres_acquire_seconds,
            statement_seconds=REPLICA_STATEMENT_SECONDS,
            statement_cache=settings.postgres_statement_cache,
            name="growth-reports",
            connect_now=False,
        )
    redis = connect_redis(
        settings.redis_url,
        max_connections=settings.redis_max_connections,
        answer_seconds=settings.redis_answer_seconds,
    )
    growth = _assemble(settings, database, replica, redis)
    try:
        yield growth
    finally:
        await growth.events.events.drain()
        await growth.flash_sale.claims.drain()
        await growth.flash_sale.draws.drain()
        await growth.group_buy.teams.drain()
        await growth.referral.relations.drain()
        await growth.coupon.takes.drain()
        await growth.checkin.check_ins.drain()
        await growth.flash_sale.loader.close()
        await growth.webhook.courier.close()
        await growth.identity.close()
        await redis.aclose()
        if replica is not database:
            await replica.close()
        await database.close()


def _assemble(settings: Settings, database: Database, replica: Database, redis: AnyRedis) -> Growth:
    stock = Stock(redis, back_after_seconds=MAX_AGE_SECONDS)
    events = Events(
        database,
        Limiter(
            redis,
            "events",
            per_second=settings.shopper_events_per_minute / SECONDS_A_MINUTE,
            burst=max(MAX_EVENTS, settings.shopper_events_per_minute),
        ),
    )
    participants: list[OrderParticipant] = [Settlement(stock), SeatSettlement(), CouponSettlement()]
    # Before the rooms of money: they ask which order is an invitee's first.
    participants.append(ReferralSettlement(settings.zone))
    participants.append(CommissionSettlement(ZoneInfo(settings.zone)))
    shop = ShopService(database, participants, settings.shop_secrets, events, Spending())
    board = Board(database, stock, now)
    loader = Loader(database, stock, now)
    draws = Draws(database, stock)
    sales = Sales(database, stock, board, loader, shop)
    group_board = GroupBoard(database, now)
    return Growth(
        settings=settings,
        database=database,
        redis=redis,
        identity=Identity(
            algorithms=settings.jwt_algorithms,
            secret=settings.jwt_secret,
            jwks_url=settings.jwt_jwks_url,
            issuer=settings.jwt_issuer,
            audience=settings.jwt_audience,
        ),
        operators=Operators(database),
        checkin=_checkin(database, settings.zone),
        limits=Limits(
            shopper=Limiter(
                redis, "shopper", per_second=settings.shopper_requests_per_second, burst=settings.shopper_burst
            ),
            operator=Limiter(
                redis, "operator", per_second=settings.operator_requests_per_second, burst=settings.operator_burst
            ),
            address=Limiter(
                redis, "address", per_second=settings.address_requests_per_second, burst=settings.address_burst
            ),
        ),
        shop=shop,
        events=EventsIn(events=events, keeper=EventsKeeper(database, settings.events_keep_days)),
        webhook=_assemble_webhook(settings, database),
        pack=Packs(database, ZoneInfo(settings.zone)),
        coupon=_assemble_coupon(database, redis, ZoneInfo(settings.zone)),
        rewards=Rewards(ledger=Ledger(database, replica), granting=Granting(database)),
        flash_sale=FlashSale(
            stock=stock,
            board=board,
            loader=loader,
            sales=sales,
            claims=Claims(database, stock, board, loader, draws, shop),
            draws=draws,
            reminders=Reminders(database),
            series=SeriesService(database, stock, sales),
            keeper=Keeper(database, stock, loader),
        ),
        group_buy=GroupBuy(
            board=group_board,
            group_buys=GroupBuys(database, group_board),
            teams=Teams(database),
            keeper=TeamKeeper(),
        ),
        retention=Retention(RetentionProjection(settings.zone), Reports(replica, settings.zone)),
        task=TaskRoom(
            tasks=Tasks(database, TaskBoard(database), ZoneInfo(settings.zone)),
            projection=Projection(ZoneInfo(settings.zone)),
        ),
        referral=_assemble_referral(settings, database, redis),
        commission=_assemble_commission(settings, database),
        shoppers=Shoppers(database),
        erasures=Erasures(database, SWEPT),
    )


def _assemble_referral(settings: Settings, database: Database, redis: AnyRedis) -> Referral:
    attempts = Limiter(redis, "referral", per_second=MAX_ATTEMPTS_PER_SECOND, burst=MAX_ATTEMPTS)
    relations = Relations(database, attempts)
    return Referral(
        programs=ReferralPrograms(database, settings.zone),
        relations=relations,
        standings=Standings(database, relations, settings.zone),
        corrections=Corrections(database),
    )


def _assemble_commission(settings: Settings, database: Database) -> Commission:
    payout = payout_of(settings.payout, database, now)
    return Commission(
        commissions=Commissions(database),
        keeper=CommissionKeeper(),
        reviews=Reviews(database),
        withdrawals=Withdrawals(database, ZoneInfo(settings.zone)),
        desk=Desk(database, payout),
        cashier=Cashier(database, payout),
    )


def _assemble_coupon(database: Database, redis: AnyRedis, zone: ZoneInfo) -> Coupon:
    return Coupon(
        templates=Templates(database, zone),
        coupons=Coupons(database),
        takes=Takes(database, zone),
        codes=Codes(database, redis, zone),
        quotes=Quotes(database),
    )


def _assemble_webhook(settings: Settings, database: Database) -> Webhook:
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


def _checkin(database: Database, zone: str) -> Checkin:
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


async def stop_task(task: asyncio.Task[None], seconds: float) -> None:
    """Give a task that was told to stop its time; then cancel it."""
    await asyncio.wait([task], timeout=seconds)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
