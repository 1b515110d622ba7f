#!/bin/sh
# The main job on real input: index the files of this machine's Python library and documentation.
# Usage: examples/main_job.sh [FOLDER FOR THE RESULTS]     (`broker` and `brokerrun` on PATH)
set -eu

here=$(cd "$(dirname "$0")" && pwd)
place=${1:-$(mktemp -d)}
mkdir -p "$place"
place=$(cd "$place" && pwd)
export INDEX_DATABASE="$place/index.db" INDEX_RESULTS="$place/results.db"

library=$(python3 -c 'import sysconfig; print(sysconfig.get_paths()["stdlib"])')
find -L "$library" /usr/share/doc -type f -size -2048k ! -path '*/__pycache__/*' 2>/dev/null |
    head -n 8000 > "$place/paths"

broker -f "$INDEX_DATABASE" write files --lines < "$place/paths"
echo "queued $(wc -l < "$place/paths") paths"

begun=$(date +%s)
status=0
brokerrun up --drain -c "$here/workers.toml" 2> "$place/log" || status=$?
if [ "$status" -ne 0 ] && [ "$status" -ne 4 ]; then # 4: drained, and some messages died
    tail -n 20 "$place/log" >&2
    exit "$status"
fi
echo "drained in $(($(date +%s) - begun)) s"

python3 - "$INDEX_RESULTS" << 'END'
import sqlite3, sys

results = sqlite3.connect(sys.argv[1])
files, size, lines, words = results.execute(
    "select count(*), sum(size), sum(lines), sum(words) from file"
).fetchone()
print(f"indexed {files} files: {size} bytes, {lines} lines, {words} words")
print("the longest:")
for path, count in results.execute("select path, lines from file order by lines desc limit 3"):
    print(f"  {count:>7} lines  {path}")
END
dead=$(broker -f "$INDEX_DATABASE" peek files.dlq --all --json | wc -l)
echo "could not be read as text, in the dead-letter queue: $dead"
if [ "$dead" -gt 0 ]; then
    first=$(broker -f "$INDEX_DATABASE" peek files.dlq -t | cut -f 1)
    echo "why the first one is there:"
    broker -f "$INDEX_DATABASE" history "$first" | head -n 3
fi
echo "all of it is in $place"
