"""The operations of scenarios, in the words of this SDK.

Each is a method; its parameters are the keys that a step may have.
"""

from __future__ import annotations

import inspect
import time
from typing import Any

from kimberlite import AppendKey, DataClass
from scenario_values import Json, Named, ScenarioError, blob, cell, number, plain

_CLASSES = {
    "PHI": DataClass.PHI,
    "NonPHI": DataClass.NON_PHI,
    "Deidentified": DataClass.DEIDENTIFIED,
}
_CLASS_NAMES = {value: name for name, value in _CLASSES.items()}


def page_result(events: Any) -> dict[str, Json]:
    return {
        "count": len(events),
        "offsets": [number(event.offset) for event in events],
        "events": [blob(event.data) for event in events],
        "timestamps": [number(event.timestamp_ns) for event in events],
    }


class Operations:
    """What a scenario does, with the clients, subscriptions and streams that it made."""

    def __init__(self, client_class: Any) -> None:
        self.client_class = client_class
        self.clients = Named("there is no client")
        self.subscriptions = Named("there is no subscription")
        self.streams = Named("there is no stream")

    def stream(self, value: Json) -> Any:
        """A stream's id, by the name that this scenario gave it or by number."""
        return self.streams[value] if isinstance(value, str) else plain(value)

    async def of(self, value: Any) -> Any:
        """The value of a call of either client."""
        return await value if inspect.isawaitable(value) else value

    async def items(self, iterable: Any) -> list[Any]:
        if hasattr(iterable, "__aiter__"):
            return [item async for item in iterable]
        return list(iterable)

    async def op_connect(
        self, client: str, addresses: list[str], tenant: Json, token: str, options: dict[str, Any]
    ) -> dict[str, Json]:
        self.clients[client] = await self.of(
            self.client_class.connect(
                addresses=addresses,
                tenant_id=plain(tenant),
                auth_token=token or None,
                **{key: plain(value) for key, value in options.items()},
            )
        )
        return {}

    async def op_close(
        self, client: str = "main", subscription: str | None = None
    ) -> dict[str, Json]:
        if subscription is not None:
            await self.of(self.subscriptions[subscription].close())
        else:
            await self.of(self.clients[client].close())
        return {}

    async def op_create_stream(
        self,
        name: Json,
        data_class: Json,
        client: str = "main",
        timeout_ms: int | None = None,
    ) -> dict[str, Json]:
        if isinstance(data_class, str) and data_class not in _CLASSES:
            raise ScenarioError(f"there is no data class {data_class}")
        kind = _CLASSES[data_class] if isinstance(data_class, str) else plain(data_class)
        stream_id = await self.of(
            self.clients[client].create_stream(plain(name), kind, timeout_ms=timeout_ms)
        )
        return {"stream_id": number(stream_id)}

    async def op_append(
        self,
        stream: Json,
        events: list[Json],
        expected_offset: Json = None,
        client: str = "main",
        timeout_ms: int | None = None,
    ) -> dict[str, Json]:
        return self.appended(
            await self.of(
                self.clients[client].append_result(
                    self.stream(stream),
                    list(map(plain, events)),
                    expected_offset=plain(expected_offset),
                    timeout_ms=timeout_ms,
                )
            )
        )

    async def op_append_with_key(
        self,
        stream: Json,
        events: list[Json],
        producer_id: Json,
        sequence: Json,
        expected_offset: Json = None,
        client: str = "main",
        timeout_ms: int | None = None,
    ) -> dict[str, Json]:
        return self.appended(
            await self.of(
                self.clients[client].append_with_key(
                    AppendKey(plain(producer_id), plain(sequence)),
                    self.stream(stream),
                    list(map(plain, events)),
                    expected_offset=plain(expected_offset),
                    timeout_ms=timeout_ms,
                )
            )
        )

    def appended(self, result: Any) -> dict[str, Json]:
        return {
            "first_offset": number(result.first_offset),
            "count": result.count,
            "timestamp_ns": number(result.timestamp_ns),
            "position": number(result.position),
        }

    async def op_open_producer(
        self, client: str = "main", timeout_ms: int | None = None
    ) -> dict[str, Json]:
        producer = await self.of(self.clients[client].open_producer(timeout_ms=timeout_ms))
        return {"producer_id": number(producer)}

    async def op_read(
        self,
        stream: Json,
        from_offset: Json = 0,
        max_events: Json = 1000,
        max_bytes: Json = 0,
        min_position: Json = 0,
        client: str = "main",
        timeout_ms: int | None = None,
    ) -> dict[str, Json]:
        page = await self.of(
            self.clients[client].read(
                self.stream(stream),
                plain(from_offset),
                plain(max_events),
                max_bytes=plain(max_bytes),
                min_position=plain(min_position),
                timeout_ms=timeout_ms,
            )
        )
        return page_result(page)

    async def op_read_all(
        self,
        stream: Json,
        from_offset: Json = 0,
        page_events: Json = 1000,
        client: str = "main",
        timeout_ms: int | None = None,
    ) -> dict[str, Json]:
        events = self.clients[client].events(
            self.stream(stream),
            plain(from_offset),
            page_events=plain(page_events),
            timeout_ms=timeout_ms,
        )
        return page_result(await self.items(events))

    async def op_subscribe(
        self,
        stream: Json,
        from_offset: Json = 0,
        subscription: str = "sub",
        client: str = "main",
        timeout_ms: int | None = None,
    ) -> dict[str, Json]:
        self.subscriptions[subscription] = await self.of(
            self.clients[client].subscribe(
                self.stream(stream), plain(from_offset), timeout_ms=timeout_ms
            )
        )
        return {}

    async def op_next(
        self, subscription: str = "sub", wanted: int = 1, timeout_ms: int = 10_000
    ) -> dict[str, Json]:
        deadline = time.monotonic() + timeout_ms / 1000
        events: list[Any] = []
        while len(events) < wanted:
            left_ms = int((deadline - time.monotonic()) * 1000)
            if left_ms <= 0 and events:
                break
            page = await self.of(self.subscriptions[subscription].next_page(max(left_ms, 0)))
            if page is None:
                break
            events.extend(page)
        return page_result(events)

    async def op_query(
        self,
        sql: Json,
        params: list[Json] | None = None,
        at_position: Json = None,
        at_timestamp_ns: Json = None,
        min_position: Json = 0,
        client: str = "main",
        timeout_ms: int | None = None,
    ) -> dict[str, Json]:
        values = [plain(value) for value in params or []]
        chosen = self.clients[client]
        if at_position is None and at_timestamp_ns is None:
            call = chosen.query(
                plain(sql), values, min_position=plain(min_position), timeout_ms=timeout_ms
            )
        else:
            call = chosen.query_at(
                plain(sql),
                values,
                position=plain(at_position),
                timestamp_ns=plain(at_timestamp_ns),
                timeout_ms=timeout_ms,
            )
        result = await self.of(call)
        return {
            "rows": len(result),
            "values": [[cell(value) for value in row] for row in result],
            "columns": [column.name for column in result.columns],
            "position": number(result.position),
        }

    async def op_verify(
        self, stream: Json, client: str = "main", timeout_ms: int | None = None
    ) -> dict[str, Json]:
        found = await self.of(
            self.clients[client].verify(self.stream(stream), timeout_ms=timeout_ms)
        )
        return {"valid": found.valid, "count": number(found.count), "head": blob(found.head)}

    async def op_list_streams(
        self, client: str = "main", timeout_ms: int | None = None
    ) -> dict[str, Json]:
        streams = await self.of(self.clients[client].streams(timeout_ms=timeout_ms))
        return {"count": len(streams), "names": [info.name for info in streams]}

    async def op_stream_info(
        self,
        stream: Json = None,
        name: Json = None,
        client: str = "main",
        timeout_ms: int | None = None,
    ) -> dict[str, Json]:
        which = self.stream(stream) if name is None else plain(name)
        info = await self.of(self.clients[client].stream_info(which, timeout_ms=timeout_ms))
        return {
            "stream_id": number(info.stream_id),
            "name": info.name,
            "data_class": _CLASS_NAMES[info.data_class],
            "next_offset": number(info.next_offset),
            "data_bytes": number(info.data_bytes),
            "created_ns": number(info.created_ns),
            "last_timestamp_ns": number(info.last_timestamp_ns),
            "head": blob(info.head),
        }

    async def op_create_tenant(
        self, tenant: Json, client: str = "main", timeout_ms: int | None = None
    ) -> dict[str, Json]:
        await self.of(self.clients[client].create_tenant(plain(tenant), timeout_ms=timeout_ms))
        return {}

    async def op_delete_tenant(
        self, tenant: Json, client: str = "main", timeout_ms: int | None = None
    ) -> dict[str, Json]:
        await self.of(self.clients[client].delete_tenant(plain(tenant), timeout_ms=timeout_ms))
        return {}

    async def op_list_tenants(
        self, client: str = "main", timeout_ms: int | None = None
    ) -> dict[str, Json]:
        tenants = await self.of(self.clients[client].tenants(timeout_ms=timeout_ms))
        return {"tenants": [number(tenant) for tenant in tenants]}

    async def close(self) -> None:
        for subscription in self.subscriptions.values():
            await self.of(subscription.close())
        for client in self.clients.values():
            await self.of(client.close())
