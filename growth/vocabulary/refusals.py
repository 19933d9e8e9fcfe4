"""An expected "no": typed, with a stable code. A bug is an assertion; the outside failing is `Unavailable`."""

from msgspec import Struct


class Kind(Struct, frozen=True):
    """One kind of refusal, as the API shows it."""

    code: str
    """Stable, `room.reason`."""
    title: str
    """One short sentence, the same each time."""
    status: int = 409
    """The HTTP status it travels under."""


class Refusal(Exception):
    """The answer is no, and nothing was changed.

    `members` are shown beside the standard problem members (times as datetimes, structs as objects).
    """

    def __init__(self, kind: Kind, detail: str = "", **members: object) -> None:
        super().__init__(kind.code)
        self.kind = kind
        self.detail = detail or kind.title
        self.members = members


class Unavailable(Exception):
    """A store cannot answer now; nothing was acknowledged. Shown as 503 with Retry-After."""

    def __init__(self, what: str, retry_after_seconds: int = 1) -> None:
        super().__init__(what)
        self.what = what
        self.retry_after_seconds = retry_after_seconds
