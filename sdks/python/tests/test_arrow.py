"""Arrow: results, cursors, pages and streams as columns of pyarrow, pandas and polars."""

from __future__ import annotations

import asyncio
import gc
import pickle
import sys
import threading
from typing import Any

import pytest

from conftest import run_python
from kimberlite import (
    AsyncClient,
    Client,
    ClosedError,
    DataClass,
    InvalidArgumentError,
    StreamId,
    _arrow,
)
from kimberlite._steps import in_thread

pa: Any = pytest.importorskip("pyarrow")

ALL = (
    "SELECT 1 AS i, 0.5 AS f, 'ä' AS s, x'00ff' AS b, NULL AS n"
    " UNION ALL SELECT NULL, NULL, NULL, NULL, NULL UNION ALL SELECT -2, 1.5, '', x'', NULL"
)


def filled(client: Client, stream: StreamId, events: int = 30_000) -> list[bytes]:
    data = [b"%d" % i * (i % 7) for i in range(events)]
    for start in range(0, events, 10_000):
        client.append(stream, data[start : start + 10_000])
    return data


def test_a_result_as_columns(client: Client) -> None:
    """Each column has the type of its values, and nulls stay nulls; rows can still be read."""
    result = client.query(ALL)
    table = result.to_arrow()
    types = [pa.int64(), pa.float64(), pa.string(), pa.binary(), pa.null()]
    assert table.schema.types == types
    assert table.schema.names == ["i", "f", "s", "b", "n"]
    rows = [tuple(row.values()) for row in table.to_pylist()]
    assert rows == [row.as_tuple() for row in result]
    assert len(result) == 3
    assert result.to_arrow() == table


def test_empty_results(client: Client, stream: StreamId) -> None:
    """Without rows a column has its declared type, or none."""
    assert client.stream_info(stream).next_offset == 0
    table = client.query("SELECT id, data, text, 1 AS one FROM events").to_arrow()
    assert table.num_rows == 0
    assert table.schema.types == [pa.int64(), pa.binary(), pa.string(), pa.null()]


def test_mixed_columns(client: Client) -> None:
    """What one type can hold is widened; anything else is an error that names row and column."""
    wide = client.query("SELECT 1 AS a, 'x' AS b UNION ALL SELECT 0.5, x'ff'").to_arrow()
    assert wide.to_pydict() == {"a": [1.0, 0.5], "b": [b"x", b"\xff"]}
    odd = client.query("SELECT 1 AS fine, 1 AS odd UNION ALL SELECT 2, 'secret'")
    with pytest.raises(InvalidArgumentError, match=r'row 1, column 1 \("odd"\)') as caught:
        odd.to_arrow()
    assert "secret" not in str(caught.value)
    assert odd[1]["odd"] == "secret"
    with pytest.raises(InvalidArgumentError, match="row 0"):
        client.query(f"SELECT {2**53 + 1} AS a UNION ALL SELECT 0.5").to_arrow()


def test_wanted_types(client: Client) -> None:
    """A consumer may ask for types, of a result and of a cursor."""
    schema = pa.schema([("i", pa.float64()), ("n", pa.string())])
    sql = "SELECT 7 AS i, NULL AS n"
    for source in (client.query(sql), client.query_cursor(sql)):
        table = pa.RecordBatchReader.from_stream(source, schema).read_all()
        assert table.schema.types == schema.types
        assert table.to_pydict() == {"i": [7.0], "n": [None]}
    with pytest.raises(InvalidArgumentError, match="2 columns"):
        pa.RecordBatchReader.from_stream(client.query(sql), pa.schema([("i", pa.int64())]))


def test_a_cursor_as_columns(client: Client, stream: StreamId) -> None:
    """A cursor's batches come one by one, and outlive the cursor; what does not fit ends it."""
    data = filled(client, stream)
    batches = list(pa.RecordBatchReader.from_stream(client.query_cursor("SELECT * FROM events")))
    assert len(batches) > 1
    table = pa.Table.from_batches(batches)
    assert table["id"].to_pylist() == list(range(len(data)))
    assert table["data"].to_pylist() == data
    sql = "SELECT CASE WHEN id < 29999 THEN id ELSE 'x' END AS odd FROM events ORDER BY id"
    reader = pa.RecordBatchReader.from_stream(client.query_cursor(sql))
    with pytest.raises(pa.ArrowInvalid, match=r'row 29999, column 0 \("odd"\)'):
        reader.read_all()


def test_a_cursor_that_is_closed_or_read(client: Client, stream: StreamId) -> None:
    """Closing a cursor ends its stream; rows that were read and not given cannot be skipped."""
    filled(client, stream)
    cursor = client.query_cursor("SELECT id FROM events")
    reader = pa.RecordBatchReader.from_stream(cursor)
    first = reader.read_next_batch()
    cursor.close()
    with pytest.raises((pa.ArrowException, OSError), match="CLOSED"):
        reader.read_all()
    assert first["id"][0].as_py() == 0
    with pytest.raises(ClosedError):
        cursor.to_arrow()
    cursor = client.query_cursor("SELECT id FROM events")
    assert next(iter(cursor))["id"] == 0
    with pytest.raises(InvalidArgumentError, match="read it as rows, or as Arrow"):
        cursor.to_arrow()


@pytest.mark.parametrize("size", [10, 1000])
def test_a_page_as_columns(client: Client, stream: StreamId, size: int) -> None:
    """A page gives offsets, times and data, whether it was copied or left in place, or pickled."""
    events = [b"%d" % (i % 10) * (size + i % 3) for i in range(100)]
    client.append(stream, events)
    page = client.read(stream, from_offset=3)
    table = page.to_arrow()
    assert table.schema.types == [pa.uint64(), pa.timestamp("ns", "UTC"), pa.binary()]
    assert table["offset"].to_pylist() == list(range(3, 100))
    assert table["data"].to_pylist() == events[3:]
    assert table["timestamp"].cast(pa.int64()).to_pylist() == list(page.timestamps_ns)
    assert pickle.loads(pickle.dumps(page)).to_arrow() == table
    assert client.read(stream, from_offset=100).to_arrow().num_rows == 0


def test_a_stream_as_columns(client: Client, stream: StreamId) -> None:
    """A stream gives a batch for each page, as often as it is asked."""
    data = filled(client, stream)
    events = client.event_table(stream, 5, page_events=1000)
    table = events.to_arrow()
    assert table["offset"].to_pylist() == list(range(5, len(data)))
    assert table["data"].to_pylist() == data[5:]
    assert table["data"].num_chunks == 30
    client.append(stream, [b"more"])
    assert events.to_arrow().num_rows == table.num_rows + 1


def test_pandas_and_polars(client: Client, stream: StreamId) -> None:
    """Results, cursors, pages and streams become frames with the same values."""
    pytest.importorskip("pandas")
    pytest.importorskip("polars")
    client.append(stream, [b"a", b"bc"])
    sources: list[Any] = [
        client.query("SELECT id AS offset, data FROM events"),
        client.query_cursor("SELECT id AS offset, data FROM events"),
        client.read(stream),
        client.event_table(stream),
    ]
    for source in sources:
        is_cursor = type(source).__name__ == "Cursor"
        frame = source.to_polars()
        assert frame["data"].to_list() == [b"a", b"bc"]
        assert frame["offset"].to_list() == [0, 1]
        if not is_cursor:
            panda = source.to_pandas()
            assert list(panda["data"]) == [b"a", b"bc"]
            assert list(panda["offset"]) == [0, 1]


def test_columns_on_asyncio() -> None:
    """Tables and cursors give columns on asyncio, while the loop runs on, and to consumers of
    PyCapsules; what does not fit is raised as elsewhere."""

    async def main() -> None:
        async with await AsyncClient.connect(["memory:"], 1) as client:
            stream = await client.create_stream("events", DataClass.NON_PHI)
            await client.append(stream, [b"%d" % n for n in range(1000)])
            table = client.event_table(stream, 10, page_events=100)
            reading = asyncio.ensure_future(table.to_arrow())
            turns = 0
            while not reading.done():
                await asyncio.sleep(0)
                turns += 1
            assert turns > 1
            assert reading.result()["offset"].to_pylist() == list(range(10, 1000))
            reader = pa.RecordBatchReader._import_from_c_capsule(table.__arrow_c_stream__())
            assert reader.read_all() == reading.result()
            cursor = await client.query_cursor("SELECT id FROM events ORDER BY id")
            assert (await cursor.to_arrow())["id"].to_pylist() == list(range(1000))
            for package in ("pandas", "polars"):
                pytest.importorskip(package)
                cursor = await client.query_cursor("SELECT id FROM events")
                assert len(await getattr(cursor, f"to_{package}")()) == 1000
                assert len(await getattr(table, f"to_{package}")()) == 990
            mixed = await client.query_cursor("SELECT 1 AS a UNION ALL SELECT 'b' AS a")
            with pytest.raises(pa.ArrowInvalid, match="row 1, column 0"):
                await mixed.to_arrow()
            begun = await client.query_cursor("SELECT id FROM events")
            async for _ in begun:
                break
            with pytest.raises(InvalidArgumentError, match="not handed out yet"):
                await begun.to_arrow()
            begun.close()
            with pytest.raises(ClosedError):
                await begun.to_arrow()

    asyncio.run(main())


def test_cancelled_columns_end() -> None:
    """A task that is cancelled while another thread works for it asks that to stop, and waits for
    its end; what stops a table or a cursor ends the wait for its columns with an error."""

    async def main() -> None:
        begun, stopped = threading.Event(), threading.Event()

        def work() -> None:
            begun.set()
            stopped.wait()

        task = asyncio.ensure_future(in_thread(work, stopped.set))
        while not begun.is_set():
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with await AsyncClient.connect(["memory:"], 1) as client:
            stream = await client.create_stream("events", DataClass.NON_PHI)
            await client.append(stream, [b"x"] * 10)
            cursor = await client.query_cursor("SELECT id FROM events")
            for source in (cursor, client.event_table(stream)):
                columns, stop = source._stoppable()
                stop()
                reader = pa.RecordBatchReader._import_from_c_capsule(columns)
                with pytest.raises(Exception, match="CLOSED"):
                    reader.read_all()
            assert len(await client.event_table(stream).to_arrow()) == 10

    asyncio.run(main())


def test_what_must_be_installed(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a package the error says what to install; nothing of them is imported before."""
    result = client.query("SELECT 1 AS a")
    for package in ("pyarrow", "pandas", "polars"):
        with monkeypatch.context() as context:
            context.setitem(sys.modules, package, None)
            method = "to_arrow" if package == "pyarrow" else f"to_{package}"
            with pytest.raises(ImportError, match=f"pip install {package}"):
                getattr(result, method)()
    code = "import kimberlite, sys; print([m for m in ('pyarrow', 'pandas') if m in sys.modules])"
    assert run_python(code).strip() == "[]"


def test_streams_that_nobody_takes(client: Client, stream: StreamId) -> None:
    """A stream that was not taken over is released, and so is one whose taker failed."""
    client.append(stream, [b"x"] * 10)
    for _ in range(100):
        client.query("SELECT id FROM events").__arrow_c_stream__()
        client.event_table(stream).__arrow_c_stream__()
    held = client.read(stream).__arrow_c_stream__()
    gc.collect()
    client.read(stream).to_arrow()
    assert len(_arrow._streams) <= 2
    assert pa.RecordBatchReader._import_from_c_capsule(held).read_all().num_rows == 10


def test_a_pickled_result_has_rows_alone(client: Client) -> None:
    """A result survives pickling as its rows."""
    result = pickle.loads(pickle.dumps(client.query("SELECT 1 AS a")))
    assert result[0]["a"] == 1
    with pytest.raises(TypeError, match="pickled"):
        result.to_arrow()


def test_columns_outlive_everything() -> None:
    """Arrays stay whole after the client is closed and the library shut down."""
    code = """
import kimberlite, pyarrow
with kimberlite.Client.connect(["memory:"], 1) as client:
    stream = client.create_stream("s", kimberlite.DataClass.NON_PHI)
    client.append(stream, [b"x" * 1000] * 1000)
    tables = [client.event_table(stream).to_arrow(), client.read(stream).to_arrow(),
              client.query("SELECT data FROM s").to_arrow()]
    kept = client.query("SELECT data FROM s").__arrow_c_stream__()
for table in tables:
    assert table["data"].to_pylist() == [b"x" * 1000] * 1000
print("whole")
"""
    assert run_python(code).strip() == "whole"
