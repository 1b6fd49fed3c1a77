"""Who read it, what was known when, whose it is, and proof: the patterns of compliance.

python compliance_patterns.py [ADDRESS [TOKEN CA_FILE]]
"""

from __future__ import annotations

import sys

from kimberlite import Client, DataClass, OffsetMismatchError, StreamId, StreamNotFoundError


def correct(client: Client, doses: StreamId) -> int:
    # cut-begin correct
    wrong = client.append_result(doses, [b'{"patient": 7, "drug": "amoxicillin", "mg": 5000}'])
    right = b'{"patient": 7, "drug": "amoxicillin", "mg": 500, "corrects": %d}'
    client.append(doses, [right % wrong.first_offset])
    # cut-end
    return wrong.position


def known_then(client: Client, before: int) -> tuple[int, int]:
    # cut-begin past
    sql = "SELECT data ->> '$.mg' AS mg FROM doses ORDER BY id DESC LIMIT 1"
    then = client.query_at(sql, position=before)[0]["mg"]
    now = client.query(sql)[0]["mg"]
    print(f"the nurse saw {then} mg; today the record says {now} mg")
    # cut-end
    return then, now


def who_read(client: Client, doses: StreamId) -> list[str]:
    client.read(doses)
    # cut-begin audit
    records = client.query(
        """
        SELECT timestamp, data ->> '$.principal' AS who, data ->> '$.event' AS what
        FROM _audit WHERE data ->> '$.stream' = ? ORDER BY id
        """,
        ["doses"],
    )
    for record in records:
        print(record["timestamp"], record["who"], record["what"])
    # cut-end
    return [record["what"] for record in records]


def only_if_unchanged(client: Client, doses: StreamId) -> bool:
    # cut-begin expected
    seen = client.stream_info(doses).next_offset
    client.append(doses, [b'{"patient": 9, "drug": "ibuprofen", "mg": 400}'])  # somebody else
    try:
        client.append(doses, [b'{"decision": "discharge"}'], expected_offset=seen)
    except OffsetMismatchError as error:
        print(f"read what came since {seen} first: the stream now ends at {error.value}")
        return False
    # cut-end
    return True


def isolated(address: str, client: Client) -> bool:
    if not address.startswith("memory:"):
        return True
    # cut-begin isolation
    with Client.connect([address], tenant_id=2) as other:
        try:
            other.stream_info("doses")
        except StreamNotFoundError:
            return True  # to the tenant 2 there is no such stream
    # cut-end
    return False


def proof(client: Client, doses: StreamId) -> bool:
    # cut-begin proof
    server_says = client.verify(doses)
    we_say = client.verify_locally(doses)
    same = we_say.valid and we_say.head == server_says.head
    print(f"{we_say.count} events, head {we_say.head.hex()}, proven here: {same}")
    # cut-end
    return same


def main(address: str, token: str | None, ca_file: str) -> None:
    with Client.connect([address], tenant_id=1, auth_token=token, tls_ca_file=ca_file) as client:
        doses = client.create_stream("doses", DataClass.PHI)
        before = correct(client, doses)
        then, now = known_then(client, before)
        assert (then, now) == (5000, 500)
        assert "access_started" in who_read(client, doses)
        assert not only_if_unchanged(client, doses)
        assert isolated(address, client)
        assert proof(client, doses)
        print("every pattern held")


if __name__ == "__main__":
    arguments = sys.argv[1:]
    main(
        arguments[0] if arguments else "memory:patterns",
        arguments[1] if len(arguments) > 1 else None,
        arguments[2] if len(arguments) > 2 else "",
    )
