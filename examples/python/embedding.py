"""Embed the queue: one client resolves its store once, with its own settings, and hands out queues.

    python examples/python/embedding.py ROOT [BODY...]

The bodies go to the queue `jobs` of the application that is rooted in ROOT; then it prints where
that store is and what is in it. The application keeps its names to itself: its database is
ROOT/.myapp/queue.db (or what ROOT/.myapp/broker.toml names), its settings are MYAPP_* variables,
and what the shell says to `broker` about names and places (BROKER_DEFAULT_DB_NAME, ...) does not
count.

    MYAPP_WAIT_MS      the longest wait for another writer (5000)
    MYAPP_MOST_BYTES   of one message (10485760)

Under kill: what `submit` returned for is stored, and survives a power cut.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from brokerrun import (
    BrokerrunError,
    BrokerTarget,
    Handle,
    Queue,
    open_broker,
    resolve_config,
    target_for_directory,
)

OURS = {"MYAPP_WAIT_MS": "BROKER_BUSY_TIMEOUT", "MYAPP_MOST_BYTES": "BROKER_MAX_MESSAGE_SIZE"}
FIXED = {
    "BROKER_PROJECT_SCOPE": False,
    "BROKER_PROJECT_CONFIG_PATH": ".myapp",
    "BROKER_PROJECT_CONFIG_NAME": "broker.toml",
    "BROKER_DEFAULT_DB_NAME": ".myapp/queue.db",
}


@dataclass(frozen=True)
class Client:
    """The queues of one application. The store is made when it is first used."""

    target: BrokerTarget
    config: Mapping[str, object]

    @classmethod
    def rooted(cls, root: Path, environ: Mapping[str, str]) -> Client:
        """Resolve the store; from then on the current directory and the variables may change.

        Raises:
            UsageError: A setting is wrong, or *root* is no directory.
        """
        given = {key: environ[name] for name, key in OURS.items() if name in environ}
        config = resolve_config({**FIXED, **given})
        return cls(target_for_directory(root, config=config), config)

    def queue(self, name: str) -> Queue:
        """Give a queue; all of them share one connection."""
        return Queue(name, self.target, persistent=True, config=self.config)

    def broker(self) -> Handle:
        """Open the store for what goes across queues, best inside `with`."""
        return open_broker(self.target, config=self.config)

    def submit(self, job: str) -> int:
        """Store a job and return its id."""
        return self.queue("jobs").write(job)


def main() -> None:
    if not sys.argv[1:]:
        sys.exit(__doc__)
    try:
        client = Client.rooted(Path(sys.argv[1]), os.environ)
        for body in sys.argv[2:]:
            client.submit(body)
        print(client.target.target_path)
        with client.broker() as broker:
            for stats in broker.list_queue_stats():
                print(f"{stats.queue}: {stats.pending} pending")
    except BrokerrunError as error:
        sys.exit(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
