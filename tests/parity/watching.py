"""Watch in its three modes, ended as users end it."""

# ruff: noqa: E501

from __future__ import annotations

from typing import Final

from parity.transcript import Case

CASES: Final = (
    Case(
        "watch-consumes",
        r"""
broker write q a; broker write q b
broker watch q  # INT after 2
broker stats q
(broker write q late; broker write q later) & broker watch q --json  # INT after 2
broker write q c; broker write q d; broker watch q -t  # INT after 2
broker write q e; broker watch q --json -t  # INT after 1
broker list --stats
""",
    ),
    Case(
        "watch-peeks",
        r"""
broker write q a; broker write q b
broker watch q --peek  # INT after 2
broker watch q --peek --json  # INT after 2
broker peek q --all -t
id=$(broker peek q -t | cut -f1); broker watch q --peek --after $id -t  # INT after 1
broker watch q --peek --after 2001-01-01 -t  # INT after 2
broker stats q
""",
    ),
    Case(
        "watch-moves",
        r"""
broker write q a; broker write q b; broker peek q --all -t
broker watch q --move r  # INT after 2
broker peek r --all -t
broker list
broker alias add from r; broker alias add to q
broker watch @from --move @to --json  # INT after 2
broker list
""",
    ),
    Case(
        "watch-quietly",
        r"""
broker write q a
broker -q watch q  # INT after 1
broker write q b; broker --quiet watch q --peek --json  # INT after 1
broker watch q --peek --quiet  # INT after 1
broker watch q --quiet  # INT after 1
""",
    ),
    Case(
        "watch-is-terminated",
        r"""
broker write q a; broker write q b
broker watch q --peek  # TERM after 2
broker watch q --move r  # TERM after 2
broker watch r  # TERM after 2
broker list --stats
""",
    ),
    Case(
        "watch-under-timeout",
        r"""
broker write q a
timeout -s INT 3 broker watch q
broker write q b; timeout --preserve-status 3 broker watch q --json
""",
    ),
    Case(
        "watch-side-by-side",
        r"""
for n in 1 2 3 4; do broker write q $n; done
{ set -m; for n in 1 2; do timeout -s INT 3 broker watch q --move r & done; wait; } 2>/dev/null | sort
broker list
broker read r --all | sort
""",
        slow=True,
    ),
    Case(
        "watch-refusals",
        r"""
broker watch
broker watch .bad
broker watch q --peek --move r
broker watch q --move r --after 2024-01-01
broker watch q --move r --since 2024-01-01
broker watch q --after september
broker watch q --before 2024-01-01
broker watch @nobody
broker watch q --move @nobody
broker watch q --nonsense
broker watch q --move q
""",
        slow=True,
    ),
)
