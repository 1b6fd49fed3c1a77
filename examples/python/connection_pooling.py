"""One client for the whole program: addresses, pool, deadlines, threads, and a close that waits.

python connection_pooling.py [ADDRESS [TOKEN CA_FILE]]
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

from kimberlite import Client, DataClass, StreamId, TimedOutError


def connect(addresses: list[str], token: str | None, ca_file: str) -> Client:
    # cut-begin connect
    return Client.connect(
        addresses,
        tenant_id=1,
        auth_token=token,
        tls_ca_file=ca_file,
        pool_connections=4,
        connect_timeout_ms=5_000,
        timeout_ms=10_000,
        client_name="billing",
    )
    # cut-end


def share(client: Client, visits: StreamId) -> int:
    # cut-begin share
    def work(number: int) -> int:
        return client.append(visits, [f'{{"worker": {number}}}'.encode()])

    with ThreadPoolExecutor(max_workers=8) as threads:
        offsets = sorted(threads.map(work, range(100)))
    # cut-end
    return len(set(offsets))


def bounded(client: Client) -> str:
    slow = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT MAX(i) FROM n"
    # cut-begin deadline
    try:
        client.query(slow, timeout_ms=200)
    except TimedOutError as error:
        told = f"too slow: {error.name}"
    # cut-end
    return told


def main(address: str, token: str | None, ca_file: str) -> None:
    client = connect([address], token, ca_file)
    visits = client.create_stream("pooled_visits", DataClass.NON_PHI)
    print(f"{share(client, visits)} appends from 8 threads over one client")
    print(bounded(client))
    # cut-begin close
    client.close(timeout_ms=5_000)
    # cut-end


if __name__ == "__main__":
    arguments = sys.argv[1:]
    main(
        arguments[0] if arguments else "memory:",
        arguments[1] if len(arguments) > 1 else None,
        arguments[2] if len(arguments) > 2 else "",
    )
