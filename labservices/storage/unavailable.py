"""The reasons why a database is unavailable, from the error classes of PostgreSQL and of the connection pool."""

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

UNREACHABLE = "is unavailable"

REASONS = {
    "53100": "has no disk space left",
    "53200": "has no memory left",
    "53300": "accepts no more connections",
    "53400": "has reached a limit of its configuration",
    "25006": "accepts no writes now",
    "25P03": "ended a transaction that was idle for too long",
    "40001": "is too busy",
    "40P01": "is too busy",
    "55P03": "is too busy",
    "57014": "is too busy",
    "57P01": "is shutting down",
    "57P02": "is shutting down",
    "57P03": "is starting up or shutting down",
    "58030": "can't read or write its disk",
}
"""Reasons by SQLSTATE (PostgreSQL's documentation, appendix A). Each goes away without a change of the request."""

_AT_CONNECT = {
    "too many clients": REASONS["53300"],
    "connection slots are reserved": REASONS["53300"],
    "too many connections": REASONS["53300"],
    "No space left on device": REASONS["53100"],
    "the database system is": REASONS["57P03"],
}
"""Reasons by the server's message. The client library reports no SQLSTATE for a connection that the server refuses."""


class DatabaseUnavailable(Exception):
    """The database is unreachable, or temporarily can't work; a later retry can succeed.

    Attributes
    ----------
    reason
        The reason, as the end of a sentence that starts with "the database".
    broke_connection
        Whether the server or the network ended the connection.
    may_be_committed
        Whether the connection ended during the commit, so that the change may be committed. Otherwise nothing was
        changed.
    """

    def __init__(self, message: str, reason: str = UNREACHABLE, *, broke_connection: bool = False) -> None:
        super().__init__(message)
        self.reason = reason
        self.broke_connection = broke_connection
        self.may_be_committed = False


def unavailable(error: DBAPIError | PoolTimeout) -> DatabaseUnavailable | None:
    """Return the exception for an error of an unavailable database, or None for an error of the statement itself."""
    message = str(error).split("\n")[0]
    if isinstance(error, PoolTimeout):
        return DatabaseUnavailable(message, "is too busy")
    reason = REASONS.get(getattr(error.orig, "sqlstate", None) or "")
    if reason is None:
        if not (isinstance(error, OperationalError | InterfaceError) or error.connection_invalidated):
            return None
        reason = next((reason for words, reason in _AT_CONNECT.items() if words in str(error.orig)), UNREACHABLE)
    return DatabaseUnavailable(message, reason, broke_connection=error.connection_invalidated)
