"""Against a server: who may come in, and what callers see when it stalls, dies and comes back.

KIMBERLITE_SERVER names the program; without it these tests are skipped.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kimberlite import (
    AsyncClient,
    AuthFailedError,
    Client,
    ClusterUnavailableError,
    DataClass,
    TimedOutError,
)

PROGRAM = os.environ.get("KIMBERLITE_SERVER", "")

pytestmark = pytest.mark.skipif(
    not PROGRAM or os.name == "nt", reason="KIMBERLITE_SERVER names no server to start"
)

TOKEN = "secret"


class Server:
    """A server of its own, with its data in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.listen = "127.0.0.1:0"
        self.start()

    def start(self) -> None:
        port_file = self.folder / "port"
        port_file.unlink(missing_ok=True)
        arguments = ["--listen", self.listen, "--dev-token", TOKEN, "--port-file", str(port_file)]
        self.process = subprocess.Popen(
            [PROGRAM, *arguments, "--data-dir", str(self.folder / "data")],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        end = time.monotonic() + 30
        while not (port_file.exists() and port_file.read_text().strip()):
            assert self.process.poll() is None, "the server ended"
            assert time.monotonic() < end, "the server did not start"
            time.sleep(0.01)
        # A restart comes back on the same port.
        self.listen = f"127.0.0.1:{port_file.read_text().strip().rsplit(':', 1)[-1]}"

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """Lets it stand still; returns once it does."""
        self.process.send_signal(signal.SIGSTOP)
        os.waitpid(self.process.pid, os.WUNTRACED)

    def go_on(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def connect(self, **options: int) -> Client:
        return Client.connect([self.listen], 1, TOKEN, **options)  # type: ignore[arg-type]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    running = Server(tmp_path)
    yield running
    running.kill()


def test_a_wrong_token_is_refused(server: Server) -> None:
    """AuthFailedError, without the token in its text."""
    with pytest.raises(AuthFailedError) as caught:
        Client.connect([server.listen], 1, "a wrong token")
    assert "a wrong token" not in str(caught.value)


def test_an_append_whose_outcome_is_unknown_is_settled(server: Server) -> None:
    """An append that times out while the server stands still carries the key that settles it."""
    with server.connect() as client:
        stream = client.create_stream("events", DataClass.NON_PHI)
        client.append(stream, [b"before"])
        server.stop()
        try:
            started = time.monotonic()
            with pytest.raises(TimedOutError) as caught:
                client.append(stream, [b"once"], timeout_ms=300)
            assert time.monotonic() - started < 5
        finally:
            server.go_on()
        key = caught.value.append_key
        assert key is not None
        settled = client.append_with_key(key, stream, [b"once"])
        assert settled == client.append_with_key(key, stream, [b"once"])
        assert client.read(stream).payloads() == [b"before", b"once"]


def test_ctrl_c_while_the_server_stands_still(server: Server) -> None:
    """An interrupt ends a call that waits for a server that does not answer."""

    class Interrupt(BaseException):
        pass

    def interrupt(*_: object) -> None:
        raise Interrupt

    with server.connect() as client:
        server.stop()
        before = signal.signal(signal.SIGALRM, interrupt)
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            started = time.monotonic()
            with pytest.raises(Interrupt):
                client.streams()
            assert time.monotonic() - started < 2
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
            server.go_on()
        assert client.streams() == []


def test_a_subscription_survives_a_restart(server: Server) -> None:
    """A server that is killed and started again costs a subscription neither events nor order."""
    with server.connect() as client:
        stream = client.create_stream("events", DataClass.NON_PHI)
        client.append(stream, [b"%d" % i for i in range(100)])
        with client.subscribe(stream) as subscription:
            events = iter(subscription)
            seen = [next(events).offset for _ in range(50)]
            server.kill()
            restart = threading.Timer(0.3, server.start)
            restart.start()
            restart.join()
            client.append(stream, [b"%d" % i for i in range(100, 200)])
            seen += [next(events).offset for _ in range(150)]
        assert seen == list(range(200))


def test_a_dead_server_is_told_within_the_deadline(server: Server) -> None:
    """Where nobody answers any more, the call ends by its deadline with an error of its own."""
    with server.connect() as client:
        stream = client.create_stream("events", DataClass.NON_PHI)
        server.kill()
        started = time.monotonic()
        with pytest.raises((ClusterUnavailableError, TimedOutError)):
            client.append(stream, [b"x"], timeout_ms=500)
        assert time.monotonic() - started < 5


def test_many_asyncio_clients(server: Server) -> None:
    """Twenty clients of one loop append at once, and each event is there once."""

    async def work(number: int) -> None:
        async with await AsyncClient.connect([server.listen], 1, TOKEN) as client:
            stream = await client.create_stream("events", DataClass.NON_PHI)
            await asyncio.gather(
                *[client.append(stream, [b"%d-%d" % (number, i)]) for i in range(50)]
            )

    async def main() -> None:
        await asyncio.gather(*[work(number) for number in range(20)])

    asyncio.run(main())
    with server.connect() as client:
        stream = client.create_stream("events", DataClass.NON_PHI)
        found = [event.data for event in client.events(stream, page_events=300)]
    assert sorted(found) == sorted(b"%d-%d" % (n, i) for n in range(20) for i in range(50))
    assert client.tenant_id == 1
