"""Events as lines of JSON, byte for byte as the command ``kimberlite export`` writes them.

Each line is an object with ``offset``, ``timestamp``, and ``data``, or ``data_base64`` where the
data is not UTF-8. A reader needs ``data`` or ``data_base64`` and passes over the rest.
"""

from __future__ import annotations

import base64
import datetime
import json
import os
import re
from typing import Any, BinaryIO, Final

from kimberlite._generated import InvalidArgumentError, Limit

# JSON writes a byte as six at most.
MAX_LINE_BYTES: Final = 6 * Limit.EVENT_BYTES + 1024
# How much of a file is looked at in one step when its last line is searched.
_STEP_BYTES: Final = 65536
_NS: Final = 1_000_000_000
_EPOCH: Final = datetime.datetime(1970, 1, 1)

# How each line of an export begins.
_LINE_BEGINS: Final = b'{"offset":'
_FIRST: Final = re.compile(rb'\{"offset":(\d+),')
# What JSON leaves as it is and what yet controls a terminal, or turns or hides the text around it.
_UNSAFE: Final = re.compile("[\x7f-\x9f\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff]")


def line_of(offset: int, data: bytes, timestamp_ns: int) -> bytes:
    """An event's line, with its end."""
    head = f'{{"offset":{offset},"timestamp":"{rfc3339(timestamp_ns)}",'
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return f'{head}"data_base64":"{base64.b64encode(data).decode()}"}}\n'.encode()
    quoted = json.dumps(text, ensure_ascii=False)
    if not text.isascii() or "\x7f" in text:
        quoted = _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", quoted)
    return f'{head}"data":{quoted}}}\n'.encode()


def rfc3339(timestamp_ns: int) -> str:
    """A time in UTC to the nanosecond, which Python's own times do not reach."""
    seconds, ns = divmod(timestamp_ns, _NS)
    return f"{(_EPOCH + datetime.timedelta(seconds=seconds)).isoformat()}.{ns:09d}Z"


def data_of(line: bytes, place: str) -> bytes:
    """The data of a line's event. The error tells the place and repeats nothing of the line."""
    try:
        fields: Any = json.loads(line)
        text, encoded = fields.get("data"), fields.get("data_base64")
        if isinstance(text, str) and encoded is None:
            return text.encode()
        if isinstance(encoded, str) and text is None:
            return base64.b64decode(encoded, validate=True)
    except (ValueError, AttributeError, RecursionError):
        # A number or a list has no fields.
        pass
    raise InvalidArgumentError(
        f"{place}: the line is not an event; each is a JSON object whose data is text, or whose"
        " data_base64 is base64"
    ) from None


def last_line(file: BinaryIO, name: str) -> tuple[int, bytes]:
    """A file's last whole line, with its end, and where that lies; nothing where there is none."""
    start = file.seek(0, os.SEEK_END)
    tail = b""
    while True:
        end = tail.rfind(b"\n") + 1
        begin = tail.rfind(b"\n", 0, end - 1) + 1 if end else 0
        if begin or start == 0:
            rest = tail[end : end + len(_LINE_BEGINS)]
            if not _LINE_BEGINS.startswith(rest):
                # Only what an export left unfinished may be thrown away.
                break
            return start + end, tail[begin:end]
        if len(tail) > 2 * MAX_LINE_BYTES:
            break
        # Doubled, so that a long line is not read over and over.
        step = min(max(len(tail), _STEP_BYTES), start)
        start -= step
        file.seek(start)
        tail = file.read(step) + tail
    raise InvalidArgumentError(f"{name}: its last line is not one of an export")


def first_offset(file: BinaryIO, name: str) -> int:
    """The offset of a file's first line."""
    file.seek(0)
    found = _FIRST.match(file.read(40))
    if found is None:
        raise InvalidArgumentError(f"{name}: its first line is not one of an export")
    return int(found[1])


def offset_of(line: bytes, name: str) -> int:
    """The offset that a line of an export tells."""
    try:
        offset = json.loads(line)["offset"]
        if type(offset) is int and offset >= 0:
            return offset
    except (ValueError, TypeError, KeyError, RecursionError):
        pass
    raise InvalidArgumentError(f"{name}: its last line is not one of an export") from None


__all__ = ["data_of", "first_offset", "last_line", "line_of", "offset_of", "rfc3339"]
