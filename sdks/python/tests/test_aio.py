"""The asyncio client: every method, cancellation, several loops."""

from __future__ import annotations

import asyncio
import datetime
import pickle
import time
from collections.abc import Awaitable
from typing import Any, Callable, NamedTuple

import pytest

from kimberlite import (
    AppendKey,
    AsyncClient,
    Client,
    ClosedError,
    ConnectionFailedError,
    DataClass,
    InvalidArgumentError,
    KimberliteError,
    StreamId,
    TimedOutError,
    _loops,
)


def run(test: Callable[[AsyncClient, StreamId], Awaitable[None]]) -> None:
    """Runs a test with a client and a stream of its own."""

    async def main() -> None:
        async with await AsyncClient.connect(["memory:"], 1) as client:
            await test(client, await client.create_stream("events", DataClass.NON_PHI))
        assert not _loops._loops

    asyncio.run(main())


class Pair(NamedTuple):
    id: int
    size: int


def test_every_method() -> None:
    """Every method of the asyncio client does what its twin does."""

    async def test(client: AsyncClient, stream: StreamId) -> None:
        assert await client.append(stream, [b"a", b"b"]) == 0
        result = await client.append_result(stream, [b"c"], expected_offset=2)
        key = AppendKey(await client.open_producer(), 1)
        first = await client.append_with_key(key, stream, [b"d"])
        assert await client.append_with_key(key, stream, [b"d"]) == first
        assert (await client.read(stream, 1)).payloads() == [b"b", b"c", b"d"]
        assert [e.data async for e in client.events(stream, page_events=3)] == [
            b"a",
            b"b",
            b"c",
            b"d",
        ]
        assert [len(p) async for p in client.pages(stream, page_events=3)] == [3, 1]
        rows = await client.query("SELECT id, length(data) AS size FROM events", row_type=Pair)
        assert rows[3] == Pair(3, 1)
        count = "SELECT COUNT(*) FROM events"
        assert (await client.query_at(count, position=result.position))[0][0] == 3
        now = datetime.datetime.now(datetime.timezone.utc)
        assert (await client.query_at(count, timestamp=now))[0][0] == 4
        cursor = await client.query_cursor("SELECT id FROM events")
        async with cursor:
            assert [row["id"] async for row in cursor] == [0, 1, 2, 3]
        found = await client.verify(stream)
        assert found.valid
        assert (await client.verify_locally(stream)).head == found.head
        (info,) = await client.streams()
        assert info == await client.stream_info("events")
        assert await client.create_tenant(5)
        assert await client.tenants() == [1, 5]
        await client.delete_tenant(5)
        assert "open" in repr(client)

    run(test)


def test_subscription_follows_live() -> None:
    """A subscription gives old and new events, and ends with ClosedError."""

    async def test(client: AsyncClient, stream: StreamId) -> None:
        await client.append(stream, [b"old"])
        subscription = await client.subscribe(stream)
        async with subscription:
            iterator = subscription.__aiter__()
            assert (await iterator.__anext__()).data == b"old"
            waiting = asyncio.ensure_future(iterator.__anext__())
            await asyncio.sleep(0.02)
            assert not waiting.done()
            await client.append(stream, [b"new"])
            assert (await waiting).data == b"new"
            assert await subscription.next_page(timeout_ms=10) is None
        with pytest.raises(ClosedError):
            await subscription.next_page()

    run(test)


def test_many_calls_at_once() -> None:
    """Thousands of calls share one queue, and the loop stays awake."""

    async def test(client: AsyncClient, stream: StreamId) -> None:
        longest = 0.0
        done = False

        async def watch() -> None:
            nonlocal longest
            while not done:
                before = time.monotonic()
                await asyncio.sleep(0)
                longest = max(longest, time.monotonic() - before)

        watcher = asyncio.ensure_future(watch())
        offsets = await asyncio.gather(*[client.append(stream, [b"x"]) for _ in range(2000)])
        done = True
        await watcher
        assert sorted(offsets) == list(range(2000))
        assert longest > 0

    run(test)


def test_cancelling_a_task_cancels_its_call() -> None:
    """A cancelled task leaves nothing behind, and the client works on."""

    async def test(client: AsyncClient, stream: StreamId) -> None:
        subscription = await client.subscribe(stream)
        for _ in range(100):
            task = asyncio.ensure_future(subscription.next_page())
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        await client.append(stream, [b"after"])
        page = await subscription.next_page(timeout_ms=10_000)
        assert page is not None
        assert page.payloads() == [b"after"]
        subscription.close()
        queue = _loops.loop_queue()
        for _ in range(100):
            if not queue._pending:
                break
            await asyncio.sleep(0.01)
        assert not queue._pending

    run(test)


def test_wait_for_times_out() -> None:
    """asyncio's own time-out ends a wait."""

    async def test(client: AsyncClient, stream: StreamId) -> None:
        async with await client.subscribe(stream) as subscription:
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(subscription.next_page(), 0.02)

    run(test)


def test_errors_and_closing() -> None:
    """Errors are raised where the call is awaited; after the close every call says so."""

    async def main() -> None:
        with pytest.raises(ConnectionFailedError):
            await AsyncClient.connect(["127.0.0.1:1"], 1, connect_timeout_ms=500)
        client = await AsyncClient.connect(["memory:"], 1)
        with pytest.raises(InvalidArgumentError):
            await client.create_stream("", DataClass.PHI)
        await client.close()
        await client.close()
        with pytest.raises(ClosedError):
            await client.streams()
        assert "closed" in repr(client)

    asyncio.run(main())


def test_close_ends_pending_calls() -> None:
    """A call that waits when the client is closed gets ClosedError."""

    async def main() -> None:
        client = await AsyncClient.connect(["memory:"], 1)
        stream = await client.create_stream("s", DataClass.PHI)
        subscription = await client.subscribe(stream)
        waiting = asyncio.ensure_future(subscription.next_page())
        await asyncio.sleep(0.01)
        await client.close()
        with pytest.raises(ClosedError):
            await waiting

    asyncio.run(main())


def test_several_loops_in_a_row_and_side_by_side() -> None:
    """Each loop has a queue of its own, which goes when its last client closes."""

    async def main() -> int:
        async with await AsyncClient.connect(["memory:"], 1) as client:
            async with await AsyncClient.connect(["memory:"], 1) as other:
                stream = await other.create_stream("s", DataClass.PHI)
                await other.append(stream, [b"x"])
            return len(await client.streams())

    async def both() -> None:
        results: Any = await asyncio.gather(
            asyncio.to_thread(lambda: asyncio.run(main()))
            if hasattr(asyncio, "to_thread")
            else main(),
            main(),
        )
        assert list(results) == [0, 0]

    for _ in range(5):
        asyncio.run(both())
    assert not _loops._loops


def test_loops_without_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a loop cannot watch descriptors, the library's callback wakes it."""
    monkeypatch.setattr(_loops, "_can_watch", lambda _loop: False)

    async def test(client: AsyncClient, stream: StreamId) -> None:
        offsets = await asyncio.gather(*[client.append(stream, [b"x"]) for _ in range(200)])
        assert sorted(offsets) == list(range(200))

    run(test)


def test_unclosed_client_warns() -> None:
    """A client that was forgotten says so, and is closed."""

    async def main() -> None:
        forgotten = await AsyncClient.connect(["memory:"], 1)
        with pytest.raises(TypeError, match="cannot be copied or pickled"):
            pickle.dumps(forgotten)
        with pytest.warns(ResourceWarning, match=r"unclosed .* open>"):
            del forgotten

    asyncio.run(main())


def test_sync_and_async_share_a_database() -> None:
    """Both clients reach the same database in memory."""

    async def main() -> None:
        async with await AsyncClient.connect(["memory:shared"], 1) as one:
            with Client.connect(["memory:shared"], 1) as two:
                stream = two.create_stream("s", DataClass.PHI)
                await one.append(stream, [b"x"])
                assert len(two.read(stream)) == 1

    asyncio.run(main())


def test_deadline_of_one_call() -> None:
    """A call's own deadline ends it with TimedOutError, which is a TimeoutError too."""

    async def test(client: AsyncClient, stream: StreamId) -> None:
        assert stream
        with pytest.raises((TimedOutError, KimberliteError)):
            await client.query(
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT sum(i) FROM n",
                timeout_ms=50,
            )

    run(test)
