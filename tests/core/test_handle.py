"""A whole store: targets, handles, and the client that embeds them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support import Child

from brokerrun import BrokerTarget, Queue, QueueStats, open_broker, target_for_directory
from brokerrun.db import DBConnection
from brokerrun.errors import UsageError


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return tmp_path / "queue.db"


def test_a_handle_counts_across_queues(db: Path) -> None:
    with open_broker(db) as broker:
        for queue, count in (("jobs.a", 2), ("jobs.b", 1), ("mail", 1)):
            broker.queue(queue).write_many(map(str, range(count)))
        broker.queue("mail").read()
        assert broker.get_queue_stat("jobs.a") == broker.queue("jobs.a").stats()
        assert broker.get_queue_stat("never") == QueueStats("never", 0, 0, 0)
        names = [stats.queue for stats in broker.list_queue_stats()]
        assert names == ["jobs.a", "jobs.b", "mail"]
        assert [s.queue for s in broker.list_queue_stats(prefix="jobs.")] == names[:2]
        assert [s.queue for s in broker.list_queue_stats(pattern="*[bl]")] == names[1:]
        assert broker.get_queue_stats() == [("jobs.a", 2, 2), ("jobs.b", 1, 1), ("mail", 0, 1)]
        assert broker.list_queues() == [("jobs.a", 2), ("jobs.b", 1)]
        with pytest.raises(UsageError, match="not both"):
            broker.list_queue_stats(prefix="a", pattern="b")


def test_a_broadcast_tells_how_many_queues_got_it(db: Path) -> None:
    with open_broker(db) as broker:
        assert broker.broadcast("nobody") == 0
        for queue in ("a", "b", "c"):
            broker.write(queue, "x")
        assert broker.broadcast("all") == 3
        assert broker.broadcast("some", pattern="[ab]") == 2
        assert broker.queue("a").peek_many() == ["x", "all", "some"]
        assert broker.queue("c").peek_many() == ["x", "all"]


def test_a_handle_writes_deletes_stamps_and_vacuums(db: Path) -> None:
    with open_broker(db) as broker:
        first, second = broker.write("q", "a"), broker.write("q", "b")
        assert second < broker.generate_timestamp() < broker.get_ts()
        assert broker.delete("q", message_id=first) == 1
        broker.queue("q").read()
        assert broker.vacuum() == 1
        broker.write("r", "c")
        assert broker.delete() == 1


def test_a_handle_works_in_a_forked_child(db: Path) -> None:
    with open_broker(db) as broker:
        broker.write("q", "parent")

        def go_on(talk: Any) -> None:
            talk.send(broker.write("q", "child"))

        Child(go_on).hear()
        assert broker.queue("q").peek_many() == ["parent", "child"]


def test_the_older_door_gives_the_same_handle(db: Path) -> None:
    with DBConnection(db) as connection:
        handle = connection.get_connection()
        assert handle.generate_timestamp() < Queue("q", db_path=db).generate_timestamp()
        handle.write("q", "a")
        assert handle.get_queue_stats() == [("q", 1, 1)]


@pytest.mark.parametrize("place", [5, b"", "", "a\0b", object()])
def test_a_place_of_a_wrong_kind_says_what_was_wanted(place: Any) -> None:
    with pytest.raises(UsageError, match="db_path"):
        open_broker(place)


# -------------------------------------------------------------------------------- the targets


def test_a_target_is_a_plain_value_rooted_in_its_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BROKER_DEFAULT_DB_LOCATION", "/")
    target = target_for_directory(tmp_path)
    assert target == BrokerTarget("sqlite", f"{tmp_path}/.broker.db", {}, tmp_path)
    assert target.target_path == tmp_path / ".broker.db"
    assert not target.target_path.exists()
    with Queue("q", db_path=target) as queue, open_broker(target) as broker:
        ident = queue.write("a")
        assert broker.queue("q").peek(with_timestamps=True) == ("a", ident)


def test_a_project_file_says_where_the_target_is(tmp_path: Path) -> None:
    (tmp_path / ".broker.toml").write_text('version = 1\nbackend = "sqlite"\ntarget = "p.db"\n')
    assert target_for_directory(str(tmp_path)).target == f"{tmp_path}/p.db"


def test_a_relative_directory_is_taken_from_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "inner").mkdir()
    assert target_for_directory("inner").target == f"{tmp_path}/inner/.broker.db"
    with pytest.raises(UsageError, match="does not exist"):
        target_for_directory("never")
    with pytest.raises(TypeError, match="directory: expected a path"):
        target_for_directory(5)  # type: ignore[arg-type]


def test_the_configuration_names_the_database_and_its_last_folder_is_made(tmp_path: Path) -> None:
    config = {"BROKER_DEFAULT_DB_NAME": ".myapp/broker.db"}
    target = target_for_directory(tmp_path, config=config)
    Queue("q", db_path=target).write("a")
    assert (tmp_path / ".myapp" / "broker.db").exists()


def test_another_engine_is_refused_by_name() -> None:
    with pytest.raises(UsageError, match="unknown engine 'postgres'"):
        Queue("q", db_path=BrokerTarget("postgres", "host/db"))
