"""The runner of the scenarios fails on what it does not know, and says what that is."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import run_scenarios
from kimberlite import Client

CONNECT = {
    "connect": {
        "client": "main",
        "addresses": ["memory:"],
        "tenant": 1,
        "token": "",
        "options": {},
    }
}
CREATE = {"create_stream": {"name": "s", "data_class": "PHI"}}
APPEND = {"append": {"stream": "s", "events": [{"hex": "61", "times": 2}]}}


def scenario(*steps: Any, **more: Any) -> dict[str, Any]:
    return {"name": "a", "door": "embedded", "steps": [CONNECT, CREATE, *steps], **more}


def passes(entry: dict[str, Any]) -> bool:
    return asyncio.run(run_scenarios.run_scenario(entry, Client, Counter()))


def test_what_is_known_passes() -> None:
    """The scenario that the others are made of is right."""
    assert passes(scenario(APPEND))


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        (scenario(setup=[]), "no key 'setup'"),
        (scenario({**APPEND, "read": {"stream": "s"}}), "step 3: it is not one operation"),
        (scenario({"apend": {}}), "unknown operation apend"),
        (scenario({"append": {"stream": "s", "events": [], "event": 1}}), "takes no event"),
        (scenario({"append": {"stream": "s"}}), "append needs events"),
        (scenario({"append": {"stream": "s", "events": [{"hex": "61", "time": 2}]}}), "hex, time"),
        (scenario({"query": {"sql": "SELECT ?", "params": [{"float": 1, "x": 1}]}}), "float, x"),
        (scenario({"verify": {"stream": "s", "expected_counts": 0}}), "expected_counts"),
        (scenario({"verify": {"stream": "s", "save_heads": "h"}}), "no heads to save"),
        (scenario({"verify": {"stream": "$id"}}), "nothing was saved as id"),
        (scenario({"verify": {"stream": "$id+x"}}), "no reference"),
        (scenario({"verify": {"stream": "t"}}), "there is no stream t"),
        (scenario({"verify": {"stream": "s", "client": "c"}}), "there is no client c"),
        (scenario({"next": {}}), "there is no subscription sub"),
        (scenario({"create_stream": {"name": "t", "data_class": "NonPHi"}}), "data class NonPHi"),
    ],
)
def test_what_is_unknown_fails(
    capsys: pytest.CaptureFixture[str], entry: dict[str, Any], told: str
) -> None:
    """A key, a name or a value that is unknown fails the scenario in plain words."""
    assert not passes(entry)
    line = capsys.readouterr().out
    assert line.startswith("FAIL embedded a: ")
    assert told in line
    assert "Error(" not in line


@pytest.mark.parametrize("whole", [{"scenarios": [], "more": 1}, {"scenario": []}, []])
def test_a_file_of_another_form_is_refused(tmp_path: Path, whole: Any) -> None:
    """A key beside the list of scenarios is refused, and a file without scenarios never passes."""
    path = tmp_path / "scenarios.json"
    path.write_text(json.dumps(whole))
    assert asyncio.run(run_scenarios.main(str(path), Client)) == 2
    path.write_text(json.dumps({"scenarios": []}))
    assert asyncio.run(run_scenarios.main(str(path), Client)) == 1
