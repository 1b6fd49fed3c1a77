"""What goes wrong around native libraries in Python: forks, the GIL, Ctrl-C, exits, threads, leaks."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from conftest import run_python
from kimberlite import (
    AsyncClient,
    Client,
    DataClass,
    LogLevel,
    StreamId,
    VersionMismatchError,
    _native,
)

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def test_fork_fails_fast_in_the_child() -> None:
    """A forked child gets ForkedError at once instead of a hang, and can exit; the parent works on."""
    output = run_python(
        """
import os, warnings
warnings.simplefilter("ignore", DeprecationWarning)
from kimberlite import Client, DataClass, ForkedError
client = Client.connect(["memory:"], 1)
stream = client.create_stream("s", DataClass.PHI)
child = os.fork()
if child == 0:
    code = 1
    try:
        client.append(stream, [b"x"])
    except ForkedError:
        try:
            Client.connect(["memory:"], 1)
        except ForkedError:
            code = 0
    os._exit(code)
_, status = os.waitpid(child, 0)
assert os.waitstatus_to_exitcode(status) == 0 if hasattr(os, "waitstatus_to_exitcode") else status == 0
client.append(stream, [b"parent"])
assert len(client.read(stream)) == 1
client.close()
print("parent works")
"""
    )
    assert "parent works" in output


def test_importing_before_the_fork_is_fine() -> None:
    """A server that imports in its parent and connects in its children works, as with gunicorn."""
    output = run_python(
        """
import os, warnings
warnings.simplefilter("ignore")
from kimberlite import Client, DataClass
child = os.fork()
if child == 0:
    with Client.connect(["memory:"], 1) as client:
        stream = client.create_stream("s", DataClass.PHI)
        client.append(stream, [b"x"])
        os._exit(0 if len(client.read(stream)) == 1 else 1)
_, status = os.waitpid(child, 0)
assert status == 0, status
print("worked")
"""
    )
    assert "worked" in output


def test_a_child_that_exits_normally_ends(tmp_path: Path) -> None:
    """multiprocessing's children, which run exit handlers, end by themselves."""
    output = run_python(
        """
import os, sys, warnings
warnings.simplefilter("ignore")
from kimberlite import Client
client = Client.connect(["memory:"], 1)
child = os.fork()
if child == 0:
    sys.exit(0)
_, status = os.waitpid(child, 0)
assert status == 0, status
client.close()
print("ended")
"""
    )
    assert "ended" in output


def test_a_forked_child_leaves_the_folder_to_others(tmp_path: Path) -> None:
    """A child that lives on does not keep a database locked whose program was killed."""
    program = f"""
import os, signal, time, warnings
warnings.simplefilter("ignore")
from kimberlite import Client
client = Client.connect(["embedded:{tmp_path}/database"], 1)
child = os.fork()
if child == 0:
    time.sleep(60)
    os._exit(0)
print(child, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True
    ) as killed:
        assert killed.stdout is not None
        # The child holds the pipe open, so that there is no end to wait for.
        child = int(killed.stdout.readline())
    try:
        with Client.connect([f"embedded:{tmp_path}/database"], 1) as client:
            assert client.streams() == []
    finally:
        os.kill(child, signal.SIGKILL)


@linux
def test_a_new_database_is_for_its_owner_alone(tmp_path: Path) -> None:
    """The folder of an embedded database, and those above that were made for it, are private."""
    with Client.connect([f"embedded:{tmp_path}/above/database"], 1):
        for folder in (tmp_path / "above", tmp_path / "above" / "database"):
            assert folder.stat().st_mode & 0o777 == 0o700


def test_other_threads_run_while_a_call_waits(client: Client, stream: StreamId) -> None:
    """The GIL is free while a call waits."""
    with client.subscribe(stream) as subscription:
        waiter = threading.Thread(target=subscription.next_page, args=(10_000,))
        waiter.start()
        counted = 0
        end = time.monotonic() + 0.2
        while time.monotonic() < end:
            counted += 1
        assert waiter.is_alive()
        client.append(stream, [b"x"])
        waiter.join(timeout=10)
    assert not waiter.is_alive()
    assert counted > 1000


@pytest.mark.skipif(sys.platform == "win32", reason="sends a POSIX signal")
def test_ctrl_c_ends_a_waiting_call() -> None:
    """KeyboardInterrupt reaches a call that waits, and the client works on."""
    output = run_python(
        """
import os, signal, threading, time
from kimberlite import Client, DataClass

def interrupt(_number, frame):
    # One signal may come before the call waits, or where Python ignores what a handler raises, as
    # in a finalizer: it is raised where it is meant for, and sent again until then.
    names = []
    while frame is not None:
        names.append(frame.f_code.co_name)
        frame = frame.f_back
    if "next_page" in names and "settle" not in names:
        raise KeyboardInterrupt

heard = threading.Event()
def send():
    while not heard.wait(0.05):
        os.kill(os.getpid(), signal.SIGINT)

signal.signal(signal.SIGINT, interrupt)
with Client.connect(["memory:"], 1) as client:
    stream = client.create_stream("s", DataClass.PHI)
    with client.subscribe(stream) as subscription:
        sender = threading.Thread(target=send)
        sender.start()
        try:
            subscription.next_page()
        except KeyboardInterrupt:
            print("interrupted")
        heard.set()
        sender.join()
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        client.append(stream, [b"x"])
        assert subscription.next_page(timeout_ms=10_000).payloads() == [b"x"]
print("works on")
"""
    )
    assert "interrupted" in output
    assert "works on" in output


@pytest.mark.parametrize("ending", ["", "sys.exit(0)", "client.close()"])
def test_exit_with_open_clients(ending: str) -> None:
    """An interpreter ends well with clients, subscriptions, waiting threads and logging still there."""
    output = run_python(
        f"""
import sys, threading, warnings
warnings.simplefilter("ignore", ResourceWarning)
import kimberlite
from kimberlite import Client, DataClass, LogLevel
kimberlite.enable_logging(LogLevel.TRACE)
client = Client.connect(["memory:"], 1)
stream = client.create_stream("s", DataClass.PHI)
subscription = client.subscribe(stream)
def wait():
    try:
        subscription.next_page()
    except Exception:
        pass
threading.Thread(target=wait, daemon=True).start()
client.append(stream, [b"x"] * 100)
pages = client.pages(stream)
next(pages)
print("ending", flush=True)
{ending}
"""
    )
    assert "ending" in output


def test_garbage_is_collected_in_the_middle_of_calls() -> None:
    """Rings of clients, subscriptions, cursors, walks and pages that are collected at any allocation,
    on any thread and within other calls, disturb none of these."""
    output = run_python(
        """
import gc, threading, warnings
warnings.simplefilter("ignore", ResourceWarning)
from kimberlite import Client, DataClass
client = Client.connect(["memory:shared"], 1)
stream = client.create_stream("s", DataClass.NON_PHI)
client.append(stream, [b"x" * 70_000] * 3)
errors = []

def work(number):
    try:
        for i in range(40):
            other = Client.connect(["memory:shared"], 1)
            walk = other.pages(stream)
            next(walk)
            ring = [other, walk, other.subscribe(stream), other.query_cursor("SELECT id FROM s"),
                    other.read(stream), other.event_table(stream).__arrow_c_stream__()]
            ring.append(ring)
            del other, walk, ring
            client.append(stream, [b"%d-%d" % (number, i)])
            assert len(client.query("SELECT id FROM s LIMIT 2")) == 2
            assert client.read(stream, max_events=3).payloads() == [b"x" * 70_000] * 3
    except BaseException as error:
        errors.append(error)

gc.collect()
gc.freeze()
gc.set_threshold(1, 1, 1)
threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
gc.set_threshold(700)
assert not errors, errors
assert client.stream_info(stream).next_offset == 3 + 160
print("undisturbed")
"""
    )
    assert "undisturbed" in output


def test_calls_while_the_interpreter_ends() -> None:
    """Exit handlers may call a client, and objects that outlive their modules end quietly."""
    output = run_python(
        """
import atexit, sys, warnings
warnings.simplefilter("ignore", ResourceWarning)
from kimberlite import Client, DataClass
client = Client.connect(["memory:"], 1)
stream = client.create_stream("s", DataClass.NON_PHI)
atexit.register(lambda: print("appended at", client.append(stream, [b"at exit"])))

class Late:
    def __init__(self):
        self.kept = [client, client.subscribe(stream), client.query_cursor("SELECT 1"),
                     client.pages(stream), client.query("SELECT id FROM s")]

    def __del__(self):
        try:
            self.kept[0].append(stream, [b"late"])
        except Exception:
            pass
        sys.__stdout__.write("late\\n")

# It stays until the interpreter itself is taken down.
sys.late = Late()
"""
    )
    assert "appended at 0" in output


def test_exit_of_a_loop_with_pending_calls() -> None:
    """A loop that ends with calls under way leaves the interpreter able to exit."""
    output = run_python(
        """
import asyncio, warnings
warnings.simplefilter("ignore")
from kimberlite import AsyncClient, DataClass
async def main():
    client = await AsyncClient.connect(["memory:"], 1)
    stream = await client.create_stream("s", DataClass.PHI)
    subscription = await client.subscribe(stream)
    asyncio.ensure_future(subscription.next_page())
    await asyncio.sleep(0.05)
asyncio.run(main())
print("ended")
"""
    )
    assert "ended" in output


def test_calls_inside_a_signal_handler() -> None:
    """A signal handler may call the client while the same thread waits in it."""
    if sys.platform == "win32":
        pytest.skip("sends a POSIX signal")
    output = run_python(
        """
import os, signal, threading
from kimberlite import Client, DataClass
with Client.connect(["memory:"], 1) as client:
    stream = client.create_stream("s", DataClass.PHI)
    signal.signal(signal.SIGUSR1, lambda *_: client.append(stream, [b"from the handler"]))
    with client.subscribe(stream) as subscription:
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGUSR1)).start()
        print(subscription.next_page(timeout_ms=10_000).payloads())
"""
    )
    assert "from the handler" in output


def test_one_client_on_many_threads(client: Client, stream: StreamId) -> None:
    """A client may be used from every thread at once, and nothing is lost or doubled."""
    errors: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for i in range(100):
                client.append(stream, [b"%d-%d" % (number, i)])
                client.read(stream, max_events=10)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    found = {event.data for event in client.events(stream)}
    assert found == {b"%d-%d" % (n, i) for n in range(16) for i in range(100)}


def names_of_threads() -> list[str]:
    tasks = Path("/proc/self/task")
    return [(task / "comm").read_text().strip() for task in tasks.iterdir()]


@linux
def test_threads_do_not_grow_with_clients() -> None:
    """However many clients, the library keeps its few threads, each with its name."""
    clients = [Client.connect(["memory:shared"], 1) for _ in range(20)]
    for one in clients:
        one.create_stream("s", DataClass.PHI)
        one.query("SELECT COUNT(*) FROM s")
    mine = [name for name in names_of_threads() if name.startswith("kimberlite")]
    for one in clients:
        one.close()
    # Two of the runtime, one for logs; per database commit, preparer and at most two for queries.
    assert 0 < len(mine) <= 7, mine


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@linux
def test_cancelled_calls_do_not_leak() -> None:
    """Thousands of cancelled reads, subscriptions and connects leave memory, threads and files alone."""

    async def cancelled(call: Any, turns: int) -> None:
        task = asyncio.ensure_future(call)
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        try:
            left = await task
        except asyncio.CancelledError:
            return
        if isinstance(left, AsyncClient):
            await left.close()

    async def work(client: AsyncClient, stream: StreamId, rounds: int) -> None:
        for i in range(rounds):
            await cancelled(client.read(stream), i % 3)
            await cancelled(client.subscribe(stream), i % 3)
            await cancelled(client.query_cursor("SELECT id FROM events"), i % 3)
            await cancelled(AsyncClient.connect(["memory:shared"], 1), i % 4)
            async for _ in client.events(stream):
                break

    async def main() -> None:
        async with await AsyncClient.connect(["memory:"], 1) as client:
            stream = await client.create_stream("events", DataClass.NON_PHI)
            await client.append(stream, [b"x" * 1000] * 100)
            await work(client, stream, 100)
            gc.collect()
            memory, files = resident_bytes(), len(os.listdir("/proc/self/fd"))
            await work(client, stream, 500)
            gc.collect()
            assert resident_bytes() - memory < 16 * 1024 * 1024
            assert len(os.listdir("/proc/self/fd")) <= files + 2

    asyncio.run(main())


@linux
def test_calls_and_clients_do_not_leak(client: Client, stream: StreamId) -> None:
    """Thousands of calls, errors and connects leave memory where it was."""
    client.append(stream, [b"x" * 1000] * 100)

    def work(rounds: int) -> None:
        for _ in range(rounds):
            client.read(stream, max_events=100)
            client.query("SELECT id, data FROM events LIMIT 10")
            client.streams()
            try:
                client.read(StreamId(999))
            except Exception:
                pass
            with Client.connect(["memory:"], 1) as other:
                other.create_stream("s", DataClass.PHI)

    work(50)
    gc.collect()
    before = resident_bytes()
    work(400)
    gc.collect()
    assert resident_bytes() - before < 16 * 1024 * 1024


def test_a_missing_library_is_named(tmp_path: Path) -> None:
    """An import without a library names each path that was tried and what to do."""
    missing = tmp_path / "nowhere.so"
    done = subprocess.run(
        [sys.executable, "-c", "import kimberlite"],
        env={**os.environ, "KIMBERLITE_LIBRARY": str(missing)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert str(missing) in done.stderr
    assert "KIMBERLITE_LIBRARY" in done.stderr


def test_the_packaged_library_is_looked_for_beside_the_package(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without the variable, the library is inside the package."""
    monkeypatch.delenv("KIMBERLITE_LIBRARY", raising=False)
    (path,) = _native._candidates()
    assert Path(path).parent.name == "_lib"


def test_another_abi_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A library of another ABI version is refused, with both versions and its path."""
    monkeypatch.setattr(_native, "ABI_VERSION", 99)
    with pytest.raises(VersionMismatchError, match=r"99.*has 1"):
        _native.Library(_native.library.path)


def test_log_levels_are_checked() -> None:
    """A level that is none is refused before the library hears of it."""
    import kimberlite

    with pytest.raises(ValueError, match="9"):
        kimberlite.enable_logging(9)  # type: ignore[arg-type]
    kimberlite.enable_logging(LogLevel.ERROR)
    kimberlite.enable_logging(None)
