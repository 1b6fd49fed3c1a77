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
from collections import Counter
from typing import Any, Callable

from kimberlite import AsyncClient, Client, KimberliteError
from scenario_operations import Operations
from scenario_values import Json, Named, ScenarioError, number, only, plain, same

_ARGUMENT_NAMED_LIKE_AN_EXPECTATION = ("append", "append_with_key")


class Runner(Operations):
    """Executes the steps of one scenario."""

    def __init__(self, client_class: Any, counts: Counter[str]) -> None:
        super().__init__(client_class)
        self.counts = counts
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
