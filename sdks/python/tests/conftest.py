"""What several tests share."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kimberlite import Client, DataClass, StreamId

pytest_plugins = ["kimberlite_pytest"]


@pytest.fixture
def client() -> Iterator[Client]:
    with Client.connect(addresses=["memory:"], tenant_id=1) as connected:
        yield connected


@pytest.fixture
def stream(client: Client) -> StreamId:
    return client.create_stream("events", DataClass.NON_PHI)


def run_python(code: str, *, timeout_s: float = 60, **environment: str) -> str:
    """Runs a program in an interpreter of its own and gives its output; it must end well."""
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        env={**os.environ, **environment},
        cwd=Path(__file__).parent,
        check=False,
    )
    assert done.returncode == 0, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout
