"""Unmodified clickhouse-connect against the door: a count and a parametrised query, checked against each other.

Usage: clickhouse_door.py [--door URL] [--database NAME] [--at-least N]
The door's address may also come from HELIOGRAPH_DOOR. Prints one JSON object; exit code 0 when everything holds.
"""

import argparse
import json
import os
import sys
import time
from urllib.parse import urlsplit

import clickhouse_connect


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--door", default=os.environ.get("HELIOGRAPH_DOOR", "http://127.0.0.1:8123"))
    parser.add_argument("--database", default=os.environ.get("HELIOGRAPH_DATABASE", "heliograph"))
    parser.add_argument("--user", default=os.environ.get("HELIOGRAPH_DOOR_USER", "default"))
    parser.add_argument("--password", default=os.environ.get("HELIOGRAPH_DOOR_PASSWORD", ""))
    parser.add_argument("--at-least", type=int, default=1, help="rows that must be there")
    parser.add_argument("--seconds", type=float, default=30.0, help="how long to wait for them")
    args = parser.parse_args()

    address = urlsplit(args.door)
    client = clickhouse_connect.get_client(
        host=address.hostname,
        port=address.port or 8123,
        secure=address.scheme == "https",
        username=args.user,
        password=args.password,
        database=args.database,
    )
    deadline = time.monotonic() + args.seconds
    while True:
        count = client.query("SELECT count() FROM transactions").result_rows[0][0]
        if count >= args.at_least or time.monotonic() > deadline:
            break
        time.sleep(0.5)

    slot, in_slot = client.query(
        "SELECT slot, count() FROM transactions GROUP BY slot ORDER BY slot LIMIT 1"
    ).result_rows[0] if count else (0, 0)
    parametrised = client.query(
        "SELECT count() FROM transactions WHERE slot = {slot:UInt64}", parameters={"slot": slot}
    ).result_rows[0][0]
    checks = {
        "enough_rows": count >= args.at_least,
        "parametrised_query_agrees": parametrised == in_slot,
    }
    print(json.dumps({
        "client": f"clickhouse-connect {clickhouse_connect.__version__}" if hasattr(clickhouse_connect, "__version__") else "clickhouse-connect",
        "server_version": client.server_version,
        "transactions": count,
        "slot": slot,
        "transactions_of_slot": parametrised,
        "checks": checks,
        "ok": all(checks.values()),
    }))
    return 0 if all(checks.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
