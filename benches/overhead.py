"""Prints the latencies of the Python SDK on a `memory:` database: `WORK P50 P99` in microseconds."""

from __future__ import annotations

import asyncio
import sys
import time

from kimberlite import AsyncClient, Client, DataClass

COUNT = 20_000
EVENT = [b"x" * 100]


def report(work: str, seconds: list[float]) -> None:
    seconds.sort()
    p50, p99 = (seconds[int((len(seconds) - 1) * p)] * 1e6 for p in (0.50, 0.99))
    print(f"{work} {p50:.3f} {p99:.3f}")


def sync() -> None:
    with Client.connect(["memory:"], 1) as client:
        stream = client.create_stream("overhead", DataClass.NON_PHI)
        for work, call in (
            ("append", lambda: client.append(stream, EVENT)),
            ("read", lambda: client.read(stream, 0, 1)),
        ):
            for _ in range(COUNT // 10):
                call()
            seconds = []
            for _ in range(COUNT):
                start = time.perf_counter()
                call()
                seconds.append(time.perf_counter() - start)
            report(work, seconds)


async def asynchronous() -> None:
    async with await AsyncClient.connect(["memory:"], 1) as client:
        stream = await client.create_stream("overhead", DataClass.NON_PHI)
        for work, call in (
            ("append", lambda: client.append(stream, EVENT)),
            ("read", lambda: client.read(stream, 0, 1)),
        ):
            for _ in range(COUNT // 10):
                await call()
            seconds = []
            for _ in range(COUNT):
                start = time.perf_counter()
                await call()
                seconds.append(time.perf_counter() - start)
            report(work, seconds)


if "--asyncio" in sys.argv:
    asyncio.run(asynchronous())
else:
    sync()
