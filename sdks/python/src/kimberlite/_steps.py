"""Work in steps, of which both clients take each in their own way.

It is a generator of steps: an operation of the library, work that blocks, or something to await.
Each client sends back what a step gave.
"""

from __future__ import annotations

from collections.abc import Awaitable, Coroutine, Generator
from typing import Any, Callable, TypeVar, Union

from kimberlite._queues import Operation, run

T = TypeVar("T")

Step = Union[Operation[Any], Callable[[], Any], Awaitable[Any]]
Steps = Generator[Step, Any, T]


def finish(steps: Steps[T]) -> T:
    """Takes every step on this thread."""
    proceed: Callable[[Any], Step] = steps.send
    value: Any = None
    try:
        while True:
            try:
                step = proceed(value)
            except StopIteration as end:
                result: T = end.value
                return result
            try:
                proceed, value = steps.send, _taken(step)
            except BaseException as error:
                proceed, value = steps.throw, error
    finally:
        # An interrupt between two steps must not leave the file open.
        steps.close()


def _taken(step: Step) -> Any:
    if callable(step):
        return step()
    if isinstance(step, Operation):
        return run(step)
    if isinstance(step, Coroutine):
        step.close()
    raise TypeError("source gives its events asynchronously; use an AsyncClient")


async def finish_async(steps: Steps[T], run_async: Callable[[Operation[Any]], Awaitable[Any]]) -> T:
    """Takes every step without blocking the loop: work on files is done by other threads."""
    proceed: Callable[[Any], Step] = steps.send
    value: Any = None
    try:
        while True:
            try:
                step = proceed(value)
            except StopIteration as end:
                result: T = end.value
                return result
            try:
                proceed, value = steps.send, await _awaited(step, run_async)
            except BaseException as error:
                proceed, value = steps.throw, error
    finally:
        # A cancellation between two steps must not leave the file open.
        steps.close()


async def _awaited(step: Step, run_async: Callable[[Operation[Any]], Awaitable[Any]]) -> Any:
    if callable(step):
        return await in_thread(step)
    if isinstance(step, Operation):
        return await run_async(step)
    return await step


async def in_thread(work: Callable[[], T], stop: Callable[[], object] | None = None) -> T:
    """Has another thread do what blocks.

    A task that is cancelled asks it to stop and waits for its end: nothing may happen behind the
    caller's back.
    """
    # Here, because programs without asyncio import this module too.
    import asyncio  # noqa: PLC0415

    future = asyncio.get_running_loop().run_in_executor(None, work)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        if stop is not None:
            stop()
        while not future.done():
            try:
                await asyncio.wait([future])
            except asyncio.CancelledError:
                continue
        if not future.cancelled():
            # Looked at, so that the loop does not complain about it.
            future.exception()
        raise


__all__ = ["Step", "Steps", "finish", "finish_async", "in_thread"]
