"""What the checkers must accept, with the types that they must find."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from kimberlite import (
    AppendResult,
    AsyncClient,
    Client,
    ClientOptions,
    DataClass,
    Event,
    Offset,
    Page,
    Position,
    QueryResult,
    Row,
    StreamId,
    Verification,
)

if TYPE_CHECKING:
    from typing_extensions import assert_type


@dataclasses.dataclass
class Visit:
    id: int
    reason: str


def sync(client: Client) -> None:
    stream = client.create_stream("visits", DataClass.PHI)
    assert_type(stream, StreamId)
    assert_type(client.append(stream, [b"a", bytearray(b"b"), memoryview(b"c")]), Offset)
    assert_type(client.append_result(stream, [b"a"]), AppendResult)
    page = client.read(stream, from_offset=0, max_events=100)
    assert_type(page, Page)
    for event in page:
        assert_type(event, Event)
        assert_type(event.data, bytes)
    assert_type(client.query("SELECT 1"), QueryResult[Row])
    typed = client.query("SELECT id, reason FROM visits", row_type=Visit)
    assert_type(typed, QueryResult[Visit])
    assert_type(typed[0].reason, str)
    assert_type(typed.position, Position)
    total: int = client.query("SELECT COUNT(*) FROM visits")[0][0]
    assert_type(page.data, memoryview)
    assert_type(page.payloads(), list[bytes])
    assert_type(client.verify(stream), Verification)
    options: ClientOptions = {"timeout_ms": total}
    assert_type(Client.connect(["memory:"], 1, **options), Client)
    with Client.connect(["memory:"], 1, timeout_ms=5, tls_ca_file="ca.pem") as other:
        assert_type(other, Client)


async def asynchronous(client: AsyncClient) -> None:
    stream = await client.create_stream("visits", DataClass.PHI)
    assert_type(stream, StreamId)
    assert_type(await client.append(stream, [b"a"]), Offset)
    events = client.events(stream)
    async for event in events:
        assert_type(event, Event)
    await events.aclose()
    async for event in await client.subscribe(stream):
        assert_type(event, Event)
    typed = await client.query("SELECT id, reason FROM visits", row_type=Visit)
    assert_type(typed, QueryResult[Visit])
