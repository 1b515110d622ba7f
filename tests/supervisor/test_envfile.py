"""Files of environment variables."""

from __future__ import annotations

from pathlib import Path

import pytest

from brokerrun.supervisor.envfile import read_env_file

RIGHT = [
    ("A=b", "b"),
    ("export A=b", "b"),
    ("  A=b  ", "b"),
    ("A=", ""),
    ("A=b=c", "b=c"),
    ("A=two words", "two words"),
    ("A=b # a comment", "b"),
    ("A=b#c", "b#c"),
    ("A=# a comment", ""),
    ("A=$HOME", "$HOME"),
    ("A=\\n", "\\n"),
    ("A='b # \"c\" $d \\n' # a comment", 'b # "c" $d \\n'),
    ("A=\"b # 'c'\"", "b # 'c'"),
    (r'A="a\nb\t\"c\"\\ \$d"', 'a\nb\t"c"\\ $d'),
    ('A=""', ""),
    ("A=x\nA=b", "b"),
    ("# A=x\n\n   # A=y\nA=b\r\n", "b"),
    ("A=é", "é"),
]
WRONG = [
    ("A", "expected KEY=VALUE, KEY of letters, digits and _"),
    ("A-B=c", "expected KEY=VALUE"),
    ("1A=c", "expected KEY=VALUE"),
    ("=c", "expected KEY=VALUE"),
    ("A =c", "expected KEY=VALUE"),
    ("A='secret", "A: expected a value, got a quote that does not end, or something after it"),
    ('A="secret\nB="', "A: expected a value, got a quote that does not end"),
    ('A="b" secret', "A: expected a value, got a quote that does not end, or something after it"),
    ("A=secret\0", "A: expected a value, got a NUL"),
]


@pytest.mark.parametrize(("text", "value"), RIGHT)
def test_a_value_is_what_is_documented(tmp_path: Path, text: str, value: str) -> None:
    file = tmp_path / "env"
    file.write_text(text, encoding="utf-8")
    assert read_env_file(str(file)).variables == {"A": value}


@pytest.mark.parametrize(("text", "reason"), WRONG)
def test_a_wrong_line_is_named_without_its_value(tmp_path: Path, text: str, reason: str) -> None:
    file = tmp_path / "env"
    file.write_text(f"# first\n{text}\n")
    with pytest.raises(ValueError, match="expected") as caught:
        read_env_file(str(file))
    assert str(caught.value).startswith(f"{file}:2: {reason}")
    assert "secret" not in str(caught.value)


def test_a_file_that_cannot_be_read_says_why() -> None:
    found = read_env_file("/nowhere/env")
    assert found.variables == {}
    assert found.unreadable == "/nowhere/env: cannot be read: No such file or directory"


def test_what_is_no_text_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_bytes(b"A=\xff")
    with pytest.raises(ValueError, match="byte 2 is not UTF-8"):
        read_env_file(str(file))
