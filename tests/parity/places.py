"""Which database a command means: options, names, project scope, .broker.toml, BROKER_*."""
# ruff: noqa: E501

from __future__ import annotations

from typing import Final

from parity.transcript import Case

SCOPE: Final = {"BROKER_PROJECT_SCOPE": "true"}

CASES: Final = (
    Case(
        "dir-and-file",
        r"""
mkdir sub; broker -d sub write q in-sub; test -f sub/.broker.db
broker --dir=sub peek q
broker -dsub peek q
broker -f own.db write q own; test -f own.db
broker --file=own.db peek q
broker -f=own.db peek q
broker -f "$PWD/own.db" peek q
broker -d sub -f own.db write q both; test -f sub/own.db
broker -f own.db -d sub peek q
broker -d "$PWD/sub" -f "$PWD/sub/own.db" peek q
broker -d "$PWD" -f "$PWD/sub/own.db" peek q
broker -f sub/own.db peek q
broker peek q
ln -s "$PWD/sub/own.db" link.db; mkdir inner; ln -s "$PWD/own.db" inner/out.db; broker -f link.db peek q
broker -d inner -f out.db peek q
stat -c %a own.db
""",
    ),
    Case(
        "dir-and-file-refused",
        r"""
mkdir sub
broker -d nowhere write q x
broker -f nowhere/x.db write q x
broker -f ../x.db write q x
broker -d .. list
broker -f 'a;b' list
broker -f '~/x.db' list
broker -f 'a b.db' write q x
broker -f '' list
broker -f sub list
touch plain; broker -d plain list
broker -d '' list
broker -d
broker -f
broker -d sub  # prose
""",
        slow=True,
    ),
    Case(
        "quiet",
        r"""
broker -q write q x
broker -q list
broker -q read q
broker -q read q
broker -q write .bad x
broker -q peek q --after never
broker -q nonsense
""",
        slow=True,
    ),
    Case(
        "foreign-files",
        r"""
echo 'this is no database at all, but it is long enough to be looked at' > text.db
broker -f text.db list
broker -f text.db write q x
broker -f text.db --status
broker -f text.db --vacuum
cat text.db
broker write q x; head -c 3000 .broker.db > cut.db; broker -f cut.db list
: > empty.db; broker -f empty.db write q x; broker -f empty.db read q
mkdir folder.db; broker -f folder.db write q x
""",
        slow=True,
    ),
    Case(
        "init",
        r"""
broker init  # prose
test -f .broker.db
broker write q kept; broker init  # prose
broker init --force  # prose
broker peek q
broker -q init
mkdir sub; cd sub && broker -q init && test -f .broker.db
mkdir named; cd named && BROKER_DEFAULT_DB_NAME=own.db broker init && test -f own.db && test ! -e .broker.db  # prose
mkdir deep; cd deep && BROKER_DEFAULT_DB_NAME=.config/own.db broker -q init && test -f .config/own.db
mkdir foreign; cd foreign && echo 'something else entirely' > .broker.db && broker init
cat foreign/.broker.db
broker init extra
mkdir flags; broker -d flags init
broker -f flags.db init
""",
    ),
    Case(
        "project-scope",
        r"""
mkdir -p project/a/b outside nowhere
cd project && broker -q init
cd project/a/b && broker write q found; test -e .broker.db
broker -d project/a/b peek q
cd project/a && broker -d b peek q
cd project/a && broker -f own.db write q own && test -f own.db
cd project/a/b && broker read q
cd outside && broker write q x
cd outside && broker read q
cd outside && broker --status
cd outside && broker --json --status
cd outside && broker --vacuum
cd outside && ls -A
cd outside && BROKER_PROJECT_SCOPE=false broker write q local
cd outside && BROKER_PROJECT_SCOPE=0 broker peek q
cd nowhere && BROKER_PROJECT_SCOPE=1 broker list
cd nowhere && BROKER_PROJECT_SCOPE=yes broker list
cd nowhere && BROKER_PROJECT_SCOPE=on broker list
cd nowhere && BROKER_PROJECT_SCOPE=TRUE broker list
cd outside && BROKER_PROJECT_SCOPE= broker peek q
mkdir project/a/near; cd project/a/near && broker -q init; test -f .broker.db
""",
        SCOPE,
    ),
    Case(
        "project-scope-and-strangers",
        r"""
mkdir -p project/a/b/c; cd project && broker -q init && broker write q top
echo 'not a database' > project/a/b/.broker.db; cd project/a/b/c && broker peek q
python3 -c 'import sqlite3; sqlite3.connect("project/a/.broker.db").execute("create table t (x)")'
cd project/a && broker peek q
mkdir -p elsewhere; cd elsewhere && BROKER_PROJECT_SCOPE=false broker write q other
ln -s "$PWD/elsewhere" project/link; cd project/link && broker peek q
""",
        SCOPE,
    ),
    Case(
        "project-names",
        r"""
mkdir -p project/sub; cd project && broker -q init && test -f .project/queue.db
cd project/sub && broker write q x && test ! -e .project
cd project && broker peek q
cd project && BROKER_DEFAULT_DB_NAME=other.db broker peek q
cd project && BROKER_DEFAULT_DB_NAME=a/b/c.db broker init
cd project && BROKER_DEFAULT_DB_NAME=a/b/c.db BROKER_PROJECT_SCOPE=false broker write q x
cd project && BROKER_DEFAULT_DB_NAME=../c.db BROKER_PROJECT_SCOPE=false broker write q x
""",
        {**SCOPE, "BROKER_DEFAULT_DB_NAME": ".project/queue.db"},
    ),
    Case(
        "broker-toml",
        r"""
mkdir -p project/sub project/data; cat > project/.broker.toml <<'EOS'
  version = 1
  backend = "sqlite"
  target = "data/queue.db"
 EOS
cd project/sub && broker -q init; test -f ../data/queue.db
cd project/sub && broker write q found
cd project && broker peek q
cd project && broker -f own.db list
cd project/sub && BROKER_DEFAULT_DB_NAME=other.db broker peek q
cd project/sub && BROKER_DEFAULT_DB_LOCATION=/tmp broker peek q
mkdir bad; echo 'version = 2' > bad/.broker.toml; cd bad && broker list
cd bad && printf 'version = 1\nbackend = "sqlite"\n' > .broker.toml && broker list
cd bad && printf 'version = 1\nbackend = "nonsense"\ntarget = "x"\n' > .broker.toml && broker list
cd bad && printf 'not toml' > .broker.toml && broker list
cd bad && printf 'version = 1 # one\n\nbackend = "sqlite"\ntarget = "x.db"\n[backend_options]\n' > .broker.toml && broker write q x && test -f x.db
""",
        SCOPE,
    ),
    Case(
        "project-config-names",
        r"""
mkdir -p project/.weft project/sub; cat > project/.weft/broker.toml <<'EOS'
  version = 1
  backend = "sqlite"
  target = "queue.db"
 EOS
cd project/sub && BROKER_PROJECT_CONFIG_PATH=.weft BROKER_PROJECT_CONFIG_NAME=broker.toml broker write q x
cd project/sub && BROKER_PROJECT_CONFIG_NAME=.weft/broker.toml broker peek q
cd project/sub && BROKER_PROJECT_CONFIG_PATH="$HOME/project/.weft" BROKER_PROJECT_CONFIG_NAME=broker.toml broker peek q
find project -name '*.db' | sort
cd project/sub && BROKER_PROJECT_CONFIG_NAME=a/b/c.toml broker peek q
""",
        SCOPE,
        slow=True,
    ),
    Case(
        "places-from-the-environment",
        r"""
mkdir here there sub
cd here && BROKER_DEFAULT_DB_NAME=own.db broker write q named; test -f own.db
cd here && BROKER_DEFAULT_DB_NAME=.config/own.db broker write q nested; test -f .config/own.db
cd here && BROKER_DEFAULT_DB_LOCATION="$HOME/there" broker write q there; test -f ../there/.broker.db
cd here && BROKER_DEFAULT_DB_LOCATION="$HOME/there" BROKER_DEFAULT_DB_NAME=x.db broker write q x; test -f ../there/x.db
BROKER_DEFAULT_DB_LOCATION="$PWD/there" broker -f own.db write q own; find . -name own.db | sort
BROKER_DEFAULT_DB_LOCATION="$PWD/there" broker -d sub write q flag; find sub there -name .broker.db | sort
BROKER_DEFAULT_DB_LOCATION=relative broker list
BROKER_DEFAULT_DB_LOCATION="$PWD/nowhere" broker write q x
cd here && BROKER_DEFAULT_DB_LOCATION="$HOME/there" BROKER_PROJECT_SCOPE=1 broker peek q
BROKER_BACKEND=sqlite broker write q x
BROKER_BACKEND=nonsense broker write q x
""",
    ),
    Case(
        "settings",
        r"""
broker write q 1 && broker write q 2 && broker write q 3
export BROKER_BUSY_TIMEOUT=5000 BROKER_CACHE_MB=10 BROKER_SYNC_MODE=FULL BROKER_WAL_AUTOCHECKPOINT=1000; broker peek q
export BROKER_SYNC_MODE=NORMAL BROKER_READ_COMMIT_INTERVAL=100 BROKER_INITIAL_CHECKS=1000; broker read q
export BROKER_SYNC_MODE=OFF BROKER_MAX_INTERVAL=0.01 BROKER_CACHE_MB=50; broker write q 4
export BROKER_AUTO_VACUUM=0 BROKER_VACUUM_THRESHOLD=10 BROKER_VACUUM_BATCH_SIZE=1000 BROKER_VACUUM_LOCK_TIMEOUT=300; broker read q
BROKER_AUTO_VACUUM=true broker list
BROKER_WAL_AUTOCHECKPOINT=0 BROKER_AUTO_VACUUM_INTERVAL=100 broker write q 5
BROKER_READ_COMMIT_INTERVAL=2 broker read q --all
broker list --stats
BROKER_BUSY_TIMEOUT=soon broker list
BROKER_MAX_MESSAGE_SIZE=big broker list
BROKER_VACUUM_BATCH_SIZE=many broker list
BROKER_SYNC_MODE=normal broker write q 6
BROKER_SYNC_MODE=sometimes broker write q 7
BROKER_WAL_AUTOCHECKPOINT=-1 broker write q 8
""",
        slow=True,
    ),
    Case(
        "vacuum-by-itself",
        r"""
for n in 1 2 3 4; do broker write q $n; done; broker read q; broker read q
broker stats q
BROKER_AUTO_VACUUM=0 BROKER_AUTO_VACUUM_INTERVAL=1 broker write q 5; broker stats q
BROKER_AUTO_VACUUM_INTERVAL=1 BROKER_VACUUM_THRESHOLD=10 broker write q 6; broker stats q
""",
        slow=True,
    ),
)
