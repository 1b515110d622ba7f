"""`broker watch`: the messages of a queue as they come."""

from __future__ import annotations

import os
import stat
from typing import NoReturn

from brokerrun.cli.grammar import Line
from brokerrun.cli.messages import lines
from brokerrun.cli.output import (
    DONE,
    INTERRUPTS,
    Interrupted,
    emit,
    give_up_output,
    require_output,
    say,
)
from brokerrun.cli.place import open_broker, read_place
from brokerrun.core.broker import check_queue
from brokerrun.core.follower import Follower
from brokerrun.core.ids import parse_bound
from brokerrun.core.recovery import FILE_SECONDS
from brokerrun.errors import UsageError


def watch(line: Line) -> int:
    """Print messages until a signal comes or the reader goes: both end it well."""
    if line.peek and line.move is not None:
        raise UsageError("--peek and --move cannot be used together")
    if line.move is not None and line.after is not None:
        raise UsageError("--move takes every message: it cannot be used with --after")
    after = None if line.after is None else parse_bound(line.after)
    queue = check_queue(line.queue or "")
    target = None if line.move is None else check_queue(line.move)
    place = read_place(line)
    with open_broker(place, create=True) as broker:
        follower = Follower(broker, queue, peek=line.peek, target=target, after=after)
        if not line.quiet:
            say(f"broker: watching {queue}; Ctrl-C ends it")
        try:
            _follow(line, follower, min(place[0].max_interval, FILE_SECONDS))
        except Interrupted:
            give_up_output()  # what is half printed went back
            return DONE


def _follow(line: Line, follower: Follower, timeout: float) -> NoReturn:
    fds = [1] if stat.S_ISFIFO(os.fstat(1).st_mode) else []
    while True:
        require_output()
        if not follower.wait(timeout, fds):
            continue
        with INTERRUPTS.held(), follower.take() as taken, INTERRUPTS.let_in():
            emit(lines(line, taken))
