"""Index real files: a message is a path; its size, digest and counts go into a results table.

The message's id is the key of its row, so a message that runs twice changes nothing. What cannot
be read or decoded fails, and ends in the dead-letter queue with the reason.
"""

import hashlib
import os
import sqlite3

RESULTS = os.environ.get("INDEX_RESULTS", "results.db")
SCHEMA = """
create table if not exists file(
    id      integer primary key,    -- the message's id
    path    text not null,
    size    integer not null,
    sha256  text not null,
    lines   integer not null,
    words   integer not null
)
"""


def index(message: str, timestamp: int) -> None:
    """Read the file that the message names, and write what it holds."""
    with open(message, "rb") as file:
        content = file.read()
    text = content.decode("utf-8")  # UnicodeDecodeError: this one is not for us
    row = (
        timestamp,
        message,
        len(content),
        hashlib.sha256(content).hexdigest(),
        text.count("\n"),
        len(text.split()),
    )
    results = sqlite3.connect(RESULTS, timeout=30)
    try:
        with results:
            results.execute(SCHEMA)
            results.execute("insert or replace into file values (?, ?, ?, ?, ?, ?)", row)
    finally:
        results.close()
