"""Executes test-fixtures/scenarios.yaml, rendered as JSON, through this SDK.

    python run_scenarios.py FILE.json [--asyncio]

test-fixtures/README.md explains the language. With ``--asyncio`` the asyncio client executes it.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import re
import sys
import time
from collections import Counter
from typing import Any, Callable

from kimberlite import AppendKey, AsyncClient, Client, DataClass, KimberliteError

Json = Any
_SAFE_INT = 2**53
_CLASSES = {
    "PHI": DataClass.PHI,
    "NonPHI": DataClass.NON_PHI,
    "Deidentified": DataClass.DEIDENTIFIED,
}
_CLASS_NAMES = {value: name for name, value in _CLASSES.items()}
_ARGUMENT_NAMED_LIKE_AN_EXPECTATION = ("append", "append_with_key")


class ScenarioError(Exception):
    """A step that did not do what the scenario says."""


def number(value: int) -> Json:
    """An integer in the only form that JSON carries exactly."""
    return value if abs(value) <= _SAFE_INT else {"int": str(value)}


def blob(data: bytes) -> Json:
    return {"hex": data.hex()}


def cell(value: object) -> Json:
    if isinstance(value, bytes):
        return blob(value)
    if isinstance(value, float):
        return {"float": value}
    if isinstance(value, int) and not isinstance(value, bool):
        return number(value)
    return value


def plain(value: Json) -> Any:
    """A JSON value as Python's own: numbers, bytes, texts."""
    if isinstance(value, dict):
        form = sorted(value)
        if form == ["int"]:
            return int(value["int"])
        if form == ["float"]:
            return float(value["float"])
        if form in (["hex"], ["hex", "times"]):
            return bytes.fromhex(value["hex"]) * int(value.get("times", 1))
        raise ScenarioError(f"a value of an unknown form: {', '.join(form)}")
    return value


def only(keys: Json, known: tuple[str, ...]) -> None:
    """Fails on a key that nobody knows here."""
    if not isinstance(keys, dict):
        raise ScenarioError(f"it is no map of {', '.join(known)}")
    for key in keys:
        if key not in known:
            raise ScenarioError(f"there is no key {key!r} beside {', '.join(known)}")


class Named(dict[str, Any]):
    """What a scenario made under names, or saved."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self.what = what

    def __missing__(self, name: str) -> Any:
        raise ScenarioError(f"{self.what} {name}")


def same(expected: Json, actual: Json) -> bool:
    """Equality of JSON that tells true from 1, and {"int": "5"} not from 5."""
    if isinstance(expected, dict) and "int" in expected:
        expected = int(expected["int"])
    if isinstance(actual, dict) and "int" in actual:
        actual = int(actual["int"])
    if isinstance(expected, list) and isinstance(actual, list):
        return len(expected) == len(actual) and all(map(same, expected, actual))
    if isinstance(expected, bool) is not isinstance(actual, bool):
        return False
    if isinstance(expected, dict) and isinstance(actual, dict) and "hex" in expected:
        return bool(plain(expected) == plain(actual))
    return type(expected) is type(actual) and bool(expected == actual)


def page_result(events: Any) -> dict[str, Json]:
    return {
        "count": len(events),
        "offsets": [number(event.offset) for event in events],
        "events": [blob(event.data) for event in events],
        "timestamps": [number(event.timestamp_ns) for event in events],
    }


class Runner:
    """One scenario's clients, streams and saved values."""

    def __init__(self, client_class: Any, counts: Counter[str]) -> None:
        self.client_class = client_class
        self.counts = counts
        self.clients = Named("there is no client")
        self.subscriptions = Named("there is no subscription")
        self.streams = Named("there is no stream")
        self.saved = Named("nothing was saved as")

    def resolve(self, value: Json) -> Json:
        """A value with its references replaced."""
        if isinstance(value, list):
            return [self.resolve(item) for item in value]
        if isinstance(value, dict):
            return {key: self.resolve(item) for key, item in value.items()}
        if isinstance(value, str) and value.startswith("$"):
            match = re.fullmatch(r"\$(\w+)([+-]\d+)?", value)
            if match is None:
                raise ScenarioError(f"{value!r} is no reference")
            saved = self.saved[match[1]]
            return number(int(plain(saved)) + int(match[2])) if match[2] else saved
        return value

    async def step(self, operation: str, raw: dict[str, Json]) -> None:
        arguments: dict[str, Any] = {}
        expectations: dict[str, Json] = {}
        saves: dict[str, str] = {}
        for key, value in raw.items():
            if key.startswith("save_"):
                saves[key[len("save_") :]] = value
            elif key.startswith("expected_") and not (
                key == "expected_offset" and operation in _ARGUMENT_NAMED_LIKE_AN_EXPECTATION
            ):
                expectations[key[len("expected_") :]] = self.resolve(value)
            else:
                arguments[key] = self.resolve(value)
        result = await self.result(operation, arguments)
        failed = "error" in result
        if failed and "error" not in expectations:
            raise ScenarioError(f"failed with {result['error']}: {result['error_detail']}")
        if not failed and "error" in expectations:
            raise ScenarioError(f"succeeded, not {expectations['error']}")
        for field, expected in expectations.items():
            self.counts["checks"] += 1
            self.compare(field, expected, result)
        for field, name in saves.items():
            if field not in result:
                raise ScenarioError(f"there is no {field} to save")
            self.saved[name] = result[field]
        if operation == "create_stream" and not failed:
            self.streams[arguments["name"]] = int(plain(result["stream_id"]))

    def compare(self, field: str, expected: Json, result: dict[str, Json]) -> None:
        if field.endswith("_contains"):
            actual = result.get(field[: -len("_contains")])
            if isinstance(actual, list):
                fits = any(same(expected, item) for item in actual)
            else:
                fits = isinstance(actual, str) and expected in actual
        elif field.endswith("_at_least"):
            actual = result.get(field[: -len("_at_least")])
            fits = actual is not None and plain(actual) >= plain(expected)
        else:
            actual = result.get(field)
            fits = field in result and same(expected, actual)
        if not fits:
            raise ScenarioError(f"expected_{field}: {expected!r} does not fit {actual!r}")

    async def result(self, operation: str, arguments: dict[str, Any]) -> dict[str, Json]:
        method: Callable[..., Any] | None = getattr(self, f"op_{operation}", None)
        if method is None:
            raise ScenarioError(f"unknown operation {operation}")
        known = inspect.signature(method).parameters
        # The result of an operation that ignores one of these says nothing of it.
        unknown = [key for key in arguments if key not in (*known, "client", "timeout_ms")]
        if unknown:
            raise ScenarioError(f"{operation} takes no {unknown[0]}")
        required = [name for name, one in known.items() if one.default is one.empty]
        missing = [name for name in required if name not in arguments]
        if missing:
            raise ScenarioError(f"{operation} needs {missing[0]}")
        arguments = {key: value for key, value in arguments.items() if key in known}
        try:
            value: dict[str, Json] = await method(**arguments)
        except KimberliteError as error:
            return {
                "error": error.name,
                "error_detail": error.detail,
                "error_retryable": error.retryable,
            }
        return value

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

    # The operations; their parameters are the keys that a step may have.

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


async def run_scenario(scenario: Json, client_class: Any, counts: Counter[str]) -> bool:
    runner = Runner(client_class, counts)
    counts["executed"] += 1
    place = "before the first step"
    try:
        only(scenario, ("name", "door", "steps"))
        for index, step in enumerate(scenario["steps"], start=1):
            counts["steps"] += 1
            place = f"step {index}"
            if len(step) != 1:
                raise ScenarioError("it is not one operation")
            ((operation, raw),) = step.items()
            place = f"step {index} {operation}"
            await runner.step(operation, raw)
    except Exception as error:  # Whatever a scenario meets fails it alone.
        text = str(error) if isinstance(error, ScenarioError) else repr(error)
        print(f"FAIL {scenario['door']} {scenario['name']}: {place}: {text}")
        counts["failed"] += 1
        return False
    finally:
        await runner.close()
    return True


async def main(path: str, client_class: Any) -> int:
    with open(path, encoding="utf-8") as file:
        whole = json.load(file)
    try:
        only(whole, ("scenarios",))
    except ScenarioError as error:
        print(f"{path}: {error}", file=sys.stderr)
        return 2
    scenarios = whole["scenarios"]
    doors: dict[str, Counter[str]] = {}
    for scenario in scenarios:
        counts = doors.setdefault(scenario["door"], Counter())
        await run_scenario(scenario, client_class, counts)
    for door, counts in doors.items():
        print(
            f"scenarios {door}: {counts['executed']} executed, {counts['steps']} steps,"
            f" {counts['checks']} checks, {counts['failed']} failed"
        )
    return 1 if not doors or any(counts["failed"] for counts in doors.values()) else 0


if __name__ == "__main__":
    chosen: Any = AsyncClient if "--asyncio" in sys.argv[2:] else Client
    sys.exit(asyncio.run(main(sys.argv[1], chosen)))
