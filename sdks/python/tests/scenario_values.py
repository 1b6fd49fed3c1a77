"""The values of scenarios: as JSON writes them, as Python has them, and how they are compared."""

from __future__ import annotations

from typing import Any

Json = Any
_SAFE_INT = 2**53


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
