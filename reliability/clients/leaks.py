"""Calls of every kind, then connects and closes: what this process holds may not grow.

python leaks.py [--asyncio] PLACE WRONG_PLACE TOKEN CALLS CONNECTS

It says ``mark PHASE`` at the set points, and goes on when a line comes back: whoever started it
looks at its memory, files and threads meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Iterator
from typing import NamedTuple

from kimberlite import (
    AsyncClient,
    Client,
    DataClass,
    KimberliteError,
    StreamId,
    StreamNotFoundError,
    TimedOutError,
)

LOOKS = 20
COUNT = "SELECT count(*), max(id) FROM leaks_fixed WHERE id >= ?1"
ROWS = "SELECT id, data FROM leaks_fixed"
WRONG = "SELECT nothing FROM nowhere"
EVENT = b"x" * 100


class Streams(NamedTuple):
    """One that grows, and one that does not, for everything that reads."""

    grows: StreamId
    fixed: StreamId


def numbers(phase: str, count: int) -> Iterator[int]:
    """So many numbers after a tenth of them to warm up, with a mark at every set point."""

    def mark() -> None:
        print(f"mark {phase}", flush=True)
        if not sys.stdin.readline():
            sys.exit("nobody looks any more")

    warm_up = max(count // 10, 10)
    for number in range(warm_up + count):
        if number >= warm_up and (number - warm_up) % max(count // LOOKS, 1) == 0:
            mark()
        yield number
    mark()


def must_fail() -> None:
    """What must have failed before this did not."""
    sys.exit("a call that must fail did not")


def call(client: Client, streams: Streams, number: int) -> None:
    """One call of the kind that is next."""
    fixed, kind = streams.fixed, number % 10
    if kind == 0:
        client.append(streams.grows, [EVENT])
    elif kind <= 2:
        sum(len(event.data) for event in client.read(fixed, number % 4_000, 100))
    elif kind == 3:
        client.query(COUNT, [number % 4_000])
    elif kind == 4:
        client.stream_info(fixed)
    elif kind == 5:
        with contextlib.suppress(StreamNotFoundError):
            client.read(StreamId((1 << 63) - number))
            must_fail()
    elif kind == 6:
        with contextlib.suppress(KimberliteError):
            client.query(WRONG)
            must_fail()
    elif kind == 7:
        # A thread that waits gives up by its deadline alone.
        with contextlib.suppress(TimedOutError):
            client.read(fixed, 0, 5_000, timeout_ms=1)
    elif kind == 8:
        client.query_cursor(ROWS).next_batch()
    else:
        client.subscribe(fixed, 4_000).next_page(10_000)


async def call_async(client: AsyncClient, streams: Streams, number: int) -> None:
    """One call of the kind that is next."""
    fixed, kind = streams.fixed, number % 10
    if kind == 0:
        await client.append(streams.grows, [EVENT])
    elif kind <= 2:
        sum(len(event.data) for event in await client.read(fixed, number % 4_000, 100))
    elif kind == 3:
        await client.query(COUNT, [number % 4_000])
    elif kind == 4:
        await client.stream_info(fixed)
    elif kind == 5:
        with contextlib.suppress(StreamNotFoundError):
            await client.read(StreamId((1 << 63) - number))
            must_fail()
    elif kind == 6:
        with contextlib.suppress(KimberliteError):
            await client.query(WRONG)
            must_fail()
    elif kind == 7:
        task = asyncio.ensure_future(client.read(fixed, 0, 5_000))
        await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    elif kind == 8:
        await (await client.query_cursor(ROWS)).next_batch()
    else:
        await (await client.subscribe(fixed, 4_000)).next_page(10_000)


def prepare(client: Client) -> Streams:
    grows = client.create_stream("leaks_grows", DataClass.NON_PHI)
    fixed = client.create_stream("leaks_fixed", DataClass.NON_PHI)
    for _ in range(client.stream_info(fixed).next_offset, 5_000, 1_000):
        client.append(fixed, [EVENT] * 1_000)
    return Streams(grows, fixed)


def main(place: str, wrong: str, token: str, calls: int, connects: int) -> None:
    with Client.connect([place], 1, token) as client:
        streams = prepare(client)
        for number in numbers("calls", calls):
            call(client, streams, number)
    for number in numbers("connects", connects):
        if number % 10 == 9:
            with contextlib.suppress(KimberliteError):
                Client.connect([wrong], 1, token)
                must_fail()
        else:
            with Client.connect([place], 1, token) as client:
                client.stream_info(streams.fixed)


async def main_async(place: str, wrong: str, token: str, calls: int, connects: int) -> None:
    @contextlib.asynccontextmanager
    async def connected() -> AsyncIterator[AsyncClient]:
        client = await AsyncClient.connect([place], 1, token)
        async with client:
            yield client

    with Client.connect([place], 1, token) as first:
        streams = prepare(first)
    async with connected() as client:
        for number in numbers("calls", calls):
            await call_async(client, streams, number)
    for number in numbers("connects", connects):
        if number % 10 == 9:
            with contextlib.suppress(KimberliteError):
                await AsyncClient.connect([wrong], 1, token)
                must_fail()
        else:
            async with connected() as client:
                await client.stream_info(streams.fixed)


_words = [word for word in sys.argv[1:] if word != "--asyncio"]
_rest = (*_words[:3], *map(int, _words[3:]))
if "--asyncio" in sys.argv:
    asyncio.run(main_async(*_rest))  # type: ignore[arg-type]
else:
    main(*_rest)  # type: ignore[arg-type]
