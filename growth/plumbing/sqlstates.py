"""TABLE: SQLSTATE → whose trouble it is. The outside's is 503 with Retry-After, ours is 500, and neither is guessed.

A class (the first two characters) says it for all of its states that have no line of their own. The list of states:
https://www.postgresql.org/docs/current/errcodes-appendix.html
"""

import enum

import asyncpg


class Verdict(enum.Enum):
    """What an error of Postgres means to whoever asked."""

    OURS = "ours"
    """A wrong statement, or data that no code expected: it fails again for ever. 500."""
    AGAIN = "again"
    """Another transaction was in the way, or a statement must be prepared anew: the next try may do. 503."""
    OUTSIDE = "outside"
    """The database, its machine or its administration: whoever comes back later is served. 503."""
    SICK = "sick"
    """As OUTSIDE; and the session itself is of no more use, nor perhaps any that was opened before now."""


VERDICTS: dict[str, Verdict] = {
    # Not errors, and the standard's for what Postgres does not have.
    "00": Verdict.OURS,
    "01": Verdict.OURS,
    "02": Verdict.OURS,
    "03": Verdict.OURS,
    # Connections. 08P01 is also how PgBouncer says that it has no server to give.
    "08": Verdict.SICK,
    # Statements that are wrong as they are written, or do not fit the data.
    "09": Verdict.OURS,
    "0A": Verdict.OURS,
    "0B": Verdict.OURS,
    "0F": Verdict.OURS,
    "0L": Verdict.OURS,
    "0P": Verdict.OURS,
    "0Z": Verdict.OURS,
    "10": Verdict.OURS,
    "20": Verdict.OURS,
    "21": Verdict.OURS,
    "22": Verdict.OURS,
    "23": Verdict.OURS,
    "24": Verdict.OURS,
    # The session is not in the transaction that it should be in: our mistake. But whether it may write, and how long
    # it may stay idle, is decided outside.
    "25": Verdict.OURS,
    "25006": Verdict.SICK,  # read-only, or a standby
    "25P03": Verdict.SICK,  # idle for too long: this process was frozen
    "25P04": Verdict.SICK,  # a limit of the administration's
    # A pooler gave us another server session than the one we prepared on, or somebody said DISCARD.
    "26": Verdict.SICK,
    "42P05": Verdict.SICK,
    "27": Verdict.OURS,
    # Who may connect, to which database, and what they may do there.
    "28": Verdict.OUTSIDE,
    "3D": Verdict.OUTSIDE,
    "42501": Verdict.OUTSIDE,
    "2B": Verdict.OURS,
    "2D": Verdict.OURS,
    "2F": Verdict.OURS,
    "34": Verdict.OURS,
    "38": Verdict.OURS,
    "39": Verdict.OURS,
    "3B": Verdict.OURS,
    "3F": Verdict.OURS,
    # Rolled back for the sake of another transaction; 40003 does not know what became of it.
    "40": Verdict.AGAIN,
    "40002": Verdict.OURS,
    "40003": Verdict.SICK,
    "42": Verdict.OURS,
    "44": Verdict.OURS,
    # Disk, memory, connections.
    "53": Verdict.OUTSIDE,
    # No more transaction ids (wraparound); but see `SIZE_LIMITS`. Too many columns and too deep are of the statement.
    "54": Verdict.SICK,
    "54001": Verdict.OURS,
    "54011": Verdict.OURS,
    "54023": Verdict.OURS,
    # Locks, recovery, and what somebody else is changing just now.
    "55": Verdict.OUTSIDE,
    "55P02": Verdict.OURS,
    "55P03": Verdict.AGAIN,
    "55P04": Verdict.OURS,
    # An operator, a shutdown, a crash, a start. A cancelled statement leaves the session well.
    "57": Verdict.SICK,
    "57014": Verdict.OUTSIDE,
    # Disks that cannot be read or written.
    "58": Verdict.OUTSIDE,
    "72": Verdict.AGAIN,
    # The server's own files, foreign servers that an administration put behind a name.
    "F0": Verdict.OUTSIDE,
    "HV": Verdict.OUTSIDE,
    # What our own triggers raise.
    "P0": Verdict.OURS,
    # Postgres' own bugs, and broken pages: no caller can do better, and a newer or a mended server can.
    "XX": Verdict.SICK,
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


def verdict(error: BaseException) -> Verdict:
    """Say whose trouble `error` is. asyncpg's own wrong calls count as outside here: see `postgres`."""
    if isinstance(error, asyncpg.InvalidCachedStatementError):
        # A migration beside: asyncpg has forgotten the plan by now.
        return Verdict.AGAIN
    if isinstance(error, asyncpg.PostgresError):
        state = error.sqlstate or ""
        if state == "54000" and getattr(error, "server_source_function", None) in SIZE_LIMITS:
            return Verdict.OURS
        return VERDICTS.get(state) or VERDICTS.get(state[:2], Verdict.OURS)
    return Verdict.OUTSIDE if isinstance(error, _OUTSIDE) else Verdict.OURS
