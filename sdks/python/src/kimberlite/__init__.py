"""Kimberlite: an event database for records that must hold up later.

Connect with ``Client.connect`` or, on asyncio, ``AsyncClient.connect``::

    from kimberlite import Client, DataClass

    with Client.connect(["embedded:./clinic"], tenant_id=1) as client:
        visits = client.create_stream("visits", DataClass.PHI)
        client.append(visits, [b'{"patient": 7, "reason": "check-up"}'])
        for row in client.query("SELECT id, data ->> '$.reason' AS reason FROM visits"):
            print(row["id"], row["reason"])

Every error is a class below ``KimberliteError``. ``help(Client)`` tells the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kimberlite._arrow import AsyncEventTable
from kimberlite._generated import ClientOptions
from kimberlite._logging import enable_logging
from kimberlite._progress import Progress
from kimberlite._transfers import Transferred
from kimberlite.client import Client, Cursor, Subscription, version
from kimberlite.errors import (
    AppendKey,
    AuthFailedError,
    CallCancelledError,
    ClosedError,
    ClusterUnavailableError,
    ConnectionFailedError,
    CorruptionError,
    ForkedError,
    InternalError,
    InvalidArgumentError,
    InvalidDataClassError,
    InvalidUtf8Error,
    KimberliteError,
    LimitExceededError,
    NullPointerError,
    OffsetMismatchError,
    OffsetOutOfRangeError,
    OverloadedError,
    PanicError,
    PermissionDeniedError,
    ProducerExpiredError,
    ProtocolError,
    QueryExecutionError,
    QuerySyntaxError,
    StorageError,
    StreamExistsError,
    StreamNotFoundError,
    TenantNotFoundError,
    TimedOutError,
    UnknownError,
    VersionMismatchError,
)
from kimberlite.types import (
    AppendResult,
    AtKind,
    Column,
    DataClass,
    Event,
    EventTable,
    LogLevel,
    Offset,
    Page,
    Param,
    Position,
    QueryResult,
    Role,
    Row,
    StreamId,
    StreamInfo,
    Value,
    Verification,
)

if TYPE_CHECKING:
    from kimberlite.aio import AsyncClient, AsyncCursor, AsyncSubscription
else:

    def __getattr__(name: str) -> object:
        """Loads asyncio, and OpenSSL with it, only for programs that use them."""
        if name not in ("AsyncClient", "AsyncCursor", "AsyncSubscription"):
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from kimberlite import aio  # noqa: PLC0415

        globals()[name] = found = getattr(aio, name)
        return found

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})


__version__ = version()

__all__ = [
    "AppendKey",
    "AppendResult",
    "AsyncClient",
    "AsyncCursor",
    "AsyncEventTable",
    "AsyncSubscription",
    "AtKind",
    "AuthFailedError",
    "CallCancelledError",
    "Client",
    "ClientOptions",
    "ClosedError",
    "ClusterUnavailableError",
    "Column",
    "ConnectionFailedError",
    "CorruptionError",
    "Cursor",
    "DataClass",
    "Event",
    "EventTable",
    "ForkedError",
    "InternalError",
    "InvalidArgumentError",
    "InvalidDataClassError",
    "InvalidUtf8Error",
    "KimberliteError",
    "LimitExceededError",
    "LogLevel",
    "NullPointerError",
    "Offset",
    "OffsetMismatchError",
    "OffsetOutOfRangeError",
    "OverloadedError",
    "Page",
    "PanicError",
    "Param",
    "PermissionDeniedError",
    "Position",
    "ProducerExpiredError",
    "Progress",
    "ProtocolError",
    "QueryExecutionError",
    "QueryResult",
    "QuerySyntaxError",
    "Role",
    "Row",
    "StorageError",
    "StreamExistsError",
    "StreamId",
    "StreamInfo",
    "StreamNotFoundError",
    "Subscription",
    "TenantNotFoundError",
    "TimedOutError",
    "Transferred",
    "UnknownError",
    "Value",
    "Verification",
    "VersionMismatchError",
    "enable_logging",
]
