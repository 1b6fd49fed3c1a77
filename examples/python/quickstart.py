"""The main job: write, read, follow live, query, query the past, verify.

python quickstart.py [ADDRESS [TOKEN CA_FILE]]

Without an address it uses a database in memory. A second run on the same database adds to it.
"""

from __future__ import annotations

import sys

from kimberlite import Client, DataClass


def main(address: str, token: str | None, ca_file: str) -> None:
    with Client.connect([address], tenant_id=1, auth_token=token, tls_ca_file=ca_file) as client:
        visits = client.create_stream("visits_python", DataClass.PHI)
        before = client.append_result(visits, [b'{"patient": 7, "reason": "check-up"}'])
        client.append(visits, [b'{"patient": 9, "reason": "fracture"}'])

        for event in client.read(visits, from_offset=before.first_offset, max_events=100):
            print(f"read: offset {event.offset} at {event.timestamp:%H:%M:%S}: {event.data!r}")

        # A subscription gives what is there from an offset on, then what comes.
        end = client.stream_info(visits).next_offset
        with client.subscribe(visits, from_offset=end) as subscription:
            awaited = client.append(visits, [b'{"patient": 7, "reason": "follow-up"}'])
            for event in subscription:
                print(f"live: offset {event.offset}: {event.data!r}")
                if event.offset == awaited:
                    break

        sql = (
            "SELECT id, data ->> '$.reason' AS reason FROM visits_python"
            " WHERE data ->> '$.patient' = ?"
        )
        for row in client.query(sql, [7]):
            print(f"sql: {row['id']} {row['reason']}")

        # The same question, as of the moment of the first append.
        for row in client.query_at(sql, [7], position=before.position):
            print(f"sql as of position {before.position}: {row['id']} {row['reason']}")

        found = client.verify(visits)
        print(f"verify: valid={found.valid}, {found.count} events, head {found.head.hex()[:16]}…")
        # This process can walk the same chain itself.
        assert client.verify_locally(visits).valid


if __name__ == "__main__":
    given = sys.argv[1:]
    address = given[0] if given else "memory:"
    main(address, given[1] if len(given) > 1 else None, given[2] if len(given) > 2 else "")
