"""Write, read, peek, move and delete: what is chosen and how it is printed."""
# ruff: noqa: E501

from __future__ import annotations

from typing import Final

from parity.transcript import Case

_ABSENT: Final = "1837025672140161024"

CASES: Final = (
    Case(
        "read-and-peek",
        r"""
broker read q
broker peek q
broker read q --all
broker peek q --all --json
for n in a b c d; do broker write q $n; done
broker peek q -t
broker peek q --timestamps --all
broker peek q --json
broker peek q --json --all
broker read q -t
broker read q --json
broker peek q --all
broker read q --json --all
broker read q
broker peek q -t
""",
    ),
    Case(
        "one-by-id",
        rf"""
for n in a b c d e; do broker write q $n; done; broker peek q --all -t > all; cut -f1 all > ids; cat all
id() {{ sed -n "$1p" ids; }}; broker peek q -m $(id 2); broker peek q --message $(id 2) -t; broker peek q --json -m $(id 2)
id() {{ sed -n "$1p" ids; }}; broker read q -m $(id 2) --json
id() {{ sed -n "$1p" ids; }}; broker read q -m $(id 2)
id() {{ sed -n "$1p" ids; }}; broker peek q -m $(id 2)
id() {{ sed -n "$1p" ids; }}; broker move q r -m $(id 3) -t
id() {{ sed -n "$1p" ids; }}; broker peek q -m $(id 3)
id() {{ sed -n "$1p" ids; }}; broker delete q -m $(id 4)
id() {{ sed -n "$1p" ids; }}; broker delete q -m $(id 4)
id() {{ sed -n "$1p" ids; }}; broker delete r -m $(id 1)
id() {{ sed -n "$1p" ids; }}; broker move q r -m $(id 2) --json
broker peek q --all; broker peek r --all -t
broker read q -m {_ABSENT}
broker peek q -m {_ABSENT} --json
broker move q r -m {_ABSENT}
broker delete q -m {_ABSENT}
broker delete nobody -m {_ABSENT}
""",
    ),
    Case(
        "move",
        r"""
broker move q r
broker move q r --all
for n in a b c d e; do broker write q $n; done; broker write r old
broker move q r
broker move q r -t
broker move q r --json
broker peek r --all -t
broker move q r --all -t
broker peek r --all
broker move r q --all --json
broker move r q
broker move q q
broker list --stats
""",
    ),
    Case(
        "bounds",
        r"""
for n in a b c d e; do broker write q $n; done; broker peek q --all -t | cut -f1 > ids
id() { sed -n "$1p" ids; }; broker peek q --after $(id 2)
id() { sed -n "$1p" ids; }; broker peek q --after $(id 2) --all -t
id() { sed -n "$1p" ids; }; broker peek q --before $(id 2) --all --json
id() { sed -n "$1p" ids; }; broker peek q --after $(id 5)
id() { sed -n "$1p" ids; }; broker peek q --before $(id 1) --all
id() { sed -n "$1p" ids; }; broker peek q --after $(id 4) --before $(id 2) --all
id() { sed -n "$1p" ids; }; broker read q --after $(id 3) --json
id() { sed -n "$1p" ids; }; broker read q --after $(id 2) --before $(id 5) --all
id() { sed -n "$1p" ids; }; broker move q r --after $(id 1) -t
id() { sed -n "$1p" ids; }; broker move q r --before $(id 5) --all --json
id() { sed -n "$1p" ids; }; broker read q --after $(id 5) --all
id() { sed -n "$1p" ids; }; broker move q r --after $(id 5) --all
id() { sed -n "$1p" ids; }; broker move q r --before $(id 1)
broker peek q --all -t; broker peek r --all -t
id() { sed -n "$1p" ids; }; broker peek r --all --since $(id 1)
""",
    ),
    Case(
        "times",
        r"""
broker write q x
broker peek q --after 2001-01-01T00:00:00Z
broker peek q --after 2100-01-01T00:00:00Z
broker peek q --after 2100-01-01
broker peek q --after 2100-01-01T00:00:00+05:30
broker peek q --after 21000101
broker peek q --after 4102444800
broker peek q --after 4102444800s
broker peek q --after 4102444800000
broker peek q --after 4102444800000ms
broker peek q --after 4102444800000000000
broker peek q --after 4102444800000000000ns
broker peek q --after 1000000000
TZ=Asia/Tokyo broker peek q --after "$(date -u -d '+1 hour' +%FT%T)"
TZ=America/New_York broker peek q --after "$(date -u -d '-1 hour' +%FT%T)"
""",
    ),
    Case(
        "more-times",
        r"""
broker write q x
broker peek q --after '2100-01-01 00:00:00'
broker peek q --after 2100-01-01T00:00:00.5Z
broker peek q --after 4102444800.5s
broker peek q --before 1000000000000ms
broker peek q --before 0
broker peek q --before 99999999999
broker peek q --after ' 2100-01-01 '
broker peek q --after "$(date -d '-1 hour' +%FT%T%:z)"
broker peek q --after "$(date +%s -d '+1 minute')"
broker peek q --before "$(date +%s%3N -d '+1 minute')"
broker peek q --after "$(date +%s%N -d '+1 minute')"
broker peek q --after 1960-01-01
broker peek q --before 1960-01-01
""",
        slow=True,
    ),
    Case(
        "bad-times",
        r"""
broker write q x
broker peek q --after september
broker peek q --after 2024-13-01
broker peek q --after ''
broker peek q --after 1.7e9
broker peek q --after 9223372036854775808
broker peek q --after 2300-01-01
broker peek q --after 1_000_000_000
broker read q --before tomorrow --json
broker move q r --after monday
broker peek q --after=-5
broker peek q --all
""",
        slow=True,
    ),
    Case(
        "malformed-ids",
        r"""
broker write q x
broker read q -m 12
broker peek q -m abc
broker move q r -m 123456789012345678
broker delete q -m 12345678901234567890
broker read q -m ''
broker peek q -m 1837025672140161024ns
broker peek q -m 9223372036854775808
broker delete q -m 9223372036854775808
broker read q -m 12 --json
broker peek q -m 0000000000000000001
broker read q -m 12 --all
broker peek q --all
""",
        slow=True,
    ),
    Case(
        "bodies",
        r"""
broker write q ''
broker write q '   '
broker write q $'tab\there "quoted" \\ back'
broker write q 'ünïcödé ☃ 日本 🚀'
broker write q $'\x01\x1b[31mred\x7f'
broker write q '$(rm -rf /); `ls` && | > *'
broker write q $'line\nfeed\r\n'
broker write q '{"json": [1, 2]}'
printf 'a\0b' | broker write q -
broker peek q --all
broker peek q --all -t
broker read q --all --json
broker write q $'bad \xff byte'
printf 'bad \xff byte' | broker write q -
printf '\xef\xbb\xbfbom' | broker write q -
broker read q --json
broker read q
LC_ALL=C broker write q 'ü in C'; LC_ALL=C broker read q
""",
    ),
    Case(
        "newlines-in-bodies",
        r"""
for n in 1 2 3; do broker write q $'a\nb'; done
broker peek q --all
broker read q
broker -q move q r --json
broker -q read q --all
""",
        slow=True,
    ),
    Case(
        "standard-input",
        r"""
printf 'no newline' | broker write q -
printf 'two\nlines\n' | broker write q
printf '' | broker write q -
broker write q < /dev/null
echo '-' | broker write q -
echo ignored | broker write q given
broker write q - <<< here
broker read q --all --json
broker write q  # terminal
broker write q given  # terminal
broker read q --all
""",
    ),
    Case(
        "message-size",
        r"""
head -c 10485760 /dev/zero | tr '\0' x | broker write q -
broker read q | wc -c
head -c 10485761 /dev/zero | tr '\0' x | broker write q -
export BROKER_MAX_MESSAGE_SIZE=10; broker write q 0123456789; broker write q 0123456789a
printf 0123456789a | BROKER_MAX_MESSAGE_SIZE=10 broker write q -
BROKER_MAX_MESSAGE_SIZE=10 broker write q 'üüüüüü'
broker read q --all
""",
        slow=True,
    ),
    Case(
        "dashes-in-messages",
        r"""
broker write q -5
broker write q '- x'
broker write q '--- a/file'
broker write q -- --cleanup
broker write q -- -
broker peek q --all
broker write q -x
broker write q --dir=x
broker write q --all
broker write q --cleanup
broker list
""",
        slow=True,
    ),
    Case(
        "delete",
        r"""
broker delete q
broker delete --all
broker write q a; broker write r a; broker write r b; broker write s a
broker read q
broker delete q
broker exists q
broker list --stats
id=$(broker peek r -t | cut -f1); broker delete r -m $id; echo $?; broker delete r --message=$id
broker stats r
broker peek r
broker delete
broker delete q --all
broker delete --all -m 1837025672140161024
broker delete -m 1837025672140161024
broker delete --all
broker list --stats
""",
    ),
    Case(
        "read-once",
        r"""
for n in 1 2 3 4; do broker write q $n & done; wait; broker stats q
for n in 1 2 3 4; do broker read q & done | sort; wait
broker read q
broker peek q
""",
        slow=True,
    ),
)
