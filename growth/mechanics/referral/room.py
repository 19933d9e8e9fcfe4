"""What referrals and commissions add to the house."""

from growth.kit.room import Person, Room, Rooms, Stores
from growth.mechanics.referral import admin, periodic, person, routes
from growth.mechanics.referral.commission import periodic as commission
from growth.mechanics.referral.commission import person as commission_person
from growth.mechanics.referral.commission.service import Commissions
from growth.mechanics.referral.correction.service import Corrections
from growth.mechanics.referral.inviter.service import Standings
from growth.mechanics.referral.model import PROGRAMS
from growth.mechanics.referral.relation.service import MAX_ATTEMPTS, MAX_ATTEMPTS_PER_SECOND, Relations
from growth.mechanics.referral.review.service import Reviews
from growth.mechanics.referral.service import ReferralPrograms
from growth.mechanics.referral.settlement import LISTENS_TO, InviteeSettlement
from growth.mechanics.referral.short_cut import short_cuts
from growth.plumbing.http.limits import Limiter
from growth.plumbing.outbox.outbox import Subscription
from growth.plumbing.work.periodic import PeriodicTask
from growth.shop.order.model import OrderParticipant
from growth.vocabulary.clock import now


def room(stores: Stores, below: Rooms) -> Room:  # noqa: ARG001 - every room is made so
    """Make the room of referrals."""
    database, zone = stores.database, stores.settings.zone
    attempts = Limiter(
        stores.redis, "referral", per_second=MAX_ATTEMPTS_PER_SECOND, burst=MAX_ATTEMPTS, guards_secrets=True
    )
    audiences = stores.audiences
    programs, relations = ReferralPrograms(database, zone, audiences), Relations(database, attempts, audiences)
    standings, corrections = Standings(database, relations, zone, audiences), Corrections(database)
    commissions, reviews = Commissions(database, stores.zone), Reviews(database)
    settlement, keeper = InviteeSettlement(stores.zone), commission.CommissionKeeper()
    return Room(
        name="referral",
        services=[programs, relations, standings, corrections, commissions, reviews, settlement, keeper],
        gives={
            "referral_programs": programs,
            "referral_corrections": corrections,
            "commissions": commissions,
            "reviews": reviews,
        },
        gives_after_shopper={"referral_relations": relations, "referral_standings": standings},
        campaigns=[PROGRAMS],
        routers=[
            routes.router,
            admin.router,
            admin.relations_router,
            routes.money_router,
            admin.commissions_router,
            admin.review_router,
        ],
        short_cuts=short_cuts(relations, now),
        tasks=[
            PeriodicTask("referral.end_closed_programs", 2, periodic.end_closed_programs),
            PeriodicTask("referral.forget_old_days", 600, periodic.forget_old_days, periodic.FORGET_BATCH),
            PeriodicTask("referral.judge", 2, keeper.judge, commission.JUDGE_BATCH),
            PeriodicTask("referral.settle_due", 5, keeper.settle_due, commission.DUE_BATCH),
            PeriodicTask("referral.forget_commission_days", 600, keeper.forget_days, commission.PRUNE_BATCH),
        ],
        subscriptions=[Subscription("referral.again", LISTENS_TO, settlement.hear)],
        persons={
            "referral": Person(
                export=person.export,
                erase=person.erase,
                merge=person.merge,
                had=person.had,
                united=settlement.settle_united,
            ),
            "commission": Person(
                export=commission_person.export, erase=commission_person.erase, merge=commission_person.merge
            ),
        },
        declares=[(OrderParticipant, settlement)],
        drain=[relations.drain],
    )
