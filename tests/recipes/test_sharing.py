"""The scripts of `examples/shell` that bring messages elsewhere: migrate.sh and distribute.sh."""

from __future__ import annotations

import json
from collections import Counter

from recipes.place import ODD_BODIES, Place, ends, kill_group
from support import eventually

# ------------------------------------------------------------------------------------ migrate


def test_a_renamed_queue_keeps_its_messages(place: Place) -> None:
    place.write("old", *ODD_BODIES)
    ids = place.ids("old")
    place.run("migrate.sh", "rename", "old", "new")
    assert (place.ids("new"), place.bodies("new"), place.ids("old")) == (ids, ODD_BODIES, [])
    place.run("migrate.sh", "rename", "old", "new2", status=2)


def test_messages_move_by_what_their_body_matches(place: Place) -> None:
    place.write("log", "ERROR one", *ODD_BODIES, "two\nERROR $(touch pwned)\n")
    ids = place.ids("log")
    place.run("migrate.sh", "grep", "log", "errors", "^ERROR|\nERROR")
    assert (place.ids("errors"), place.ids("log")) == ([ids[0], ids[-1]], ids[1:-1])
    assert place.bodies("errors") == ["ERROR one", "two\nERROR $(touch pwned)\n"]
    place.run("migrate.sh", "grep", "nothing", "errors", "x")


def test_messages_move_by_a_filter_over_their_json(place: Place) -> None:
    place.write("jobs", '{"n": 9}', '{"n": 1}', "no json", '{"n": 7, "text": "\\n"}', "")
    place.run("migrate.sh", "filter", "jobs", "big", ".message | fromjson | .n > 5")
    assert place.bodies("big") == ['{"n": 9}', '{"n": 7, "text": "\\n"}']
    assert place.bodies("jobs") == ['{"n": 1}', "no json", ""]


def test_messages_move_by_the_time_of_their_writing(place: Place) -> None:
    place.write("log", *ODD_BODIES)
    ids = place.ids("log")
    place.run("migrate.sh", "time", "log", "old", "--after", str(ids[0]), "--before", str(ids[2]))
    assert (place.ids("old"), place.ids("log")) == (ids[1:2], ids[0::2])
    place.run("migrate.sh", "time", "log", "old", "--before", "2001-01-01", status=2)


def test_a_command_changes_each_body(place: Place) -> None:
    place.write("raw", *ODD_BODIES)
    place.run("migrate.sh", "transform", "raw", "done", "sed", "s/^/$(touch pwned) /")
    assert place.messages("raw") == []
    assert place.bodies("done") == [_prefixed(body) for body in ODD_BODIES]


def test_what_cannot_be_changed_is_a_dead_letter(place: Place) -> None:
    place.script("change", 'echo -n half; grep -q bad && exit 1; echo -n " whole"')
    place.write("raw", "good", "bad\n", "fine")
    place.run("migrate.sh", "transform", "raw", "done", "./change", status=1)
    assert place.bodies("done") == ["half whole", "half whole"]
    assert (place.bodies("raw"), place.bodies("raw.dlq")) == ([], ["bad\n"])


def test_a_command_that_is_not_there_changes_nothing(place: Place) -> None:
    place.write("raw", "good")
    place.run("migrate.sh", "transform", "raw", "done", "./missing", status=1)
    assert (place.bodies("raw"), place.bodies("raw.dlq")) == (["good"], [])


def test_a_killed_transformation_is_finished_by_the_next(place: Place) -> None:
    place.write("raw", "one", "two", "three")
    place.script("change", "cat; touch begun; until [ -e go ]; do sleep 0.05; done")
    first = place.start("migrate.sh", "transform", "raw", "done", "./change")
    eventually(lambda: place.has("begun"), within=20)
    kill_group(first)
    place.script("go", "")
    place.run("migrate.sh", "transform", "raw", "done", "./change")
    assert place.messages("raw") == []
    assert sorted(place.bodies("done")) == ["one", "three", "two"]


def test_a_queue_splits_by_key(place: Place) -> None:
    place.write("all", "")
    [victim] = place.ids("all")
    kinds = ["a", 7, f"x\n{victim} a", "../$(touch pwned)", "a", None]
    place.write("all", "no json", *(json.dumps({"kind": kind}) for kind in kinds))
    ids = place.ids("all")
    place.run("migrate.sh", "split", "all", ".message | fromjson | .kind")
    assert place.ids("all.a") == [ids[2], ids[6]]
    assert place.ids("all.7") == [ids[3]]
    assert place.ids("all.other") == [ids[0], ids[1], ids[7]]
    assert place.ids("all._____touch_pwned_") == [ids[5]]
    assert place.messages("all") == []


def test_queues_merge_in_the_order_of_writing(place: Place) -> None:
    for queue, body in [("a", "1"), ("b", "2"), ("a", "3"), ("c", "4"), ("b", "$(touch pwned)\n")]:
        place.write(queue, body)
    place.run("migrate.sh", "merge", "all", "a", "b", "empty", "c")
    assert place.bodies("all") == ["1", "2", "3", "4", "$(touch pwned)\n"]


def _prefixed(body: str) -> str:
    return "".join(f"$(touch pwned) {line}" for line in body.splitlines(keepends=True))


# ---------------------------------------------------------------------------------- distribute


def test_messages_are_dealt_out_in_turn(place: Place) -> None:
    place.write("in", *ODD_BODIES)
    ids = place.ids("in")
    place.run("distribute.sh", "turn", "in", "w1", "w2")
    assert [place.ids("w1"), place.ids("w2")] == [ids[0::2], ids[1::2]]
    assert place.messages("in") == []


def test_messages_go_to_the_shortest_queue(place: Place) -> None:
    place.write("w1", "has", "three", "already")
    place.write("w3", "has one")
    place.write("in", *ODD_BODIES)
    place.run("distribute.sh", "load", "in", "w1", "w2", "w3")
    assert [len(place.bodies(queue)) for queue in ("w1", "w2", "w3")] == [3, 2, 2]
    assert Counter(place.bodies("w2") + place.bodies("w3")[1:]) == Counter(ODD_BODIES)


def test_a_smaller_rank_comes_sooner(place: Place) -> None:
    for rank, body in [("5", "later\n"), ("1", "$(touch pwned)\n"), ("0", "")]:
        place.run("distribute.sh", "rank", rank, "tasks", stdin=body)
    assert place.run("broker", "read", "tasks", "--all") == "\n$(touch pwned)\n\nlater\n\n"


def test_queues_are_emptied_in_the_order_given(place: Place) -> None:
    place.write("low", "slowly", "bad")
    place.write("high", ODD_BODIES[0])
    place.script(
        "meddle", "./picky || exit; [ -e meddled ] || broker write high urgent; touch meddled"
    )
    place.run("distribute.sh", "order", "high,low", "./meddle")
    assert place.noted() == [ODD_BODIES[0], "urgent", "slowly"]
    assert (place.bodies("high"), place.bodies("low")) == ([], ["bad"])


def test_an_idle_worker_steals_from_the_longest_queue(place: Place) -> None:
    place.write("short", "s1")
    place.write("long", *ODD_BODIES)
    place.run("distribute.sh", "steal", "mine", "short,long", "./note")
    assert Counter(place.noted()) == Counter([*ODD_BODIES, "s1"])
    assert place.noted()[:2] == ODD_BODIES[:2]
    assert (place.messages("short"), place.messages("long")) == ([], [])


def test_thieves_never_handle_a_message_twice(place: Place) -> None:
    bodies = [f"{number}" for number in range(6)]
    place.write("a", *bodies)
    thieves = [
        place.start("distribute.sh", "steal", own, others, "./slow")
        for own, others in (("a", "b,c"), ("b", "a,c"), ("c", "a,b"))
    ]
    eventually(lambda: len(place.noted()) == 3, within=20)
    place.script("go", "")
    for thief in thieves:
        ends(thief)
    assert Counter(place.noted()) == Counter(bodies)
    assert place.bodies("a") + place.bodies("b") + place.bodies("c") == []


def test_a_team_shares_the_work_and_tells_about_it(place: Place) -> None:
    place.script("who", 'echo "$PPID" >> workers; ./note')
    place.write("tasks", *ODD_BODIES)
    said = ends(place.start("distribute.sh", "team", "2", "tasks", "./who"))
    assert Counter(place.noted()) == Counter(ODD_BODIES)
    assert place.messages("tasks") == []
    assert len(set((place.path / "workers").read_text().split())) == 2
    head, first, *_ = said.splitlines()
    assert head.split() == ["TIME", "WORKERS", "WAITING", "DEAD"]
    assert first.split()[1:] == ["2", "3", "0"]


def test_a_team_told_to_end_finishes_what_is_in_hand(place: Place) -> None:
    place.write("tasks", *"abcd")
    team = place.start("distribute.sh", "team", "2", "tasks", "./slow")
    eventually(lambda: len(place.noted()) == 2, within=20)
    team.terminate()
    eventually(lambda: "ends" in team.stdout.readline(), within=20)
    place.script("go", "")
    ends(team)
    in_hand = place.noted()
    assert (place.path / "over").read_text().count("over") == len(in_hand) == 2
    assert sorted([*in_hand, *place.bodies("tasks")]) == list("abcd")
