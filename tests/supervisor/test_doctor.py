"""`brokerrun doctor` in the traps that it is there for."""

from __future__ import annotations

import json
import os
import signal
from typing import Any

from supervised import Site
from support import eventually

FINE = "def q(job): ...\n"


def found(site: Site, **env: str) -> list[dict[str, Any]]:
    """Run the doctor; check that its status says what it found."""
    done = site.run("doctor", "--json", **env)
    findings = [json.loads(line) for line in done.stdout.splitlines()]
    grave = [each for each in findings if each["severity"] != "info"]
    assert done.returncode == (4 if grave else 0), done
    # Where the tests run may be a container of its own.
    return [each for each in findings if "overlay" not in each["what"]]


def what(findings: list[dict[str, Any]], word: str) -> list[str]:
    return [f"{each['severity']} {each['what']}" for each in findings if word in each["what"]]


def test_nothing_wrong_is_said(site: Site) -> None:
    site.handlers(FINE)
    site.configure(q={})
    site.write("q", "m")
    site.start()
    assert not [each for each in found(site) if each["severity"] != "info"]
    done = site.run("doctor")
    assert done.returncode != 0 or "nothing is wrong" in done.stdout


def test_what_imports_leave_is_named(site: Site) -> None:
    site.handlers("""
        import concurrent.futures
        POOL = concurrent.futures.ThreadPoolExecutor(thread_name_prefix="pool")
        POOL.submit(int)
        BROKER = Broker(HERE + "/.broker.db")
        BROKER.write("imports", "m")

        def q(job): ...
        """)
    site.configure(q={}, absent={"handler": "absent:handle"})
    findings = found(site)
    assert "warning an import left threads: pool_0: workers are" in "".join(what(findings, "pool"))
    assert len(what(findings, f"left {site.database} open")) == 1
    assert "error cannot import module 'absent'" in "".join(what(findings, "absent"))


def test_a_socket_path_that_is_too_long(site: Site) -> None:
    deep = site.folder / ("d" * 120)
    site.handlers(FINE)
    site.configure(instance={"runtime_dir": str(deep)}, q={})
    (told,) = what(found(site), "too long for the address")
    assert told.startswith("info ")


def test_a_folder_for_the_socket_that_others_can_write_to(site: Site) -> None:
    open_to_all = site.folder / "open"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    site.handlers(FINE)
    site.configure(instance={"runtime_dir": "open"}, q={})
    assert len(what(found(site), "others cannot write to")) == 1


def test_weak_durability_of_this_environment(site: Site) -> None:
    site.handlers(FINE)
    site.configure(q={})
    (told,) = what(found(site, BROKER_SYNC_MODE="OFF"), "power cut")
    assert told.startswith("warning ")


def test_a_supervisor_that_does_not_answer(site: Site) -> None:
    site.handlers(FINE)
    site.configure(q={})
    process = site.start()
    site.halt(process.pid)
    (told,) = what(found(site), "does not answer")
    assert told.startswith("error ")
    os.kill(process.pid, signal.SIGCONT)
    assert site.stop() == 0


def test_a_database_of_others(site: Site) -> None:
    site.broker.close()
    site.handlers(FINE)
    site.configure(instance={"database": "other.db"}, q={})
    (site.folder / "other.db").write_text("no database at all, but text of some length" * 100)
    assert [each for each in found(site) if each["severity"] == "error"]


def test_a_file_with_faults_is_refused_and_people_get_one_line_a_finding(site: Site) -> None:
    site.handlers(FINE)
    site.configure(q={"proceses": 1})
    assert site.run("doctor").returncode == 78
    site.configure(q={})
    site.write("q", "m")
    os.chmod(site.database, 0o644)
    lines = eventually(lambda: site.run("doctor").stdout.splitlines())
    (line,) = [each for each in lines if "0644" in each]
    assert line == (
        f"warning: {site.database}: has mode 0644: other users can open it; "
        f"chmod 600 {site.database}"
    )
