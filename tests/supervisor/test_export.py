"""What `brokerrun export` writes: taken by those who read it, and true to the file."""

from __future__ import annotations

import plistlib
import shlex
import shutil
import subprocess
import sys
from configparser import ConfigParser
from dataclasses import replace
from pathlib import Path

import pytest
from supervised import Site

from brokerrun.supervisor.config import load
from brokerrun.supervisor.export import Service, cron, launchd, procfile, systemd

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze"
)


@pytest.fixture
def service(site: Site) -> Service:
    site.configure(
        q={"grace": "2m", "boot_timeout": "10s"}, slow={"grace": "1s", "boot_timeout": "1s"}
    )
    config = load(site.config)
    return Service(
        name="brokerrun",
        config=replace(config, instance=replace(config.instance, runtime_dir="auto")),
        python="/opt/app/bin/python",
        owner="app",
        personal=False,
        systemd=252,
    )


def moved(service: Service, folder: str) -> Service:
    """Put all that belongs to the service into a folder."""
    config = service.config
    return replace(
        service,
        config=replace(
            config,
            path=f"{folder}/workers.toml",
            folder=folder,
            instance=replace(config.instance, database=f"{folder}/.broker.db"),
            workers=tuple(replace(spec, cwd=folder) for spec in config.workers),
        ),
    )


def parsed(unit: str) -> ConfigParser:
    parser = ConfigParser(interpolation=None, strict=True)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read_string(unit)
    return parser


# -------------------------------------------------------------------------------------- the command


@needs_systemd
@pytest.mark.parametrize("arguments", [(), ("--user",)])
@pytest.mark.parametrize("folder", ["app", 'it\'s 100% a $HOME; "so" #1\\n'])
def test_the_unit_is_accepted_without_a_word(
    tmp_path: Path, folder: str, arguments: tuple[str, ...]
) -> None:
    (tmp_path / folder).mkdir()
    site = Site(tmp_path / folder)
    site.configure(q={})
    said = site.run("export", "systemd", "--name", "queue-workers", *arguments)
    assert said.returncode == 0, said.stderr
    unit = tmp_path / "queue-workers.service"
    unit.write_text(said.stdout)
    done = subprocess.run(
        ["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    site.close()


def test_what_goes_before_the_file_here_goes_before_it_there(site: Site) -> None:
    site.configure(q={})
    said = site.run("export", "systemd", BROKERRUN_NAME="second", BROKERRUN_DATABASE="my jobs.db")
    unit = parsed(said.stdout)["Service"]
    assert unit["Environment"] == '"BROKERRUN_DATABASE=my jobs.db" BROKERRUN_NAME=second'
    assert unit["ExecStart"] == f"{sys.executable} -P -m brokerrun up -c {site.config}"
    assert "brokerrun-second.service" in said.stdout


@pytest.mark.parametrize(
    ("arguments", "status", "sentence"),
    [
        (("upstart",), 64, "'upstart' is not one of"),
        (("systemd", "--name", "a/b"), 64, "--name: a service is named like a queue"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    site: Site, arguments: tuple[str, ...], status: int, sentence: str
) -> None:
    site.configure(q={})
    done = site.run("export", *arguments)
    assert done.returncode == status
    assert sentence in done.stderr


def test_a_file_with_faults_is_refused(site: Site) -> None:
    site.configure(q={"proceses": 1})
    done = site.run("export", "cron")
    assert (done.returncode, done.stdout) == (78, "")


# ---------------------------------------------------------------------------------- what is written


@pytest.mark.parametrize(
    ("version", "kind", "reload", "steps"),
    [
        (252, "notify", True, False),
        (253, "notify-reload", False, False),
        (254, "notify-reload", False, True),
    ],
)
def test_the_unit_follows_the_version_of_systemd(
    service: Service, version: int, kind: str, reload: bool, steps: bool
) -> None:
    unit = parsed(systemd(replace(service, systemd=version)))["Service"]
    assert unit["Type"] == kind
    assert ("ExecReload" in unit) is reload
    assert ("RestartSteps" in unit) is steps


def test_the_unit_waits_as_long_as_the_workers_may_take(service: Service) -> None:
    unit = parsed(systemd(service))["Service"]
    assert unit["TimeoutStopSec"] == "155"
    assert unit["TimeoutStartSec"] == "90"
    assert (unit["KillMode"], unit["OOMPolicy"]) == ("mixed", "continue")
    assert unit["RestartPreventExitStatus"] == "64 75 78"
    assert unit["User"] == "app"


@pytest.mark.parametrize(
    ("folder", "private_tmp", "protect_home"),
    [("/srv/app", True, True), ("/tmp/app", False, True), ("/home/me/app", True, False)],
)
def test_no_folder_that_the_workers_need_is_hidden(
    service: Service, folder: str, private_tmp: bool, protect_home: bool
) -> None:
    unit = parsed(systemd(moved(service, folder)))["Service"]
    assert unit["ReadWritePaths"] == folder
    assert ("PrivateTmp" in unit) is private_tmp
    assert ("ProtectHome" in unit) is protect_home


def test_a_socket_in_a_folder_of_the_file_s_own_stays_there(service: Service) -> None:
    instance = replace(service.config.instance, runtime_dir="/tmp/sockets")
    own = moved(replace(service, config=replace(service.config, instance=instance)), "/srv/app")
    unit = parsed(systemd(own))["Service"]
    assert unit["ReadWritePaths"] == "/srv/app /tmp/sockets"
    assert "RuntimeDirectory" not in unit
    assert "PrivateTmp" not in unit


def test_a_unit_of_a_session_names_no_user_and_needs_no_privilege(service: Service) -> None:
    unit = parsed(systemd(replace(service, personal=True)))
    assert unit["Install"]["WantedBy"] == "default.target"
    assert not {"User", "ProtectSystem", "ReadWritePaths"} & set(unit["Service"])


def test_what_means_something_to_systemd_is_written_so_that_it_does_not(service: Service) -> None:
    odd = systemd(moved(service, '/srv/50% of $HOME "x"'))
    unit = parsed(odd)["Service"]
    assert unit["ExecStart"].endswith(r' up -c "/srv/50%% of $$HOME \"x\"/workers.toml"')
    assert unit["ReadWritePaths"] == r'"/srv/50%% of $HOME \"x\""'


def test_launchd_reads_the_list(service: Service) -> None:
    job = plistlib.loads(launchd(replace(service, environment={"BROKERRUN_NAME": "n"})).encode())
    assert job["ProgramArguments"] == service.command("up")
    assert job["EnvironmentVariables"] == {"BROKERRUN_NAME": "n"}
    assert job["KeepAlive"] == {"SuccessfulExit": False}
    assert (job["ExitTimeOut"], job["UserName"]) == (155, "app")


def test_a_procfile_and_a_crontab_are_one_line_each(service: Service) -> None:
    name, _, command = procfile(moved(service, "/srv/my app")).partition(": ")
    assert name == "brokerrun"
    assert shlex.split(command)[-2:] == ["-c", "/srv/my app/workers.toml"]
    assert cron(service).count("\n") == procfile(service).count("\n") == 1
