"""The synchronous client: every method, with good and bad arguments."""

from __future__ import annotations

import copy
import dataclasses
import datetime
import gc
import pickle
import threading
import time
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import kimberlite
from kimberlite import (
    AppendKey,
    Client,
    ClosedError,
    ConnectionFailedError,
    CorruptionError,
    DataClass,
    Event,
    InvalidArgumentError,
    InvalidDataClassError,
    InvalidUtf8Error,
    KimberliteError,
    LimitExceededError,
    OffsetMismatchError,
    OffsetOutOfRangeError,
    QueryExecutionError,
    QuerySyntaxError,
    StreamExistsError,
    StreamId,
    StreamNotFoundError,
    TenantNotFoundError,
    TimedOutError,
)
from kimberlite._generated import ERROR_CLASSES, Limit
from kimberlite.testing import database


def test_append_and_read_back(client: Client, stream: StreamId) -> None:
    """What was appended comes back in order, with offsets and times."""
    offset = client.append(stream, [b"event1", bytearray(b"event2"), memoryview(b"event3")])
    assert offset == 0
    page = client.read(stream, from_offset=0, max_events=100)
    assert [event.data for event in page] == [b"event1", b"event2", b"event3"]
    assert [event.offset for event in page] == [0, 1, 2]
    assert page[-1].data == b"event3"
    assert page[0:2] == list(page)[:2]
    assert list(map(bytes, page.views())) == page.payloads()
    age = datetime.datetime.now(datetime.timezone.utc) - page[0].timestamp
    assert abs(age) < datetime.timedelta(minutes=1)
    assert page.end_offset == page.next_offset == 3
    assert repr(page) == "Page(3 events from offset 0, 18 bytes)"


@pytest.mark.parametrize("size", [10, 100_000])
def test_a_page_tells_where_it_stands(client: Client, stream: StreamId, size: int) -> None:
    """A page that ends before its stream tells both ends, and the position that it reflects."""
    client.append(stream, [b"x" * size] * 3)
    last = client.append_result(stream, [b"y"])
    page = client.read(stream, max_events=2)
    assert (page.end_offset, page.next_offset) == (2, 4)
    assert page.position == last.position


@pytest.mark.parametrize("size", [10, 1000])
def test_columns_of_a_page(client: Client, stream: StreamId, size: int) -> None:
    """A page's columns are views, which outlive it, whether it was copied or left in place."""
    events = [b"%d" % (i % 10) * (size + i % 3) for i in range(100)]
    client.append(stream, events)
    page = client.read(stream)
    data, lengths, times = page.data, page.lengths, page.timestamps_ns
    assert [lengths.format, times.format, data.format] == ["I", "Q", "B"]
    assert data.readonly
    views = list(page.views())
    again = pickle.loads(pickle.dumps(page))
    assert list(again) == list(page)
    assert page[-1] == list(page)[99]
    assert page[5:50:7] == list(page)[5:50:7]
    with pytest.raises(IndexError, match="100 events"):
        page[100]
    del page
    gc.collect()
    # Other pages come and go where this one would be, were it freed.
    for _ in range(20):
        client.read(stream)
    assert bytes(data) == b"".join(events)
    assert list(lengths) == list(map(len, events))
    assert set(times) == {again[0].timestamp_ns}
    assert list(map(bytes, views)) == events == again.payloads()


def test_a_page_outlives_its_client(stream: StreamId, client: Client) -> None:
    """Pages stay whole after the close."""
    client.append(stream, [b"x" * 1000] * 1000)
    page = client.read(stream)
    client.close()
    assert page.payloads() == [b"x" * 1000] * 1000
    assert bytes(page.data) == b"x" * 1_000_000


def test_events_of_any_bytes_like_kind(client: Client, stream: StreamId) -> None:
    """Whatever holds bytes is an event, also where its len() does not count bytes."""
    numbers = array("Q", [1, 2, 3])
    wide = memoryview(numbers)
    client.append(stream, (b"", bytearray(b"a"), wide, wide[1:2], memoryview(b"bc")))
    raw = numbers.tobytes()
    assert client.read(stream).payloads() == [b"", b"a", raw, raw[8:16], b"bc"]
    assert client.append(stream, (b"%d" % i for i in range(3))) == 5
    with pytest.raises(TypeError):
        client.append(stream, [1])  # type: ignore[list-item]


@pytest.mark.parametrize("count", [1, 99, 100, 101, 250])
@pytest.mark.parametrize("size", [0, 1, 700])
def test_events_of_one_length(client: Client, stream: StreamId, count: int, size: int) -> None:
    """Events of one length are cut by a quicker way, which gives the same."""
    events = [bytes([i % 256]) * size for i in range(count)]
    client.append(stream, events)
    page = client.read(stream)
    assert page.payloads() == events
    assert [(e.offset, e.data) for e in page] == list(enumerate(events))
    assert isinstance(next(iter(page)), Event)


def test_appended_result_tells_position_and_time(client: Client, stream: StreamId) -> None:
    """An append tells its place, its time and its position, which only grows."""
    first = client.append_result(stream, [b"a", b""])
    second = client.append_result(stream, [b"b"], expected_offset=2)
    assert (first.first_offset, first.count, second.first_offset) == (0, 2, 2)
    assert second.position > first.position
    assert second.timestamp_ns >= first.timestamp_ns


def test_events_of_an_iterator_and_of_wide_views(client: Client, stream: StreamId) -> None:
    """Events may come from any iterable, and views count in bytes, not in elements."""
    client.append(stream, (bytes([65 + i]) for i in range(3)))
    client.append(stream, [memoryview(b"12345678").cast("I")])
    assert client.read(stream).payloads() == [b"A", b"B", b"C", b"12345678"]


def test_iterating_pages_by_itself(client: Client, stream: StreamId) -> None:
    """Iteration reads page after page to the end, from any offset."""
    client.append(stream, [b"%d" % i for i in range(2500)])
    data = [event.data for event in client.events(stream, 100, page_events=1000)]
    assert data == [b"%d" % i for i in range(100, 2500)]
    assert sum(len(page) for page in client.pages(stream, page_events=700)) == 2500


def test_subscription_follows_live(client: Client, stream: StreamId) -> None:
    """A subscription gives what is there, then what comes, and waits no longer than told."""
    client.append(stream, [b"old"])
    with client.subscribe(stream) as subscription:
        page = subscription.next_page(timeout_ms=10_000)
        assert page is not None
        assert page.payloads() == [b"old"]
        assert subscription.next_page(timeout_ms=10) is None
        timer = threading.Timer(0.05, client.append, (stream, [b"new"]))
        timer.start()
        assert next(iter(subscription)).data == b"new"
        timer.join()
    with pytest.raises(ClosedError):
        subscription.next_page()
    subscription.close()


def test_query_rows_by_name_and_place(client: Client, stream: StreamId) -> None:
    """Rows are found by name and by place, and turn into tuples and dicts."""
    client.append(stream, [b"a", b"b"])
    result = client.query(
        "SELECT id, data, ? AS n, ? AS t, ? AS f, ? AS b, ? AS x FROM events WHERE timestamp > ?",
        params=[None, "ä", 1.5, True, b"\0", 1704067200],
    )
    assert [column.name for column in result.columns] == ["id", "data", "n", "t", "f", "b", "x"]
    row = result[1]
    assert (row["id"], row[1], row["n"], row["t"]) == (1, b"b", None, "ä")
    assert (row["f"], row["b"], row["x"]) == (1.5, 1, b"\0")
    assert dict(row)["data"] == b"b"
    assert row.as_dict()["id"] == 1
    assert row.as_tuple()[:2] == (1, b"b")
    assert len(row) == 7
    assert row[0:2] == (1, b"b")
    assert next(iter(row)) == 1
    assert hash(row) == hash(row.as_tuple())
    assert row == row.as_tuple()
    assert row != result[0]
    assert row == result[1]
    assert row != 5
    assert "id=1" in repr(row)
    assert len(result) == 2
    assert result[0:1] == [result[0]]
    assert "rows=2" in repr(result)
    with pytest.raises(KeyError, match="there are: id, data"):
        row["missing"]


@dataclasses.dataclass
class Visit:
    id: int
    reason: str
    note: str = "none"


class Pair(NamedTuple):
    id: int
    size: int


def test_typed_rows(client: Client, stream: StreamId) -> None:
    """Rows become objects of a dataclass or a named tuple; a missing column is named."""
    client.append(stream, [b'{"reason": "check-up"}'])
    sql = "SELECT id, data ->> '$.reason' AS reason, timestamp FROM events"
    assert list(client.query(sql, row_type=Visit)) == [Visit(0, "check-up")]
    pairs = client.query("SELECT id, length(data) AS size FROM events", row_type=Pair)
    assert pairs[0] == Pair(0, 22)
    with pytest.raises(TypeError, match="Visit needs reason"):
        client.query("SELECT id FROM events", row_type=Visit)
    with pytest.raises(TypeError, match="fields"):
        client.query("SELECT id FROM events", row_type=int)
    # A column of no field may stand there twice: it is left out.
    twice = "SELECT id, data ->> '$.reason' AS reason, 1 AS x, 2 AS x FROM events"
    assert list(client.query(twice, row_type=Visit)) == [Visit(0, "check-up")]
    with pytest.raises(TypeError, match=r"Pair.* id more than once"):
        client.query("SELECT id, 7 AS size, 8 AS id FROM events", row_type=Pair)


def test_typed_rows_keep_their_values(client: Client, stream: StreamId) -> None:
    """The fields' types convert nothing: a value arrives as SQLite gives it."""
    (row,) = client.query("SELECT '1' AS id, 2.5 AS size", row_type=Pair)
    assert list(map(repr, row)) == ["'1'", "2.5"]


def test_a_time_before_the_epoch_is_named(client: Client) -> None:
    """A time before 1970 is refused under the name of the argument that gave it."""
    early = datetime.datetime(1969, 12, 31, tzinfo=datetime.timezone.utc)
    with pytest.raises(InvalidArgumentError, match="timestamp in nanoseconds"):
        client.query_at("SELECT 1", timestamp=early)


def test_query_at_a_past_moment(client: Client, stream: StreamId) -> None:
    """A query sees the streams as they were at a position or a time."""
    first = client.append_result(stream, [b"a"])
    time.sleep(0.002)
    client.append(stream, [b"b"])
    count = "SELECT COUNT(*) FROM events"
    assert client.query_at(count, position=first.position)[0][0] == 1
    assert client.query_at(count, timestamp_ns=first.timestamp_ns)[0][0] == 1
    earlier = datetime.datetime.now(datetime.timezone.utc)
    client.append(stream, [b"c"])
    assert client.query_at(count, timestamp=earlier)[0][0] == 2
    assert client.query(count)[0][0] == 3
    typed = client.query_at(
        "SELECT id, 1 AS size FROM events", position=first.position, row_type=Pair
    )
    assert list(typed) == [Pair(0, 1)]
    with pytest.raises(TypeError, match="exactly one"):
        client.query_at(count)
    with pytest.raises(TypeError, match="time zone"):
        client.query_at(count, timestamp=datetime.datetime(2024, 1, 1))
    with pytest.raises(InvalidArgumentError):
        client.query_at(count, position=2**60)


def test_cursor_gives_batches(client: Client, stream: StreamId) -> None:
    """A cursor gives a big result in batches, and ends."""
    client.append(stream, [b"x" * 100] * 5000)
    with client.query_cursor("SELECT id, data FROM events ORDER BY id") as cursor:
        assert [column.name for column in cursor.columns] == ["id", "data"]
        ids = [row["id"] for row in cursor]
        assert cursor.next_batch() is None
    assert ids == list(range(5000))
    cursor.close()


def test_verify(client: Client, stream: StreamId) -> None:
    """Server and client walk the same chain to the same head."""
    client.append(stream, [b"a", b"b"])
    client.append(stream, [b"c"])
    found = client.verify(stream)
    mine = client.verify_locally(stream)
    assert found.valid
    assert (found.count, found.first_bad_offset) == (3, None)
    assert (mine.valid, mine.count, mine.head) == (True, 3, found.head)
    assert client.stream_info(stream).head == found.head
    other = client.create_stream("empty", DataClass.PHI)
    assert client.verify_locally(other).count == 0


def test_nothing_comes_after_a_close(stream: StreamId, client: Client) -> None:
    """What had arrived of a subscription or a cursor is not handed out once it, or its client, is
    closed.
    """
    client.append(stream, [b"%d" % n for n in range(10)])
    subscription = client.subscribe(stream)
    events = iter(subscription)
    assert next(events).data == b"0"
    subscription.close()
    with pytest.raises(ClosedError):
        next(events)
    cursor = client.query_cursor("SELECT id FROM events")
    rows = iter(cursor)
    assert next(rows)["id"] == 0
    cursor.close()
    with pytest.raises(ClosedError):
        next(rows)
    with pytest.raises(ClosedError):
        cursor.next_batch()
    subscription = client.subscribe(stream)
    events = iter(subscription)
    next(events)
    client.close()
    with pytest.raises(ClosedError):
        next(events)
    with pytest.raises(ClosedError):
        subscription.next_page(0)


def test_local_verification_finds_damage_on_the_disk(tmp_path: Path) -> None:
    """A block that cannot even be read is found too, with the offset up to which all was well."""
    with Client.connect([f"embedded:{tmp_path / 'db'}"], 1) as client:
        stream = client.create_stream("s", DataClass.NON_PHI)
        # More than one read brings, so that the damage is beyond the first.
        client.append(stream, [b"x" * 4000] * 4000)
        client.append(stream, [b"y" * 4000] * 4000)
        client.append(stream, [b"the one that is damaged"])
        for path in (tmp_path / "db").rglob("*"):
            if path.is_file() and (at := path.read_bytes().find(b"the one that")) >= 0:
                with path.open("r+b") as file:
                    file.seek(at)
                    file.write(b"T")
        with pytest.raises(CorruptionError, match="block at offset 8000") as caught:
            client.read(stream, 8000)
        assert caught.value.value == 8000
        found = client.verify_locally(stream)
        assert (found.valid, found.count, found.first_bad_offset) == (False, 8000, 8000)
        assert client.verify(stream) == found


def test_streams_and_info(client: Client, stream: StreamId) -> None:
    """Streams are listed, and found by id and by name."""
    client.append(stream, [b"abc"])
    (info,) = client.streams()
    assert info == client.stream_info(stream) == client.stream_info("EVENTS")
    assert (info.name, info.data_class, info.next_offset) == ("events", DataClass.NON_PHI, 1)
    assert info.data_bytes == 3
    assert info.created.tzinfo is not None
    assert client.create_stream("events", DataClass.NON_PHI) == stream
    with pytest.raises(StreamExistsError):
        client.create_stream("events", DataClass.PHI)


def test_tenants(client: Client) -> None:
    """An embedded database's opener creates, lists and deletes tenants."""
    assert client.create_tenant(7)
    assert not client.create_tenant(7)
    assert client.tenants() == [1, 7]
    client.delete_tenant(7)
    assert client.tenants() == [1]
    with pytest.raises(TenantNotFoundError):
        client.delete_tenant(8)


def test_settling_an_append_with_its_key(client: Client, stream: StreamId) -> None:
    """A key makes an append repeatable: the second attempt tells the first one's outcome."""
    key = AppendKey(client.open_producer(), 1)
    first = client.append_with_key(key, stream, [b"once"])
    assert client.append_with_key(key, stream, [b"once"]) == first
    assert len(client.read(stream)) == 1
    with pytest.raises(InvalidArgumentError):
        client.append_with_key(key, stream, [b"other"])


@pytest.mark.parametrize(
    "key",
    [
        None,
        (1, 1),
        AppendKey(0, 1),
        AppendKey(1, 0),
        AppendKey(-1, 1),
        AppendKey(1, -1),
        AppendKey(2**64, 1),
        AppendKey(1, 2**64 + 1),
        AppendKey(1.0, 1),  # type: ignore[arg-type]
        AppendKey(1, 1.5),  # type: ignore[arg-type]
        AppendKey(True, 1),
        AppendKey(None, 1),  # type: ignore[arg-type]
    ],
)
def test_a_key_that_is_none_appends_nothing(client: Client, stream: StreamId, key: Any) -> None:
    """What cannot be a key is refused by name: a fresh number would append a second time."""
    with pytest.raises((TypeError, InvalidArgumentError), match=r"key\.(producer_id|sequence)"):
        client.append_with_key(key, stream, [b"once"])
    assert client.stream_info(stream).next_offset == 0


def test_a_folder_keeps_its_events(tmp_path: Path) -> None:
    """An embedded database is there again when it is opened again."""
    address = [f"embedded:{tmp_path / 'db'}"]
    with Client.connect(address, 1) as one, Client.connect(address, 1) as two:
        stream = one.create_stream("kept", DataClass.PHI)
        two.append(stream, [b"still here"])
    with Client.connect(address, 1) as again:
        assert again.read(again.stream_info("kept").stream_id).payloads() == [b"still here"]


# The id of the first stream that a client creates: 1 is the tenant's audit stream.
FIRST_STREAM = StreamId(2)


def bad_calls() -> list[tuple[str, type[Exception], str, Callable[[Any], object]]]:
    some = FIRST_STREAM
    return [
        ("empty name", InvalidArgumentError, "name", lambda c: c.create_stream("", DataClass.PHI)),
        (
            "long name",
            LimitExceededError,
            "255",
            lambda c: c.create_stream("x" * 256, DataClass.PHI),
        ),
        ("surrogate", InvalidUtf8Error, "name", lambda c: c.create_stream("\ud800", DataClass.PHI)),
        ("bytes name", TypeError, "name", lambda c: c.create_stream(b"x", DataClass.PHI)),
        ("class 9", InvalidDataClassError, "9", lambda c: c.create_stream("x", 9)),
        ("class 999", InvalidDataClassError, "999", lambda c: c.create_stream("x", 999)),
        ("class str", TypeError, "data_class", lambda c: c.create_stream("x", "PHI")),
        ("no stream", StreamNotFoundError, "999", lambda c: c.append(StreamId(999), [b"x"])),
        (
            "negative stream",
            InvalidArgumentError,
            "stream_id",
            lambda c: c.append(StreamId(-1), [b"x"]),
        ),
        ("no events", InvalidArgumentError, "event", lambda c: c.append(some, [])),
        ("bare bytes", TypeError, "list of bytes", lambda c: c.append(some, b"abc")),
        ("str event", TypeError, r"events\[1\].*str", lambda c: c.append(some, [b"a", "b"])),
        (
            "wrong offset",
            OffsetMismatchError,
            "0",
            lambda c: c.append(some, [b"x"], expected_offset=5),
        ),
        (
            "offset any",
            InvalidArgumentError,
            "expected_offset",
            lambda c: c.append(some, [b"x"], expected_offset=2**64 - 1),
        ),
        (
            "big event",
            LimitExceededError,
            str(Limit.EVENT_BYTES),
            lambda c: c.append(some, [b"x" * (Limit.EVENT_BYTES + 1)]),
        ),
        ("many events", LimitExceededError, "65536", lambda c: c.append(some, [b""] * 65537)),
        ("beyond the end", OffsetOutOfRangeError, "7", lambda c: c.read(some, 7)),
        ("no events wanted", InvalidArgumentError, "max_events", lambda c: c.read(some, 0, 0)),
        ("float offset", TypeError, "from_offset", lambda c: c.read(some, 1.5)),
        ("zero timeout", InvalidArgumentError, "timeout_ms", lambda c: c.read(some, timeout_ms=0)),
        ("syntax", QuerySyntaxError, "SELEC", lambda c: c.query("SELEC 1")),
        ("write", QueryExecutionError, "read", lambda c: c.query("DELETE FROM events")),
        ("few params", InvalidArgumentError, "param", lambda c: c.query("SELECT ?, ?", [1])),
        ("text params", TypeError, "params", lambda c: c.query("SELECT ?", "x")),
        ("odd param", TypeError, r"params\[0\]", lambda c: c.query("SELECT ?", [object()])),
        ("huge int", InvalidArgumentError, r"params\[0\]", lambda c: c.query("SELECT ?", [2**63])),
        ("unknown info", StreamNotFoundError, "nope", lambda c: c.stream_info("nope")),
        ("verify", StreamNotFoundError, "77", lambda c: c.verify(StreamId(77))),
        ("subscribe", OffsetOutOfRangeError, "9", lambda c: c.subscribe(some, 9)),
        ("tenant 0", InvalidArgumentError, "tenant", lambda c: c.create_tenant(0)),
    ]


@pytest.mark.parametrize(
    ("error", "pattern", "call"),
    [pytest.param(*case[1:], id=case[0]) for case in bad_calls()],
)
def test_bad_input_is_named(
    client: Client,
    stream: StreamId,
    error: type[Exception],
    pattern: str,
    call: Callable[[Client], object],
) -> None:
    """Bad input gets the right error, which names the field or the bound; the client lives on."""
    assert stream == FIRST_STREAM
    with pytest.raises(error, match=pattern):
        call(client)
    client.append(stream, [b"alive"])


def test_bad_connects() -> None:
    """Connecting says which address or option is bad."""
    with pytest.raises(InvalidArgumentError, match=r"addresses|address"):
        Client.connect([], 1)
    with pytest.raises(TypeError, match=r"Client\.connect"):
        Client(["memory:"], 1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"AsyncClient\.connect"):
        kimberlite.AsyncClient(["memory:"], 1, 1)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError, match=r"no-such-file\.pem"):
        Client.connect(["tls://127.0.0.1:1"], 1, tls_ca_file=Path("no-such-file.pem"))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="list of str"):
        Client.connect("memory:", 1)
    with pytest.raises(InvalidArgumentError, match="host:notaport"):
        Client.connect(["host:notaport"], 1)
    with pytest.raises(InvalidArgumentError, match="no_such_option"):
        Client.connect(["memory:"], 1, no_such_option=1)  # type: ignore[call-arg]
    with pytest.raises(InvalidArgumentError, match="timeout_ms"):
        Client.connect(["memory:"], 1, timeout_ms=0)
    with pytest.raises(ConnectionFailedError, match=r"127\.0\.0\.1:1") as caught:
        Client.connect(["127.0.0.1:1"], 1, connect_timeout_ms=2000)
    assert caught.value.retryable
    assert caught.value.code == 3


def test_errors_tell_number_name_and_remedy(client: Client) -> None:
    """Every error has a class with its number; its text has name, meaning and detail."""
    with pytest.raises(StreamNotFoundError) as caught:
        client.read(StreamId(404))
    error = caught.value
    assert (error.code, error.name, error.retryable) == (4, "STREAM_NOT_FOUND", False)
    assert str(error).startswith("STREAM_NOT_FOUND (4): ")
    assert error.append_key is None
    assert all(kind.code == code for code, kind in ERROR_CLASSES.items())
    assert issubclass(TimedOutError, TimeoutError)
    assert str(KimberliteError()) == "UNKNOWN (15): An error that this version does not know."


def test_offset_mismatch_tells_the_actual_offset(client: Client, stream: StreamId) -> None:
    """The error carries the stream's real end."""
    client.append(stream, [b"a", b"b"])
    with pytest.raises(OffsetMismatchError) as caught:
        client.append(stream, [b"c"], expected_offset=1)
    assert caught.value.value == 2


def test_closed_client(stream: StreamId, client: Client) -> None:
    """Every call after the close gets ClosedError; closing twice is harmless."""
    client.close()
    client.close()
    with pytest.raises(ClosedError):
        client.append(stream, [b"x"])
    with pytest.raises(ClosedError):
        client.query("SELECT 1")
    assert "closed" in repr(client)


def test_close_ends_a_waiting_call(client: Client, stream: StreamId) -> None:
    """A thread that waits on a subscription gets ClosedError when the client is closed."""
    subscription = client.subscribe(stream)
    caught: list[BaseException] = []

    def wait() -> None:
        try:
            subscription.next_page()
        except ClosedError as error:
            caught.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    time.sleep(0.05)
    client.close()
    thread.join(timeout=10)
    assert not thread.is_alive()
    assert len(caught) == 1


def test_unclosed_client_warns() -> None:
    """A client that was forgotten says so, and is closed."""
    forgotten = Client.connect(["memory:"], 1)
    with pytest.warns(ResourceWarning, match=r"unclosed <kimberlite\.Client tenant_id=1 open>"):
        del forgotten


def test_open_things_cannot_be_copied(client: Client, stream: StreamId) -> None:
    """A client, subscription or cursor has one owner: a copy is refused, not closed twice."""
    with client.subscribe(stream) as subscription, client.query_cursor("SELECT 1") as cursor:
        for thing in (client, subscription, cursor):
            for copied in (copy.copy, copy.deepcopy, pickle.dumps):
                with pytest.raises(TypeError, match="cannot be copied or pickled"):
                    copied(thing)


def test_wrong_types_are_named(client: Client, stream: StreamId) -> None:
    """An argument of a wrong type is a TypeError that names it; a bool is no number."""
    wrong: list[tuple[str, Callable[[], object]]] = [
        ("timestamp", lambda: client.query_at("SELECT 1", timestamp=5)),  # type: ignore[call-overload]
        ("timestamp", lambda: client.query_at("SELECT 1", timestamp="now")),  # type: ignore[call-overload]
        ("events", lambda: client.append(stream, None)),  # type: ignore[arg-type]
        ("events", lambda: client.append(stream, 7)),  # type: ignore[arg-type]
        (r"events\[0\].*NoneType", lambda: client.append(stream, [None])),  # type: ignore[list-item]
        (r"events\[1\].*int", lambda: client.append(stream, iter([b"a", 5]))),  # type: ignore[arg-type]
        (
            r"events\[0\].*contiguous",
            lambda: client.append(stream, [memoryview(b"abcdef")[::2]]),
        ),
        ("stale", lambda: client.read(stream, stale="x")),  # type: ignore[arg-type]
        ("stale", lambda: client.query("SELECT 1", stale=0)),  # type: ignore[call-overload]
        ("row_type.*int", lambda: client.query("SELECT 1", row_type=5)),  # type: ignore[call-overload]
        ("row_type", lambda: client.query("SELECT 1", row_type=Pair(1, 2))),  # type: ignore[call-overload]
        ("stream_id", lambda: client.append(True, [b"a"])),  # type: ignore[arg-type]
        ("expected_offset", lambda: client.append(stream, [b"a"], expected_offset=False)),
        ("from_offset", lambda: client.read(stream, True)),
        ("stream", lambda: client.stream_info(True)),  # type: ignore[arg-type]
        ("data_class", lambda: client.create_stream("s", True)),  # type: ignore[arg-type]
        ("tenant_id", lambda: client.create_tenant(True)),
        ("tenant_id", lambda: Client.connect(["memory:"], True)),
        ("timeout_ms", lambda: client.streams(timeout_ms="5")),  # type: ignore[arg-type]
        ("timeout_ms must be an int", lambda: Client.connect(["memory:"], 1, timeout_ms="5")),  # type: ignore[arg-type]
    ]
    for named, call in wrong:
        with pytest.raises(TypeError, match=named):
            call()
    assert client.stream_info(stream).next_offset == 0


@pytest.mark.parametrize("nothing", ["", b"", [], {}, 0.0, False])
def test_what_is_false_is_no_default(client: Client, stream: StreamId, nothing: Any) -> None:
    """Where a number may be left out, something else that is false is refused, not taken for it."""
    for named, call in (
        ("timestamp_ns", lambda: client.query_at("SELECT 1", timestamp_ns=nothing)),
        ("position", lambda: client.query_at("SELECT 1", position=nothing)),
        ("timestamp", lambda: client.query_at("SELECT 1", timestamp=nothing)),
        ("min_position", lambda: client.read(stream, min_position=nothing)),
        ("max_bytes", lambda: client.read(stream, max_bytes=nothing)),
        ("timeout_ms", lambda: client.read(stream, timeout_ms=nothing)),
        ("from_offset", lambda: client.subscribe(stream, nothing)),
        ("expected_offset", lambda: client.append(stream, [b"x"], expected_offset=nothing)),
    ):
        with pytest.raises(TypeError, match=named):
            call()
    if nothing is not False:
        with pytest.raises(TypeError, match="stale"):
            client.read(stream, stale=nothing)


def test_database_helper_and_fixture(kimberlite_client: Client) -> None:
    """Each test database is its own."""
    with database() as mine:
        mine.create_stream("mine", DataClass.PHI)
        assert kimberlite_client.streams() == []


def test_logging(caplog: pytest.LogCaptureFixture) -> None:
    """Log lines of the library reach Python's logging, and stop when they are turned off."""
    kimberlite.enable_logging(kimberlite.LogLevel.TRACE)
    try:
        with caplog.at_level("DEBUG", logger="kimberlite"):
            with pytest.raises(ConnectionFailedError):
                Client.connect(["127.0.0.1:1"], 1, connect_timeout_ms=500)
            # Lines come from a thread of the library.
            deadline = time.monotonic() + 10
            while not caplog.records and time.monotonic() < deadline:
                time.sleep(0.01)
    finally:
        kimberlite.enable_logging(None)
    assert caplog.records
