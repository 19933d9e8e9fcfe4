"""What coupons add to the house."""

from functools import partial

from growth.kit.room import Person, Room, Rooms, Stores
from growth.plumbing.work.periodic import PeriodicTask
from growth.rewards.coupon import admin, periodic, person, routes
from growth.rewards.coupon.code.service import Codes
from growth.rewards.coupon.payment.settlement import CouponSettlement
from growth.rewards.coupon.quote.service import Quotes
from growth.rewards.coupon.service import Coupons
from growth.rewards.coupon.take.service import Takes
from growth.rewards.coupon.template.model import TEMPLATES
from growth.rewards.coupon.template.service import Templates
from growth.shop.order.model import OrderParticipant


def room(stores: Stores, below: Rooms) -> Room:  # noqa: ARG001 - every room is made so
    """Make the room of coupons."""
    database, zone = stores.database, stores.zone
    audiences = stores.audiences
    templates, coupons = Templates(database, zone, audiences), Coupons(database)
    takes, codes = Takes(database, zone, audiences), Codes(database, stores.redis, zone, audiences)
    quotes = Quotes(database)
    lapse_locks = partial(periodic.lapse_locks, days=stores.settings.coupon_lock_days)
    return Room(
        name="coupon",
        services=[templates, coupons, takes, codes, quotes],
        gives={
            "coupons": coupons,
            "coupon_templates": templates,
            "coupon_takes": takes,
            "coupon_codes": codes,
            "coupon_quotes": quotes,
        },
        campaigns=[TEMPLATES],
        routers=[routes.router, admin.templates_router, admin.router],
        tasks=[
            PeriodicTask("coupon.expire", 2, periodic.expire_coupons, periodic.EXPIRE_BATCH),
            PeriodicTask("coupon.tell_expiring", 5, periodic.tell_expiring, periodic.TELL_BATCH),
            PeriodicTask("coupon.lapse_locks", 60, lapse_locks, periodic.LAPSE_BATCH),
            PeriodicTask("coupon.end_stale_templates", 30, periodic.end_stale_templates, periodic.END_BATCH),
        ],
        persons={"coupon": Person(export=person.export, erase=person.erase, merge=person.merge, had=person.had)},
        declares=[(OrderParticipant, CouponSettlement())],
        drain=[takes.drain],
    )
