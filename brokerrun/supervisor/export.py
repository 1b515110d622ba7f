"""What starts `brokerrun up` on a machine: systemd, cron, launchd, a Procfile. Pure.

All paths are absolute: none of the four knows where the file was written.
"""

from __future__ import annotations

import os
import plistlib
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from brokerrun.supervisor.spec import Config

NOTIFY_RELOAD: Final = 253  # the systemd that knows Type=notify-reload ...
RESTART_STEPS: Final = 254  # ... and the one that knows RestartSteps=
_RECOVERY_SECONDS: Final = 70  # of what a predecessor left, before the first worker starts
_PARTING_SECONDS: Final = 35  # beyond the longest grace
_WATCHDOG_SECONDS: Final = 60  # a store may stay busy for 5 s at a time, and a disk take its time
_HIDDEN_HOMES: Final = ("/home", "/root", "/run/user")
_TEMPORARY: Final = ("/tmp", "/var/tmp")  # noqa: S108
_WRITABLE: Final = (
    "# Handlers can write to these folders only: name the others that they need, too."
)
_NEVER_BETTER: Final = "64 75 78"  # usage, another one runs, bad file: a restart changes nothing


@dataclass(frozen=True, slots=True)
class Service:
    """What is to be started, where.

    name: Of the service.
    python: The interpreter, absolute, with this package in it.
    owner: The user that runs it; None: who installs it.
    personal: For the manager of a user's session, not of the machine.
    systemd: Version of the machine's.
    environment: What goes before the file where it runs, as it does here.
    """

    name: str
    config: Config
    python: str
    owner: str | None
    personal: bool
    systemd: int
    environment: dict[str, str] = field(default_factory=dict)

    def command(self, *verb: str) -> list[str]:
        # -P: no module beside the caller takes the place of one of ours.
        return [self.python, "-P", "-m", "brokerrun", *verb, "-c", self.config.path]

    @property
    def boot_timeout(self) -> float:
        return max(spec.boot_timeout for spec in self.config.workers)

    @property
    def folder(self) -> str:
        """The one that has to be written to: the database and its companions lie there."""
        return os.path.dirname(self.config.instance.database)

    @property
    def runtime_dir(self) -> str | None:
        """Where the control socket lies; None: where the manager says."""
        given = self.config.instance.runtime_dir
        return None if given == "auto" else given

    @property
    def paths(self) -> list[str]:
        places = [self.python, self.config.path, self.config.instance.database, self.runtime_dir]
        return [place for place in [*places, *(s.cwd for s in self.config.workers)] if place]


def systemd(service: Service) -> str:
    """Write the unit, by the version of systemd that will read it."""
    folder = "~/.config/systemd/user" if service.personal else "/etc/systemd/system"
    places = dict.fromkeys((service.config.folder, service.folder))
    unit = {
        "Description": f"brokerrun workers of {_percent(service.config.path)}",
        "RequiresMountsFor": " ".join(map(_quoted, places)),
        "StartLimitIntervalSec": "0",  # it never gives up: the pauses between its tries grow
    }
    target = "default.target" if service.personal else "multi-user.target"
    lines = [
        f"# {folder}/{service.name}.service, for systemd {service.systemd}",
        "# written by `brokerrun export systemd`",
        *_section("Unit", unit),
        *_section("Service", _running(service) | _ending(service)),
        *([] if service.personal else ["", *_hardening(service)]),
        *_section("Install", {"WantedBy": target}),
    ]
    return "\n".join(lines) + "\n"


def _running(service: Service) -> dict[str, str]:
    keys = {"Type": "notify-reload" if service.systemd >= NOTIFY_RELOAD else "notify"}
    keys["NotifyAccess"] = "main"
    keys["ExecStart"] = _line(service.command("up"))
    if service.systemd < NOTIFY_RELOAD:
        keys["ExecReload"] = _line(service.command("reload"))
    if service.environment:
        pairs = (f"{name}={value}" for name, value in service.environment.items())
        keys["Environment"] = " ".join(map(_quoted, pairs))
    if service.owner and not service.personal:
        keys["User"] = service.owner
    if service.runtime_dir is None:
        keys |= {"RuntimeDirectory": service.name, "RuntimeDirectoryMode": "0700"}
    keys["TimeoutStartSec"] = f"{_RECOVERY_SECONDS + 2 * service.boot_timeout:g}"
    keys["WatchdogSec"] = str(_WATCHDOG_SECONDS)
    return keys


def _ending(service: Service) -> dict[str, str]:
    keys = {
        "KillMode": "mixed",  # TERM to the supervisor alone: it lets the workers finish
        "TimeoutStopSec": f"{service.config.grace + _PARTING_SECONDS:g}",
        "OOMPolicy": "continue",  # a worker that is killed for its memory is replaced
        "Restart": "on-failure",
        "RestartPreventExitStatus": _NEVER_BETTER,
        "RestartSec": "5",
    }
    if service.systemd >= RESTART_STEPS:
        keys |= {"RestartSteps": "5", "RestartMaxDelaySec": "60"}
    return keys


def _hardening(service: Service) -> list[str]:
    """Take from the service what queue workers seldom need; a handler that does loosens it.

    Devices stay: to hide any of them, or the clock, hides a GPU too.
    """
    writable = [service.folder, *([service.runtime_dir] if service.runtime_dir else [])]
    keys = {
        "NoNewPrivileges": "yes",
        "ProtectSystem": "strict",
        "ReadWritePaths": " ".join(map(_quoted, writable)),
    }
    if not _any_below(service.paths, _HIDDEN_HOMES):
        keys["ProtectHome"] = "yes"
    if not _any_below(service.paths, _TEMPORARY):
        keys["PrivateTmp"] = "yes"
    for name in ("Hostname", "KernelLogs", "KernelModules", "KernelTunables"):
        keys[f"Protect{name}"] = "yes"
    keys |= {
        "RestrictSUIDSGID": "yes",
        "RestrictRealtime": "yes",
        "LockPersonality": "yes",
        "SystemCallArchitectures": "native",
    }
    return [_WRITABLE, *(f"{key}={value}" for key, value in keys.items())]


def cron(service: Service) -> str:
    """Write a line for a crontab: each minute, what is there is handled; overlap is no fault."""
    command = service.command("up", "--drain", "--if-not-running")
    words = shlex.join([*_with_environment(service), *command])
    # In a crontab an unescaped % ends the command.
    return f"* * * * * {words.replace('%', chr(92) + '%')}\n"


def launchd(service: Service) -> str:
    """Write a property list for launchd."""
    log = os.path.join(service.folder, f"{service.name}.log")
    job: dict[str, Any] = {
        "Label": service.name,
        "ProgramArguments": service.command("up"),
        "WorkingDirectory": service.config.folder,
        "RunAtLoad": True,
        "KeepAlive": {"SuccessfulExit": False},
        "ThrottleInterval": 10,
        "ExitTimeOut": int(service.config.grace + _PARTING_SECONDS),
        "StandardOutPath": log,
        "StandardErrorPath": log,
    }
    if service.environment:
        job["EnvironmentVariables"] = service.environment
    if service.owner and not service.personal:
        job["UserName"] = service.owner
    return plistlib.dumps(job, sort_keys=False).decode()


def procfile(service: Service) -> str:
    """Write a line for foreman, honcho, overmind and their like."""
    words = [*_with_environment(service), *service.command("up")]
    return f"{service.name.replace('.', '-')}: {shlex.join(words)}\n"


FORMATS: Final[dict[str, Callable[[Service], str]]] = {
    "systemd": systemd,
    "cron": cron,
    "launchd": launchd,
    "procfile": procfile,
}


def _section(name: str, keys: dict[str, str]) -> list[str]:
    return ["", f"[{name}]", *(f"{key}={value}" for key, value in keys.items())]


def _with_environment(service: Service) -> list[str]:
    pairs = [f"{name}={value}" for name, value in service.environment.items()]
    return ["/usr/bin/env", *pairs] if pairs else []


def _line(words: list[str]) -> str:
    """Write a command line; a $ would name a variable."""
    return " ".join(_quoted(word).replace("$", "$$") for word in words)


def _quoted(word: str) -> str:
    word = _percent(word)
    if word and not set(word) & set(" \t\"'\\;#"):
        return word
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _percent(text: str) -> str:
    return text.replace("%", "%%")


def _any_below(paths: list[str], folders: tuple[str, ...]) -> bool:
    return any(path.startswith(folder + "/") for path in paths for folder in folders)
