"""The scripts of `examples/shell`, each with the guarantee that its header states."""

from __future__ import annotations

import json
import signal
import time
from collections import Counter

import pytest
from recipes.place import ODD_BODIES, Place, ends, kill_group
from support import eventually

TWO = ["one", "two"]
WORKERS = ["safe_worker.sh", "resilient_worker.sh"]


# ------------------------------------------------------------------------------------ workers


@pytest.mark.parametrize("script", WORKERS)
def test_a_worker_handles_each_message_once_and_unchanged(place: Place, script: str) -> None:
    place.write("tasks", *ODD_BODIES)
    place.run(script, "-w", "50ms", "tasks", "./note")
    assert place.noted() == ODD_BODIES
    assert place.messages("tasks") == []


def test_a_safe_worker_puts_a_failure_off_and_goes_on(place: Place) -> None:
    place.write("tasks", "bad\n$(touch pwned)", "good")
    place.run("safe_worker.sh", "tasks", "./picky")
    assert place.noted() == ["good"]
    [left] = place.messages("tasks")
    assert left.body == place.noted("tried")[0] == "bad\n$(touch pwned)"
    assert "exit status 9" in place.run("broker", "history", str(left.id))


def test_a_command_that_reads_nothing_succeeds(place: Place) -> None:
    place.write("tasks", "more than a pipe holds " * 10_000)
    place.run("safe_worker.sh", "tasks", "./deaf")
    assert place.messages("tasks") == []


@pytest.mark.parametrize("script", WORKERS)
def test_a_killed_worker_loses_nothing_and_repeats_one(place: Place, script: str) -> None:
    lease = "1s" if script == "safe_worker.sh" else "1"
    place.write("tasks", *TWO)
    worker = place.start(script, "-l", lease, "tasks", "./slow")
    eventually(place.noted, within=20)
    kill_group(worker)
    place.script("go", "")
    place.run(script, "-l", lease, "-w", "1s", "tasks", "./slow")
    assert sorted(place.noted()) == sorted([*TWO, "one"])
    assert place.messages("tasks") == []


@pytest.mark.parametrize("script", WORKERS)
def test_a_worker_told_to_end_finishes_the_message_in_hand(place: Place, script: str) -> None:
    place.write("tasks", *TWO)
    worker = place.start(script, "tasks", "./slow")
    eventually(place.noted, within=20)
    worker.terminate()
    place.script("go", "")
    ends(worker)
    assert (place.noted(), place.has("over")) == (["one"], True)
    assert place.bodies("tasks") == ["two"]


def test_ctrl_c_lets_a_resilient_worker_finish_the_message_in_hand(place: Place) -> None:
    place.write("tasks", *TWO)
    worker = place.start("resilient_worker.sh", "tasks", "./slow")
    eventually(place.noted, within=20)
    place.signal(worker, signal.SIGINT)
    place.script("go", "")
    ends(worker)
    assert (place.noted(), place.has("over")) == (["one"], True)
    assert place.bodies("tasks") == ["two"]


@pytest.mark.parametrize("wait", [False, True], ids=["lease runs", "lease over"])
def test_what_the_checkpoint_says_is_not_handled_again(place: Place, wait: bool) -> None:
    place.write("tasks", *TWO)
    broker = place.bash("command -v broker").strip()
    place.script("bin/broker", f'[ "$1" != ack ] || kill -9 "$PPID" $$; exec {broker} "$@"')
    usual, place.env["PATH"] = place.env["PATH"], f"{place.path}/bin:{place.env['PATH']}"
    ends(place.start("resilient_worker.sh", "-l", "1", "tasks", "./note"), -signal.SIGKILL)
    place.env["PATH"] = usual
    assert len(place.bodies("tasks")) == 2
    if wait:
        place.run("broker", "claim", "other", "--wait", "1s", status=2)
    place.run("resilient_worker.sh", "-w", "50ms", "tasks", "./note")
    assert place.noted() == TWO
    assert place.messages("tasks") == []


def test_a_resilient_worker_keeps_the_lease_of_a_long_message(place: Place) -> None:
    place.write("tasks", "long")
    worker = place.start("resilient_worker.sh", "-l", "3", "-w", "50ms", "tasks", "./slow")
    eventually(place.noted, within=20)
    [first] = place.messages("tasks")
    eventually(lambda: place.messages("tasks")[0].ready_at != first.ready_at, within=20)
    place.script("go", "")
    ends(worker)
    assert (place.noted(), place.messages("tasks")) == (["long"], [])


def test_a_resilient_worker_tries_a_failure_again(place: Place) -> None:
    place.write("tasks", *ODD_BODIES[:1])
    place.script("flaky", "[ -e failed ] || { touch failed; exit 1; }; exec ./note")
    place.start("resilient_worker.sh", "tasks", "./flaky")
    eventually(lambda: place.noted() and not place.messages("tasks"), within=20)
    assert place.noted() == ODD_BODIES[:1]


# ------------------------------------------------------------------------------- dead letters


def test_a_dead_letter_waits_to_be_redriven(place: Place) -> None:
    bad = "bad\n$(touch pwned)\n"
    place.write("tasks", "a", bad)
    [_, dead] = place.ids("tasks")
    place.run("dead_letters.sh", "work", "tasks", "./picky")
    assert (place.noted(), place.noted("tried")) == (["a"], [bad])
    assert (place.bodies("tasks"), place.ids("tasks.dlq")) == ([], [dead])
    assert "tasks.dlq: 1 dead letters" in place.run("dead_letters.sh", "depth", "tasks")

    place.run("dead_letters.sh", "redrive", "tasks")
    assert (place.ids("tasks"), place.bodies("tasks.dlq")) == ([dead], [])
    place.run("dead_letters.sh", "work", "tasks", "./note")
    assert place.noted() == ["a", bad]


def test_retries_end_at_the_limit(place: Place) -> None:
    place.write("tasks", "bad")
    place.run("dead_letters.sh", "retry", "3", "tasks", "./picky")
    assert place.noted("tried") == ["bad"] * 3
    assert (place.bodies("tasks"), place.bodies("tasks.dlq")) == ([], ["bad"])


@pytest.mark.parametrize(("first", "before", "delay"), [(10, 2, 40), (1900, 1, 3600)])
def test_delays_double_up_to_an_hour(place: Place, first: int, before: int, delay: int) -> None:
    place.write("tasks", "bad")
    for _ in range(before):
        receipt = json.loads(place.run("broker", "claim", "tasks", "--json"))["receipt"]
        place.run("broker", "nack", receipt, "--delay", "0s")
    place.run("dead_letters.sh", "backoff", "9", str(first), "tasks", "./picky")
    [left] = place.messages("tasks")
    assert (left.ready_at or 0) / 1e9 == pytest.approx(time.time() + delay, abs=9)


def test_a_back_off_ends_at_the_limit(place: Place) -> None:
    place.write("tasks", "bad", "good")
    place.run("dead_letters.sh", "backoff", "1", "10", "tasks", "./picky")
    assert (place.bodies("tasks"), place.bodies("tasks.dlq")) == ([], ["bad"])
    assert place.noted() == ["good"]


def test_an_alert_is_silent_below_its_thresholds(place: Place) -> None:
    place.run("dead_letters.sh", "alert", "0", "0", "tasks")
    place.write("tasks.dlq", "a", "b")
    assert place.run("dead_letters.sh", "alert", "2", "3600", "tasks") == ""


@pytest.mark.parametrize("above", [("1", "3600"), ("2", "-1")], ids=["depth", "age"])
def test_an_alert_says_so_above_a_threshold(place: Place, above: tuple[str, str]) -> None:
    place.write("tasks.dlq", "a", "b")
    said = place.run("dead_letters.sh", "alert", *above, "tasks", status=3)
    assert said.startswith("tasks.dlq: 2 dead letters, the oldest is ")


def test_an_alert_is_told_to_a_command(place: Place) -> None:
    place.write("tasks.dlq", "a")
    place.run("dead_letters.sh", "alert", "0", "3600", "tasks", "./note", status=3)
    [said] = place.noted()
    assert said.startswith("tasks.dlq: 1 dead letters")


# ----------------------------------------------------------------------------------- pipeline


def _files(place: Place) -> set[str]:
    names = ["two\nlines", 'it\'s "quoted" $(touch pwned)', "-rf", "🐝", " blank "]
    for name in names:
        place.script(f"files/{name}", "")
    place.script("files/not this one.txt", "")
    return {f"files/{name}" for name in names}


def test_files_that_find_finds_are_handled_in_parallel(place: Place) -> None:
    files = _files(place)
    place.run("pipeline.sh", "fill", "paths", "files", "!", "-name", "*.txt")
    place.run("pipeline.sh", "each", "paths", "2", "./note")
    assert (Counter(place.noted()), place.messages("paths")) == (Counter(files), [])


def test_files_that_find_finds_are_handled_by_xargs(place: Place) -> None:
    files = _files(place)
    place.script("take", '[ -f "$1" ] && printf %s "$1" | ./note')
    place.run("pipeline.sh", "fill", "paths", "files", "!", "-name", "*.txt")
    place.run("pipeline.sh", "xargs", "paths", "2", "./take")
    assert (Counter(place.noted()), place.messages("paths")) == (Counter(files), [])


def test_a_pipeline_told_to_end_gives_back_what_is_in_hand(place: Place) -> None:
    place.write("paths", *TWO, "three")
    pipeline = place.start("pipeline.sh", "each", "paths", "2", "./slow")
    eventually(lambda: len(place.noted()) == 2, within=20)
    pipeline.terminate()
    ends(pipeline, status=1)
    left = place.messages("paths")
    assert sorted(message.body for message in left) == sorted([*TWO, "three"])
    assert all(message.attempts == 0 for message in left)


def test_a_pipeline_reports_what_failed(place: Place) -> None:
    place.write("paths", "bad", "good")
    place.run("pipeline.sh", "each", "paths", "1", "./picky", status=1)
    assert "good" in place.noted()
    assert place.bodies("paths") + place.bodies("paths.dlq") == ["bad"]


# ----------------------------------------------------------------------------------------- ci


def test_steps_run_in_order_from_any_folder_of_the_project(place: Place) -> None:
    for step in ("compile", "test"):
        place.script(f"ci/{step}", f"echo {step} >> {place.path}/ran")
    place.run("ci.sh", "ci", "compile")
    (place.path / "sub" / "deep").mkdir(parents=True)
    place.run("ci.sh", "../../ci", "test", "compile", folder="sub/deep")
    assert (place.path / "ran").read_text().split() == ["compile", "test", "compile"]
    assert [str(file.relative_to(place.path)) for file in place.path.rglob("ci-queue.db")] == [
        "ci-queue.db"
    ]


def test_a_step_that_fails_ends_the_build(place: Place) -> None:
    place.script("ci/broken", "exit 7")
    place.script("ci/deploy", f"echo deploy >> {place.path}/ran")
    place.run("ci.sh", "ci", "broken", "deploy", status=1)
    assert not place.has("ran")
    place.run("ci.sh", "ci")
    assert place.has("ran")
    dead = place.run("broker", "-f", "ci-queue.db", "peek", "builds.dlq", "--all", "--json")
    assert [json.loads(line)["message"] for line in dead.splitlines()] == ["broken"]


def test_a_step_that_was_cut_off_runs_again(place: Place) -> None:
    place.script(
        "ci/long",
        f"echo long >> {place.path}/ran; until [ -e {place.path}/go ]; do sleep 0.05; done",
    )
    build = place.start("ci.sh", "ci", "long")
    eventually(lambda: place.has("ran"), within=20)
    kill_group(build)
    place.script("go", "")
    place.run("ci.sh", "ci")
    assert (place.path / "ran").read_text().split() == ["long", "long"]


def test_a_step_that_names_no_file_of_the_folder_is_refused(place: Place) -> None:
    place.script("ci/x", "")
    place.run("ci.sh", "ci", "../note", "$(touch pwned)", status=1)
    place.run("ci.sh", "ci", status=1)
    place.run("ci.sh", "ci")
    assert not place.has("handled")


# --------------------------------------------------------------------------------------- help


SCRIPTS = [*WORKERS, "dead_letters.sh", "migrate.sh", "distribute.sh", "pipeline.sh", "ci.sh"]


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_names_the_usage_and_the_guarantee(place: Place, script: str) -> None:
    said = place.run(script, "-h")
    assert f"Usage: {script}" in said
    assert "Guarantee: " in said
    assert place.run(script, status=1) == ""
