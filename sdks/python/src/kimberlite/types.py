"""What calls take and give."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from io import BytesIO
from itertools import accumulate, chain, repeat
from struct import Struct
from typing import Any, Callable, Generic, NamedTuple, NewType, TypeVar, Union, cast, overload

from kimberlite._arrow import ArrowSource, EventTable, page_capsule
from kimberlite._error_base import AppendKey
from kimberlite._generated import AtKind, DataClass, LogLevel, Role

StreamId = NewType("StreamId", int)
"""A stream's id."""

Offset = NewType("Offset", int)
"""An event's place in its stream, from 0 without gaps."""

Position = NewType("Position", int)
"""A moment of the database: opaque, and only growing."""

Value = Union[None, bool, int, float, str, bytes]
"""One SQL value of a result."""

Param = Union[None, bool, int, float, str, bytes, bytearray, memoryview]
"""One parameter of a statement."""

RowT = TypeVar("RowT")

_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)


def _utc(timestamp_ns: int) -> datetime.datetime:
    """A time in UTC; Python's times end at microseconds."""
    return _EPOCH + datetime.timedelta(microseconds=timestamp_ns // 1000)


class Event(NamedTuple):
    """One event of a stream."""

    offset: Offset
    """Its place in the stream."""
    data: bytes
    """Its bytes."""
    timestamp_ns: int
    """When it was committed, in nanoseconds since the Unix epoch."""

    @property
    def timestamp(self) -> datetime.datetime:
        """When it was committed, in UTC, to the microsecond."""
        return _utc(self.timestamp_ns)


# What Event(…) does, but in C: a third of the time.
_new_event = cast("Callable[[tuple[int, bytes, int]], Event]", partial(tuple.__new__, Event))

# So many events of one length are unpacked by one step.
_TOGETHER = 100


class Page(Sequence[Event], ArrowSource):
    """Events that were read together, in order: a sequence of ``Event``.

    Events are cut out of the page only when they are asked for. Its columns, ``data``, ``lengths``
    and ``timestamps_ns``, are views that cost nothing, for ``numpy.frombuffer`` and the like; what
    they show stays alive as long as they do.
    """

    __slots__ = (
        "_data",
        "_ends",
        "_lens",
        "_timestamps",
        "first_offset",
        "next_offset",
        "position",
    )

    def __init__(
        self,
        first_offset: int,
        data: bytes | memoryview,
        lens: memoryview,
        timestamps: memoryview,
        next_offset: int,
        position: int,
    ) -> None:
        self._data = data
        self._lens = lens
        self._timestamps = timestamps
        self._ends: list[int] | None = None
        self.first_offset = Offset(first_offset)
        """The offset of the first event."""
        self.next_offset = Offset(next_offset)
        """The stream's next offset when it was read."""
        self.position = Position(position)
        """The position that the page reflects."""

    @property
    def end_offset(self) -> Offset:
        """The offset after the page's last event: where the next read goes on."""
        return Offset(self.first_offset + len(self._lens))

    @property
    def data(self) -> memoryview:
        """The data of all events, one after the other: bytes."""
        return memoryview(self._data)

    @property
    def lengths(self) -> memoryview:
        """The length of each event's data: unsigned 32-bit integers, format ``I``."""
        return self._lens

    @property
    def timestamps_ns(self) -> memoryview:
        """When each event was committed: unsigned 64-bit integers, format ``Q``."""
        return self._timestamps

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """The events as a PyCapsule of Arrow's C stream interface, of always the same schema."""
        return page_capsule(self.first_offset, self.data, self._lens, self._timestamps)

    def payloads(self) -> list[bytes]:
        """The data of every event."""
        lens = self._lens.tobytes()
        count = len(self._lens)
        if count >= _TOGETHER and lens == lens[: self._lens.itemsize] * count and self._lens[0]:
            return self._equal_payloads(self._lens[0], count)
        # Without Python code per event; a loop with slices takes five times as long.
        return list(map(BytesIO(self._data).read, self._lens))

    def _equal_payloads(self, length: int, count: int) -> list[bytes]:
        """Events of one length, many by one step: half the time."""
        unpack = Struct(f"{length}s" * _TOGETHER).iter_unpack
        end = count // _TOGETHER * _TOGETHER * length
        whole = memoryview(self._data)
        payloads: list[bytes] = list(chain.from_iterable(unpack(whole[:end])))
        payloads += map(BytesIO(whole[end:]).read, repeat(length, count - len(payloads)))
        return payloads

    def views(self) -> Iterator[memoryview]:
        """The data of every event as views into the page, which they keep alive."""
        whole = memoryview(self._data)
        start = 0
        for length in self._lens:
            end = start + length
            yield whole[start:end]
            start = end

    def __len__(self) -> int:
        return len(self._lens)

    def __iter__(self) -> Iterator[Event]:
        # A map over three columns runs without Python code per event.
        offsets = range(self.first_offset, self.end_offset)
        return map(_new_event, zip(offsets, self.payloads(), self._timestamps))

    @overload
    def __getitem__(self, index: int) -> Event: ...
    @overload
    def __getitem__(self, index: slice) -> list[Event]: ...
    def __getitem__(self, index: int | slice) -> Event | list[Event]:
        count = len(self._lens)
        if isinstance(index, slice):
            return [self._event(place) for place in range(*index.indices(count))]
        place = index + count if index < 0 else index
        if not 0 <= place < count:
            raise IndexError(f"the page has {count} events; there is none at {index}")
        return self._event(place)

    def _event(self, place: int) -> Event:
        ends = self._ends
        if ends is None:
            ends = self._ends = list(accumulate(self._lens))
        end = ends[place]
        data = bytes(self._data[end - self._lens[place] : end])
        return Event(Offset(self.first_offset + place), data, self._timestamps[place])

    def __reduce__(self) -> tuple[Any, ...]:
        columns = (bytes(self._data), self._lens.tobytes(), self._timestamps.tobytes())
        return _page_of, (self.first_offset, *columns, self.next_offset, self.position)

    def __repr__(self) -> str:
        # No data stands here: a page may end up in a log.
        size = len(self._data)
        return f"Page({len(self)} events from offset {self.first_offset}, {size} bytes)"


def _page_of(
    first: int, data: bytes, lens: bytes, timestamps: bytes, next_offset: int, position: int
) -> Page:
    """A page from its bytes, as pickle keeps it."""
    columns = memoryview(lens).cast("I"), memoryview(timestamps).cast("Q")
    return Page(first, data, *columns, next_offset, position)


@dataclasses.dataclass(frozen=True)
class AppendResult:
    """What an append gave."""

    first_offset: Offset
    """The offset of the first event."""
    count: int
    """How many events were appended."""
    timestamp_ns: int
    """When they were committed, in nanoseconds since the Unix epoch."""
    position: Position
    """The position of the append."""


@dataclasses.dataclass(frozen=True)
class StreamInfo:
    """What is known about a stream."""

    stream_id: StreamId
    """Its id."""
    name: str
    """Its name."""
    data_class: DataClass
    """The class of its data."""
    next_offset: Offset
    """The offset that the next event gets: the count of its events."""
    created_ns: int
    """When it was created, in nanoseconds since the Unix epoch."""
    last_timestamp_ns: int
    """When its newest event was committed; 0 where it has none."""
    data_bytes: int
    """Bytes of event data that it holds."""
    head: bytes
    """The last hash of its chain: 32 bytes."""

    @property
    def created(self) -> datetime.datetime:
        """When it was created, in UTC."""
        return _utc(self.created_ns)


@dataclasses.dataclass(frozen=True)
class Verification:
    """What a walk over a stream's hash chain found."""

    valid: bool
    """Whether every block fits."""
    count: int
    """Events that were verified."""
    first_bad_offset: Offset | None
    """The first offset of the block that does not fit; None where all fit."""
    head: bytes
    """The chain's last hash that fits: 32 bytes."""
    position: Position
    """The position that the answer reflects."""


@dataclasses.dataclass(frozen=True)
class Column:
    """A result column."""

    name: str
    """Its name or alias."""
    declared_type: str
    """INTEGER, REAL, TEXT or BLOB where it comes straight from a table; else empty."""


class Row:
    """One row of a result: by name, ``row["id"]``, or by place, ``row[0]``."""

    __slots__ = ("_places", "_values")

    def __init__(self, values: tuple[Value, ...], places: Mapping[str, int]) -> None:
        self._values = values
        self._places = places

    # Any, as of every database's rows: what a column holds is known to whoever wrote the
    # statement. Give a row_type where the checker shall know it too.
    @overload
    def __getitem__(self, index: int | str) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Any, ...]: ...
    def __getitem__(self, index: int | str | slice) -> Any:
        if isinstance(index, str):
            try:
                return self._values[self._places[index]]
            except KeyError:
                names = ", ".join(self._places)
                raise KeyError(f"no column {index!r}; there are: {names}") from None
        return self._values[index]

    def __len__(self) -> int:
        return len(self._values)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._values)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Row):
            return self._values == other._values and list(self._places) == list(other._places)
        return self._values == other if isinstance(other, tuple) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._values)

    def keys(self) -> list[str]:
        """The names of the columns; with this, ``dict(row)`` works."""
        return list(self._places)

    def as_tuple(self) -> tuple[Any, ...]:
        """The values in order."""
        return self._values

    def as_dict(self) -> dict[str, Any]:
        """The values by name."""
        return {name: self._values[place] for name, place in self._places.items()}

    def __repr__(self) -> str:
        cells = ", ".join(f"{name}={self._values[i]!r}" for name, i in self._places.items())
        return f"Row({cells})"


class QueryResult(Sequence[RowT], ArrowSource, Generic[RowT]):
    """The rows of a query, each a Row or an object of the row type that was asked for.

    Rows are made when the first one is looked at, which a forked child cannot do any more. As
    columns, by ``to_arrow()``, ``to_pandas()``, ``to_polars()`` or any consumer of PyCapsules, a
    result needs no Python object for each value; every column then has one type, and
    InvalidArgumentError names the row and the column of a value that does not go with the others.
    """

    __slots__ = ("_made", "_make", "_source", "columns", "position")

    def __init__(
        self,
        rows: Callable[[], list[RowT]],
        source: Callable[[object | None], object],
        columns: tuple[Column, ...],
        position: Position,
    ) -> None:
        self._made: list[RowT] | None = None
        self._make = rows
        self._source = source
        self.columns = columns
        """The columns in order."""
        self.position = position
        """The position that the result reflects."""

    @property
    def _rows(self) -> list[RowT]:
        if self._made is None:
            # Two threads may do so at once; their rows are equal.
            self._made = self._make()
        return self._made

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """The result as a PyCapsule of Arrow's C stream interface, in the wanted types if any."""
        return self._source(requested_schema)

    @overload
    def __getitem__(self, index: int) -> RowT: ...
    @overload
    def __getitem__(self, index: slice) -> list[RowT]: ...
    def __getitem__(self, index: int | slice) -> RowT | list[RowT]:
        return self._rows[index]

    def __reduce__(self) -> tuple[Any, ...]:
        return _result_of, (self._rows, self.columns, self.position)

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[RowT]:
        return iter(self._rows)

    def __repr__(self) -> str:
        names = ", ".join(column.name for column in self.columns)
        return f"QueryResult(columns=[{names}], rows={len(self)})"


def _result_of(
    rows: list[Any], columns: tuple[Column, ...], position: Position
) -> QueryResult[Any]:
    """A result from its rows, as pickle keeps it."""

    def source(_requested_schema: object | None) -> object:
        raise TypeError("a result that was pickled has its rows alone; make columns before that")

    return QueryResult(lambda: rows, source, columns, position)


def into(
    row_type: type[RowT], columns: tuple[Column, ...], rows: list[tuple[Value, ...]]
) -> list[RowT]:
    """Rows as objects of a dataclass (or named tuple) whose fields are named like columns."""
    if not isinstance(row_type, type):
        kind = type(row_type).__name__
        raise TypeError(f"row_type must be a dataclass or a named tuple's class, not {kind}")
    names = [column.name for column in columns]
    if dataclasses.is_dataclass(row_type):
        fields = [f for f in dataclasses.fields(row_type) if f.init]
        required = [
            f.name
            for f in fields
            if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
        ]
        known = [f.name for f in fields]
    else:
        known = list(getattr(row_type, "_fields", ()))
        defaults: Mapping[str, Any] = getattr(row_type, "_field_defaults", {})
        required = [name for name in known if name not in defaults]
    missing = [name for name in required if name not in names]
    if not known or missing:
        raise TypeError(
            f"row_type {row_type.__name__} needs {', '.join(missing) or 'fields'}; the query gives"
            f" {', '.join(names)}: name the columns like the fields, with AS where they differ"
        )
    wanted = [(i, name) for i, name in enumerate(names) if name in known]
    for i, name in wanted:
        if name in names[:i]:
            raise TypeError(
                f"row_type {row_type.__name__}: the query gives {name} more than once; give each"
                " column a name of its own, with AS"
            )
    return [row_type(**{name: row[i] for i, name in wanted}) for row in rows]


__all__ = [
    "AppendKey",
    "AppendResult",
    "AtKind",
    "Column",
    "DataClass",
    "Event",
    "EventTable",
    "LogLevel",
    "Offset",
    "Page",
    "Param",
    "Position",
    "QueryResult",
    "Role",
    "Row",
    "StreamId",
    "StreamInfo",
    "Value",
    "Verification",
]
