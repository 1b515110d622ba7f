"""The three forms of a handler, and what is no handler."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import brokerrun
from brokerrun.supervisor import handlers
from brokerrun.supervisor.handlers import Form, Handler, HandlerFault, Job, form_of, load_handler

JOB = Job(7, "q", "the body", 1, 4, 0.0, None, None, lambda: False, lambda seconds: None)


class Methods:
    def body(self, message: str) -> None: ...
    def both(self, message: str, timestamp: int) -> None: ...
    def job(self, job: Any) -> None: ...

    @classmethod
    def by_class(cls, message: str) -> None: ...

    @staticmethod
    def alone(job: Any) -> None: ...

    def __call__(self, message: str, timestamp: int) -> None: ...


def body(message): ...
def body_only_by_position(message, /): ...
def body_and_keyword(message, *, retries=3): ...
def body_and_keywords(message, **more): ...
def named_job(job): ...
def annotated(work: Job): ...
def annotated_as_text(work: "Job"): ...  # noqa: UP037
def annotated_by_module(work: handlers.Job): ...
def annotated_by_package(work: brokerrun.Job): ...
def named_job_annotated_str(job: str): ...
def annotated_str(message: str): ...
def both(message, timestamp): ...
def both_by_other_names(a, b): ...
def second_has_default(message, timestamp=None): ...
def only_has_default(message="x"): ...


def with_annotation(annotation: Any) -> Any:
    def handle(work): ...

    handle.__annotations__["work"] = annotation
    return handle


@pytest.mark.parametrize(
    ("function", "form"),
    [
        (body, Form.BODY),
        (body_only_by_position, Form.BODY),
        (body_and_keyword, Form.BODY),
        (body_and_keywords, Form.BODY),
        (annotated_str, Form.BODY),
        (only_has_default, Form.BODY),
        (lambda message: None, Form.BODY),
        (named_job, Form.JOB),
        (named_job_annotated_str, Form.JOB),
        (annotated, Form.JOB),
        (annotated_as_text, Form.JOB),
        (annotated_by_module, Form.JOB),
        (annotated_by_package, Form.JOB),
        (with_annotation(Job), Form.JOB),
        (with_annotation("brokerrun.Job"), Form.JOB),
        (with_annotation("str"), Form.BODY),
        (both, Form.BODY_AND_ID),
        (both_by_other_names, Form.BODY_AND_ID),
        (second_has_default, Form.BODY_AND_ID),
        (Methods().body, Form.BODY),
        (Methods().both, Form.BODY_AND_ID),
        (Methods().job, Form.JOB),
        (Methods.by_class, Form.BODY),
        (Methods.alone, Form.JOB),
        (Methods(), Form.BODY_AND_ID),
        (partial(both, timestamp=1), Form.BODY),
        (partial(both, "x"), Form.BODY),
        (str.upper, Form.BODY),
    ],
)
def test_the_signature_chooses_the_form(function: Any, form: Form) -> None:
    assert form_of(function) is form


@pytest.mark.parametrize(
    ("form", "given"),
    [(Form.BODY, ("the body",)), (Form.BODY_AND_ID, ("the body", 7)), (Form.JOB, (JOB,))],
)
def test_each_form_is_given_its_arguments(form: Form, given: tuple[Any, ...]) -> None:
    got: list[Any] = []
    Handler(lambda *arguments: got.append(arguments), form)(JOB)
    assert got == [given]


def nothing(): ...
def three(a, b, c): ...
def three_with_default(a, b, c=1): ...
def many(*messages): ...
def keyword_needed(message, *, retries): ...
def only_keyword(*, message): ...
async def coroutine(message): ...
async def async_generator(message):
    yield message


def generator(message):
    yield message


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (nothing, r"takes \(\): expected \(message\), \(message, timestamp\) or \(job\)"),
        (three, r"takes \(a, b, c\)"),
        (three_with_default, r"takes \(a, b, c=1\)"),
        (many, r"takes \(\*messages\)"),
        (keyword_needed, r"takes \(message, retries\)"),
        (only_keyword, r"takes \("),
        (coroutine, "is async"),
        (async_generator, "is async"),
        (generator, "is a generator"),
        (dict, "signature"),
    ],
)
def test_what_takes_no_message_is_refused_by_name(function: Any, why: str) -> None:
    with pytest.raises(HandlerFault, match=why):
        form_of(function)


class AsyncCall:
    async def __call__(self, message: str) -> None: ...


class GeneratorCall:
    def __call__(self, message: str) -> Iterator[str]:
        yield message


@pytest.mark.parametrize(
    "function",
    [AsyncCall(), GeneratorCall(), partial(coroutine), partial(generator)],
    ids=["async object", "generator object", "partial of async", "partial of generator"],
)
def test_what_would_return_before_it_ran_is_refused(function: Any) -> None:
    """A coroutine or a generator that nobody runs would acknowledge what nobody handled."""
    with pytest.raises(HandlerFault, match=r"is async|is a generator"):
        form_of(function)


# -------------------------------------------------------------------------------------- imports


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_a_handler_is_found_by_module_and_function(folder: Path) -> None:
    (folder / "things.py").write_text("def handle(job): ...\n")
    assert load_handler("things:handle").form is Form.JOB


def test_a_handler_is_found_in_a_package(folder: Path) -> None:
    (folder / "app").mkdir()
    (folder / "app" / "mail.py").write_text("def send(message): ...\n")
    assert load_handler("app.mail:send").form is Form.BODY


@pytest.mark.parametrize(
    ("text", "path", "fault"),
    [
        (None, "absent:handle", "cannot import module 'absent': ModuleNotFoundError"),
        ("1 / 0", "m:handle", "cannot import module 'm': ZeroDivisionError: division by zero"),
        ("raise SystemExit(3)", "m:handle", "cannot import module 'm': SystemExit: 3"),
        ("raise KeyboardInterrupt", "m:handle", "cannot import module 'm': KeyboardInterrupt"),
        ("def broken(:", "m:handle", "cannot import module 'm': SyntaxError"),
        ("import nowhere_to_be_found", "m:handle", "nowhere_to_be_found"),
        ("x = 1", "m:handle", "module 'm' has no 'handle'"),
        ("handle = 5", "m:handle", "'m:handle' is no function but 'int'"),
        ("def handle(): ...", "m:handle", r"takes \(\)"),
        ("async def handle(m): ...", "m:handle", "is async"),
    ],
)
def test_whatever_an_import_does_is_a_fault_that_says_why(
    folder: Path, text: str | None, path: str, fault: str
) -> None:
    if text is not None:
        (folder / "m.py").write_text(text)
    with pytest.raises(HandlerFault, match=fault):
        load_handler(path)


def test_a_long_reason_of_many_lines_becomes_one_short_line(folder: Path) -> None:
    (folder / "m.py").write_text("raise ValueError('first\\n' + 'x' * 10_000)")
    with pytest.raises(HandlerFault) as caught:
        load_handler("m:handle")
    assert str(caught.value).splitlines() == ["cannot import module 'm': ValueError: first"]


class Unsayable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no")


@pytest.mark.parametrize("error", ["Unsayable()", "ValueError()"])
def test_a_reason_that_cannot_be_said_is_a_fault_all_the_same(folder: Path, error: str) -> None:
    (folder / "m.py").write_text(
        "class Unsayable(Exception):\n"
        "    def __str__(self): raise RuntimeError('no')\n"
        f"raise {error}\n"
    )
    with pytest.raises(HandlerFault, match="cannot import module 'm'"):
        load_handler("m:handle")


def test_a_module_whose_getattr_raises_is_a_fault(folder: Path) -> None:
    (folder / "m.py").write_text("def __getattr__(name): raise RuntimeError('lazy import broke')\n")
    with pytest.raises(HandlerFault, match="lazy import broke"):
        load_handler("m:handle")


def test_what_a_handler_may_say_is_public() -> None:
    for name in ("Retry", "Snooze", "Dead", "Drop", "Job"):
        assert getattr(brokerrun, name) is getattr(handlers, name)


def test_a_job_can_be_asked_whether_to_stop_and_for_more_time() -> None:
    asked: list[float] = []
    told = SimpleNamespace(stopping=False)
    job = Job(7, "q", "b", 1, 4, 0.0, None, None, lambda: told.stopping, asked.append)
    assert job.stopping is False
    told.stopping = True
    assert job.stopping is True
    job.extend(5)
    assert asked == [5]
