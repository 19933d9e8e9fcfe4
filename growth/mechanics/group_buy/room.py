"""What group buys add to the house."""

from growth.kit.room import Person, Room, Rooms, Stores
from growth.mechanics.group_buy import admin, person, routes
from growth.mechanics.group_buy.model import GROUP_BUYS
from growth.mechanics.group_buy.nudge.periodic import NUDGE_BATCH, nudge
from growth.mechanics.group_buy.service import GroupBuys
from growth.mechanics.group_buy.short_cut import short_cuts
from growth.mechanics.group_buy.team import admin as team_admin
from growth.mechanics.group_buy.team import routes as team_routes
from growth.mechanics.group_buy.team.board import GroupBuyBoard
from growth.mechanics.group_buy.team.payment.settlement import SeatSettlement
from growth.mechanics.group_buy.team.periodic import END_BATCH, LAPSE_BATCH, TeamKeeper
from growth.mechanics.group_buy.team.service import Teams
from growth.plumbing.work.periodic import PeriodicTask
from growth.shop.order.model import OrderParticipant
from growth.vocabulary.clock import now


def room(stores: Stores, below: Rooms) -> Room:  # noqa: ARG001 - every room is made so
    """Make the room of group buys."""
    board = GroupBuyBoard(stores.database, now)
    group_buys = GroupBuys(stores.database, board, stores.audiences)
    teams, keeper = Teams(stores.database, stores.audiences), TeamKeeper()
    return Room(
        name="group_buy",
        services=[board, group_buys, teams],
        gives={"group_board": board, "group_buys": group_buys, "teams": teams},
        campaigns=[GROUP_BUYS],
        routers=[routes.router, team_routes.router, admin.router, team_admin.router],
        short_cuts=short_cuts(board, teams),
        tasks=[
            # Any due team, and the next batch follows at once: batches are bounded by seats too.
            PeriodicTask("group_buy.end_due_teams", 1, keeper.end_due_teams, 1),
            PeriodicTask("group_buy.end_lapsed_holds", 1, keeper.end_lapsed_holds, LAPSE_BATCH),
            PeriodicTask("group_buy.end_closed_campaigns", 2, keeper.end_closed_campaigns, END_BATCH),
            PeriodicTask("group_buy.nudge", 1, nudge, NUDGE_BATCH),
        ],
        persons={
            "group_buy": Person(export=person.export, erase=person.erase, merge=person.merge, refuses=[person.BUSY])
        },
        declares=[(OrderParticipant, SeatSettlement())],
        drain=[teams.drain],
    )
