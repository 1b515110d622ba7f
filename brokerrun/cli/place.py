"""Which database a command line means, and the settings that hold for it."""

from __future__ import annotations

import os

from brokerrun.cli.grammar import Line
from brokerrun.core.broker import Broker
from brokerrun.core.settings import Settings, read_settings
from brokerrun.core.target import find_database, make_folder

Place = tuple[Settings, str]


def read_place(line: Line) -> Place:
    """Read the settings of the environment, and find the database; it need not be there."""
    settings = read_settings(os.environ)
    return settings, find_database(settings, line.dir, line.file)


def open_broker(place: Place, *, create: bool) -> Broker:
    """Name the broker of a command; nothing is opened before its first use.

    *create*: A database that is missing is made, and the last folder of its path.
    """
    settings, path = place
    if create:
        make_folder(path)
    return Broker(path, create=create, settings=settings)
