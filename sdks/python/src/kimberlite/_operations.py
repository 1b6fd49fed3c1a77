"""Every operation: what it submits to the library, and how its completion becomes a value.

The synchronous and the asyncio client run the same operations; they differ only in how they wait.
Queries stand in ``_queries``.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from array import array
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any, Callable, Final, TypeVar, Union, cast

from kimberlite._abi import (
    ANY_OFFSET,
    CALL_OPTIONS,
    CALL_STALE,
    FOREVER,
    NO_OFFSET,
    PAGE,
    STREAM_INFO,
    STREAM_LIST,
    TENANT_LIST,
    VERIFICATION,
)
from kimberlite._generated import (
    OPTION_DEFAULTS,
    DataClass,
    InvalidArgumentError,
    InvalidDataClassError,
    LimitExceededError,
)
from kimberlite._native import check, quick, string_at, u64, utf8, waiting
from kimberlite._queues import Completion, Operation, adopted
from kimberlite.types import (
    AppendKey,
    AppendResult,
    Offset,
    Page,
    Position,
    StreamId,
    StreamInfo,
    Verification,
)

T = TypeVar("T")

_U8_MAX: Final = 255
# Above this many bytes a copy costs more than what saves it: letting other threads run while the
# library copies an append's events, or leaving a page's bytes where they are.
_LARGE_BYTES: Final = 65536

Data = Union[bytes, bytearray, memoryview]
"""What an event is given as."""


def call_options(
    timeout_ms: int | None, min_position: int = 0, stale: bool = False
) -> bytes | None:
    """The options of one call; None where all are the defaults."""
    if timeout_ms is None and stale is False and type(min_position) is int and min_position == 0:
        return None
    if not isinstance(stale, bool):
        raise TypeError(f"stale must be a bool, not {type(stale).__name__}")
    if timeout_ms is not None and u64(timeout_ms, "timeout_ms") == 0:
        raise InvalidArgumentError("timeout_ms is 0; give at least 1, or None for the default")
    flags = CALL_STALE if stale else 0
    return CALL_OPTIONS.pack(timeout_ms or 0, u64(min_position, "min_position"), flags, 0, 0)


def _nothing(_completion: Completion) -> None:
    return None


# Streams and tenants.


def create_stream(
    client: int, name: str, data_class: int, call: bytes | None
) -> Operation[StreamId]:
    text = utf8(name, "name")
    if not isinstance(data_class, int) or isinstance(data_class, bool):
        raise TypeError(f"data_class must be a DataClass, not {type(data_class).__name__}")
    if not 0 <= data_class <= _U8_MAX:
        known = ", ".join(f"{value.name} ({value.value})" for value in DataClass)
        raise InvalidDataClassError(f"data_class is {data_class}; use {known}")
    return Operation(
        lambda queue, tag, operation, detail: quick.kmb_submit_create_stream(
            client, queue, text, len(text), data_class, call, tag, operation, detail
        ),
        lambda completion: StreamId(completion.value0),
    )


def _decode_streams(completion: Completion) -> list[StreamInfo]:
    address, count = STREAM_LIST.unpack(string_at(completion.result, STREAM_LIST.size))
    raw = string_at(address, count * STREAM_INFO.size) if count else b""
    return [_stream_info(*row) for row in STREAM_INFO.iter_unpack(raw)]


def _stream_info(
    stream_id: int,
    next_offset: int,
    created_ns: int,
    last_timestamp_ns: int,
    data_bytes: int,
    name: int,
    name_len: int,
    data_class: int,
    head: bytes,
) -> StreamInfo:
    return StreamInfo(
        StreamId(stream_id),
        string_at(name, name_len).decode(),
        DataClass(data_class),
        Offset(next_offset),
        created_ns,
        last_timestamp_ns,
        data_bytes,
        head,
    )


def list_streams(client: int, call: bytes | None) -> Operation[list[StreamInfo]]:
    return Operation(
        lambda queue, tag, operation, detail: quick.kmb_submit_list_streams(
            client, queue, call, tag, operation, detail
        ),
        _decode_streams,
    )


def stream_info(client: int, stream: int | str, call: bytes | None) -> Operation[StreamInfo]:
    def decode(completion: Completion) -> StreamInfo:
        return _decode_streams(completion)[0]

    if isinstance(stream, str):
        text = utf8(stream, "stream")
        return Operation(
            lambda queue, tag, operation, detail: quick.kmb_submit_stream_by_name(
                client, queue, text, len(text), call, tag, operation, detail
            ),
            decode,
        )
    stream_id = u64(stream, "stream")
    return Operation(
        lambda queue, tag, operation, detail: quick.kmb_submit_stream_info(
            client, queue, stream_id, call, tag, operation, detail
        ),
        decode,
    )


def create_tenant(client: int, tenant_id: int, call: bytes | None) -> Operation[bool]:
    u64(tenant_id, "tenant_id")
    return Operation(
        lambda queue, tag, operation, detail: quick.kmb_submit_create_tenant(
            client, queue, tenant_id, call, tag, operation, detail
        ),
        lambda completion: bool(completion.value0),
    )


def delete_tenant(client: int, tenant_id: int, call: bytes | None) -> Operation[None]:
    u64(tenant_id, "tenant_id")
    return Operation(
        lambda queue, tag, operation, detail: quick.kmb_submit_delete_tenant(
            client, queue, tenant_id, call, tag, operation, detail
        ),
        _nothing,
    )


def _decode_tenants(completion: Completion) -> list[int]:
    address, count = TENANT_LIST.unpack(string_at(completion.result, TENANT_LIST.size))
    ids = array("Q")
    if count:
        ids.frombytes(string_at(address, count * 8))
    return ids.tolist()


def list_tenants(client: int, call: bytes | None) -> Operation[list[int]]:
    return Operation(
        lambda queue, tag, operation, detail: quick.kmb_submit_list_tenants(
            client, queue, call, tag, operation, detail
        ),
        _decode_tenants,
    )


# Appending.


def _packed(events: Iterable[Data]) -> tuple[bytes, bytes, int]:
    """Events as one block of bytes, the length of each as 32 bits, and their count."""
    if isinstance(events, (bytes, bytearray, memoryview, str)) or not isinstance(events, Iterable):
        raise TypeError(f"events must be a list of bytes, not {type(events).__name__}")
    batch = events if isinstance(events, (list, tuple)) else list(events)
    try:
        data = b"".join(batch)
        lens = list(map(len, batch))
        if sum(lens) != len(data):
            # A memoryview's len() counts elements, which need not be bytes.
            lens = [memoryview(event).nbytes for event in batch]
    except (TypeError, BufferError):
        raise _unfit(batch) from None
    try:
        # A third less time than an array takes.
        return data, struct.pack(f"={len(lens)}I", *lens), len(lens)
    except struct.error:
        raise LimitExceededError("events holds an event of 4 GiB or more") from None


def _unfit(batch: Sequence[Any]) -> TypeError:
    """What to say of events of which at least one is none."""
    for index, event in enumerate(batch):
        try:
            view = memoryview(event)
        except TypeError:
            kind = type(event).__name__
            return TypeError(f"events[{index}] must be bytes, bytearray or memoryview, not {kind}")
        if not view.c_contiguous or view.ndim == 0:
            return TypeError(
                f"events[{index}] is not one contiguous run of bytes; give bytes(…) of it"
            )
    return TypeError("events changed while they were appended")


def append_key(key: AppendKey) -> AppendKey:
    """A key that was checked: a wrong one must never become a second append."""
    if not isinstance(key, AppendKey):
        raise TypeError(
            "key must be an AppendKey, whose key.producer_id and key.sequence an append's error"
            f" gave, not {type(key).__name__}"
        )
    return AppendKey(u64(key.producer_id, "key.producer_id"), u64(key.sequence, "key.sequence"))


def append(
    client: int,
    stream_id: int,
    events: Iterable[Data],
    expected_offset: int | None,
    key: AppendKey | None,
    call: bytes | None,
) -> Operation[AppendResult]:
    data, lens, count = _packed(events)
    u64(stream_id, "stream_id")
    expected = ANY_OFFSET if expected_offset is None else u64(expected_offset, "expected_offset")
    if expected_offset == ANY_OFFSET:
        raise InvalidArgumentError("expected_offset is 2**64 - 1; no stream is that long")
    face = waiting if len(data) > _LARGE_BYTES else quick

    def submit(queue: int, tag: int, operation: Any, detail: Any) -> int:
        size = len(data)
        if key is None:
            code: int = face.kmb_submit_append(
                client, queue, stream_id, expected, data, size, lens, count,
                call, tag, operation, detail,
            )  # fmt: skip
        else:
            code = face.kmb_submit_append_with_key(
                client, queue, key.producer_id, key.sequence, stream_id, expected,
                data, size, lens, count, call, tag, operation, detail,
            )  # fmt: skip
        return code

    def decode(completion: Completion) -> AppendResult:
        return AppendResult(
            Offset(completion.value0), count, completion.value2, Position(completion.value1)
        )

    return Operation(submit, decode)


def open_producer(client: int, call: bytes | None) -> Operation[int]:
    return Operation(
        lambda queue, tag, operation, detail: quick.kmb_submit_open_producer(
            client, queue, call, tag, operation, detail
        ),
        lambda completion: completion.value0,
    )


# Reading.


# Longer than any memory: what lies in it is reached by slices, so that no type must be made for
# each size, which takes longer than everything else about a page.
_WINDOW_BYTES: Final = sys.maxsize // 2


class _PageWindow(ctypes.c_ubyte * _WINDOW_BYTES):  # type: ignore[misc]
    """The memory from the first byte of a page on; the page is freed when nothing looks at it."""

    page = 0

    def __del__(self, _free: Any = quick.kmb_page_free) -> None:
        _free(self.page)


def _decode_page(completion: Completion) -> Page:
    """A page: a large one stays where it is, a small one is copied, which is quicker."""
    fields = PAGE.unpack(string_at(completion.result, PAGE.size))
    (count, first, data, data_len, _, lens_at, timestamps_at, _, end_offset, position) = fields
    base = min(data, lens_at, timestamps_at)
    if data_len < _LARGE_BYTES or max(data, lens_at, timestamps_at) - base > _WINDOW_BYTES // 2:
        return _copied_page(completion)
    window: Any = _PageWindow.from_address(base)
    # Given up first: an interrupt between these lines may leak a page, but never free one twice.
    address, completion.result = completion.result, 0
    window.page = address
    memory = memoryview(window).cast("B").toreadonly()
    data, lens_at, timestamps_at = data - base, lens_at - base, timestamps_at - base
    return Page(
        first,
        memory[data : data + data_len],
        memory[lens_at : lens_at + count * 4].cast("I"),
        memory[timestamps_at : timestamps_at + count * 8].cast("Q"),
        end_offset,
        position,
    )


def _copied_page(completion: Completion) -> Page:
    """A page's bytes as Python's own: a subscription's page is freed at once, to let more come."""
    fields = PAGE.unpack(string_at(completion.result, PAGE.size))
    (count, first, data, data_len, _, lens_at, timestamps_at, _, end_offset, position) = fields
    payload = string_at(data, data_len) if data_len else b""
    lens = string_at(lens_at, count * 4) if count else b""
    timestamps = string_at(timestamps_at, count * 8) if count else b""
    return Page(
        first,
        payload,
        memoryview(lens).cast("I"),
        memoryview(timestamps).cast("Q"),
        end_offset,
        position,
    )


def _decode_optional_page(completion: Completion) -> Page | None:
    return _decode_page(completion) if completion.result else None


def read(
    client: int,
    stream_id: int,
    from_offset: int,
    max_events: int,
    max_bytes: int,
    call: bytes | None,
) -> Operation[Page]:
    for value, name in (
        (stream_id, "stream_id"),
        (from_offset, "from_offset"),
        (max_events, "max_events"),
        (max_bytes, "max_bytes"),
    ):
        u64(value, name)
    return Operation(
        lambda queue, tag, operation, detail: quick.kmb_submit_read_page(
            client,
            queue,
            stream_id,
            from_offset,
            max_events,
            max_bytes,
            call,
            tag,
            operation,
            detail,
        ),
        _decode_page,
    )


class Reader:
    """A walk over a stream's pages; closed when it is gone."""

    def __init__(
        self, client: int, stream_id: int, from_offset: int, page_events: int, call: bytes | None
    ) -> None:
        """Asks nothing of the server yet."""
        self._handle = ctypes.c_void_p()
        detail = ctypes.c_void_p()
        code = quick.kmb_reader_new(
            client,
            u64(stream_id, "stream_id"),
            u64(from_offset, "from_offset"),
            u64(page_events, "page_events"),
            call,
            ctypes.byref(self._handle),
            ctypes.byref(detail),
        )
        check(code, detail)

    def next(self) -> Operation[Page | None]:
        """The next page; None at the end."""
        return Operation(
            lambda queue, tag, operation, detail: quick.kmb_submit_reader_next(
                self._handle, queue, tag, operation, detail
            ),
            _decode_optional_page,
        )

    @property
    def handle(self) -> int | None:
        """The library's handle."""
        return self._handle.value

    def release(self) -> None:
        """Leaves the closing to someone else."""
        self._handle.value = None

    def close(self, _close: Any = quick.kmb_reader_close) -> None:
        """Ends the walk; a second time does nothing."""
        if self._handle:
            _close(self._handle, None)

    __del__ = close


def subscribe(
    client: int, stream_id: int, from_offset: int, call: bytes | None, adopt: Callable[[int], T]
) -> Operation[T]:
    u64(stream_id, "stream_id")
    u64(from_offset, "from_offset")
    return Operation(
        lambda queue, tag, operation, detail: quick.kmb_submit_subscribe(
            client, queue, stream_id, from_offset, call, tag, operation, detail
        ),
        lambda completion: adopted(completion, adopt),
    )


def subscription_next(
    subscription: int, timeout_ms: int | None, arrived: deque[Page]
) -> Operation[Page | None]:
    """The next page, by way of ``arrived``: there a page waits whose caller was interrupted."""
    limit = FOREVER if timeout_ms is None else u64(timeout_ms, "timeout_ms")

    def save(completion: Completion) -> None:
        if completion.result:
            arrived.append(_copied_page(completion))

    def decode(completion: Completion) -> Page | None:
        save(completion)
        return popped(arrived)

    return Operation(
        lambda queue, tag, operation, detail: quick.kmb_submit_subscription_next(
            subscription, queue, limit, tag, operation, detail
        ),
        decode,
        unwanted=save,
    )


def popped(items: deque[T]) -> T | None:
    """The first item, taken out; None where there is none."""
    try:
        return items.popleft()
    except IndexError:
        return None


# Verification.


def _decode_verification(completion: Completion) -> Verification:
    raw = string_at(completion.result, VERIFICATION.size)
    count, bad, position, valid, head = VERIFICATION.unpack(raw)
    first_bad = None if bad == NO_OFFSET else Offset(bad)
    return Verification(bool(valid), count, first_bad, head, Position(position))


def verify(client: int, stream_id: int, call: bytes | None) -> Operation[Verification]:
    u64(stream_id, "stream_id")
    return Operation(
        lambda queue, tag, operation, detail: quick.kmb_submit_verify(
            client, queue, stream_id, call, tag, operation, detail
        ),
        _decode_verification,
    )


def verify_locally(client: int, stream_id: int, call: bytes | None) -> Operation[Verification]:
    u64(stream_id, "stream_id")
    return Operation(
        lambda queue, tag, operation, detail: quick.kmb_submit_verify_locally(
            client, queue, stream_id, call, tag, operation, detail
        ),
        _decode_verification,
    )


# Connecting and closing.


class Options:
    """A client's options while it connects; freed when they are gone."""

    def __init__(
        self,
        addresses: Sequence[str],
        tenant_id: int,
        auth_token: str | None,
        options: dict[str, Any],
    ) -> None:
        """Checks every option but what only the connecting can tell."""
        self.handle = ctypes.c_void_p()
        self._detail = ctypes.c_void_p()
        self._out = ctypes.byref(self._detail)
        if isinstance(addresses, str) or not isinstance(addresses, Sequence):
            raise TypeError("addresses must be a list of str")
        self._check(quick.kmb_options_new(ctypes.byref(self.handle), self._out))
        for index, address in enumerate(addresses):
            text = utf8(address, f"addresses[{index}]")
            self._check(quick.kmb_options_add_address(self.handle, text, len(text), self._out))
        tenant = u64(tenant_id, "tenant_id")
        self._check(quick.kmb_options_set_tenant(self.handle, tenant, self._out))
        if auth_token is not None:
            text = utf8(auth_token, "auth_token")
            self._check(quick.kmb_options_set_auth_token(self.handle, text, len(text), self._out))
        for name, value in {"client_name": "kimberlite-python", **options}.items():
            self._set(name, value)

    def _check(self, code: int) -> None:
        check(code, self._detail)

    def _set(self, name: str, value: Any) -> None:
        key = name.encode()
        if isinstance(value, str) and isinstance(OPTION_DEFAULTS.get(name), int):
            raise TypeError(f"{name} must be an int, not str")
        if isinstance(value, (str, os.PathLike)):
            text = utf8(os.fspath(cast("str | os.PathLike[str]", value)), name)
            code = quick.kmb_options_set_string(
                self.handle, key, len(key), text, len(text), self._out
            )
        else:
            number = u64(value, name)
            code = quick.kmb_options_set_u64(self.handle, key, len(key), number, self._out)
        self._check(code)

    def __del__(self, _free: Any = quick.kmb_options_free) -> None:
        _free(self.handle)


def connect(options: Options, adopt: Callable[[int], T]) -> Operation[T]:
    return Operation(
        lambda queue, tag, operation, detail: quick.kmb_submit_connect(
            options.handle, queue, tag, operation, detail
        ),
        lambda completion: adopted(completion, adopt),
    )


def close(client: int, timeout_ms: int) -> Operation[None]:
    u64(timeout_ms, "timeout_ms")
    return Operation(
        lambda queue, tag, operation, detail: quick.kmb_submit_close(
            client, queue, timeout_ms, tag, operation, detail
        ),
        _nothing,
    )
