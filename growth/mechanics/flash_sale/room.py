"""What flash sales add to the house."""

from growth.kit.room import Person, Room, Rooms, Standing, Stores
from growth.mechanics.flash_sale import admin, person, projection, routes
from growth.mechanics.flash_sale.board import MAX_AGE_SECONDS, SaleBoard
from growth.mechanics.flash_sale.claim import admin as claim_admin
from growth.mechanics.flash_sale.claim import routes as claim_routes
from growth.mechanics.flash_sale.claim.draw import admin as draw_admin
from growth.mechanics.flash_sale.claim.draw import routes as draw_routes
from growth.mechanics.flash_sale.claim.draw import service as draw
from growth.mechanics.flash_sale.claim.periodic import END_BATCH, LAPSE_BATCH, ClaimKeeper
from growth.mechanics.flash_sale.claim.redis_sync import Loader
from growth.mechanics.flash_sale.claim.service import Claims
from growth.mechanics.flash_sale.claim.settlement.service import ClaimSettlement
from growth.mechanics.flash_sale.model import SALES
from growth.mechanics.flash_sale.reminder import routes as reminder_routes
from growth.mechanics.flash_sale.reminder import service as reminder
from growth.mechanics.flash_sale.series import admin as series_admin
from growth.mechanics.flash_sale.series.model import SERIES
from growth.mechanics.flash_sale.series.service import SeriesService
from growth.mechanics.flash_sale.service import Sales
from growth.mechanics.flash_sale.short_cut import short_cuts
from growth.mechanics.flash_sale.stock import Stock
from growth.plumbing.outbox.outbox import Subscription
from growth.plumbing.work.periodic import PeriodicTask
from growth.shop.order.model import OrderParticipant
from growth.shop.order.service import ShopService
from growth.vocabulary.clock import now


def room(stores: Stores, below: Rooms) -> Room:
    """Make the room of flash sales."""
    database, shop = stores.database, below.of(ShopService)
    stock = Stock(stores.redis, back_after_seconds=MAX_AGE_SECONDS)
    board, loader = SaleBoard(database, stock, now), Loader(database, stock, now)
    draws, reminders = draw.Draws(database, stock), reminder.Reminders(database)
    sales = Sales(database, stock, board, loader, shop, stores.audiences)
    claims = Claims(database, stock, board, loader, draws, shop, stores.audiences)
    series, keeper = SeriesService(database, stock, sales), ClaimKeeper(database, stock, loader)
    return Room(
        name="flash_sale",
        services=[stock, board, loader, sales, claims, draws, reminders, series],
        gives={
            "board": board,
            "sales": sales,
            "claims": claims,
            "draws": draws,
            "reminders": reminders,
            "series": series,
        },
        campaigns=[SERIES, SALES],
        routers=[
            routes.router,
            claim_routes.router,
            draw_routes.router,
            reminder_routes.router,
            admin.router,
            claim_admin.router,
            series_admin.router,
            draw_admin.router,
        ],
        short_cuts=short_cuts(board, claims),
        tasks=[
            PeriodicTask("flash_sale.end_lapsed_holds", 1, keeper.end_lapsed_holds, LAPSE_BATCH),
            PeriodicTask("flash_sale.reconcile", 3, keeper.reconcile),
            PeriodicTask("flash_sale.load_ahead", 5, keeper.load_ahead),
            PeriodicTask("flash_sale.end_closed_sales", 2, keeper.end_closed_sales, END_BATCH),
            PeriodicTask("flash_sale.draw", 1, draws.draw_due),
            PeriodicTask("flash_sale.remind", 1, reminders.remind_due),
            PeriodicTask("flash_sale.plan_series", 30, series.plan_due),
            PeriodicTask("flash_sale.forget_entries", 600, draws.forget_old_entries, draw.FORGET_BATCH),
            PeriodicTask("flash_sale.forget_reminders", 600, reminders.forget_old_reminders, reminder.FORGET_BATCH),
        ],
        subscriptions=[Subscription("flash_sale.tempo", projection.LISTENS_TO, projection.count, hears_of_erased=True)],
        api_standing=[Standing("flash_sale.board", board.run)],
        persons={
            "flash_sale": Person(
                export=person.export,
                erase=person.erase,
                merge=person.merge,
                refuses=[person.BUSY],
                renamed=loader.rename_shopper,
            )
        },
        declares=[(OrderParticipant, ClaimSettlement(stock))],
        drain=[claims.drain, draws.drain],
        close=[loader.close],
    )
