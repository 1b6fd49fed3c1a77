"""What to do with an error: ask its class, try again where that is safe, settle what is unknown.

python troubleshooting.py [ADDRESS [TOKEN CA_FILE]]
"""

from __future__ import annotations

import logging
import sys
import time
from typing import Callable, TypeVar

import kimberlite
from kimberlite import (
    Client,
    DataClass,
    KimberliteError,
    LogLevel,
    StreamId,
    StreamNotFoundError,
)

T = TypeVar("T")


def catch(client: Client) -> str:
    told = ""
    # cut-begin catch
    try:
        client.stream_info("vists")
    except StreamNotFoundError as error:
        told = error.name
        print(error.name, error.code)  # STREAM_NOT_FOUND 4: the same in every language
        print(error.detail)  # which stream of which tenant
    # cut-end
    return told


# cut-begin retry
def with_retries(call: Callable[[], T], attempts: int = 5) -> T:
    for attempt in range(1, attempts + 1):
        try:
            return call()
        except KimberliteError as error:
            if not error.retryable or attempt == attempts:
                raise
            time.sleep(max(error.retry_after_ms, 50 * 2**attempt) / 1000)
    raise AssertionError("unreachable")


# cut-end


def settle(client: Client, visits: StreamId) -> int:
    # cut-begin settle
    events = [b'{"patient": 7}']
    try:
        offset = client.append(visits, events, timeout_ms=1)
    except KimberliteError as error:
        if error.append_key is None:
            raise  # nothing was sent
        # It was sent, and nobody knows: the key tells what became of it, or does it now.
        offset = client.append_with_key(error.append_key, visits, events).first_offset
    # cut-end
    return offset


def follow_the_log() -> None:
    # cut-begin log
    logging.basicConfig(level=logging.INFO)
    kimberlite.enable_logging(LogLevel.INFO)
    # cut-end


def main(address: str, token: str | None, ca_file: str) -> None:
    follow_the_log()
    print("library", kimberlite.__version__)
    with Client.connect([address], tenant_id=1, auth_token=token, tls_ca_file=ca_file) as client:
        assert catch(client) == "STREAM_NOT_FOUND"
        visits = with_retries(lambda: client.create_stream("settled_visits", DataClass.NON_PHI))
        before = client.stream_info(visits).next_offset
        try:
            assert settle(client, visits) == before
            expected = before + 1
        except kimberlite.TimedOutError:
            expected = before  # the millisecond was over before anything was sent
        assert client.stream_info(visits).next_offset == expected
        print("every error was understood")


if __name__ == "__main__":
    arguments = sys.argv[1:]
    main(
        arguments[0] if arguments else "memory:",
        arguments[1] if len(arguments) > 1 else None,
        arguments[2] if len(arguments) > 2 else "",
    )
