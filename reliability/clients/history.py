"""Appends to and reads one stream, and writes down when each call began, ended, and what it told.

python history.py ADDRESS TOKEN STREAM CLIENT CALLS SEED OUT
"""

from __future__ import annotations

import json
import random
import sys
import time
from typing import Any

from kimberlite import Client, KimberliteError, StreamId

FNV_OFFSET = 0xCBF29CE484222325
FNV_PRIME = 0x100000001B3


def extend(digest: int, event: bytes) -> int:
    """FNV-1a over one more event."""
    for byte in event:
        digest = (digest ^ byte) * FNV_PRIME & 0xFFFFFFFFFFFFFFFF
    return digest


def append(client: Client, stream: StreamId, value: int) -> dict[str, Any]:
    try:
        return {"offset": client.append(stream, [value.to_bytes(8, "little")])}
    except KimberliteError as error:
        return {"unknown": error.append_key is not None, "error": error.name}


def main() -> None:
    address, token, name, number, calls, seed, out = sys.argv[1:]
    pick = random.Random(int(seed) * 1000 + int(number))
    known, digest = 0, FNV_OFFSET
    with (
        Client.connect([address], 1, token, keepalive_ms=1_000, timeout_ms=20_000) as client,
        open(out, "w", encoding="utf-8") as file,
    ):
        stream = client.stream_info(name).stream_id
        for call in range(int(calls)):
            value = int(number) << 32 | call
            told: dict[str, Any]
            kind = pick.choice(["append", "read"])
            begin = time.monotonic_ns()
            if kind == "append":
                told = append(client, stream, value)
                end = time.monotonic_ns()
            else:
                try:
                    page = client.read(stream, known, 100_000)
                except KimberliteError as error:
                    told = {"error": error.name}
                    end = time.monotonic_ns()
                else:
                    end = time.monotonic_ns()
                    for data in page.payloads():
                        digest = extend(digest, data)
                    known += len(page)
                    told = {"length": known, "digest": str(digest)}
            line = {"client": int(number), "op": kind, "value": value, "begin": begin, "end": end}
            file.write(json.dumps({**line, **told}) + "\n")


main()
