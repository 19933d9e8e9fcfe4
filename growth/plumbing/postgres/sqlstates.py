"""TABLE: SQLSTATE → whose trouble it is. The outside's is 503 with Retry-After, ours is 500, and neither is guessed.

A class (the first two characters) says it for all of its states that have no line of their own. The list of states:
https://www.postgresql.org/docs/current/errcodes-appendix.html
"""

import enum

import asyncpg


class ErrorMeaning(enum.Enum):
    """What an error of Postgres means to whoever asked."""

    OURS = "ours"
    """A wrong statement, or data that no code expected: it fails again for ever. 500."""
    AGAIN = "again"
    """Another transaction was in the way, or a statement must be prepared anew: the next try may do. 503."""
    OUTSIDE = "outside"
    """The database, its machine or its administration: whoever comes back later is served. 503."""
    SICK = "sick"
    """As OUTSIDE; and the session itself is of no more use, nor perhaps any that was opened before now."""


VERDICTS: dict[str, ErrorMeaning] = {
    # Not errors, and the standard's for what Postgres does not have.
    "00": ErrorMeaning.OURS,
    "01": ErrorMeaning.OURS,
    "02": ErrorMeaning.OURS,
    "03": ErrorMeaning.OURS,
    # Connections. 08P01 is also how PgBouncer says that it has no server to give.
    "08": ErrorMeaning.SICK,
    # Statements that are wrong as they are written, or do not fit the data.
    "09": ErrorMeaning.OURS,
    "0A": ErrorMeaning.OURS,
    "0B": ErrorMeaning.OURS,
    "0F": ErrorMeaning.OURS,
    "0L": ErrorMeaning.OURS,
    "0P": ErrorMeaning.OURS,
    "0Z": ErrorMeaning.OURS,
    "10": ErrorMeaning.OURS,
    "20": ErrorMeaning.OURS,
    "21": ErrorMeaning.OURS,
    "22": ErrorMeaning.OURS,
    "23": ErrorMeaning.OURS,
    "24": ErrorMeaning.OURS,
    # The session is not in the transaction that it should be in: our mistake. But whether it may write, and how long
    # it may stay idle, is decided outside.
    "25": ErrorMeaning.OURS,
    "25006": ErrorMeaning.SICK,  # read-only, or a standby
    "25P03": ErrorMeaning.SICK,  # idle for too long: this process was frozen
    "25P04": ErrorMeaning.SICK,  # a limit of the administration's
    # A pooler gave us another server session than the one we prepared on, or somebody said DISCARD.
    "26": ErrorMeaning.SICK,
    "42P05": ErrorMeaning.SICK,
    "27": ErrorMeaning.OURS,
    # Who may connect, to which database, and what they may do there.
    "28": ErrorMeaning.OUTSIDE,
    "3D": ErrorMeaning.OUTSIDE,
    "42501": ErrorMeaning.OUTSIDE,
    "2B": ErrorMeaning.OURS,
    "2D": ErrorMeaning.OURS,
    "2F": ErrorMeaning.OURS,
    "34": ErrorMeaning.OURS,
    "38": ErrorMeaning.OURS,
    "39": ErrorMeaning.OURS,
    "3B": ErrorMeaning.OURS,
    "3F": ErrorMeaning.OURS,
    # Rolled back for the sake of another transaction; 40003 does not know what became of it.
    "40": ErrorMeaning.AGAIN,
    "40002": ErrorMeaning.OURS,
    "40003": ErrorMeaning.SICK,
    "42": ErrorMeaning.OURS,
    "44": ErrorMeaning.OURS,
    # Disk, memory, connections.
    "53": ErrorMeaning.OUTSIDE,
    # No more transaction ids (wraparound); but see `SIZE_LIMITS`. Too many columns and too deep are of the statement.
    "54": ErrorMeaning.SICK,
    "54001": ErrorMeaning.OURS,
    "54011": ErrorMeaning.OURS,
    "54023": ErrorMeaning.OURS,
    # Locks, recovery, and what somebody else is changing just now.
    "55": ErrorMeaning.OUTSIDE,
    "55P02": ErrorMeaning.OURS,
    "55P03": ErrorMeaning.AGAIN,
    "55P04": ErrorMeaning.OURS,
    # An operator, a shutdown, a crash, a start. A cancelled statement leaves the session well.
    "57": ErrorMeaning.SICK,
    "57014": ErrorMeaning.OUTSIDE,
    # Disks that cannot be read or written.
    "58": ErrorMeaning.OUTSIDE,
    "72": ErrorMeaning.AGAIN,
    # The server's own files, foreign servers that an administration put behind a name.
    "F0": ErrorMeaning.OUTSIDE,
    "HV": ErrorMeaning.OUTSIDE,
    # What our own triggers raise.
    "P0": ErrorMeaning.OURS,
    # Postgres' own bugs, and broken pages: no caller can do better, and a newer or a mended server can.
    "XX": ErrorMeaning.SICK,
}

SIZE_LIMITS = frozenset(
    {
        "_bt_check_third_page",
        "index_form_tuple",
        "index_form_tuple_context",
        "RelationGetBufferForTuple",
        "raw_heap_insert",
        "ArrayGetNItems",
        "ArrayGetNItemsSafe",
        "convertJsonbArray",
        "convertJsonbObject",
        "checkStringLen",
        "enlargeStringInfo",
    }
)
"""Functions of Postgres that say 54000 of data that are too large. That fails again for ever, and is ours; a refusal
of transaction ids has the same state. Messages come in the server's language, these names do not."""

_OUTSIDE = (asyncpg.InterfaceError, asyncpg.InternalClientError, TimeoutError, OSError)


def verdict(error: BaseException) -> ErrorMeaning:
    """Say whose trouble `error` is. asyncpg's own wrong calls count as outside here: see `postgres`."""
    if isinstance(error, asyncpg.InvalidCachedStatementError):
        # A migration beside: asyncpg has forgotten the plan by now.
        return ErrorMeaning.AGAIN
    if isinstance(error, asyncpg.PostgresError):
        state = error.sqlstate or ""
        if state == "54000" and getattr(error, "server_source_function", None) in SIZE_LIMITS:
            return ErrorMeaning.OURS
        return VERDICTS.get(state) or VERDICTS.get(state[:2], ErrorMeaning.OURS)
    return ErrorMeaning.OUTSIDE if isinstance(error, _OUTSIDE) else ErrorMeaning.OURS
