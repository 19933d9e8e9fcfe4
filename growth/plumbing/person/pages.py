"""Operators' pages that name a shopper: a former id is its survivor, resolved once, before any page reads it.

An ASGI middleware before the routes of `/admin/v1`: paths below a shopper, and the filters of lists and files. What
stands in bodies is resolved by the service that takes it. Pages of the shopper itself resolve by themselves, since they
merge and erase.
"""

from contextlib import suppress
from urllib.parse import parse_qsl, quote, unquote, urlencode

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Receive, Scope, Send

from growth.plumbing.http.operators import Operators
from growth.plumbing.postgres.database import Database
from growth.vocabulary.events.base import PERSON_MEMBERS
from growth.vocabulary.ids import composed
from growth.vocabulary.refusals import Refusal, Unavailable

PREFIX = "/admin/v1/"
BELOW_A_SHOPPER = "/admin/v1/shoppers/"
MERGE = "merge"
FILTERS = frozenset({*PERSON_MEMBERS, "inviter"})
"""Parameters that name a shopper: like the members of events, and that of the retention table."""
MAX_QUERY_BYTES = 4_096
"""Longer ones are left to the routes: no filter needs as much."""


class Pages:
    """The ASGI middleware. `app` is everything else."""

    def __init__(self, app: ASGIApp, database: Database, operators: Operators) -> None:
        self._app = app
        self._database = database
        self._operators = operators

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Put survivors in place of former ids, and hand on."""
        if scope["type"] == ScopeType.HTTP and scope["path"].startswith(PREFIX):
            # The routes find out as well, and know the words for it.
            with suppress(Unavailable, Refusal):
                await self._resolve(scope)
        return await self._app(scope, receive, send)

    async def _resolve(self, scope: Scope) -> None:
        # As it was sent: an id may have a slash of its own.
        user, slash, rest = scope["raw_path"].decode("latin-1").removeprefix(BELOW_A_SHOPPER).partition("/")
        is_below = scope["path"].startswith(BELOW_A_SHOPPER) and bool(slash) and rest != MERGE
        query = scope["query_string"]
        is_filter = 0 < len(query) <= MAX_QUERY_BYTES and any(name.encode() in query for name in FILTERS)
        if not (is_below or is_filter):
            return
        # Who has shown no key makes nobody look anything up.
        sent = [value.decode("latin-1") for name, value in scope["headers"] if name == b"authorization"]
        await self._operators.of(sent)
        if is_below:
            user_id = composed(unquote(user))
            survivor = await self._survivor(user_id)
            if survivor != user_id:
                scope["path"] = f"{BELOW_A_SHOPPER}{survivor}/{unquote(rest)}"
                scope["raw_path"] = f"{BELOW_A_SHOPPER}{quote(survivor, safe='')}/{rest}".encode()
        if is_filter:
            told = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
            named = {composed(value) for name, value in told if name in FILTERS}
            if len(named) <= len(FILTERS):
                today = {value: await self._survivor(value) for value in named}
                resolved = [(name, today[composed(value)] if name in FILTERS else value) for name, value in told]
                if resolved != told:
                    scope["query_string"] = urlencode(resolved).encode()

    async def _survivor(self, user_id: str) -> str:
        return await self._database.people.today(self._database, user_id)
