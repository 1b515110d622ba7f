#!/usr/bin/env bash
# From find through a queue to commands that run at the same time.
#
# Usage: pipeline.sh fill QUEUE FOLDER [TEST...]      store the path of each file that find finds
#        pipeline.sh each QUEUE N COMMAND [ARG...]    N at once, a path on standard input
#        pipeline.sh xargs QUEUE N COMMAND [ARG...]   N at once, a path as last argument
#   for example: pipeline.sh fill logs /var/log -name '*.log' -size +1M
#                pipeline.sh each logs 4 sh -c 'gzip -k -- "$(cat)"'
#   Paths may have blanks, quotes and line breaks; they must be UTF-8.
#
# Guarantee: fill stores all paths or none. each is at least once: a path leaves the queue after
#   COMMAND succeeded; a failed one is tried again, and is in QUEUE.dlq after the fourth time.
#   xargs is at most once: it takes all paths first, and those not handled are lost with it.
set -euo pipefail

help() { sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"; }

need() { [ $(($# - 1)) -ge "$1" ] || { help >&2 && exit 1; }; } # N "$@": N arguments or more

fill() { # QUEUE FOLDER [TEST...]
    find "${@:2}" -type f -exec jq -nc '$ARGS.positional[]' --args {} + | broker write "$1" --ndjson
}

each() { # QUEUE N COMMAND [ARG...]
    local pids=() pid failed=0
    trap 'kill "${pids[@]}" 2> /dev/null || true' TERM INT # each gives its path back
    while [ "${#pids[@]}" -lt "$2" ]; do
        broker exec "$1" --all -- "${@:3}" &
        pids+=($!)
    done
    for pid in "${pids[@]}"; do
        wait "$pid" || [ $? -eq 2 ] || failed=1 # 2: the others were faster
    done
    wait
    return "$failed"
}

by_xargs() { # QUEUE N COMMAND [ARG...]
    broker read "$1" --all --json | jq -j '.message + "\u0000"' | xargs -0 -r -n 1 -P "$2" "${@:3}"
}

what=${1:-}
shift || true
case $what in
    fill) need 2 "$@" && fill "$@" ;;
    each) need 3 "$@" && each "$@" ;;
    xargs) need 3 "$@" && by_xargs "$@" ;;
    -h) help ;;
    *) help >&2 && exit 1 ;;
esac
