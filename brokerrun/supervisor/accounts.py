"""Whom a worker runs as.

The process that imports its handlers changes over before it imports anything, so that no line of
user code runs as root. What it cannot open as that user, its workers cannot either: the database
has to be that user's.
"""

from __future__ import annotations

import grp
import os
import pwd
from dataclasses import dataclass, replace

from brokerrun.supervisor.processes import be_inspectable
from brokerrun.supervisor.units import shown


@dataclass(frozen=True, slots=True)
class Account:
    """A user of this machine, with the groups that a login would give it."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str

    def with_group(self, gid: int) -> Account:
        """Have another primary group, beside the others."""
        return replace(self, gid=gid, groups=tuple({*self.groups, gid}))

    def environment(self) -> dict[str, str]:
        """Return what a login would set."""
        return {"HOME": self.home, "USER": self.name, "LOGNAME": self.name}


def user(value: object) -> Account:
    """Look a user up by its name. Raises ValueError where there is none."""
    try:
        entry = pwd.getpwnam(_name(value))
    except KeyError:
        raise ValueError(f"expected a user of this machine, got {shown(value)}") from None
    groups = tuple(os.getgrouplist(entry.pw_name, entry.pw_gid))
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid, groups, entry.pw_dir)


def group(value: object) -> int:
    """Look a group up by its name. Raises ValueError where there is none."""
    try:
        return grp.getgrnam(_name(value)).gr_gid
    except KeyError:
        raise ValueError(f"expected a group of this machine, got {shown(value)}") from None


def become(account: Account) -> None:
    """Be that user for good. Groups first: afterwards nobody may change them."""
    os.setgroups(account.groups)
    os.setresgid(account.gid, account.gid, account.gid)
    os.setresuid(account.uid, account.uid, account.uid)
    be_inspectable()


def access_fault(account: Account, database: str) -> str | None:
    """As that user: say why the database cannot be used, and what would help."""
    if not os.path.exists(database) or os.access(database, os.R_OK | os.W_OK):
        return None
    return (
        f"user {account.name} cannot read and write {database}: it and its companions have to be "
        f"that user's, in a folder it may enter (chown {account.name} {database}*)"
    )


def _name(value: object) -> str:
    if not isinstance(value, str) or "\0" in value:
        raise ValueError(f"expected a name in quotes, got {shown(value)}")
    return value
