"""What is no command line of broker, and what is one though it looks odd."""
# ruff: noqa: E501

from __future__ import annotations

from typing import Final

from parity.transcript import Case

CASES: Final = (
    Case(
        "names",
        r"""
for n in A _ a. a- 1.2-3_4; do broker write "$n" x || echo "$n"; done
broker list
broker write .a x
broker write -a x
broker write -- -a x
broker write 'a b' x
broker write '' x
broker write a/b x
broker write 'a*' x
broker write $'a\n' x
broker write "$(printf %0512d 0)" x
broker write "$(printf %0513d 0)" x
broker read .a
broker move a .b
broker delete .a
broker read "$(printf %0512d 0)"
broker list  # once more
""",
        slow=True,
    ),
    Case(
        "no-command",
        r"""
broker  # prose
broker --help  # prose
broker -h  # prose
broker --version  # prose
broker --version list  # prose
broker nonsense
broker rea q
broker --nonsense
broker --qui list
broker -qq list
broker ''
broker --  # prose
""",
        slow=True,
    ),
    Case(
        "help",
        r"""
broker read --help  # prose
broker write --help q  # prose
broker peek -h  # prose
broker alias --help  # prose
broker alias add --help  # prose
""",
        slow=True,
    ),
    Case(
        "options-after-the-command",
        r"""
broker write q x
broker list -d .
broker peek q -q
broker peek q --quiet
broker peek q --dir=.
broker --json list
broker -t peek q
""",
        slow=True,
    ),
    Case(
        "spellings",
        r"""
broker write q a; broker write q b
broker peek --all -t q
broker peek q --tim
broker peek q --js
broker peek q --aft 2001-01-01
broker peek q --bef=2100-01-01
id=$(broker peek q -t | cut -f1); broker peek q --mess $id; broker peek q -m$id; broker peek q -m=$id
broker peek q --after=2001-01-01 --all
broker peek q --all --all
broker peek q --after 2100-01-01 --after 2001-01-01
broker peek q -tt
broker peek -- q
broker peek q --
broker peek q --all=yes
broker list --st
broker list --pre q
broker list --p q
broker move q --all r
broker delete --message=$(broker peek r -t | cut -f1) r
""",
        slow=True,
    ),
    Case(
        "combinations",
        r"""
broker write q a
broker read q -m 1837025672140161024 --all
broker read q -m 1837025672140161024 --after 2001-01-01
broker peek q -m 1837025672140161024 --before 2100-01-01
broker move q r -m 1837025672140161024 --all
broker move q r -m 1837025672140161024 --after 2001-01-01
broker move q r -m 1837025672140161024 --before 2100-01-01
broker --cleanup --version  # prose
broker --status --version  # prose
""",
        slow=True,
    ),
    Case(
        "operands",
        r"""
broker read
broker write
broker move q
broker move a b c
broker write q a b
broker read q --limit 5
broker read q --after
broker read q -m
broker read q --json --jsn
broker peek q -- --all
broker write q x --nonsense
""",
        slow=True,
    ),
)
