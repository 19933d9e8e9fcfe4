"""Shoppers' HTTP of check-ins."""

from datetime import date
from typing import Annotated, Any

from litestar import Request, Response, Router, delete, get, post, put
from litestar.di import NamedDependency
from litestar.openapi import ResponseSpec
from litestar.params import JSONBody, QueryParameter
from msgspec import Struct

from growth.mechanics.checkin.model import FIRST_DAY, LAST_DAY
from growth.mechanics.checkin.streak.calendar.model import CheckinCalendar
from growth.mechanics.checkin.streak.calendar.service import Calendars
from growth.mechanics.checkin.streak.model import CheckedIn
from growth.mechanics.checkin.streak.repair.model import MadeUp
from growth.mechanics.checkin.streak.repair.service import Repairs
from growth.mechanics.checkin.streak.service import CheckIns
from growth.plumbing.field_errors import FieldError
from growth.plumbing.http.answers import REPLAYED_HEADER, JsonResponse, idempotency_key, raw_body, require_json
from growth.plumbing.strict_json import decode_json, invalid
from growth.vocabulary.actors import Shopper

MAX_TAP_BYTES = 64
"""A tap has nothing to say: its body is empty, or an empty object."""


class Nothing(Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a tap: the server alone decides on the day."""


class MakeUpRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Which missed day to repair."""

    day: date


Month = Annotated[
    str | None,
    QueryParameter(
        pattern=r"^20[2-9][0-9]-(0[1-9]|1[0-2])$(?!\n)", description="The month, 2026-11; this one, if left out."
    ),
]


@post(
    "/check-ins",
    operation_id="checkin_check_in",
    summary="Check in today",
    responses={200: ResponseSpec(CheckedIn, description="Checked in before", generate_examples=False)},
)
async def check_in(
    request: Request[Any, Any, Any], shopper: NamedDependency[Shopper], check_ins: NamedDependency[CheckIns]
) -> Response[CheckedIn]:
    """201 for the tap that checked in; 200 with the same body for every further one of the day.

    The day is the merchant's, when the request arrived. After a time-out or a 503 ask again: the day happens once. With
    an Idempotency-Key asking again past midnight is still the same tap.
    """
    raw = await raw_body(request, max_bytes=MAX_TAP_BYTES)
    if raw:
        require_json(request)
        decode_json(raw, Nothing)
    told = await check_ins.check_in(shopper.user_id, idempotency_key(request))
    headers = {REPLAYED_HEADER: "true"} if told.replayed else {}
    return JsonResponse(told.answer, status_code=201 if told.is_new or told.replayed else 200, headers=headers)


@get("/check-ins", operation_id="checkin_calendar_get", summary="Get my check-in calendar")
async def get_month(
    shopper: NamedDependency[Shopper], checkin_calendars: NamedDependency[Calendars], month: Month = None
) -> CheckinCalendar:
    """Each day of the month, streaks, the next milestone, today's state, and what there is to repair with."""
    asked = None if month is None else date.fromisoformat(f"{month}-01")
    return await checkin_calendars.page(shopper.user_id, asked)


@post("/check-ins/make-ups", operation_id="checkin_day_make_up", summary="Make up a missed day")
async def make_up(
    data: JSONBody[MakeUpRequest],
    request: Request[Any, Any, Any],
    shopper: NamedDependency[Shopper],
    checkin_repairs: NamedDependency[Repairs],
) -> Response[MadeUp]:
    """The card, the day, the streak and what it earns change together, or not at all."""
    if not FIRST_DAY <= data.day < LAST_DAY:
        raise invalid(FieldError("day", f"Must be from {FIRST_DAY} to before {LAST_DAY}"))
    made = await checkin_repairs.make_up(shopper.user_id, data.day, idempotency_key(request))
    headers = {REPLAYED_HEADER: "true"} if made.replayed else {}
    return JsonResponse(made.answer, status_code=201, headers=headers)


@put("/check-ins/reminder", status_code=204, operation_id="checkin_reminder_set", summary="Turn on streak reminders")
async def put_reminder(shopper: NamedDependency[Shopper], checkin_calendars: NamedDependency[Calendars]) -> None:
    """Twice is once. Nobody is told of a streak at risk who did not ask for it."""
    await checkin_calendars.remind(shopper.user_id, wants=True)


@delete(
    "/check-ins/reminder", status_code=204, operation_id="checkin_reminder_delete", summary="Turn off streak reminders"
)
async def delete_reminder(shopper: NamedDependency[Shopper], checkin_calendars: NamedDependency[Calendars]) -> None:
    """Harmless if nobody asked."""
    await checkin_calendars.remind(shopper.user_id, wants=False)


router = Router(
    path="/v1", route_handlers=[check_in, get_month, make_up, put_reminder, delete_reminder], tags=["Check-in"]
)
