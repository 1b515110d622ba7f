#!/usr/bin/env bash
# Run the steps of a build from a queue that all folders of a project share.
#
# Usage: ci.sh FOLDER [STEP...]
#   A STEP is the name of an executable file in FOLDER. Given steps are queued; then all that are
#   queued run, in that order, up to the first that fails. The first call makes the queue in
#   the folder where it is made (./ci-queue.db); later calls in folders below find it there.
#
# Guarantee: no step is lost: one that was cut off runs again at the next call, one that failed is
#   in builds.dlq. A step runs twice only if the machine or this script was killed in the middle.
set -euo pipefail

help() { sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"; }

# What a message says never becomes part of a command: it names a file, or it is refused.
run_step() { # FOLDER
    local step
    step=$(cat)
    [[ $step =~ ^[A-Za-z0-9_-]+$ && -f $1/$step && -x $1/$step ]] || exit 65 # no further attempt
    echo "step $step" >&2
    "$1/$step" < /dev/null
}

case ${1:-} in
    -h) help && exit ;;
    --step) run_step "$2" && exit ;;
    '') help >&2 && exit 1 ;;
esac
folder=$(realpath "$1")
shift

export BROKER_PROJECT_SCOPE=true BROKER_DEFAULT_DB_NAME=ci-queue.db
# In this scope `list` fails where neither this folder nor one above it has the database.
broker list > /dev/null 2>&1 || broker init > /dev/null
[ $# -eq 0 ] || printf '%s\n' "$@" | broker write builds --lines

status=0
while [ "$status" -eq 0 ]; do
    broker exec builds --max-attempts 1 -- "$BASH" "$0" --step "$folder" || status=$?
done
[ "$status" -eq 2 ] # nothing is left
