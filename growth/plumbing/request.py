"""The id of the request that is being served: logs, events and batches carry it."""

from contextvars import ContextVar

request_id: ContextVar[str] = ContextVar("request_id", default="")
"""The id of the request that is being served here; empty for what the clock wakes."""
