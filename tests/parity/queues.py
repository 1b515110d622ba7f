"""List, stats, exists, broadcast, aliases, and the options that stand alone."""

from __future__ import annotations

from typing import Final

from parity.transcript import Case

_FILL: Final = r"""
for n in jobs.a jobs-c mail Z 9; do broker write $n 1; done; broker write jobs.a 2
broker read jobs.a && broker read mail
"""

CASES: Final = (
    Case(
        "list-stats-exists",
        _FILL
        + r"""
broker list
broker list --stats
broker list --json
broker list --stats --json
broker list --prefix jobs. --json
broker list --prefix nobody
broker list --prefix nobody --stats
broker list --pattern 'jobs*'
broker list -p 'jobs[.-][ab]' --json
broker list --pattern '?' --stats
broker list --pattern=mail --stats
broker stats jobs.a
broker stats jobs.a --json
broker stats nobody
broker stats nobody --json
broker exists mail
broker exists mail --json
broker exists nobody --json
""",
    ),
    Case(
        "nothing-there",
        r"""
broker list
broker list --stats
broker list --json
broker stats q
broker stats q --json
broker exists q
broker exists q --json
broker --status | sed s/[0-9]*$//
broker alias list
broker broadcast x
broker --vacuum  # prose
broker --cleanup  # prose
broker --cleanup  # prose
""",
        slow=True,
    ),
    Case(
        "list-refusals",
        r"""
broker write q x
broker list --prefix %
broker list --prefix a --pattern b
broker list q
broker list --quiet
broker stats
broker stats a b
broker exists
""",
        slow=True,
    ),
    Case(
        "broadcast",
        r"""
broker broadcast x
for n in jobs-1 jobs-2 mail; do broker write $n first; done; broker read mail
broker broadcast hello
broker broadcast --pattern 'jobs-*' paused
broker broadcast -p 'mail' 'only mail'
broker broadcast --pattern=nobody x
echo piped | broker broadcast -
broker broadcast last -p 'jobs-1'
broker broadcast -5
broker broadcast -- --cleanup
broker peek jobs-1 --all
broker peek jobs-2 --all --json
broker peek mail --all
broker list --stats
broker broadcast
broker broadcast a b
broker broadcast --pattern 'jobs-*'
printf 'bad \xff' | broker broadcast -
BROKER_MAX_MESSAGE_SIZE=2 broker broadcast xxx
broker list
""",
    ),
    Case(
        "broadcast-and-aliases",
        r"""
broker write real first; broker alias add nick real
broker broadcast --pattern 'nick' x
broker broadcast --pattern '@nick' x
broker broadcast y
broker list
broker alias add lonely none; broker broadcast z; broker list
""",
    ),
    Case(
        "alias-operands",
        r"""
broker alias add a q; broker alias add b r
for n in 1 2 3 4; do broker write @a $n; done
broker peek @a
broker read @a --json
broker move @a @b
broker move @a plain -t
broker move @a q
broker stats @a --json
broker exists @a --json
broker delete @b -m $(broker peek @b -t | cut -f1)
broker delete @b
broker list
broker write a literal; broker peek a; broker peek @a
broker alias remove a
broker peek q
broker read @a
broker peek @a
broker move q @a
broker exists @a
broker delete @a
broker write @ x
broker list --prefix @b
""",
    ),
    Case(
        "alias-managing",
        r"""
broker alias list
broker alias add z q; broker alias add m q; broker alias add a r; broker alias list
broker alias list --target q
broker alias list --target nobody
broker alias add z other
broker alias remove z
broker alias remove z
broker alias add q p
broker alias remove q; broker alias add -q quiet q
broker alias add late q --quiet
broker alias list
""",
    ),
    Case(
        "alias-refusals",
        r"""
broker alias add m q
broker alias remove nobody
broker alias remove @z
broker alias add @x q
broker alias add x @m
broker alias add x m
broker alias add self self
broker alias add .bad q
broker alias add '' q
broker alias add only
broker alias
broker alias -
broker alias list
""",
        slow=True,
    ),
    Case(
        "alias-to-no-name",
        r"""
broker alias add good 'not a name'
broker alias list
""",
    ),
    Case(
        "alias-that-shadows",
        r"""
broker write shadow x; broker write shadow2 x
broker alias add shadow q
broker -q alias add shadow2 q
broker alias list
""",
    ),
    Case(
        "status",
        r"""
broker --status
broker --status --json
for n in a b; do broker write q $n; done; broker read q
broker --status
broker --status --json
broker -q --status
broker peek q -t
broker delete --all; broker --status
broker --status list
broker list --status
broker --status extra
""",
    ),
    Case(
        "vacuum",
        r"""
broker --vacuum  # prose
for n in a b c; do broker write q $n; done; broker write r x; broker read q && broker read r --all
broker list --stats
broker --vacuum  # prose
broker list --stats
broker exists r
broker --vacuum  # prose
broker read q; broker --vacuum --compact  # prose
broker -q --vacuum
broker --vacuum --compact -q
broker stats q
broker --compact
broker --vacuum list
broker --vacuum --json
broker read q --vacuum
broker peek q
""",
    ),
    Case(
        "cleanup",
        r"""
broker write q x; broker --cleanup  # prose
test -e .broker.db
broker --cleanup  # prose
broker write q x; broker -q --cleanup
test -e .broker.db
broker -f other.db write q y; broker -f other.db --cleanup  # prose
test -e other.db
echo 'not a database' > other.db; broker -f other.db --cleanup
cat other.db
broker -d nowhere --cleanup
""",
    ),
)
