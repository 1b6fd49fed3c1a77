"""What several tests share."""

from __future__ import annotations

import os
import signal
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
    """Runs a program in an interpreter of its own and gives its output; it must end well.

    One that does not end tells what it had printed and where each of its threads stands.
    """
    with subprocess.Popen(
        [sys.executable, "-u", "-X", "faulthandler", "-W", "error", "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
        cwd=Path(__file__).parent,
    ) as program:
        try:
            output, errors = program.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            # Python writes its threads' tracebacks when it gets this one.
            program.send_signal(signal.SIGABRT if os.name == "posix" else signal.SIGTERM)
            try:
                output, errors = program.communicate(timeout=10)
            finally:
                program.kill()
            pytest.fail(f"it did not end in {timeout_s} s\n{output}\n{errors}")
    assert program.returncode == 0, f"exit {program.returncode}\n{output}\n{errors}"
    return output
