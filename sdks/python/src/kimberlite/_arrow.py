"""Arrow: results and events as columns, by Arrow's C stream interface.

pyarrow, pandas and polars are imported only where they are asked for, by type checkers too: what
they give is ``Any`` here.
"""

from __future__ import annotations

import ctypes
import importlib
import sys
from typing import Any, Callable, Final

from kimberlite._abi import PAGE
from kimberlite._native import check, quick, waiting

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


def _imported(name: str, needed_for: str) -> Any:
    """A package that is not ours; the error says how to get it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(
            f"{needed_for} needs {name}: pip install {name} (or kimberlite[{name}])", name=name
        ) from error


class ArrowSource:
    """What gives columns to pyarrow, pandas, polars, DuckDB and all who take Arrow's PyCapsules."""

    __slots__ = ()

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """The columns as a PyCapsule of Arrow's C stream interface."""
        raise NotImplementedError

    def to_arrow(self) -> Any:
        """The columns as a ``pyarrow.Table``; needs pyarrow."""
        pa = _imported("pyarrow", "to_arrow()")
        reader = pa.RecordBatchReader._import_from_c_capsule(self.__arrow_c_stream__())
        return reader.read_all()

    def to_pandas(self) -> Any:
        """The columns as a ``pandas.DataFrame``; needs pandas and pyarrow."""
        _imported("pandas", "to_pandas()")
        _imported("pyarrow", "to_pandas()")
        return self.to_arrow().to_pandas()

    def to_polars(self) -> Any:
        """The columns as a ``polars.DataFrame``; needs polars."""
        # polars would take a sequence of rows for what it is.
        return _imported("polars", "to_polars()").DataFrame(_Columns(self.__arrow_c_stream__))


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
        reader = self._open()
        stream = capsule(
            lambda address, detail: quick.kmb_reader_arrow(reader.handle, address, detail)
        )
        # The stream closes it from now on.
        reader.release()
        return stream


__all__ = ["ArrowSource", "EventTable", "capsule", "page_capsule", "schema_address"]
