"""The short patterns that people know from SimpleBroker, as one types them into a shell."""

from __future__ import annotations

import json

from recipes.place import ODD_BODIES, Place
from support import eventually

THREE = ["one", "two", "three"]


def test_a_loop_over_read_handles_all_and_ends(place: Place) -> None:
    place.write("work", *THREE)
    said = place.bash('while body=$(broker read work); do echo "done: $body"; done; echo over')
    assert said.splitlines() == [*(f"done: {body}" for body in THREE), "over"]


def test_a_reader_resumes_after_the_id_it_stored(place: Place) -> None:
    place.write("log", "before")
    follow = """
        broker peek log --all --json --after "$(cat last 2> /dev/null || echo 0)" |
            while IFS= read -r line; do
                jq -j .message <<< "$line" | ./note
                jq -r .id <<< "$line" > last.new && mv last.new last
            done
    """
    place.bash(follow)
    place.write("log", *ODD_BODIES)
    place.bash(follow)
    assert place.noted() == ["before", *ODD_BODIES]
    assert len(place.messages("log")) == 1 + len(ODD_BODIES)


def test_a_message_is_reserved_by_move_and_then_deleted(place: Place) -> None:
    place.write("todo", *ODD_BODIES[:2])
    place.bash("""
        while held=$(broker move todo doing --json); do
            jq -j .message <<< "$held" | ./note
            broker delete doing -m "$(jq -r .id <<< "$held")"
        done
    """)
    assert place.noted() == ODD_BODIES[:2]
    assert (place.messages("todo"), place.messages("doing")) == ([], [])


def test_move_prints_an_object_a_line_and_no_array(place: Place) -> None:
    place.write("todo", *ODD_BODIES)
    said = place.bash("broker move todo doing --json; broker move todo doing --all --json")
    moved = [json.loads(line) for line in said.splitlines()]
    assert [message["message"] for message in moved] == ODD_BODIES
    assert all(message["id"] == str(message["timestamp"]) for message in moved)
    assert [message["id"] for message in moved] == [str(found) for found in place.ids("doing")]


def test_failures_go_to_another_queue_and_come_back(place: Place) -> None:
    place.write("tasks", "good", "bad")
    place.bash("""
        while body=$(broker read tasks); do
            ./picky <<< "$body" || broker write dlq - <<< "$body"
        done
        broker move dlq tasks --all
    """)
    assert (place.noted(), place.bodies("tasks")) == (["good\n"], ["bad\n"])


def test_a_message_is_peeked_at_handled_and_then_deleted(place: Place) -> None:
    place.write("tasks", *ODD_BODIES[:2])
    place.bash("""
        while line=$(broker peek tasks --json); do
            jq -j .message <<< "$line" | ./note
            broker delete tasks -m "$(jq -r .id <<< "$line")"
        done
    """)
    assert (place.noted(), place.messages("tasks")) == (ODD_BODIES[:2], [])


def test_a_watcher_feeds_a_loop_that_deletes_by_id(place: Place) -> None:
    place.write("tasks", *ODD_BODIES[:2])
    loop = place.script(
        "loop",
        """broker watch tasks --peek --json -q | while IFS= read -r line; do
            jq -j .message <<< "$line" | ./note
            broker delete tasks -m "$(jq -r .id <<< "$line")"
        done""",
    )
    place.start(loop)
    eventually(lambda: place.noted() == ODD_BODIES[:2], within=15)
    place.write("tasks", *ODD_BODIES[2:])
    eventually(lambda: place.noted() == ODD_BODIES and not place.messages("tasks"), within=15)


def test_output_and_input_are_pipes(place: Place) -> None:
    for name in THREE:
        place.script(f"logs/{name}.log", "")
    place.bash("df -h | broker write monitoring -")
    assert place.bodies("monitoring")[0].startswith("Filesystem")
    find = "find logs -name '*.log'"
    place.bash(f"{find} | broker write files --lines")
    place.bash(f'{find} | while read -r name; do broker write files "$name"; done')
    place.bash("broker read files --all | xargs -P 4 -I {} sh -c 'echo \"$1\" | ./note' _ {}")
    assert sorted(place.noted()) == sorted(2 * [f"logs/{name}.log\n" for name in THREE])


def test_it_works_without_terminal_environment_or_folder(place: Place) -> None:
    """As cron and `ssh HOST COMMAND` start it: next to no environment, and a shell that says cd."""
    far = f"cd /; env -i PATH='{place.env['PATH']}' sh -c"
    body = "remote $(touch pwned)\n"
    place.bash(f"{far} 'cd {place.path} && broker write tasks -'", stdin=body)
    assert place.bash(f"{far} 'cd {place.path} && broker read tasks'") == body + "\n"
    cron = f"broker -f {place.path}/.broker.db write tasks nightly"
    place.bash(f"{far} '{cron}' <&- >&- 2>&-")
    assert place.bodies("tasks") == ["nightly"]


def test_a_build_makes_the_project_database_where_list_finds_none(place: Place) -> None:
    place.env |= {"BROKER_PROJECT_SCOPE": "true", "BROKER_DEFAULT_DB_NAME": "ci-queue.db"}
    place.run("broker", "list", status=1)
    (place.path / "sub").mkdir()
    place.bash("broker list 2> /dev/null || broker init")
    place.run("broker", "list", folder="sub")
    place.run("broker", "write", "builds", "compile", folder="sub")
    assert place.run("broker", "peek", "builds") == "compile\n"
    assert not place.has("sub/ci-queue.db")
