"""What a worker may use, and whom it runs as: held by the kernel, looked at from inside."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from supervised import Site, gone
from support import eventually

from brokerrun.supervisor.cpu import CpuGroups, Home, groups_fault, home

ROOT = os.geteuid() == 0
NOBODY = "nobody"


# ---------------------------------------------------------------------------------- surroundings


def test_a_worker_and_what_it_starts_have_the_surroundings_of_their_table(site: Site) -> None:
    site.handlers(
        """
        def a(job):
            limits = subprocess.run(["sh", "-c", "ulimit -d; ulimit -n; umask; nice"],
                                    capture_output=True, text=True)
            note("a", *limits.stdout.split(), os.environ["BOTH"], os.environ["FILE"])

        def b(job):
            note("b", os.nice(0), oct(os.umask(0)), os.environ.get("FILE"))
        """
    )
    (site.folder / "env").write_text("export FILE='from the file'\nBOTH=file\n")
    keys = {"env_file": "env", "env": {"BOTH": "table"}, "nice": 7, "umask": "0027"}
    site.configure(a={**keys, "limits": {"memory": "300MiB", "files": 200}}, b={})
    site.start()
    site.write("a", "x")
    site.write("b", "x")
    site.noted(f"a {300 * 1024} 200 0027 7 table from the file")
    site.noted(f"b {os.nice(0)} {oct(our_umask())} None")
    assert site.stop() == 0


def our_umask() -> int:
    before = os.umask(0o77)
    os.umask(before)
    return before


def test_the_databases_files_are_private_whatever_umask_says(site: Site) -> None:
    site.handlers("def q(job):\n    open(HERE + '/made', 'w').close()")
    site.configure(q={"umask": "000"})
    site.start()
    site.write("q", "x")
    site.empty("q")
    assert (site.folder / "made").stat().st_mode & 0o777 == 0o666
    modes = {file.stat().st_mode & 0o777 for file in site.folder.glob(".broker.db*")}
    assert modes == {0o600}
    assert site.stop() == 0


# ---------------------------------------------------------------------------------------- memory


def test_what_goes_beyond_its_memory_fails_as_any_other_message_and_the_worker_goes_on(
    site: Site,
) -> None:
    site.handlers(
        """
        def q(job):
            if job.body == "large":
                bytearray(1 << 30)
            if job.body == "slowly":
                kept = []
                while True:
                    kept.append(bytearray(100_000))
            note("done", os.getpid())
        """
    )
    site.configure(q={"limits": {"memory": "200MiB"}, "max_attempts": 1})
    site.start()
    pids = site.pids()
    for body in ("large", "slowly"):
        (message,) = site.write("q", body)
        last = site.last(message)
        assert last.outcome == "failed"
        assert last.error is not None
        assert "MemoryError" in last.error
    site.write("q", "small")
    site.noted(f"done {pids[0]}")
    assert site.stop() == 0


# ------------------------------------------------------------------------------------------- cpu


@pytest.mark.skipif(groups_fault() is not None, reason=f"no control group: {groups_fault()}")
def test_a_share_of_a_processor_is_held_with_all_that_is_started(site: Site) -> None:
    site.handlers(
        """
        def q(job):
            before = sum(os.times()[:4])
            other = subprocess.Popen([sys.executable, "-c", "while True: pass"])
            end = time.monotonic() + 2
            while time.monotonic() < end:
                pass
            other.kill()
            other.wait()
            note("used", round((sum(os.times()[:4]) - before) / 2, 2))
        """
    )
    site.configure(q={"limits": {"cpu": "30%"}})
    site.start()
    site.write("q", "x")
    eventually(lambda: site.notes("used"), 10)
    assert 0.05 < float(site.notes("used")[0].split()[1]) < 0.4
    assert site.stop() == 0
    place = home()
    assert place is not None
    assert not list(place.folder.glob(f"brokerrun-{site.supervisor.pid}-*"))


def test_a_delegated_group_of_version_2_is_divided(tmp_path: Path) -> None:
    proc, root = tmp_path / "proc", tmp_path / "cgroup"
    ours = root / "system.slice" / "brokerrun.service"
    ours.mkdir(parents=True)
    proc.mkdir()
    (proc / "cgroup").write_text("0::/system.slice/brokerrun.service\n")
    for name, text in (
        ("cgroup.controllers", "cpu memory\n"),
        ("cgroup.type", "domain\n"),
        ("cgroup.procs", f"{os.getpid()}\n"),
        ("cgroup.subtree_control", ""),
    ):
        (ours / name).write_text(text)
    left = ours / "brokerrun-999999999-q.1"
    left.mkdir()
    place = home(proc, root)
    assert place == Home(ours, 2)
    mine = f"brokerrun-{os.getpid()}"
    for folder in (f"{mine}-supervisor", f"{mine}-q.1"):  # the kernel makes them with the folder
        (ours / folder).mkdir()
        (ours / folder / "cgroup.procs").touch()
        (ours / folder / "cpu.max").touch()
    CpuGroups(place).enter("q.1", 4711, 1.5)
    assert (ours / f"{mine}-supervisor" / "cgroup.procs").read_text() == str(os.getpid())
    assert (ours / "cgroup.subtree_control").read_text() == "+cpu"
    assert (ours / f"{mine}-q.1" / "cpu.max").read_text() == "150000 100000"
    assert (ours / f"{mine}-q.1" / "cgroup.procs").read_text() == "4711"
    assert not left.exists()


# ---------------------------------------------------------------------------------------- account


def can_be_nobody() -> bool:
    """Tell whether that user can run this interpreter and read these modules."""
    if not ROOT:
        return False
    code = "import json, msgspec, structlog, brokerrun.supervisor.template"
    account = pwd.getpwnam(NOBODY)
    try:
        done = subprocess.run(
            [sys.executable, "-c", code],
            user=account.pw_uid,
            group=account.pw_gid,
            extra_groups=[],
            cwd="/",
            capture_output=True,
        )
    except OSError:
        return False
    return done.returncode == 0


@pytest.fixture
def open_site() -> Iterator[Site]:
    """Make a site that is nobody's, where it can be reached."""
    if not can_be_nobody():
        pytest.skip("only root can be somebody else, and that one has to reach the interpreter")
    account = pwd.getpwnam(NOBODY)
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    os.chown(folder, account.pw_uid, account.pw_gid)
    site = Site(folder)
    yield site
    site.close()
    shutil.rmtree(folder)


AS_WHOM = """
    note("imported", os.getuid(), os.getgid(), *os.getgroups())

    def q(job):
        death = ctypes.c_int()
        ctypes.CDLL(None).prctl(2, ctypes.byref(death))  # PR_GET_PDEATHSIG
        note("handled", *os.getresuid(), *os.getresgid(), os.environ["USER"], death.value)
        if job.body == "wait":
            await_file("go")
"""


def test_no_line_of_user_code_runs_as_root_where_a_user_is_named(open_site: Site) -> None:
    site, account = open_site, pwd.getpwnam(NOBODY)
    uid, gid = account.pw_uid, account.pw_gid
    site.handlers(AS_WHOM)
    site.configure(q={"user": NOBODY})
    site.write("q", "a")
    for file in site.folder.glob(".broker.db*"):
        os.chown(file, uid, gid)
    site.start()
    site.noted(f"handled {uid} {uid} {uid} {gid} {gid} {gid} {NOBODY} 9")
    site.noted(f"imported {uid} {gid} {gid}")
    site.empty("q")
    (message,) = site.write("q", "wait")
    eventually(lambda: len(site.notes("handled")) == 2)
    pids = [*site.pids(), *site.templates()]
    site.supervisor.kill()  # who changed its user dies with its supervisor all the same
    site.supervisor.wait()
    eventually(gone(pids), 1)
    site.start()
    eventually(lambda: len(site.notes("handled")) == 3)
    site.release("go")
    site.empty("q")
    assert site.outcomes(message) == ["lost"]
    assert site.stop() == 0


def test_a_database_of_somebody_else_is_refused_with_what_would_help(open_site: Site) -> None:
    site = open_site
    site.handlers(AS_WHOM)
    site.configure(q={"user": NOBODY})
    site.write("q", "a")
    os.chown(site.database, 0, 0)
    process = site.start(ready=False)
    assert process.wait(20) == 78
    assert f"user {NOBODY} cannot read and write {site.database}: " in site.log()
    assert f"(chown {NOBODY} {site.database}*)" in site.log()
    checked = site.run("check")
    assert checked.returncode == 78
    assert "workers.toml:5: workers.q.handler: user nobody cannot" in checked.stderr


# --------------------------------------------------------------------------------------- refusals


def test_what_cannot_be_held_is_refused_by_check_and_up_but_not_by_status(site: Site) -> None:
    site.handlers("def q(job):\n    pass")
    site.configure(q={"env_file": "nowhere", "limits": {"files": 999_999_999}})
    for command in ("check", "up"):
        done = site.run(command)
        assert done.returncode == 78
        assert f"workers.q.env_file: {site.folder}/nowhere: cannot be read: No" in done.stderr
        assert "workers.toml:7: workers.q.limits: expected at most " in done.stderr
    assert site.run("status").returncode == 3


@pytest.mark.skipif(not ROOT, reason="only root can be nobody")
def test_who_is_not_root_is_told_what_only_root_may() -> None:
    code = """if True:
        import os
        from brokerrun.supervisor.accounts import user
        from brokerrun.supervisor.rights import _of
        from supervised import spec_of
        spec = spec_of(user=user("nobody"), nice=-5)
        os.setuid(65534)
        print(*_of(spec), sep="\\n")
    """
    path = os.pathsep.join(sys.path)
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines() == [
        "('user', \"only root may run a worker as 'nobody'\")",
        "('nice', 'only root may be less nice than now, got -5')",
    ], done.stderr
