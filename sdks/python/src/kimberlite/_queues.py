"""Runs operations of the library: waiting for one on a thread, or many on an event loop.

An operation is submitted with a tag and ends by one completion with the same tag in a queue.
"""

from __future__ import annotations

import asyncio
import ctypes
import itertools
import struct
import threading
import weakref
from typing import Any, Callable, Final, Generic, NamedTuple, TypeVar

from kimberlite._native import FOREVER, check, error_from_detail, quick, waiting

T = TypeVar("T")

_COMPLETION: Final = struct.Struct("=QQIIQQQQQ")
_BATCH: Final = 64
# How long a waiting thread leaves Python's signal handlers, Ctrl-C among them, unheard.
_SLICE_MS: Final = 100

_WAKE = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class Completion(NamedTuple):
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


class Operation(Generic[T]):
    """Something to submit, and how to read its completion.

    ``submit`` gets the queue, the tag, and where to put the operation's id and the detail.
    ``decode`` owns the completion's result. ``keep`` holds what the library reads by address
    while it is submitted.
    """

    __slots__ = ("decode", "keep", "submit")

    def __init__(
        self,
        submit: Callable[[int, int, Any, Any], int],
        decode: Callable[[Completion], T],
        keep: object = None,
    ) -> None:
        self.submit = submit
        self.keep = keep
        self.decode = decode


class _Queue:
    """A queue of the library with its buffer."""

    def __init__(self, with_fd: bool) -> None:
        handle = ctypes.c_void_p()
        detail = ctypes.c_void_p()
        check(quick.kmb_queue_new(with_fd, ctypes.byref(handle), ctypes.byref(detail)), detail)
        self.handle: int = handle.value or 0
        self.tags = itertools.count(1)
        self._buffer = ctypes.create_string_buffer(_COMPLETION.size * _BATCH)
        self._count = ctypes.c_size_t()
        self._operation = ctypes.c_uint64()
        self._detail = ctypes.c_void_p()
        self._count_ref = ctypes.byref(self._count)
        self._operation_ref = ctypes.byref(self._operation)
        self._detail_ref = ctypes.byref(self._detail)

    def submit(self, operation: Operation[T], tag: int) -> int:
        """Starts an operation and gives its id."""
        code = operation.submit(self.handle, tag, self._operation_ref, self._detail_ref)
        if code:
            check(code, self._detail)
        return self._operation.value

    def poll(self, timeout_ms: int, most: int = _BATCH) -> list[Completion]:
        """Takes what is there, waiting for the first."""
        face = waiting if timeout_ms else quick
        code = face.kmb_queue_poll(
            self.handle, self._buffer, most, timeout_ms, self._count_ref, self._detail_ref
        )
        if code:
            check(code, self._detail)
        count = self._count.value
        unpack = _COMPLETION.unpack_from
        size = _COMPLETION.size
        return [Completion._make(unpack(self._buffer, i * size)) for i in range(count)]

    def close(self) -> None:
        """Cancels what is pending and frees the queue."""
        handle, self.handle = self.handle, 0
        if handle:
            waiting.kmb_queue_close(handle, None)


def cancel(operation: int) -> None:
    """Asks for an operation's end; it completes all the same."""
    quick.kmb_cancel(operation, None)


def discard(completion: Completion) -> None:
    """Frees what a completion owns, where nobody wants it any more."""
    raw = ctypes.create_string_buffer(_COMPLETION.pack(*completion), _COMPLETION.size)
    waiting.kmb_completion_free(raw)


def finish(operation: Operation[T], completion: Completion) -> T:
    """An operation's value, or its error."""
    if completion.error:
        raise error_from_detail(completion.error, completion.detail)
    return operation.decode(completion)


class _ThreadQueue(_Queue):
    """One thread's queue, on which it waits for one operation at a time.

    A signal handler or a finalizer may start another operation while one is awaited, so completions
    that belong to an outer wait are kept for it.
    """

    def __init__(self) -> None:
        super().__init__(with_fd=False)
        self._kept: dict[int, Completion] = {}
        weakref.finalize(self, _close_queue, self.handle)

    def run(self, operation: Operation[T]) -> T:
        tag = next(self.tags)
        identifier = self.submit(operation, tag)
        try:
            completion = self._wait(tag)
        except BaseException:
            # An interrupt must not leave the call running, nor its result unowned.
            cancel(identifier)
            discard(self._wait(tag))
            raise
        return finish(operation, completion)

    def _wait(self, tag: int) -> Completion:
        while tag not in self._kept:
            for completion in self.poll(_SLICE_MS):
                if completion.tag == tag:
                    return completion
                self._kept[completion.tag] = completion
        return self._kept.pop(tag)


def _close_queue(handle: int) -> None:
    waiting.kmb_queue_close(handle, None)


class _Threads(threading.local):
    queue: _ThreadQueue | None = None


_threads = _Threads()


def run(operation: Operation[T]) -> T:
    """Runs an operation and waits for its value on this thread."""
    queue = _threads.queue
    if queue is None:
        queue = _threads.queue = _ThreadQueue()
    return queue.run(operation)


class LoopQueue(_Queue):
    """One event loop's queue: readable completions finish futures."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        watched = _can_watch(loop)
        super().__init__(with_fd=watched)
        self._loop = loop
        self._pending: dict[int, tuple[asyncio.Future[Any], Operation[Any]]] = {}
        self._fd = -1
        self._wake: Any = None
        self.users = 0
        if watched:
            fd = ctypes.c_int32()
            check(quick.kmb_queue_fd(self.handle, ctypes.byref(fd), self._detail_ref), self._detail)
            self._fd = fd.value
            loop.add_reader(self._fd, self._drain)
        else:
            # The loop cannot watch descriptors: the library calls instead.
            self._wake = _WAKE(self._woken)
            code = quick.kmb_submit_callback(
                self.handle, ctypes.cast(self._wake, ctypes.c_void_p), None, self._detail_ref
            )
            check(code, self._detail)

    def _woken(self, _user_data: int | None) -> None:
        try:
            self._loop.call_soon_threadsafe(self._drain)
        except RuntimeError:
            return  # The loop was closed meanwhile: nobody waits any more.

    async def run(self, operation: Operation[T]) -> T:
        """Runs an operation and awaits its value; cancelling the task cancels it in the library."""
        tag = next(self.tags)
        future: asyncio.Future[T] = self._loop.create_future()
        identifier = self.submit(operation, tag)
        self._pending[tag] = (future, operation)
        try:
            return await future
        except asyncio.CancelledError:
            cancel(identifier)
            raise

    def _drain(self) -> None:
        while self.handle:
            completions = self.poll(0)
            for completion in completions:
                future, operation = self._pending.pop(completion.tag)
                if future.done():
                    discard(completion)
                    continue
                try:
                    future.set_result(finish(operation, completion))
                except Exception as error:
                    future.set_exception(error)
            if len(completions) < _BATCH:
                return

    def close(self) -> None:
        """Stops watching and frees the queue; what was pending ends as cancelled."""
        if self._fd >= 0 and not self._loop.is_closed():
            self._loop.remove_reader(self._fd)
        super().close()
        pending, self._pending = self._pending, {}
        for future, _ in pending.values():
            future.cancel()


def _can_watch(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether the loop watches descriptors, which Windows' default one does not."""
    kind = getattr(asyncio, "ProactorEventLoop", None)
    return kind is None or not isinstance(loop, kind)


_loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, LoopQueue] = (
    weakref.WeakKeyDictionary()
)


def loop_queue() -> LoopQueue:
    """The running loop's queue."""
    loop = asyncio.get_running_loop()
    queue = _loops.get(loop)
    if queue is None:
        queue = _loops[loop] = LoopQueue(loop)
    return queue


def release(queue: LoopQueue) -> None:
    """Closes a loop's queue once its last client is closed."""
    queue.users -= 1
    if queue.users <= 0:
        for loop, known in list(_loops.items()):
            if known is queue:
                del _loops[loop]
        queue.close()


__all__ = ["FOREVER", "Completion", "LoopQueue", "Operation", "loop_queue", "release", "run"]
