"""Runs operations of the library on a thread: submits one, waits, and takes what it gave.

An operation ends by one completion in a queue of the library. The library writes into memory that
outlives every Python frame here, so that an exception which arrives between any two steps (Ctrl-C,
a signal handler, a finalizer) neither leaks a result nor frees one twice.
"""

from __future__ import annotations

import ctypes
from typing import Any, Callable, ClassVar, Final, Generic, TypeVar, final

from kimberlite._abi import COMPLETION_FIELDS
from kimberlite._error_base import KimberliteError
from kimberlite._generated import CompletionKind
from kimberlite._native import check, error_from_detail, quick, waiting

T = TypeVar("T")

# How long a waiting thread leaves Python's signal handlers, Ctrl-C among them, unheard.
_SLICE_MS: Final = 100
# How many further interrupts an operation's end is awaited through.
_PATIENCE: Final = 10


class Completion(ctypes.Structure):
    """The end of an operation, as the library lays it out."""

    operation: int
    tag: int
    error: int
    kind: int
    result: int
    detail: int
    value0: int
    value1: int
    value2: int

    _fields_: ClassVar[Any] = COMPLETION_FIELDS

    def free(self) -> None:
        """Frees what it still owns; a second time does nothing."""
        if self.result or self.detail:
            quick.kmb_completion_free(ctypes.byref(self))


@final
class Operation(Generic[T]):
    """Something to submit, and how to read its completion.

    ``submit`` gets the queue, the tag, and where to put the operation's id and the detail.
    ``decode`` copies what it needs: the completion is freed after it. ``keep`` holds what the
    library reads by address while it is submitted. ``unwanted`` saves the result of an operation
    whose caller was interrupted, where throwing it away would lose something.
    """

    __slots__ = ("decode", "keep", "submit", "unwanted")

    def __init__(
        self,
        submit: Callable[[Any, int, Any, Any], int],
        decode: Callable[[Completion], T],
        *,
        keep: object = None,
        unwanted: Callable[[Completion], object] | None = None,
    ) -> None:
        self.submit = submit
        self.decode = decode
        self.keep = keep
        self.unwanted = unwanted

    def finish(self, completion: Completion) -> T:
        """The operation's value, or its error."""
        try:
            if completion.error:
                raise error_from_detail(completion.error, completion.detail, free=False)
            return self.decode(completion)
        finally:
            completion.free()

    def abandon(self, completion: Completion) -> None:
        """Takes the end of an operation whose caller was interrupted."""
        try:
            if self.unwanted is not None and not completion.error:
                self.unwanted(completion)
        finally:
            completion.free()


def adopted(completion: Completion, adopt: Callable[[int], T]) -> T:
    """An object that owns the completion's handle from now on."""
    owner = adopt(completion.result)
    # Closing a handle twice is harmless, so the completion lets go of it last.
    completion.result = 0
    return owner


def cancel(operation: int) -> None:
    """Asks for an operation's end; it completes all the same."""
    quick.kmb_cancel(operation, None)


def discard_client(handle: int) -> None:
    """Closes a client in the background, as finalizers must: they run on any thread."""
    Completion(kind=CompletionKind.CONNECT, result=handle).free()


class _Slot:
    """A queue for one operation at a time, with the memory that the library writes to.

    An operation that is started while another one is awaited on the same thread, by a signal
    handler or a finalizer, has a slot of its own, so that neither sees anything of the other.
    """

    __slots__ = ("_count", "_detail", "_handle", "_operation", "_places", "_poll", "completion")

    def __init__(self) -> None:
        self._handle = ctypes.c_void_p()
        self.completion = Completion()
        self._detail = ctypes.c_void_p()
        self._operation = ctypes.c_uint64()
        self._count = ctypes.c_size_t()
        detail = ctypes.byref(self._detail)
        check(quick.kmb_queue_new(False, ctypes.byref(self._handle), detail), self._detail)
        self._places = (ctypes.byref(self._operation), detail)
        self._poll = (
            self._handle.value, ctypes.byref(self.completion), 1, _SLICE_MS,
            ctypes.byref(self._count), detail,
        )  # fmt: skip

    def submit(self, operation: Operation[Any]) -> None:
        """Starts an operation."""
        self.completion.free()
        self._operation.value = 0
        self._count.value = 0
        code = operation.submit(self._handle, 0, *self._places)
        if code:
            check(code, self._detail)

    def wait(self) -> bool:
        """Waits for a slice of time; whether the completion is there."""
        code = waiting.kmb_queue_poll(*self._poll)
        if code:
            check(code, self._detail)
        return self._count.value != 0

    def settle(self, operation: Operation[Any]) -> bool:
        """Ends an operation whose caller was interrupted, wherever that was; true where it did."""
        identifier = self._operation.value
        if not identifier:
            return True  # It was not submitted.
        if not self._count.value:
            cancel(identifier)
            for _ in range(_PATIENCE):
                try:
                    while not self.wait():
                        pass
                    break
                except KimberliteError:
                    raise
                except BaseException:  # noqa: S112
                    continue  # The interrupt that brought us here is under way already.
        if not self._count.value:
            return False
        operation.abandon(self.completion)
        return True

    def __del__(self, _close: Any = waiting.kmb_queue_close) -> None:
        self.completion.free()
        if self._handle:
            # Closing cancels what is still under way and frees what it gives.
            _close(self._handle, None)


_idle: list[_Slot] = []


def run(operation: Operation[T]) -> T:
    """Runs an operation and waits for its value on this thread."""
    try:
        slot = _idle.pop()
    except IndexError:
        slot = _Slot()
    try:
        slot.submit(operation)
        while not slot.wait():
            pass
    except BaseException:
        if slot.settle(operation):
            _idle.append(slot)
        raise
    try:
        return operation.finish(slot.completion)
    finally:
        _idle.append(slot)


__all__ = ["Completion", "Operation", "adopted", "cancel", "discard_client", "run"]
