"""The work of src/bin/throughput.rs by the Python SDK, a piece for each line of standard input.

With ``--asyncio`` by its asynchronous client. Beside the Rust program's work: ``payloads`` (pages
cut into ``bytes``), ``views`` (a view of each event) and ``arrow`` (pages as Arrow batches).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Awaitable, Iterator
from typing import TYPE_CHECKING, Any, Callable

import runtime
from kimberlite import Client, DataClass

if TYPE_CHECKING:
    from kimberlite import AsyncClient

EVENTS = [bytes(100) for _ in range(1000)]
ONE = [b"x" * 100]


def percentiles(seconds: list[float]) -> str:
    seconds.sort()
    p50, p99 = (seconds[int((len(seconds) - 1) * p)] * 1e6 for p in (0.50, 0.99))
    return f"{p50:.3f} {p99:.3f}"


class Work:
    """The synchronous client."""

    def __init__(self, address: str, token: str | None, name: str) -> None:
        self.client = Client.connect([address], 1, auth_token=token)
        self.stream = self.client.create_stream(name, DataClass.NON_PHI)
        self.sql = f"SELECT id, timestamp, data FROM {name}"  # noqa: S608

    def append(self, batches: int) -> int:
        for _ in range(batches):
            self.client.append(self.stream, EVENTS)
        return batches * len(EVENTS)

    def pages(self) -> int:
        return sum(len(page.data) // 100 for page in self.client.pages(self.stream))

    def payloads(self) -> int:
        return sum(len(page.payloads()) for page in self.client.pages(self.stream))

    def views(self) -> int:
        return sum(1 for page in self.client.pages(self.stream) for _ in page.views())

    def arrow(self) -> int:
        import pyarrow

        table = self.client.event_table(self.stream)
        return sum(b.num_rows for b in pyarrow.RecordBatchReader.from_stream(table))

    def query(self) -> int:
        return sum(1 for _ in self.client.query_cursor(self.sql))

    def latency(self, what: str, count: int) -> str:
        if what == "append":

            def call() -> object:
                return self.client.append(self.stream, ONE)
        else:

            def call() -> object:
                return self.client.read(self.stream, 0, 1)

        for _ in range(count // 10):
            call()
        seconds = []
        for _ in range(count):
            start = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - start)
        return percentiles(seconds)

    def everything(self) -> None:
        self.append(100)
        self.pages()
        self.query()
        for offset in range(1000):
            self.client.read(self.stream, offset, 1)


class AsyncWork:
    """The asynchronous client."""

    def __init__(self, client: AsyncClient, stream: Any, name: str) -> None:
        self.client = client
        self.stream = stream
        self.sql = f"SELECT id, timestamp, data FROM {name}"  # noqa: S608

    async def append(self, batches: int) -> int:
        for _ in range(batches):
            await self.client.append(self.stream, EVENTS)
        return batches * len(EVENTS)

    async def pages(self) -> int:
        done = 0
        async for page in self.client.pages(self.stream):
            done += len(page.data) // 100
        return done

    async def query(self) -> int:
        done = 0
        async for _ in await self.client.query_cursor(self.sql):
            done += 1
        return done

    async def latency(self, what: str, count: int) -> str:
        if what == "append":

            def call() -> Awaitable[object]:
                return self.client.append(self.stream, ONE)
        else:

            def call() -> Awaitable[object]:
                return self.client.read(self.stream, 0, 1)

        for _ in range(count // 10):
            await call()
        seconds = []
        for _ in range(count):
            start = time.perf_counter()
            await call()
            seconds.append(time.perf_counter() - start)
        return percentiles(seconds)

    async def everything(self) -> None:
        await self.append(100)
        await self.pages()
        await self.query()
        for offset in range(1000):
            await self.client.read(self.stream, offset, 1)


def lines() -> Iterator[list[str]]:
    while line := sys.stdin.readline():
        yield line.split()


def sync() -> None:
    work: Work | None = None
    for words in lines():
        if words[0] == "remote":
            work = Work(*words[1:])
            work.everything()
            runtime.give_back()
            print(0, flush=True)
            continue
        if words[0] in ("small", "large"):
            print(runtime.answer(words[0]), flush=True)
            continue
        work = work or Work("memory:", None, "events")
        if words[0] == "latency":
            print(work.latency(words[1], int(words[2])), flush=True)
            continue
        start = time.perf_counter()
        task: Callable[..., int] = getattr(work, words[0])
        done = task(*map(int, words[1:]))
        print(done / (time.perf_counter() - start), flush=True)
    if work:
        work.client.close()


async def asynchronous() -> None:
    # Not for the other client, whose memory is measured without asyncio's.
    from kimberlite import AsyncClient

    async def opened(address: str, token: str | None, name: str) -> AsyncWork:
        client = await AsyncClient.connect([address], 1, auth_token=token)
        return AsyncWork(client, await client.create_stream(name, DataClass.NON_PHI), name)

    work: AsyncWork | None = None
    for words in lines():
        if words[0] == "remote":
            work = await opened(*words[1:])
            await work.everything()
            runtime.give_back()
            print(0, flush=True)
            continue
        if words[0] in ("small", "large"):
            print(runtime.answer(words[0]), flush=True)
            continue
        work = work or await opened("memory:", None, "events")
        if words[0] == "latency":
            print(await work.latency(words[1], int(words[2])), flush=True)
            continue
        start = time.perf_counter()
        task: Callable[..., Awaitable[int]] = getattr(work, words[0])
        done = await task(*map(int, words[1:]))
        print(done / (time.perf_counter() - start), flush=True)
    if work:
        await work.client.close()


if "--asyncio" in sys.argv:
    import asyncio

    asyncio.run(asynchronous())
else:
    sync()
