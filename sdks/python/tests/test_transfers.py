"""Imports and exports: what files hold, interruptions anywhere, progress, and both clients."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import re
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Callable

import pytest

from conftest import run_python
from kimberlite import (
    AsyncClient,
    Client,
    DataClass,
    InvalidArgumentError,
    LimitExceededError,
    OffsetMismatchError,
    OffsetOutOfRangeError,
    Progress,
    StreamId,
    StreamNotFoundError,
    Transferred,
    _ndjson,
)

FIXTURE = Path(__file__).resolve().parents[3] / "test-fixtures" / "events.ndjson"
ODD = [bytes(range(256)), b"", "grüße \u2028 \x9b\x7f".encode(), b'a"\\\n', b"\xff" * 300_000]


def payloads(client: Client, stream: StreamId) -> list[bytes]:
    return [event.data for event in client.events(stream)]


def other(client: Client, name: str = "other") -> StreamId:
    return client.create_stream(name, DataClass.NON_PHI)


def lines(count: int, start: int = 0) -> bytes:
    return b"".join(b'{"data":"event %d"}\n' % n for n in range(start, start + count))


def events(count: int, start: int = 0) -> list[bytes]:
    return [b"event %d" % n for n in range(start, start + count)]


def test_lines_are_the_commands() -> None:
    """Events are written as the fixture has them, byte for byte: `kimberlite export` is held to it
    too, so that either may go on with a file of the other."""
    fixture = FIXTURE.read_bytes().splitlines(keepends=True)
    assert len(fixture) == 6
    moments = [0, 1772366400123456789, 1709251199999999999, 4102444800000000001]
    moments += [1772366401000000000, 2**64 - 1]
    for line, moment in zip(fixture, moments):
        offset = json.loads(line)["offset"]
        assert _ndjson.line_of(offset, _ndjson.data_of(line, "here"), moment) == line


def test_there_and_back(client: Client, stream: StreamId, tmp_path: Path) -> None:
    """What was exported and imported again is the same, by a file's name, an open file, a packed
    one and an iterable."""
    client.append(stream, ODD)
    path = tmp_path / "events.ndjson"
    assert client.export_events(stream, path) == Transferred(client.read(stream)[0].offset, 5, 5)
    packed = tmp_path / "events.ndjson.gz"
    with gzip.open(packed, "wb") as file:
        assert client.export_events(stream, file).events == 5
    assert gzip.decompress(packed.read_bytes()) == path.read_bytes()

    def imported(source: Any) -> None:
        target = other(client, f"copy_{threading.get_ident()}_{len(client.streams())}")
        client.append(target, [b"earlier"])
        done = client.import_events(target, source)
        assert (done.first_offset, done.events, done.new_events) == (1, 5, 5)
        assert payloads(client, target)[1:] == ODD

    imported(path)
    imported(str(path))
    imported(io.BytesIO(path.read_bytes().replace(b"\n", b"\n \r\n")))
    with gzip.open(packed, "rb") as file:
        imported(file)
    imported(ODD)
    imported(bytearray(event) for event in ODD)
    imported(event.data for event in client.events(stream))


def test_an_import_takes_little_memory(client: Client, stream: StreamId) -> None:
    """No more is taken from a source than two batches beyond what is in the stream, and a batch
    ends by its bytes too."""
    taken = 0

    def source() -> Iterator[bytes]:
        nonlocal taken
        for _ in range(40):
            assert taken - client.stream_info(stream).next_offset < 10
            taken += 1
            yield bytes(1_000_000)

    assert client.import_events(stream, source()).events == taken == 40
    few = client.import_events(other(client), iter(events(100)), batch_events=7)
    assert few.events == 100


def test_an_import_goes_on(client: Client, stream: StreamId, tmp_path: Path) -> None:
    """InterruptedHereError after any batch and called again, it brings every event once; a source that grew
    is imported from where it ended, and one that is done changes nothing."""
    path = tmp_path / "in.ndjson"
    path.write_bytes(lines(50))

    class InterruptedHereError(Exception):
        pass

    def interrupt(progress: Progress) -> None:
        if progress.events < 50:
            raise InterruptedHereError

    client.append(stream, [b"earlier"])
    again: dict[str, Any] = {"first_offset": 1, "batch_events": 7}
    for _ in range(7):
        before = client.stream_info(stream).next_offset
        with pytest.raises(InterruptedHereError):
            client.import_events(stream, path, progress=interrupt, **again)
        assert client.stream_info(stream).next_offset == max(before, 8)
        client.append(stream, events(4, client.stream_info(stream).next_offset - 1))
    done = client.import_events(stream, path, first_offset=1)
    assert done.first_offset + done.events == 51
    assert payloads(client, stream) == [b"earlier", *events(50)]
    assert client.import_events(stream, events(50), first_offset=1).new_events == 0
    path.write_bytes(lines(60))
    assert client.import_events(stream, path, first_offset=1).new_events == 10
    client.append(stream, [b"later"])
    assert client.import_events(stream, path, first_offset=1).new_events == 0
    assert payloads(client, stream) == [b"earlier", *events(60), b"later"]


def test_an_import_after_a_sudden_end(tmp_path: Path) -> None:
    """A process that dies in the middle of an import leaves what the next one goes on with."""
    (tmp_path / "in.ndjson").write_bytes(lines(1000))
    code = f"""
import os
from kimberlite import Client, DataClass
client = Client.connect([{f"embedded:{tmp_path}/db"!r}], 1)
stream = client.create_stream("s", DataClass.NON_PHI)
client.import_events(stream, {str(tmp_path / "in.ndjson")!r}, first_offset=0, batch_events=10,
                     progress=lambda p: p.events == DEATH and os._exit(0))
"""
    for death in (10, 20, 500):
        run_python(code.replace("DEATH", str(death)))
    with Client.connect([f"embedded:{tmp_path}/db"], 1) as client:
        stream = client.stream_info("s").stream_id
        assert client.stream_info(stream).next_offset == 500
        done = client.import_events(stream, tmp_path / "in.ndjson", first_offset=0)
        assert done == Transferred(done.first_offset, 1000, 500)
        assert payloads(client, stream) == events(1000)


def test_an_import_refuses_what_does_not_fit(client: Client, stream: StreamId) -> None:
    """Another source, somebody who appends meanwhile, and a stream that is too short end it with
    OffsetMismatchError, and nothing is appended."""
    client.append(stream, events(10))
    with pytest.raises(OffsetMismatchError, match="at offset 7 is not the source's") as refused:
        client.import_events(stream, [*events(7), b"else", *events(9)], first_offset=0)
    assert refused.value.value == 10
    with pytest.raises(OffsetMismatchError, match="before first_offset, 11"):
        client.import_events(stream, [b"x"], first_offset=11)
    assert payloads(client, stream) == events(10)
    with pytest.raises(OffsetMismatchError):
        client.import_events(
            stream,
            events(4),
            batch_events=2,
            progress=lambda _: client.append(stream, [b"somebody else's"]),
        )
    assert payloads(client, stream) == [*events(10), *events(2), b"somebody else's"]


def test_a_late_append_of_the_call_before(client: Client, stream: StreamId) -> None:
    """Events of the source that come while it is imported, as from a call that was cut off, are
    recognised; others are refused."""
    again: dict[str, Any] = {"first_offset": 0, "batch_events": 3}

    def late(progress: Progress) -> None:
        if progress.events < 9:
            client.append(stream, events(2, progress.events))

    done = client.import_events(stream, events(9), progress=late, **again)
    assert (done.events, done.new_events) == (9, 5)
    assert payloads(client, stream) == events(9)
    foreign = other(client)
    with pytest.raises(OffsetMismatchError, match="at offset 3 is not the source's"):
        client.import_events(
            foreign, events(9), progress=lambda _: client.append(foreign, [b"else"]), **again
        )


@pytest.mark.parametrize(
    "line",
    [
        b"oops",
        b"7",
        b"[]",
        b"{}",
        b'{"data":7}',
        b'{"data":"secret","data_base64":"AA=="}',
        b'{"data_base64":"se cret"}',
        b'{"data_base64":"\xc3\xa4"}',
        b'{"data":"\\ud800secret"}',
        b"\xff\xfe",
        b"[" * 100_000,
    ],
)
def test_bad_lines(client: Client, stream: StreamId, line: bytes) -> None:
    """What stands before a bad line is imported; the error names its place and repeats nothing;
    with the line mended it goes on."""
    good, rest = lines(5), lines(4, 5)
    with pytest.raises(InvalidArgumentError, match=r"the file, line 7: .*data_base64") as bad:
        client.import_events(stream, io.BytesIO(good + b"\n" + line + b"\n" + rest))
    assert "secret" not in str(bad.value)
    assert payloads(client, stream) == events(5)
    client.import_events(stream, io.BytesIO(good + rest), first_offset=0)
    assert payloads(client, stream) == events(9)


def test_bad_sources(client: Client, stream: StreamId, tmp_path: Path) -> None:
    """What cannot be imported is named; events before a wrong one are there."""
    wrong: list[tuple[Any, type[Exception], str]] = [
        ([b"a", b"b", 7], TypeError, "event 2 of the source must be bytes"),
        ([b"a", "b"], TypeError, "event 1 of the source"),
        ([b"a", bytes(8388609)], LimitExceededError, "event 1 of the source has 8388609 bytes"),
        (io.BytesIO(b'{"data":"' + b"a" * 8388609 + b'"}'), LimitExceededError, "line 1"),
        (io.BytesIO(b" " * (_ndjson.MAX_LINE_BYTES + 1)), LimitExceededError, "line 1 is longer"),
        (io.StringIO("{}"), TypeError, "binary mode"),
        (b"one", TypeError, "one event"),
        (7, TypeError, "not int"),
        (tmp_path / "none", FileNotFoundError, "none"),
        (tmp_path, IsADirectoryError, "."),
    ]
    for source, error, words in wrong:
        with pytest.raises(error, match=words):
            client.import_events(stream, source)
    assert payloads(client, stream) == [b"a", b"b", b"a", b"a"]
    for name, value in (("batch_events", 0), ("batch_events", 65537), ("timeout_ms", 0)):
        with pytest.raises(InvalidArgumentError, match=name):
            client.import_events(stream, [b"a"], **{name: value})  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="progress must be"):
        client.import_events(stream, [b"a"], progress=7)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="AsyncClient"):
        client.import_events(stream, slowly([b"a"]))  # type: ignore[arg-type]
    with pytest.raises(StreamNotFoundError):
        client.import_events(StreamId(99), [b"a"])
    assert client.import_events(stream, []).events == 0


def test_an_export_goes_on_after_any_cut(client: Client, stream: StreamId, tmp_path: Path) -> None:
    """A file that was cut anywhere is finished to the same bytes; what came since is added."""
    client.append(stream, [b"a" * 100_000, *events(9), *ODD[:4]])
    path = tmp_path / "out.ndjson"
    client.export_events(stream, path, page_events=3)
    whole = path.read_bytes()
    ends = [found.end() for found in re.finditer(b"\n", whole)]
    cuts = [0, 1, 70_000, len(whole), *(end + by for end in ends[:-1] for by in (-1, 0, 1))]
    for cut in cuts:
        path.write_bytes(whole[:cut])
        done = client.export_events(stream, path, resume=True)
        assert path.read_bytes() == whole, cut
        assert (done.events, done.new_events) == (14, 14 - whole[:cut].count(b"\n"))
    client.append(stream, [b"more"])
    assert client.export_events(stream, path, resume=True).new_events == 1
    anew = tmp_path / "anew.ndjson"
    assert client.export_events(stream, anew, resume=True).new_events == 15
    assert anew.read_bytes() == path.read_bytes()


def test_an_export_of_a_part(client: Client, stream: StreamId) -> None:
    """A range is exported without the event at its end, and without those that came meanwhile."""
    client.append(stream, events(10))

    def exported(**options: Any) -> list[str]:
        file = io.BytesIO()
        client.export_events(stream, file, **options)
        return [json.loads(line)["data"] for line in file.getvalue().splitlines()]

    assert exported(from_offset=3, to_offset=6, page_events=2) == ["event 3", "event 4", "event 5"]
    assert exported(from_offset=10) == exported(from_offset=4, to_offset=4) == []
    late = exported(page_events=2, progress=lambda _: client.append(stream, [b"late"]))
    assert late == [event.decode() for event in events(10)]


def test_an_export_refuses_what_does_not_fit(
    client: Client, stream: StreamId, tmp_path: Path
) -> None:
    """A file that is there stays as it is unless it is this stream's and this range's."""
    client.append(stream, events(3))
    target = other(client)
    client.append(target, [*events(2), b"else", *events(5)])
    path = tmp_path / "out.ndjson"
    client.export_events(stream, path)
    before = path.read_bytes()
    wrong: list[tuple[StreamId, dict[str, Any], type[Exception], str]] = [
        (stream, {}, FileExistsError, "out.ndjson"),
        (target, {"resume": True}, OffsetMismatchError, "not this stream's"),
        (stream, {"resume": True, "to_offset": 2}, OffsetMismatchError, "0 to 2"),
        (stream, {"resume": True, "from_offset": 1}, OffsetMismatchError, "begins with .* 0,"),
        (stream, {"resume": 1}, TypeError, "resume must be a bool"),
        (stream, {"from_offset": 4}, OffsetOutOfRangeError, "ends at 3"),
        (stream, {"to_offset": 4}, OffsetOutOfRangeError, "ends at 3"),
        (stream, {"from_offset": 2, "to_offset": 1}, InvalidArgumentError, "to_offset is 1"),
    ]
    for which, options, error, words in wrong:
        with pytest.raises(error, match=words):
            client.export_events(which, path, **options)
        assert path.read_bytes() == before
    strangers = [b"no line of an export\n", b'{"offset":-1}\n', b"[]\n", b"7\n", b"an only copy"]
    for strange in [*strangers, before + b"a note"]:
        path.write_bytes(strange)
        with pytest.raises(InvalidArgumentError, match="not one of an export"):
            client.export_events(stream, path, resume=True)
        assert path.read_bytes() == strange
    with pytest.raises(TypeError, match="file's name"):
        client.export_events(stream, io.BytesIO(), resume=True)
    with pytest.raises(TypeError, match="not int"):
        client.export_events(stream, 7)  # type: ignore[arg-type]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a file that is always full")
def test_a_full_disk(client: Client, stream: StreamId) -> None:
    """What the disk refuses is raised, and the next call works."""
    client.append(stream, events(10))
    with open("/dev/full", "wb", buffering=0) as full, pytest.raises(OSError, match="No space"):
        client.export_events(stream, full)
    assert len(client.read(stream)) == 10


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress(
    client: Client, stream: StreamId, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A function hears of every batch. There is a bar on a terminal, or where one asks for it, and
    none where tqdm is not there, where nobody looks, and where nobody wants it."""
    path = tmp_path / "events.ndjson"
    path.write_bytes(lines(20))
    size = path.stat().st_size
    heard: list[Progress] = []
    client.import_events(stream, path, batch_events=10, progress=heard.append)
    assert [p.events for p in heard] == [10, 20]
    assert (heard[0].total_events, heard[-1].bytes, heard[-1].total_bytes) == (None, size, size)
    heard.clear()
    client.import_events(stream, events(20), batch_events=10, progress=heard.append)
    assert heard[-1] == Progress(20, 20, sum(map(len, events(20))), None)
    heard.clear()
    client.export_events(stream, io.BytesIO(), page_events=30, progress=heard.append)
    assert [(p.events, p.total_events) for p in heard] == [(30, 40), (40, 40)]

    def shown(stderr: io.StringIO, progress: bool | None) -> str:
        with monkeypatch.context() as context:
            context.setattr(sys, "stderr", stderr)
            client.import_events(other(client), path, progress=progress)
            client.export_events(stream, io.BytesIO(), progress=progress)
        return stderr.getvalue()

    pytest.importorskip("tqdm")
    for stderr, progress in ((Terminal(), None), (Terminal(), True), (io.StringIO(), True)):
        text = shown(stderr, progress)
        assert "import: 100%" in text
        assert "export: 100%" in text
        assert f"{size}/{size}" in text
        assert "40.0/40.0" in text
    assert shown(io.StringIO(), None) == shown(Terminal(), False) == ""
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    assert shown(Terminal(), None) == ""
    with pytest.raises(ImportError, match=r"pip install tqdm \(or kimberlite\[tqdm\]\)"):
        shown(Terminal(), True)
    monkeypatch.setattr(sys, "stderr", None)
    client.import_events(stream, [b"a"])


async def slowly(data: list[bytes]) -> AsyncIterator[bytes]:
    for event in data:
        await asyncio.sleep(0)
        yield event


def run(test: Callable[[AsyncClient, StreamId], Any]) -> None:
    async def main() -> None:
        async with await AsyncClient.connect(["memory:"], 1) as client:
            await test(client, await client.create_stream("events", DataClass.NON_PHI))

    asyncio.run(main())


def test_on_asyncio(tmp_path: Path) -> None:
    """Both work on asyncio too, with asynchronous sources, and leave files to other threads."""

    class Watched(io.BytesIO):
        threads: set[int]

        def readline(self, size: int | None = -1, /) -> bytes:
            self.threads = {threading.get_ident()}
            return super().readline(size)

    async def failing() -> AsyncIterator[bytes]:
        async for event in slowly(events(3)):
            yield event
        raise RuntimeError("the source failed")

    async def test(client: AsyncClient, stream: StreamId) -> None:
        assert (await client.import_events(stream, slowly(events(20)), batch_events=3)).events == 20
        path = tmp_path / "out.ndjson"
        await client.export_events(stream, path, progress=False)
        copy = await client.create_stream("copy", DataClass.NON_PHI)
        file = Watched(path.read_bytes())
        await client.import_events(copy, file)
        assert file.threads != {threading.get_ident()}
        assert (await client.import_events(copy, path, first_offset=0)).new_events == 0
        assert [event.data async for event in client.events(copy)] == events(20)
        last = await client.create_stream("last", DataClass.NON_PHI)
        with pytest.raises(RuntimeError, match="the source failed"):
            await client.import_events(last, failing())
        with pytest.raises(TypeError, match="event 1 of"):
            await client.import_events(last, slowly([b"a", "b"]))  # type: ignore[list-item]
        assert (await client.read(last)).payloads() == [*events(3), b"a"]
        assert (await client.export_events(stream, path, resume=True)).new_events == 0

    run(test)


def test_a_cancelled_transfer(tmp_path: Path) -> None:
    """Cancelled anywhere, a transfer leaves no file open and what the next call goes on with."""

    async def test(client: AsyncClient, stream: StreamId) -> None:
        path = tmp_path / "in.ndjson"
        path.write_bytes(lines(200))
        out = tmp_path / "out.ndjson"

        async def cancelled(transfer: Any, turns: int) -> bool:
            task = asyncio.ensure_future(transfer)
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            try:
                await task
            except asyncio.CancelledError:
                return True
            return False

        def imported() -> Any:
            return client.import_events(stream, path, first_offset=0, batch_events=1)

        def exported() -> Any:
            return client.export_events(stream, out, resume=True, page_events=1)

        assert all([await cancelled(imported(), turns) for turns in range(0, 60, 3)])
        await imported()
        assert [event.data async for event in client.events(stream)] == events(200)
        assert all([await cancelled(exported(), turns) for turns in range(0, 60, 3)])
        assert (await exported()).events == 200
        assert [json.loads(line)["offset"] for line in out.read_bytes().splitlines()] == [
            *range(200)
        ]

    run(test)
