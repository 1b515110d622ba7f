"""docs/broker.md says what the program does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from brokerrun.cli.full_parser import VERBS
from brokerrun.core.knobs import KNOBS

TEXT = (Path(__file__).parents[2] / "docs" / "broker.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("key", KNOBS)
def test_every_setting_is_in_the_reference(key: str) -> None:
    assert f"`{key}`" in TEXT


def test_defaults_of_the_reference_are_those_of_the_program() -> None:
    rows = re.findall(r"^\| `(BROKER_\w+)` \| ([^|]*?) ?\|", TEXT, re.MULTILINE)
    assert len(rows) > 15
    for key, default in rows:
        knob = KNOBS[key]
        if default:
            assert knob.read(default) == knob.read(knob.default), key
        else:
            assert knob.default == "", key


def test_the_reference_names_no_setting_that_is_not_there() -> None:
    named = set(re.findall(r"BROKER_[A-Z_]+\b", TEXT))
    assert {key for key in named if not key.startswith("BROKER_MESSAGE_")} <= set(KNOBS)


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb != "completion"])
def test_every_command_is_in_the_reference(verb: str) -> None:
    assert re.search(rf"\b{verb.partition(' ')[0]}\b", TEXT)
