"""Queries: parameters as the library takes them, and rows as Python's own values."""

from __future__ import annotations

import ctypes
import datetime
import struct
from array import array
from collections import deque
from collections.abc import Sequence
from typing import Any, Callable, Final, TypeVar

from kimberlite._abi import (
    CELL_OFFSET_SHIFT,
    CELLS,
    PARAM_TEXT,
    QUERY_PARAM_BOOLEAN,
    QUERY_PARAM_BYTES,
    QUERY_PARAM_F64,
    QUERY_PARAM_I64,
    QUERY_RESULT,
)
from kimberlite._arrow import capsule, schema_address
from kimberlite._generated import AtKind, InvalidArgumentError, ValueType
from kimberlite._native import U64_MAX, check, quick, string_at, u64, utf8, waiting
from kimberlite._operations import popped
from kimberlite._queues import Completion, Operation, adopted
from kimberlite.types import Column, Param, Position, Value

T = TypeVar("T")

_F64: Final = struct.Struct("=d")
_U64: Final = struct.Struct("=Q")
_LEN_MASK: Final = (1 << CELL_OFFSET_SHIFT) - 1


class RawResult:
    """A result of the library, freed when nothing looks at it any more."""

    def __init__(self, completion: Completion) -> None:
        """Takes it over."""
        self._address = 0
        columns, position = _head(completion.result)
        self.columns: tuple[Column, ...] = columns
        self.position: Position = position
        # Given up first: an interrupt between these lines may leak it, but never free it twice.
        address, completion.result = completion.result, 0
        self._address = address

    def cells(self) -> list[tuple[Value, ...]]:
        """The rows as Python's own values."""
        return _cells(self._address)

    def arrow(self, requested_schema: object | None) -> object:
        """The columns as a PyCapsule."""
        schema = schema_address(requested_schema)
        # It copies the values, during which others may run.
        return capsule(
            lambda stream, detail: waiting.kmb_query_result_arrow(
                self._address, schema, stream, detail
            )
        )

    def __del__(self, _free: Any = quick.kmb_query_result_free) -> None:
        _free(self._address)


def cut(
    position: int | None, timestamp: datetime.datetime | None, timestamp_ns: int | None
) -> tuple[int, int]:
    """Which moment a query sees, from the one argument that names it."""
    if sum(x is not None for x in (position, timestamp, timestamp_ns)) != 1:
        raise TypeError("give exactly one of position, timestamp and timestamp_ns")
    if position is not None:
        return AtKind.POSITION, u64(position, "position")
    if timestamp_ns is not None:
        return AtKind.TIMESTAMP, u64(timestamp_ns, "timestamp_ns")
    if not isinstance(timestamp, datetime.datetime):
        raise TypeError(
            f"timestamp must be a datetime, not {type(timestamp).__name__};"
            " timestamp_ns takes a number"
        )
    if timestamp.tzinfo is None:
        raise TypeError("timestamp has no time zone; use datetime.now(timezone.utc) or the like")
    epoch = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
    nanoseconds = (timestamp - epoch) // datetime.timedelta(microseconds=1) * 1000
    return AtKind.TIMESTAMP, u64(nanoseconds, "timestamp in nanoseconds since the Unix epoch")


def _packed_params(params: Sequence[Param]) -> tuple[bytes, list[bytes]]:
    """Parameters as the library lays them out, and the bytes that they point to."""
    if isinstance(params, (str, bytes, bytearray, memoryview)) or not isinstance(params, Sequence):
        raise TypeError(f"params must be a list, not {type(params).__name__}")
    out = bytearray()
    kept: list[bytes] = []
    for index, value in enumerate(params):
        if value is None:
            out += QUERY_PARAM_I64.pack(ValueType.NULL, 0)
        elif isinstance(value, bool):
            out += QUERY_PARAM_BOOLEAN.pack(ValueType.BOOL, value)
        elif isinstance(value, int):
            if not -(2**63) <= value < 2**63:
                raise InvalidArgumentError(f"params[{index}] does not fit into 64 bits")
            out += QUERY_PARAM_I64.pack(ValueType.INT64, value)
        elif isinstance(value, float):
            out += QUERY_PARAM_F64.pack(ValueType.FLOAT64, value)
        elif isinstance(value, (str, bytes, bytearray, memoryview)):
            is_text = isinstance(value, str)
            data = utf8(value, f"params[{index}]") if isinstance(value, str) else bytes(value)
            kept.append(data)
            place = ctypes.cast(ctypes.c_char_p(data), ctypes.c_void_p).value or 0
            kind = PARAM_TEXT if is_text else ValueType.BYTES
            out += QUERY_PARAM_BYTES.pack(kind, place, len(data))
        else:
            raise TypeError(
                f"params[{index}] is a {type(value).__name__};"
                " use None, bool, int, float, str or bytes"
            )
    return bytes(out), kept


def _columns(result: int, count: int) -> tuple[Column, ...]:
    text = ctypes.c_void_p()
    size = ctypes.c_size_t()
    detail = ctypes.c_void_p()

    def ask(function: Any, column: int) -> str:
        code = function(
            result, column, ctypes.byref(text), ctypes.byref(size), ctypes.byref(detail)
        )
        check(code, detail)
        return string_at(text.value or 0, size.value).decode() if size.value else ""

    return tuple(
        Column(
            ask(quick.kmb_query_result_column_name, i), ask(quick.kmb_query_result_column_type, i)
        )
        for i in range(count)
    )


def _cells(result: int) -> list[tuple[Value, ...]]:
    """Every row, from the packed cells."""
    raw = ctypes.create_string_buffer(CELLS.size)
    detail = ctypes.c_void_p()
    check(quick.kmb_query_result_cells(result, raw, ctypes.byref(detail)), detail)
    rows, columns, types_at, values_at, heap_at, heap_len = CELLS.unpack(raw.raw)
    count = rows * columns
    if not count:
        return [()] * rows
    kinds = string_at(types_at, count)
    numbers = array("q")
    numbers.frombytes(string_at(values_at, count * 8))
    heap = string_at(heap_at, heap_len) if heap_len else b""
    # As a plain number, which compares quicker than a member of an enum.
    int64 = int(ValueType.INT64)
    values = [
        number if kind == int64 else _cell(kind, number & U64_MAX, heap)
        for kind, number in zip(kinds, numbers)
    ]
    # The same iterator as often as there are columns cuts the values into rows.
    return list(zip(*[iter(values)] * columns))


def _cell(kind: int, number: int, heap: bytes) -> Value:
    if kind == ValueType.NULL:
        return None
    if kind == ValueType.FLOAT64:
        value: float = _F64.unpack(_U64.pack(number))[0]
        return value
    if kind == ValueType.BOOL:
        return bool(number)
    start = number >> CELL_OFFSET_SHIFT
    data = heap[start : start + (number & _LEN_MASK)]
    return data.decode() if kind == ValueType.STRING else data


def _head(result: int) -> tuple[tuple[Column, ...], Position]:
    """A query result's columns and position."""
    _, _, column_count = QUERY_RESULT.unpack(string_at(result, QUERY_RESULT.size))
    position = ctypes.c_uint64()
    detail = ctypes.c_void_p()
    code = quick.kmb_query_result_position(result, ctypes.byref(position), ctypes.byref(detail))
    check(code, detail)
    return _columns(result, column_count), Position(position.value)


def query(
    client: int, sql: str, params: Sequence[Param], at: tuple[int, int], call: bytes | None
) -> Operation[RawResult]:
    submit, keep = _submit_query(quick.kmb_submit_query, client, sql, params, at, call)
    return Operation(submit, RawResult, keep=keep)


def query_cursor(
    client: int,
    sql: str,
    params: Sequence[Param],
    at: tuple[int, int],
    call: bytes | None,
    adopt: Callable[[int], T],
) -> Operation[T]:
    submit, keep = _submit_query(quick.kmb_submit_query_cursor, client, sql, params, at, call)
    return Operation(submit, lambda completion: adopted(completion, adopt), keep=keep)


def _submit_query(
    function: Any,
    client: int,
    sql: str,
    params: Sequence[Param],
    at: tuple[int, int],
    call: bytes | None,
) -> tuple[Any, object]:
    """A submission, and the parameters' bytes, which it reads by their addresses."""
    text = utf8(sql, "sql")
    packed, kept = _packed_params(params)
    count = len(packed) // QUERY_PARAM_BYTES.size

    def submit(queue: int, tag: int, operation: Any, detail: Any) -> int:
        code: int = function(
            client, queue, text, len(text), packed, count, at[0], at[1],
            call, tag, operation, detail,
        )  # fmt: skip
        return code

    return submit, kept


def cursor_arrow(cursor: int, rows_wait: bool, requested_schema: object | None) -> object:
    """A PyCapsule of the rows to come, whose end closes the cursor."""
    if rows_wait:
        raise InvalidArgumentError(
            "rows of this cursor were read and not handed out yet; read it as rows, or as Arrow"
        )
    schema = schema_address(requested_schema)
    return capsule(lambda stream, detail: quick.kmb_cursor_arrow(cursor, schema, stream, detail))


def cursor_schema(cursor: int) -> tuple[tuple[Column, ...], Position]:
    """A cursor's columns and position."""
    result = ctypes.c_void_p()
    detail = ctypes.c_void_p()
    try:
        code = quick.kmb_cursor_schema(cursor, ctypes.byref(result), ctypes.byref(detail))
        check(code, detail)
        return _head(result.value or 0)
    finally:
        if result:
            quick.kmb_query_result_free(result)


def cursor_next(
    cursor: int, arrived: deque[list[tuple[Value, ...]]]
) -> Operation[list[tuple[Value, ...]] | None]:
    """The next batch, by way of ``arrived``: there a batch waits whose caller was interrupted."""

    def save(completion: Completion) -> None:
        if completion.result:
            arrived.append(_cells(completion.result))

    def decode(completion: Completion) -> list[tuple[Value, ...]] | None:
        save(completion)
        return popped(arrived)

    return Operation(
        lambda queue, tag, operation, detail: quick.kmb_submit_cursor_next(
            cursor, queue, tag, operation, detail
        ),
        decode,
        unwanted=save,
    )
