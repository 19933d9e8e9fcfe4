"""What check-ins add to the house."""

from growth.kit.room import Person, Room, Rooms, Stores
from growth.mechanics.checkin import admin, person, projection
from growth.mechanics.checkin.model import PROGRAMS
from growth.mechanics.checkin.service import CheckinPrograms
from growth.mechanics.checkin.short_cut import short_cuts
from growth.mechanics.checkin.streak import routes
from growth.mechanics.checkin.streak.calendar.service import Calendars
from growth.mechanics.checkin.streak.day_end.periodic import Night
from growth.mechanics.checkin.streak.programs_cache import Almanacs
from growth.mechanics.checkin.streak.repair.service import Repairs
from growth.mechanics.checkin.streak.service import CheckIns
from growth.plumbing.outbox.outbox import Subscription
from growth.plumbing.work.periodic import PeriodicTask


def room(stores: Stores, below: Rooms) -> Room:  # noqa: ARG001 - every room is made so
    """Make the room of check-ins."""
    database = stores.database
    almanacs = Almanacs(stores.settings.zone)
    known = (database, almanacs, stores.audiences)
    programs, repairs, calendars = CheckinPrograms(*known), Repairs(*known), Calendars(*known)
    check_ins = CheckIns(database, almanacs, repairs, stores.audiences)
    night = Night(almanacs)
    return Room(
        name="checkin",
        services=[almanacs, programs, check_ins, repairs, calendars],
        gives={
            "check_ins": check_ins,
            "checkin_programs": programs,
            "checkin_repairs": repairs,
            "checkin_calendars": calendars,
        },
        campaigns=[PROGRAMS],
        routers=[routes.router, admin.router],
        short_cuts=short_cuts(check_ins),
        tasks=[
            # Any shopper looked at, and the next page follows at once.
            PeriodicTask("checkin.end_days", 5, night.end_days, 1),
            PeriodicTask("checkin.warn", 30, night.warn, 1),
            PeriodicTask("checkin.end_over_programs", 30, programs.end_over),
            PeriodicTask("checkin.prepare_months", 3600, programs.prepare_months),
        ],
        subscriptions=[Subscription("checkin.tally", projection.LISTENS_TO, projection.count, hears_of_erased=True)],
        persons={"checkin": Person(export=person.export, erase=person.erase, merge=person.merge, had=person.had)},
        drain=[check_ins.drain],
    )
