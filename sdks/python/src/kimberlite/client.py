"""The synchronous client."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, overload

from kimberlite import _operations as operations
from kimberlite import _queries as queries
from kimberlite import _transfers as transfers
from kimberlite._abi import CLOSE_TIMEOUT_MS, PAGE_EVENTS, READ_EVENTS
from kimberlite._arrow import ArrowSource
from kimberlite._feeds import EventFeed, Feeds, RowFeed, drained
from kimberlite._generated import AtKind, DataClass
from kimberlite._handles import Uncopied
from kimberlite._native import quick
from kimberlite._queues import discard_client, run
from kimberlite._steps import finish
from kimberlite.types import (
    AppendKey,
    AppendResult,
    Column,
    Event,
    EventTable,
    Offset,
    Page,
    Param,
    Position,
    QueryResult,
    Row,
    StreamId,
    StreamInfo,
    Verification,
    into,
)

if TYPE_CHECKING:
    import datetime
    from types import TracebackType

    from typing_extensions import Self, Unpack

    from kimberlite._generated import ClientOptions
    from kimberlite._operations import Data
    from kimberlite._progress import ProgressChoice
    from kimberlite._transfers import PathOrFile, Source, Transferred

T = TypeVar("T")
RowT = TypeVar("RowT")
_Source = TypeVar("_Source", "Subscription", "Cursor")

_NOW = (int(AtKind.NOW), 0)


def rows_as(raw: queries.RawResult, row_type: type[Any] | None) -> QueryResult[Any]:
    """A result's rows as Row objects, or as objects of the row type."""
    columns = raw.columns
    result: QueryResult[Any] = QueryResult(
        lambda: typed(columns, raw.cells(), row_type), raw.arrow, columns, raw.position
    )
    if row_type is not None:
        # What does not fit the type is told by the query.
        len(result)
    return result


def typed(columns: tuple[Column, ...], values: list[Any], row_type: type[Any] | None) -> list[Any]:
    """Rows as Row objects, or as objects of the row type."""
    if row_type is not None:
        return into(row_type, columns, values)
    places = {column.name: i for i, column in enumerate(columns)}
    return [Row(row, places) for row in values]


class Client(Uncopied):
    """A connection to a database: a server, or a folder of this process.

    Safe to use from every thread; use it in a ``with`` statement, or call ``close``::

        with Client.connect(["embedded:./clinic"], tenant_id=1) as client:
            visits = client.create_stream("visits", DataClass.PHI)
            client.append(visits, [b'{"patient": 7}'])
            for event in client.read(visits):
                print(event.offset, event.data)

    Every call ends by its ``timeout_ms``, or by the client's, and raises a ``KimberliteError``
    where it fails: each error has a class of its own, such as ``StreamNotFoundError``. Ctrl-C ends
    a call that waits.
    """

    def __init__(self, handle: int, tenant_id: int) -> None:
        """Made by ``Client.connect``."""
        if not isinstance(handle, int):
            raise TypeError("use Client.connect(addresses, tenant_id) to make a client")
        self._handle = handle
        self._closed = False
        self._feeds = Feeds()
        self.tenant_id = tenant_id
        """The tenant that this client works for."""

    @classmethod
    def connect(
        cls,
        addresses: Sequence[str],
        tenant_id: int,
        auth_token: str | None = None,
        **options: Unpack[ClientOptions],
    ) -> Self:
        """Connects to the first address that answers.

        An address is ``host:port``, ``tls://host:port``, ``embedded:<folder>`` for a database in
        this process, or ``memory:`` for one that is gone with its client. Several addresses are
        members of one database. ``auth_token`` is what the server's administrator gave out; an
        embedded database needs none.

        The options are those of ``ClientOptions``, among them ``timeout_ms``, the deadline of calls
        that name none (30 s), ``connect_timeout_ms`` (10 s), and ``tls_ca_file``.

        Raises ConnectionFailedError where no server was reached, and AuthFailedError,
        TenantNotFoundError or PermissionDeniedError where one refused.
        """
        chosen = operations.Options(addresses, tenant_id, auth_token, dict(options))
        return run(operations.connect(chosen, lambda handle: cls(handle, tenant_id)))

    # Streams and tenants.

    def create_stream(
        self, name: str, data_class: DataClass, *, timeout_ms: int | None = None
    ) -> StreamId:
        """Creates a stream, or gives the id of the one with the same name and class.

        The data class decides what is audited: of ``DataClass.PHI`` every read and query is.
        Raises StreamExistsError where the name belongs to a stream of another class.
        """
        call = operations.call_options(timeout_ms)
        return run(operations.create_stream(self._handle, name, data_class, call))

    def streams(self, *, timeout_ms: int | None = None) -> list[StreamInfo]:
        """The tenant's streams, by id."""
        return run(operations.list_streams(self._handle, operations.call_options(timeout_ms)))

    def stream_info(self, stream: StreamId | str, *, timeout_ms: int | None = None) -> StreamInfo:
        """What is known about a stream, by its id or its name."""
        call = operations.call_options(timeout_ms)
        return run(operations.stream_info(self._handle, stream, call))

    def create_tenant(self, tenant_id: int, *, timeout_ms: int | None = None) -> bool:
        """Creates a tenant; needs an admin. Tells whether this call did."""
        call = operations.call_options(timeout_ms)
        return run(operations.create_tenant(self._handle, tenant_id, call))

    def delete_tenant(self, tenant_id: int, *, timeout_ms: int | None = None) -> None:
        """Deletes a tenant; needs an admin. Nobody reaches its streams any more."""
        call = operations.call_options(timeout_ms)
        run(operations.delete_tenant(self._handle, tenant_id, call))

    def tenants(self, *, timeout_ms: int | None = None) -> list[int]:
        """The tenants on which the caller is admin."""
        return run(operations.list_tenants(self._handle, operations.call_options(timeout_ms)))

    # Appending.

    def append(
        self,
        stream_id: StreamId,
        events: Iterable[Data],
        *,
        expected_offset: int | None = None,
        timeout_ms: int | None = None,
    ) -> Offset:
        """Appends events, all or none, and returns the first one's offset once they are durable.

        An event is bytes of any kind, at most 8 MiB; a batch has at most 65,536 events and 16 MiB.
        With ``expected_offset`` it raises OffsetMismatchError unless the stream ends there: the
        error's ``value`` is where it does end.

        Sent twice by the library, after a lost connection, a batch is still there once. Where the
        outcome stays unknown (TimedOutError, CallCancelledError, ClosedError), the error has an
        ``append_key``; ``append_with_key`` settles it.
        """
        return self.append_result(
            stream_id, events, expected_offset=expected_offset, timeout_ms=timeout_ms
        ).first_offset

    def append_result(
        self,
        stream_id: StreamId,
        events: Iterable[Data],
        *,
        expected_offset: int | None = None,
        timeout_ms: int | None = None,
    ) -> AppendResult:
        """Appends like ``append``, and tells the commit time and position too."""
        call = operations.call_options(timeout_ms)
        return run(operations.append(self._handle, stream_id, events, expected_offset, None, call))

    def append_with_key(
        self,
        key: AppendKey,
        stream_id: StreamId,
        events: Iterable[Data],
        *,
        expected_offset: int | None = None,
        timeout_ms: int | None = None,
    ) -> AppendResult:
        """Settles an append whose outcome is unknown, with the key from its error.

        With the same stream and events it tells what became of the first attempt, or appends them
        now; never twice. A key from ``open_producer`` makes appends repeatable by the caller.
        """
        key = operations.append_key(key)
        call = operations.call_options(timeout_ms)
        return run(operations.append(self._handle, stream_id, events, expected_offset, key, call))

    def open_producer(self, *, timeout_ms: int | None = None) -> int:
        """A producer whose appends the caller numbers, from 1, by ``append_with_key``.

        Sequence n may be sent once the outcome of n - 1024 is known; it is then forgotten.
        """
        return run(operations.open_producer(self._handle, operations.call_options(timeout_ms)))

    def import_events(
        self,
        stream_id: StreamId,
        source: Source,
        *,
        first_offset: int | None = None,
        batch_events: int = transfers.BATCH_EVENTS,
        progress: ProgressChoice = None,
        timeout_ms: int | None = None,
    ) -> Transferred:
        """Appends the events of a file, or of anything that gives events one by one.

        A file, by its name or open in binary mode (such as one of ``gzip.open``), is NDJSON as
        ``export_events`` and ``kimberlite export`` write it. Every other iterable gives events as
        bytes. They are read and appended in batches, so that little memory is needed; nobody else
        may append meanwhile, or it ends with OffsetMismatchError. An error in the source comes
        after what stands before it was appended.

        With ``first_offset``, where the source's first event belongs in the stream, it may be
        interrupted anywhere and called again: what the stream holds from there on is compared
        instead of appended, so that nothing comes twice and nothing is left out::

            client.import_events(visits, "visits.ndjson", first_offset=0)

        ``progress`` is a function that gets a ``Progress`` after each batch, ``True`` for a bar of
        tqdm, or ``False``; by default there is a bar where tqdm is installed and standard error is
        a terminal. ``timeout_ms`` is for each call.
        """
        call = operations.call_options(timeout_ms)
        steps = transfers.import_events(
            self._handle, stream_id, source, first_offset, batch_events, progress, call
        )
        return finish(steps)

    # Reading.

    def read(
        self,
        stream_id: StreamId,
        from_offset: int = 0,
        max_events: int = READ_EVENTS,
        *,
        max_bytes: int = 0,
        min_position: int = 0,
        stale: bool = False,
        timeout_ms: int | None = None,
    ) -> Page:
        """Reads events in order; an empty page at the end of the stream.

        At most ``max_events`` and about ``max_bytes`` (0: the limit of 16 MiB), but at least one.
        For more than a page, see ``events`` and ``pages``. Raises OffsetOutOfRangeError beyond the
        end.

        A read sees every append that was acknowledged before it. ``min_position`` waits for a
        position that another call told; ``stale`` allows older data from a member that lags.
        """
        call = operations.call_options(timeout_ms, min_position, stale)
        return run(
            operations.read(self._handle, stream_id, from_offset, max_events, max_bytes, call)
        )

    def events(
        self,
        stream_id: StreamId,
        from_offset: int = 0,
        *,
        page_events: int = PAGE_EVENTS,
        timeout_ms: int | None = None,
    ) -> Iterator[Event]:
        """Every event from an offset to the end of the stream, read page by page."""
        for page in self.pages(
            stream_id, from_offset, page_events=page_events, timeout_ms=timeout_ms
        ):
            yield from page

    def pages(
        self,
        stream_id: StreamId,
        from_offset: int = 0,
        *,
        page_events: int = PAGE_EVENTS,
        timeout_ms: int | None = None,
    ) -> Iterator[Page]:
        """Every page from an offset to the end of the stream."""
        call = operations.call_options(timeout_ms)
        reader = operations.Reader(self._handle, stream_id, from_offset, page_events, call)
        try:
            while (page := run(reader.next())) is not None:
                yield page
        finally:
            reader.close()

    def event_table(
        self,
        stream_id: StreamId,
        from_offset: int = 0,
        *,
        page_events: int = PAGE_EVENTS,
        timeout_ms: int | None = None,
    ) -> EventTable:
        """Every event from an offset to the end of the stream, as columns.

        The columns are ``offset``, ``timestamp`` and ``data``; the data is copied once, from what
        arrived into a batch for each page::

            frame = client.event_table(visits).to_polars()
        """
        call = operations.call_options(timeout_ms)
        return EventTable(
            lambda: operations.Reader(self._handle, stream_id, from_offset, page_events, call)
        )

    def export_events(
        self,
        stream_id: StreamId,
        target: PathOrFile,
        *,
        from_offset: int = 0,
        to_offset: int | None = None,
        resume: bool = False,
        page_events: int = PAGE_EVENTS,
        progress: ProgressChoice = None,
        timeout_ms: int | None = None,
    ) -> Transferred:
        """Writes a stream's events, as many as there are now, into a file as NDJSON.

        Each line is an object with ``offset``, ``timestamp``, and ``data``, or ``data_base64``
        where the data is not UTF-8: what ``kimberlite export`` writes, byte for byte. ``target``
        is a file that is open in binary mode, or the name of one. One that is there already raises
        FileExistsError unless ``resume`` is true: it is then cut behind its last whole event, which
        must be the stream's (else OffsetMismatchError), and gets what is missing::

            client.export_events(visits, "visits.ndjson", resume=True)

        ``from_offset`` and ``to_offset``, which is not written itself, choose a part. ``progress``
        and ``timeout_ms`` are those of ``import_events``.
        """
        call = operations.call_options(timeout_ms)
        offsets = from_offset, to_offset
        steps = transfers.export_events(
            self._handle, stream_id, target, offsets, resume, page_events, progress, call
        )
        return finish(steps)

    def subscribe(
        self, stream_id: StreamId, from_offset: int = 0, *, timeout_ms: int | None = None
    ) -> Subscription:
        """Everything from an offset on, then every event as it is committed.

        Iterate over it, or call its ``next_page``::

            with client.subscribe(visits) as subscription:
                for event in subscription:
                    print(event.offset, event.data)
        """
        call = operations.call_options(timeout_ms)
        return run(
            operations.subscribe(
                self._handle,
                stream_id,
                from_offset,
                call,
                lambda handle: self._opened(Subscription(self, handle)),
            )
        )

    # Queries.

    @overload
    def query(
        self,
        sql: str,
        params: Sequence[Param] = (),
        *,
        row_type: None = None,
        min_position: int = 0,
        stale: bool = False,
        timeout_ms: int | None = None,
    ) -> QueryResult[Row]: ...
    @overload
    def query(
        self,
        sql: str,
        params: Sequence[Param] = (),
        *,
        row_type: type[RowT],
        min_position: int = 0,
        stale: bool = False,
        timeout_ms: int | None = None,
    ) -> QueryResult[RowT]: ...
    def query(
        self,
        sql: str,
        params: Sequence[Param] = (),
        *,
        row_type: type[Any] | None = None,
        min_position: int = 0,
        stale: bool = False,
        timeout_ms: int | None = None,
    ) -> QueryResult[Any]:
        """Runs one SELECT statement; every stream is a table with id, timestamp and data.

        ``id`` is the event's offset, ``timestamp`` its commit time in Unix seconds, and ``data``
        its bytes, in which SQLite's JSON functions look. Parameters stand for ``?`` and ``?1``::

            rows = client.query(
                "SELECT id, data ->> '$.reason' AS why FROM visits WHERE data ->> '$.patient' = ?",
                [7],
            )
            print(rows[0]["why"], rows[0][1])

        ``row_type`` is a dataclass or named tuple whose fields are named like the columns: the rows
        are then of that type, and their values as SQLite gives them: the fields' types neither
        convert nor check them. Raises QuerySyntaxError, whose ``value`` is the byte in the
        statement, and QueryExecutionError.
        """
        call = operations.call_options(timeout_ms, min_position, stale)
        return rows_as(run(queries.query(self._handle, sql, params, _NOW, call)), row_type)

    @overload
    def query_at(
        self,
        sql: str,
        params: Sequence[Param] = (),
        *,
        position: int | None = None,
        timestamp: datetime.datetime | None = None,
        timestamp_ns: int | None = None,
        row_type: None = None,
        timeout_ms: int | None = None,
    ) -> QueryResult[Row]: ...
    @overload
    def query_at(
        self,
        sql: str,
        params: Sequence[Param] = (),
        *,
        position: int | None = None,
        timestamp: datetime.datetime | None = None,
        timestamp_ns: int | None = None,
        row_type: type[RowT],
        timeout_ms: int | None = None,
    ) -> QueryResult[RowT]: ...
    def query_at(
        self,
        sql: str,
        params: Sequence[Param] = (),
        *,
        position: int | None = None,
        timestamp: datetime.datetime | None = None,
        timestamp_ns: int | None = None,
        row_type: type[Any] | None = None,
        timeout_ms: int | None = None,
    ) -> QueryResult[Any]:
        """Runs one SELECT statement over the streams as they were at one past moment.

        Name the moment by a ``position`` that another call told, by a ``timestamp`` with a time
        zone, or by ``timestamp_ns`` since the Unix epoch. The result's ``position`` is the one that
        was used.
        """
        at = queries.cut(position, timestamp, timestamp_ns)
        call = operations.call_options(timeout_ms)
        return rows_as(run(queries.query(self._handle, sql, params, at, call)), row_type)

    def query_cursor(
        self, sql: str, params: Sequence[Param] = (), *, timeout_ms: int | None = None
    ) -> Cursor:
        """Runs one SELECT statement whose rows come in batches, for results of any size.

        ``timeout_ms`` bounds the wait for the first answer and for each batch, which ends with
        TimedOutError and stops the query; the database's own limit for queries bounds the whole.
        """
        call = operations.call_options(timeout_ms)
        return run(
            queries.query_cursor(
                self._handle,
                sql,
                params,
                _NOW,
                call,
                lambda handle: self._opened(Cursor(self, handle)),
            )
        )

    # Verification.

    def verify(self, stream_id: StreamId, *, timeout_ms: int | None = None) -> Verification:
        """Lets the server walk the stream's hash chain."""
        call = operations.call_options(timeout_ms)
        return run(operations.verify(self._handle, stream_id, call))

    def verify_locally(self, stream_id: StreamId, *, timeout_ms: int | None = None) -> Verification:
        """Reads the stream up to the end that it has now and walks its hash chain in this process.

        It trusts the server with nothing but the stream's name, class and head: events that are
        withheld, and a chain that ends on another head, make it invalid. The deadline is for each
        read.
        """
        call = operations.call_options(timeout_ms)
        return run(operations.verify_locally(self._handle, stream_id, call))

    def _opened(self, source: _Source) -> _Source:
        self._feeds.add(source._feed)  # pyright: ignore[reportPrivateUsage] -- of this module
        return source

    # Closing.

    def close(self, timeout_ms: int = CLOSE_TIMEOUT_MS) -> None:
        """Ends every pending call with ClosedError and closes; a second close does nothing.

        Raises TimedOutError where the database needs longer; it then goes on by itself.
        """
        if not self._closed:
            operation = operations.close(self._handle, timeout_ms)
            self._closed = True
            try:
                run(operation)
            except BaseException:
                # An interrupt must not leave it open: nobody would close it any more.
                discard_client(self._handle)
                raise
            finally:
                self._feeds.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self, _warn: Any = warnings.warn, _discard: Any = discard_client) -> None:
        if not getattr(self, "_closed", True):
            warning = f"unclosed {self!r}"
            self._closed = True
            _discard(self._handle)
            _warn(warning, ResourceWarning, source=self)

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open"
        return f"<kimberlite.Client tenant_id={self.tenant_id} {state}>"


class Subscription(Uncopied):
    """A stream's events as they come. Iterate over it; close it from any thread to end that.

    It survives reconnects, and neither skips nor repeats an event: a loop that was left, and a
    call that was interrupted, go on where they were.
    """

    def __init__(self, client: Client, handle: int) -> None:
        """Made by ``Client.subscribe``."""
        self._handle = handle
        self._closed = False
        # A client that nobody else holds would be closed under the subscription.
        self._client = client
        self._feed = EventFeed()

    def next_page(self, timeout_ms: int | None = None) -> Page | None:
        """The next events as soon as there are any; None where none came in time."""
        waiting_page = self._feed.take()
        if waiting_page is not None:
            return waiting_page
        return run(operations.subscription_next(self._handle, timeout_ms, self._feed.pages))

    def __iter__(self) -> Iterator[Event]:
        while True:
            yield from drained(self._feed.events)
            page = self.next_page()
            if page is not None:
                self._feed.iterate(page)

    def close(self) -> None:
        """Ends the subscription: a waiting call gets ClosedError. A second close does nothing."""
        if not self._closed:
            self._closed = True
            quick.kmb_subscription_close(self._handle, None)
            self._feed.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self, _close: Any = quick.kmb_subscription_close) -> None:
        if not getattr(self, "_closed", True):
            _close(self._handle, None)

    def __repr__(self) -> str:
        return f"<kimberlite.Subscription {'closed' if self._closed else 'open'}>"


class Cursor(Uncopied, ArrowSource):
    """A query's rows in batches. Iterate over it for the rows, or give it to Arrow's consumers."""

    def __init__(self, client: Client, handle: int) -> None:
        """Made by ``Client.query_cursor``."""
        self._handle = handle
        self._closed = False
        # A client that nobody else holds would be closed under the cursor.
        self._client = client
        self._feed = RowFeed()
        columns, position = queries.cursor_schema(handle)
        self._exported = False
        self.columns = columns
        """The columns in order."""
        self.position: Position = position
        """The position that the rows reflect."""

    def next_batch(self) -> list[Row] | None:
        """The next rows; None after the last."""
        rest = self._feed.rest()
        if rest:
            return rest
        values = run(queries.cursor_next(self._handle, self._feed.batches))
        return None if values is None else typed(self.columns, values, None)

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """The rows to come as a PyCapsule of Arrow's C stream interface, which takes them over.

        A column's type is its declared one, else that of the first values that come; a schema that
        the consumer asks for, as ``pyarrow.RecordBatchReader.from_stream(cursor, schema)`` does, is
        independent of them. While the consumer waits for a batch, Ctrl-C is not heard.
        """
        stream = queries.cursor_arrow(self._handle, self._feed.waiting, requested_schema)
        self._exported = True
        return stream

    def __iter__(self) -> Iterator[Row]:
        while (batch := self.next_batch()) is not None:
            self._feed.rows.extend(batch)
            yield from drained(self._feed.rows)

    def close(self) -> None:
        """Stops the query. A second close does nothing."""
        if not self._closed:
            self._closed = True
            quick.kmb_cursor_close(self._handle, None)
            self._feed.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self, _close: Any = quick.kmb_cursor_close) -> None:
        if not getattr(self, "_closed", True) and not self._exported:
            _close(self._handle, None)

    def __repr__(self) -> str:
        names = ", ".join(column.name for column in getattr(self, "columns", ()))
        return f"<kimberlite.Cursor columns=[{names}] {'closed' if self._closed else 'open'}>"


def version() -> str:
    """The native library's version."""
    text: bytes = quick.kmb_version()
    return text.decode()


__all__ = ["Client", "Cursor", "Subscription", "version"]
