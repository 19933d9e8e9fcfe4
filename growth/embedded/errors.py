"""What can go wrong."""


class EmbeddedServerError(RuntimeError):
    """A server could not be found, started or stopped; the message says what to do or ends with the server's log."""
