"""The examples run as they stand, and each says what it should."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[3] / "examples" / "python"


def run_example(name: str, *arguments: str, cwd: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / name), *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=cwd,
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    # An error that a thread died of leaves the exit code alone.
    assert not done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("readme.py", [], "fracture"),
        ("quickstart.py", ["memory:"], "verify: valid=True, 3 events"),
        ("quickstart.py", [], "verify: valid=True, 3 events"),
        ("quickstart_asyncio.py", [], "100"),
        ("crud.py", [], "history: 5 events"),
        ("audit_trail.py", [], "heads equal=True"),
        ("import_export.py", [], "12000 events, 7000 of them now\nequal: True"),
        ("connection_pooling.py", [], "100 appends from 8 threads"),
        ("compliance_patterns.py", [], "every pattern held"),
        ("troubleshooting.py", [], "every error was understood"),
    ],
)
def test_example(name: str, arguments: list[str], expected: str, tmp_path: Path) -> None:
    """The program ends well and prints what its reader is promised."""
    assert expected in run_example(name, *arguments, cwd=tmp_path)


@pytest.mark.parametrize(
    ("name", "first", "second"),
    [
        ("quickstart.py", "verify: valid=True, 3 events", "verify: valid=True, 6 events"),
        ("quickstart_asyncio.py", "100", "200"),
        ("readme.py", "1 fracture", "3 fracture"),
    ],
)
def test_a_program_runs_again(name: str, first: str, second: str, tmp_path: Path) -> None:
    """A second run on the same database works like the first and adds to it."""
    for expected in (first, second):
        lines = run_example(name, "embedded:./clinic", cwd=tmp_path).splitlines()
        assert any(line.startswith(expected) for line in lines), lines
