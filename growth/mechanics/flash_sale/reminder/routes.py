"""Shoppers' HTTP of reminders."""

from litestar import Router, delete, get, put
from litestar.di import NamedDependency

from growth.mechanics.flash_sale.reminder.model import ReminderPage
from growth.mechanics.flash_sale.reminder.service import Reminders
from growth.plumbing.http.answers import PathUuid
from growth.vocabulary import clock
from growth.vocabulary.actors import Shopper


@put(
    "/flash-sales/{sale_id:str}/reminder",
    status_code=204,
    operation_id="flash_sale_reminder_set",
    summary="Set my reminder for a flash sale",
)
async def put_reminder(
    sale_id: PathUuid, shopper: NamedDependency[Shopper], reminders: NamedDependency[Reminders]
) -> None:
    """Twice is once. 409 once the sale has opened, and beyond 200 waiting reminders."""
    await reminders.ask(sale_id, shopper.user_id, clock.now())


@delete(
    "/flash-sales/{sale_id:str}/reminder",
    status_code=204,
    operation_id="flash_sale_reminder_delete",
    summary="Remove my reminder for a flash sale",
)
async def delete_reminder(
    sale_id: PathUuid, shopper: NamedDependency[Shopper], reminders: NamedDependency[Reminders]
) -> None:
    """Harmless if there is no reminder, or it was sent."""
    await reminders.take_back(sale_id, shopper.user_id)


@get(
    "/flash-sales/{sale_id:str}/reminder",
    operation_id="flash_sale_reminder_get",
    summary="Get my reminder for a flash sale",
)
async def get_reminder(
    sale_id: PathUuid, shopper: NamedDependency[Shopper], reminders: NamedDependency[Reminders]
) -> ReminderPage:
    """`asked` says whether, `remind_at` when."""
    return await reminders.page(sale_id, shopper.user_id, clock.now())


router = Router(path="/v1", route_handlers=[put_reminder, delete_reminder, get_reminder], tags=["Flash sales"])
