"""The main job on asyncio.

python quickstart_asyncio.py [ADDRESS [TOKEN CA_FILE]]
"""

from __future__ import annotations

import asyncio
import sys

from kimberlite import AsyncClient, DataClass


async def main(address: str, token: str | None, ca_file: str) -> None:
    async with await AsyncClient.connect(
        [address], tenant_id=1, auth_token=token, tls_ca_file=ca_file
    ) as client:
        visits = await client.create_stream("visits_asyncio", DataClass.PHI)
        # Appends under way together are committed together.
        offsets = await asyncio.gather(
            *[client.append(visits, [b"visit %d" % i]) for i in range(100)]
        )

        async with await client.subscribe(visits, from_offset=min(offsets)) as subscription:
            async for event in subscription:
                if event.offset == max(offsets):
                    break

        async for event in client.events(visits, from_offset=max(offsets) - 1):
            print(event.offset, event.data)
        rows = await client.query("SELECT COUNT(*) AS visits FROM visits_asyncio")
        print(rows[0]["visits"])


if __name__ == "__main__":
    arguments = sys.argv[1:]
    asyncio.run(
        main(
            arguments[0] if arguments else "memory:",
            arguments[1] if len(arguments) > 1 else None,
            arguments[2] if len(arguments) > 2 else "",
        )
    )
