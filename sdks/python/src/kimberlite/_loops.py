"""Runs operations of the library on event loops: one queue for each loop."""

from __future__ import annotations

import asyncio
import atexit
import ctypes
import itertools
import weakref
from typing import Any, Final, TypeVar

from kimberlite._generated import ClosedError
from kimberlite._native import check, quick, waiting
from kimberlite._queues import Completion, Operation, cancel

T = TypeVar("T")

_BATCH: Final = 64

_WAKE = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class LoopQueue:
    """One event loop's queue: a readable descriptor finishes futures.

    Only the loop's thread uses it, but for ``release_from_anywhere``.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._handle = ctypes.c_void_p()
        self._loop = loop
        self._fd = -1
        self._wake: Any = None
        self._tags = itertools.count(1)
        self._pending: dict[int, tuple[asyncio.Future[Completion], Operation[Any]]] = {}
        self._buffer = (Completion * _BATCH)()
        self._count = ctypes.c_size_t()
        self._operation = ctypes.c_uint64()
        self._detail = ctypes.c_void_p()
        self._count_ref = ctypes.byref(self._count)
        self._operation_ref = ctypes.byref(self._operation)
        self._detail_ref = ctypes.byref(self._detail)
        self.users = 0
        """The open clients of the loop."""
        watched = _can_watch(loop)
        self._check(quick.kmb_queue_new(watched, ctypes.byref(self._handle), self._detail_ref))
        if watched:
            self._watch()
        else:
            self._be_called()

    def _check(self, code: int) -> None:
        check(code, self._detail)

    def _watch(self) -> None:
        fd = ctypes.c_int32()
        self._check(quick.kmb_queue_fd(self._handle, ctypes.byref(fd), self._detail_ref))
        self._fd = fd.value
        self._loop.add_reader(self._fd, self._drain)

    def _be_called(self) -> None:
        """For a loop that cannot watch descriptors: the library calls instead."""
        # Weak, so that a loop which is forgotten unclosed does not live for ever.
        this = weakref.ref(self)

        def woken(_user_data: int | None) -> None:
            queue = this()
            if queue is not None:
                queue._wake_loop()

        self._wake = _WAKE(woken)
        callback = ctypes.cast(self._wake, ctypes.c_void_p)
        self._check(quick.kmb_submit_callback(self._handle, callback, None, self._detail_ref))

    def _wake_loop(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._drain)
        except RuntimeError:
            return  # The loop was closed meanwhile: nobody waits any more.

    @property
    def closed(self) -> bool:
        """Whether the queue is gone, after the last client of its loop."""
        return not self._handle

    async def run(self, operation: Operation[T]) -> T:
        """Runs an operation and awaits its value; cancelling the task cancels it in the library."""
        if asyncio.get_running_loop() is not self._loop:
            raise RuntimeError(
                "this AsyncClient belongs to another event loop; connect one on each loop"
            )
        tag = next(self._tags)
        future: asyncio.Future[Completion] = self._loop.create_future()
        self._pending[tag] = (future, operation)
        identifier = 0
        try:
            self._check(operation.submit(self._handle, tag, self._operation_ref, self._detail_ref))
            identifier = self._operation.value
            completion = await future
        except BaseException:
            # A cancelled task, an error of the submission, or a coroutine that is thrown away.
            if future.done() and not future.cancelled() and future.exception() is None:
                operation.abandon(future.result())
            elif identifier:
                # It completes all the same; the drain takes what it then gives.
                future.cancel()
                cancel(identifier)
            else:
                del self._pending[tag]
            raise
        return operation.finish(completion)

    def _drain(self) -> None:
        while self._handle:
            self._check(
                quick.kmb_queue_poll(
                    self._handle, self._buffer, _BATCH, 0, self._count_ref, self._detail_ref
                )
            )
            count = self._count.value
            for i in range(count):
                self._take(Completion.from_buffer_copy(self._buffer[i]))
            if count < _BATCH:
                return

    def _take(self, completion: Completion) -> None:
        future, operation = self._pending.pop(completion.tag, (None, None))
        if future is None or operation is None:
            completion.free()
        elif future.done():
            operation.abandon(completion)
        else:
            future.set_result(completion)

    def release(self) -> None:
        """A client less; the last one closes the queue."""
        self.users -= 1
        if self.users <= 0:
            self._close()

    def release_from_anywhere(self) -> None:
        """``release`` for finalizers, which run on any thread and between any two steps."""
        try:
            self._loop.call_soon_threadsafe(self.release)
        except RuntimeError:
            self._close()  # The loop is closed: nothing of it runs any more.

    def _close(self) -> None:
        """Stops watching and frees the queue; calls that still wait end as closed."""
        for loop, known in list(_loops.items()):
            if known is self:
                _loops.pop(loop, None)
        if self._fd >= 0 and not self._loop.is_closed():
            self._loop.remove_reader(self._fd)
        self.free()
        pending, self._pending = self._pending, {}
        for future, _ in pending.values():
            if not future.done() and not self._loop.is_closed():
                future.set_exception(ClosedError("the client was closed"))

    def free(self, _close: Any = waiting.kmb_queue_close) -> None:
        """Closes the library's queue, which cancels what is under way; once is enough."""
        if self._handle:
            handle = ctypes.c_void_p(self._handle.value)
            self._handle.value = None
            _close(handle, None)

    def __del__(self) -> None:
        self.free()


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


def _end() -> None:
    # No call may reach an interpreter that is being taken apart.
    for queue in list(_loops.values()):
        queue.free()


atexit.register(_end)

__all__ = ["LoopQueue", "loop_queue"]
