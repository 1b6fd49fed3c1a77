"""Imports and exports, as steps that the synchronous and the asyncio client take in their ways."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Iterable,
    Iterator,
    Sized,
)
from functools import partial
from io import BufferedIOBase
from itertools import islice
from typing import Any, BinaryIO, Final, Union, cast

from kimberlite import _operations as operations
from kimberlite._generated import (
    InvalidArgumentError,
    Limit,
    LimitExceededError,
    OffsetMismatchError,
    OffsetOutOfRangeError,
)
from kimberlite._native import u64
from kimberlite._ndjson import (
    MAX_LINE_BYTES,
    data_of,
    first_offset,
    last_line,
    line_of,
    offset_of,
)
from kimberlite._operations import Data
from kimberlite._progress import Progress, ProgressChoice, Reporter
from kimberlite._steps import Steps
from kimberlite.types import Offset, Page

PathOrFile = Union[str, "os.PathLike[str]", BinaryIO, BufferedIOBase]
"""A file by its name, or a file that is open in binary mode."""

Source = Union[PathOrFile, Iterable[Data]]
"""What can be imported: a file of NDJSON, or the events themselves."""

AsyncSource = Union[Source, AsyncIterable[Data]]
"""What can be imported on asyncio: the events may come asynchronously."""

BATCH_EVENTS: Final = 5000
# An append ends with the event that reaches so many bytes.
_APPEND_BYTES: Final = 4 << 20
_FILE_BUFFER: Final = 1 << 20


@dataclasses.dataclass(frozen=True)
class Transferred:
    """What an import or an export came to."""

    first_offset: Offset
    """The offset of the first event, in the stream."""
    events: int
    """How many events the source or the file holds."""
    new_events: int
    """How many of them were transferred now; the others were there from an earlier run."""


class _Batches:
    """Events in batches that fit an append, in little memory."""

    total_events: int | None = None
    total_bytes: int | None = None

    def __init__(self) -> None:
        self.batch_events = BATCH_EVENTS
        self.events = 0
        self.bytes = 0
        self._failure: Exception | None = None

    def next(self) -> Steps[list[bytes]]:
        """The next events; none at the end."""
        raise NotImplementedError

    def close(self) -> None:
        """Nothing more will be asked for."""

    def _take(self, events: Iterator[bytes]) -> list[bytes]:
        """A batch.

        An error behind its first event comes with the next one, so that what stands before the
        error is imported.
        """
        if self._failure is not None:
            raise self._failure
        batch: list[bytes] = []
        size = 0
        try:
            for event in islice(events, self.batch_events):
                batch.append(event)
                size += len(event)
                if size >= _APPEND_BYTES:
                    break
        except Exception as error:
            if not batch:
                raise
            self._failure = error
        return batch

    def _checked(self, event: object) -> bytes:
        """An event of the caller's; a copy where it could change later."""
        place = f"event {self.events} of the source"
        if not isinstance(event, bytes):
            try:
                event = bytes(memoryview(cast("Any", event)))
            except TypeError:
                kind = type(event).__name__
                raise TypeError(
                    f"{place} must be bytes, bytearray or memoryview, not {kind}"
                ) from None
        return self._count(event, len(event), place)

    def _count(self, event: bytes, size: int, place: str) -> bytes:
        if len(event) > Limit.EVENT_BYTES:
            raise LimitExceededError(
                f"{place} has {len(event)} bytes; an event has at most {Limit.EVENT_BYTES}",
                value=Limit.EVENT_BYTES,
            )
        self.events += 1
        self.bytes += size
        return event


class _Lines(_Batches):
    """A file of NDJSON."""

    def __init__(self, source: PathOrFile) -> None:
        super().__init__()
        self._file, self._name, self._mine = _opened(source, "rb")
        if self._mine:
            self.total_bytes = os.fstat(self._file.fileno()).st_size
        self._events = self._lines()

    def next(self) -> Steps[list[bytes]]:
        batch: list[bytes] = yield lambda: self._take(self._events)
        return batch

    def close(self) -> None:
        if self._mine:
            self._file.close()

    def _lines(self) -> Iterator[bytes]:
        number = 0
        while line := self._file.readline(MAX_LINE_BYTES + 1):
            number += 1
            place = f"{self._name}, line {number}"
            if not isinstance(line, bytes):
                raise TypeError(f"{self._name} gives text; open it in binary mode")
            if len(line) > MAX_LINE_BYTES:
                raise LimitExceededError(f"{place} is longer than the {MAX_LINE_BYTES} bytes of an"
                                         " event", value=MAX_LINE_BYTES)  # fmt: skip
            if line.isspace():
                self.bytes += len(line)
            else:
                yield self._count(data_of(line, place), len(line), f"the event of {place}")


class _Events(_Batches):
    """Events of the caller's."""

    def __init__(self, source: Iterable[Data]) -> None:
        super().__init__()
        if isinstance(source, Sized):
            self.total_events = len(source)
        self._events = map(self._checked, source)

    def next(self) -> Steps[list[bytes]]:
        # On the caller's thread, to which a generator of his may belong.
        yield from ()
        return self._take(self._events)


class _AsyncEvents(_Batches):
    """Events of the caller's that come asynchronously."""

    def __init__(self, source: AsyncIterable[Data]) -> None:
        super().__init__()
        self._events = aiter_of(source)

    def next(self) -> Steps[list[bytes]]:
        batch: list[bytes] = yield self._gather()
        return batch

    async def _gather(self) -> list[bytes]:
        gathered: list[bytes] = []
        size = 0
        while len(gathered) < self.batch_events and size < _APPEND_BYTES:
            try:
                event = self._checked(await self._events.__anext__())
            except StopAsyncIteration:
                break
            except Exception as error:
                self._failure = self._failure or error
                break
            gathered.append(event)
            size += len(event)
        if not gathered and self._failure is not None:
            raise self._failure
        return gathered


def aiter_of(source: AsyncIterable[Data]) -> AsyncIterator[Data]:
    """What ``aiter`` does from Python 3.10 on."""
    return source.__aiter__()


def _batches(source: AsyncSource, batch_events: int) -> _Batches:
    if not 1 <= u64(batch_events, "batch_events") <= Limit.BATCH_EVENTS:
        raise InvalidArgumentError(
            f"batch_events is {batch_events}; it must be from 1 to {Limit.BATCH_EVENTS}"
        )
    batches: _Batches
    if isinstance(source, (bytes, bytearray, memoryview)):
        raise TypeError("source is one event; give a list of events, or a file's name")
    if isinstance(source, (str, os.PathLike)) or hasattr(source, "readline"):
        batches = _Lines(cast("PathOrFile", source))
    elif isinstance(source, AsyncIterable):
        batches = _AsyncEvents(source)
    elif isinstance(source, Iterable):
        batches = _Events(source)
    else:
        kind = type(source).__name__
        raise TypeError(f"source must be a file or hold events, not {kind}")
    batches.batch_events = batch_events
    return batches


def _opened(place: PathOrFile, mode: str) -> tuple[BinaryIO, str, bool]:
    """A file, its name for errors, and whether it is ours to close."""
    if not isinstance(place, (str, os.PathLike)):
        name = getattr(place, "name", "the file")
        return cast("BinaryIO", place), str(name), False
    opened = open(place, mode, buffering=_FILE_BUFFER)  # noqa: SIM115 -- a transfer closes it.
    return cast("BinaryIO", opened), os.fspath(place), True


def import_events(
    client: int,
    stream_id: int,
    source: AsyncSource,
    first_offset: int | None,
    batch_events: int,
    progress: ProgressChoice,
    call: bytes | None,
) -> Steps[Transferred]:
    """Appends what the stream does not hold yet."""
    if first_offset is not None:
        u64(first_offset, "first_offset")
    reporter = Reporter(progress, "import")
    batches = _batches(source, batch_events)
    try:
        end: int = (yield operations.stream_info(client, stream_id, call)).next_offset
        first = end if first_offset is None else first_offset
        if first > end:
            raise OffsetMismatchError(
                f"the stream ends at offset {end}, before first_offset, {first}", value=end
            )
        offset, new = first, 0
        while batch := (yield from batches.next()):
            while batch:
                known = batch[: max(end - offset, 0)]
                if known:
                    yield from _recognise(client, stream_id, offset, known, end, call)
                    offset += len(known)
                    batch = batch[len(known) :]
                    continue
                try:
                    yield operations.append(client, stream_id, batch, offset, None, call)
                except OffsetMismatchError as error:
                    # An append of the call before this one, which was cut off, may come late.
                    if first_offset is None or error.value <= offset:
                        raise
                    end = error.value
                    continue
                new += len(batch)
                offset += len(batch)
                batch = []
            reporter.report(
                Progress(offset - first, batches.total_events, batches.bytes, batches.total_bytes)
            )
        return Transferred(Offset(first), offset - first, new)
    finally:
        reporter.close()
        batches.close()


def _recognise(
    client: int, stream_id: int, offset: int, events: list[bytes], end: int, call: bytes | None
) -> Steps[None]:
    """Compares events of the source with those that the stream holds."""
    while events:
        page: Page = yield operations.read(client, stream_id, offset, len(events), 0, call)
        found = page.payloads()
        for place, event in enumerate(found):
            if event != events[place]:
                raise OffsetMismatchError(
                    f"the stream's event at offset {offset + place} is not the source's:"
                    " somebody else appended, or it is another source",
                    value=end,
                )
        offset += len(found)
        events = events[len(found) :]


class _Sink:
    """The file that an export writes."""

    def __init__(self, target: PathOrFile, resume: bool) -> None:
        if not isinstance(resume, bool):
            raise TypeError(f"resume must be a bool, not {type(resume).__name__}")
        named = isinstance(target, (str, os.PathLike))
        if not named and not hasattr(target, "write"):
            raise TypeError(f"target must be a file, not {type(target).__name__}")
        if resume and not named:
            raise TypeError("resume needs the file's name, not an open file")
        self.resumed = resume and os.path.exists(cast("str", target))
        self._file, self.name, self._mine = _opened(target, "r+b" if self.resumed else "xb")
        self.bytes = 0

    def last(self) -> tuple[int, bytes]:
        """The last whole line, and where it ends."""
        return last_line(self._file, self.name)

    def first(self) -> int:
        """The offset of the first line."""
        return first_offset(self._file, self.name)

    def cut(self, length: int) -> None:
        """Forgets what lies behind."""
        self._file.truncate(length)
        self._file.seek(length)

    def write(self, page: Page, count: int) -> None:
        """Writes a page's first events."""
        for offset, data, timestamp_ns in islice(page, count):
            line = line_of(offset, data, timestamp_ns)
            self._file.write(line)
            self.bytes += len(line)

    def finish(self) -> None:
        """Everything is in the file then; in one that we opened, on the disk."""
        self._file.flush()
        if self._mine:
            os.fsync(self._file.fileno())

    def close(self) -> None:
        if self._mine:
            self._file.close()


def export_events(
    client: int,
    stream_id: int,
    target: PathOrFile,
    offsets: tuple[int, int | None],
    resume: bool,
    page_events: int,
    progress: ProgressChoice,
    call: bytes | None,
) -> Steps[Transferred]:
    """Writes what the file does not hold yet."""
    first, wanted_end = offsets
    u64(first, "from_offset")
    if wanted_end is not None and u64(wanted_end, "to_offset") < first:
        raise InvalidArgumentError(f"to_offset is {wanted_end}, before from_offset, {first}")
    reporter = Reporter(progress, "export")
    next_offset: int = (yield operations.stream_info(client, stream_id, call)).next_offset
    end = next_offset if wanted_end is None else wanted_end
    if max(first, end) > next_offset:
        raise OffsetOutOfRangeError(
            f"the range is {first} to {end}, but the stream ends at {next_offset}",
            value=next_offset,
        )
    sink = _Sink(target, resume)
    reader: operations.Reader | None = None
    try:
        start = offset = yield from _continued(client, stream_id, sink, first, end, call)
        reader = operations.Reader(client, stream_id, offset, page_events, call)
        while offset < end:
            page: Page | None = yield reader.next()
            if page is None:
                break
            count = min(len(page), end - offset)
            yield partial(sink.write, page, count)
            offset += count
            reporter.report(Progress(offset - first, end - first, sink.bytes, None))
        yield sink.finish
        return Transferred(Offset(first), offset - first, offset - start)
    finally:
        reporter.close()
        if reader is not None:
            reader.close()
        sink.close()


def _continued(
    client: int, stream_id: int, sink: _Sink, first: int, end: int, call: bytes | None
) -> Steps[int]:
    """The offset to go on with, after a look at whether the file's last event is the stream's."""
    if not sink.resumed:
        return first
    length, line = yield sink.last
    offset = first
    if line:
        last = offset_of(line, sink.name)
        begins: int = yield sink.first
        if begins != first:
            raise OffsetMismatchError(
                f"{sink.name} begins with the event of offset {begins}, and the range with {first}",
                value=end,
            )
        page: Page | None = None
        if first <= last < end:
            page = yield operations.read(client, stream_id, last, 1, 0, call)
        if not page or line_of(*page[0]) != line:
            raise OffsetMismatchError(
                f"the last event of {sink.name}, offset {last}, is not this stream's within"
                f" the range from {first} to {end}",
                value=end,
            )
        offset = last + 1
    yield lambda: sink.cut(length)
    sink.bytes = length
    return offset


__all__ = [
    "BATCH_EVENTS",
    "AsyncSource",
    "PathOrFile",
    "Source",
    "Transferred",
    "export_events",
    "import_events",
]
