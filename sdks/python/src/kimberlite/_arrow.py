"""Arrow: results and events as columns, by Arrow's C stream interface.

pyarrow, pandas and polars are imported only where they are asked for, by type checkers too: what
they give is ``Any`` here.
"""

from __future__ import annotations

import ctypes
import importlib
import sys
from functools import partial
from typing import Any, Callable, Final

from kimberlite._abi import PAGE
from kimberlite._native import check, quick, waiting
from kimberlite._steps import in_thread

_STREAM_NAME: Final = b"arrow_array_stream"
_SCHEMA_NAME: Final = b"arrow_schema"
_POINTER: Final = ctypes.sizeof(ctypes.c_void_p)
_STREAM_BYTES: Final = 5 * _POINTER
# Where the address of the stream's release stands: behind its three other functions.
_RELEASE_AT: Final = 3 * _POINTER

_Release: Any = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_new_capsule: Any = ctypes.PYFUNCTYPE(
    ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p
)(("PyCapsule_New", ctypes.pythonapi))
_pointer: Any = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)

_Made = tuple[object, Any]

# Each capsule with its stream's memory, by the address of that. A capsule's own destructor could
# not be written in Python: it may run while an exception is on its way.
_streams: Final[dict[int, _Made]] = {}


def _holders(made: _Made) -> int:
    return sys.getrefcount(made[0])


# How many there are where nobody but a tuple holds an object; versions of Python count differently.
_ONLY_US: Final = _holders((object(), None))


def _sweep() -> None:
    """Frees the streams whose capsules nobody has any more, and releases those never taken over."""
    for address in list(_streams):
        made = _streams.get(address)
        if made is None or _holders(made) > _ONLY_US or _streams.pop(address, None) is None:
            continue
        release = ctypes.c_void_p.from_address(address + _RELEASE_AT).value
        if release:
            _Release(release)(address)


def capsule(export: Callable[[int, Any], int]) -> object:
    """A PyCapsule with the stream that ``export`` puts at the address that it gets."""
    _sweep()
    memory = ctypes.create_string_buffer(_STREAM_BYTES)
    address = ctypes.addressof(memory)
    detail = ctypes.c_void_p()
    check(export(address, ctypes.byref(detail)), detail)
    made: object = _new_capsule(address, _STREAM_NAME, None)
    _streams[address] = (made, memory)
    return made


def schema_address(requested_schema: object | None) -> int | None:
    """Where the schema stands that an Arrow consumer wishes for."""
    if requested_schema is None:
        return None
    address: int = _pointer(requested_schema, _SCHEMA_NAME)
    return address


# Room for a Py_buffer, whose first field is the address of the bytes.
_Buffer: Any = ctypes.c_void_p * 12

_get_buffer: Any = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.c_void_p, ctypes.c_int)(
    ("PyObject_GetBuffer", ctypes.pythonapi)
)
_release_buffer: Any = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)(
    ("PyBuffer_Release", ctypes.pythonapi)
)


def _address(view: memoryview) -> int:
    """Where a view's bytes are, as long as the view lives."""
    buffer = _Buffer()
    place = ctypes.byref(buffer)
    _get_buffer(view, place, 0)
    address: int = buffer[0] or 0
    _release_buffer(place)
    return address


def page_capsule(
    first_offset: int, data: memoryview, lengths: memoryview, timestamps: memoryview
) -> object:
    """A stream of one batch with a page's events."""
    page = PAGE.pack(
        len(lengths), first_offset, _address(data), data.nbytes, 0, _address(lengths),
        _address(timestamps), 0, 0, 0,
    )  # fmt: skip
    # It copies the events, during which others may run.
    return capsule(lambda stream, detail: waiting.kmb_page_arrow(page, stream, detail))


def imported(name: str, needed_for: str) -> Any:
    """A package that is not ours; the error says how to get it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = name.partition(".")[0]
        raise ImportError(
            f"{needed_for} needs {package}: pip install {package} (or kimberlite[{package}])",
            name=package,
        ) from error


class ArrowSource:
    """What gives columns to pyarrow, pandas, polars, DuckDB and all who take Arrow's PyCapsules."""

    __slots__ = ()

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """The columns as a PyCapsule of Arrow's C stream interface."""
        raise NotImplementedError

    def to_arrow(self) -> Any:
        """The columns as a ``pyarrow.Table``; needs pyarrow."""
        return _table(self)

    def to_pandas(self) -> Any:
        """The columns as a ``pandas.DataFrame``; needs pandas and pyarrow."""
        return _pandas(self)

    def to_polars(self) -> Any:
        """The columns as a ``polars.DataFrame``; needs polars."""
        return _polars(self)


class AsyncArrowSource:
    """The same on asyncio: columns that are still to be read, by another thread."""

    __slots__ = ()

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """The columns as a PyCapsule of Arrow's C stream interface."""
        raise NotImplementedError

    async def to_arrow(self) -> Any:
        """The columns as a ``pyarrow.Table``; needs pyarrow."""
        return await self._made(_table)

    async def to_pandas(self) -> Any:
        """The columns as a ``pandas.DataFrame``; needs pandas and pyarrow."""
        return await self._made(_pandas)

    async def to_polars(self) -> Any:
        """The columns as a ``polars.DataFrame``; needs polars."""
        return await self._made(_polars)

    def _stoppable(self) -> tuple[object, Callable[[], object]]:
        """The stream, and what ends a wait for it."""
        raise NotImplementedError

    async def _made(self, make: Callable[[Any], Any]) -> Any:
        stream, stop = self._stoppable()
        return await in_thread(partial(make, _Columns(lambda _schema: stream)), stop)


def _table(source: Any) -> Any:
    pa = imported("pyarrow", "to_arrow()")
    reader = pa.RecordBatchReader._import_from_c_capsule(source.__arrow_c_stream__())
    return reader.read_all()


def _pandas(source: Any) -> Any:
    imported("pandas", "to_pandas()")
    imported("pyarrow", "to_pandas()")
    return _table(source).to_pandas()


def _polars(source: Any) -> Any:
    # polars would take a sequence of rows for what it is.
    return imported("polars", "to_polars()").DataFrame(_Columns(source.__arrow_c_stream__))


class _Columns:
    """The columns alone."""

    def __init__(self, export: Callable[[object | None], object]) -> None:
        self._export = export

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        return self._export(requested_schema)


class EventTable(ArrowSource):
    """A stream's events as columns: ``offset`` (uint64), ``timestamp`` (ns, UTC), ``data`` (bytes).

    Each use reads anew, from its offset to the end of the stream. Arrow's consumers take it as it
    is, batch by batch::

        for batch in pyarrow.RecordBatchReader.from_stream(client.event_table(visits)):
            ...
    """

    __slots__ = ("_open",)

    def __init__(self, open_reader: Callable[[], Any]) -> None:
        """Made by ``Client.event_table``."""
        self._open = open_reader

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """The events as a PyCapsule of Arrow's C stream interface, of always the same schema."""
        return _reader_stream(self._open())[0]


class AsyncEventTable(AsyncArrowSource):
    """A stream's events as the columns of an ``EventTable``, on asyncio.

    Each use reads anew, on a thread of its own, which ends when the task is cancelled::

        frame = await client.event_table(visits).to_polars()

    Arrow's consumers take it as it is, too, and then block the thread on which they do.
    """

    __slots__ = ("_open",)

    def __init__(self, open_reader: Callable[[], Any]) -> None:
        """Made by ``AsyncClient.event_table``."""
        self._open = open_reader

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """The events as a PyCapsule of Arrow's C stream interface, of always the same schema."""
        return _reader_stream(self._open())[0]

    def _stoppable(self) -> tuple[object, Callable[[], object]]:
        stream, handle = _reader_stream(self._open())
        return stream, lambda: quick.kmb_reader_close(handle, None)


def _reader_stream(reader: Any) -> tuple[object, int]:
    """A reader's pages to come as a stream, which closes it, and its handle."""
    handle: int = reader.handle
    stream = capsule(lambda address, detail: quick.kmb_reader_arrow(handle, address, detail))
    reader.release()
    return stream, handle


__all__ = [
    "ArrowSource",
    "AsyncArrowSource",
    "AsyncEventTable",
    "EventTable",
    "capsule",
    "imported",
    "page_capsule",
    "schema_address",
]
