"""How fast a no-op handler goes, beside a raw loop over sqlite3 in the same run.

    python bench/runtime.py [MESSAGES]

Raw: one process that takes and deletes 64 rows a transaction, flushed each time.
"""

import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from brokerrun import Broker

HANDLER = "def nothing(message):\n    pass\n"
BODY = "x" * 100


def ours(folder: str, messages: int) -> float:
    Path(folder, "jobs.py").write_text(HANDLER)
    Path(folder, "workers.toml").write_text('[workers.noop]\nhandler = "jobs:nothing"\n')
    with Broker(f"{folder}/.broker.db") as broker:
        broker.write_many("noop", [BODY])
        drain(folder)  # what a start costs, without the messages
        begun = time.monotonic()
        broker.write_many("noop", [BODY])
        drain(folder)
        start = time.monotonic() - begun
        broker.write_many("noop", [BODY] * messages)
    begun = time.monotonic()
    drain(folder)
    return messages / (time.monotonic() - begun - start)


def drain(folder: str) -> None:
    command = [sys.executable, "-m", "brokerrun", "up", "--drain"]
    subprocess.run(command, cwd=folder, check=True, stderr=subprocess.DEVNULL)


def raw(folder: str, messages: int) -> float:
    db = sqlite3.connect(f"{folder}/raw.db", isolation_level=None)
    db.execute("pragma journal_mode = wal")
    db.execute("pragma synchronous = full")
    db.execute("create table message(id integer primary key, body text)")
    db.execute("begin")
    db.executemany("insert into message(body) values (?)", [(BODY,)] * messages)
    db.execute("commit")
    begun, taken = time.monotonic(), 1
    while taken:
        db.execute("begin immediate")
        rows = db.execute("select id, body from message order by id limit 64").fetchall()
        db.executemany("delete from message where id = ?", [(ident,) for ident, _ in rows])
        db.execute("commit")
        taken = len(rows)
    return messages / (time.monotonic() - begun)


if __name__ == "__main__":
    number = int(sys.argv[1]) if sys.argv[1:] else 100_000
    with tempfile.TemporaryDirectory(dir=".") as place:
        theirs, mine = raw(place, number), ours(place, number)
    print(f"raw {theirs:.0f}/s, brokerrun {mine:.0f}/s: {mine / theirs:.2f} of it")
