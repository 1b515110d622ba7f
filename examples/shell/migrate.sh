#!/usr/bin/env bash
# Bring messages from one queue to another: all, or by content, by time, changed, split or merged.
#
# Usage: migrate.sh rename OLD NEW
#        migrate.sh grep SOURCE TARGET REGEX      those whose body matches
#        migrate.sh filter SOURCE TARGET JQ       where it is true: '.message|fromjson|.n>5'
#        migrate.sh time SOURCE TARGET [--after TIME] [--before TIME]     those written then
#        migrate.sh transform SOURCE TARGET COMMAND [ARG...]
#            COMMAND changes each body: standard input to standard output, no shell in between
#        migrate.sh split SOURCE JQ               by key: '.message|fromjson|.kind' -> SOURCE.KEY
#        migrate.sh merge TARGET SOURCE...        all of them, in the order of their writing
#   split makes other characters than letters, digits and _ in a key to _; where there is no key,
#   the message goes to SOURCE.other. JQ is a jq expression over {"message": ..., "id": ...}.
#   But for rename, what is delayed or held by a worker stays where it is.
#
# Guarantee: no message is lost. All but transform move: a message is in one queue at each moment,
#   never in both; it keeps its id; killed in the middle, run it again and it does the rest.
#   transform is at least once: a message leaves SOURCE once its changed one is stored (with a new
#   id), so a kill between the two leaves both. What COMMAND refuses goes to SOURCE.dlq unchanged.
set -euo pipefail

help() { sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"; }

need() { [ $(($# - 1)) -ge "$1" ] || { help >&2 && exit 1; }; } # N "$@": N arguments or more

# Move the messages whose ids stand on standard input; one that is taken meanwhile is left alone.
move_these() { # SOURCE TARGET
    local id
    while read -r id; do
        broker move "$1" "$2" -m "$id" > /dev/null || [ $? -eq 2 ]
    done
}

look() { broker peek "$1" --all --json || [ $? -eq 2 ]; }

choose() { # SOURCE TARGET JQ [OPTION OF JQ...]
    look "$1" | jq -r "${@:4}" "select(try ($3) catch false) | .id" | move_these "$1" "$2"
}

# The key is made a name before the shell sees it: a line break in it would pass for another id.
split() { # SOURCE JQ
    local id key name='strings, numbers | tostring | gsub("[^A-Za-z0-9_]"; "_") | .[:64]'
    look "$1" | jq -r "\"\(.id) \(first(try ($2) catch empty | $name) // \"\")\"" |
        while read -r id key; do
            move_these "$1" "$1.${key:-other}" <<< "$id"
        done
}

merge() { # TARGET SOURCE...
    local source
    for source in "${@:2}"; do
        broker move "$source" "$1" --all > /dev/null || [ $? -eq 2 ]
    done
}

transform() { # SOURCE TARGET COMMAND [ARG...]
    type "$3" > /dev/null # or a typing error would make all of them dead letters
    broker exec "$1" --all -- "$BASH" "$0" change "${@:2}"
}

# What `broker exec` runs for each message that it holds. Half an output is never stored.
change() { # TARGET COMMAND [ARG...]
    changed=$(mktemp)
    trap 'rm -f "$changed"' EXIT
    # 65: COMMAND refuses it, to the dead letters. 75: it was killed, or nothing was stored: again.
    "${@:2}" > "$changed" || exit $(($? > 125 ? 75 : 65))
    broker write "$1" - < "$changed" || exit 75
}

what=${1:-}
shift || true
# shellcheck disable=SC2016 # $regex is jq's
case $what in
    rename) need 2 "$@" && broker rename "$1" "$2" ;;
    grep) need 3 "$@" && choose "$1" "$2" '.message | test($regex)' --arg regex "$3" ;;
    filter) need 3 "$@" && choose "$1" "$2" "$3" ;;
    time) need 4 "$@" && broker move "$1" "$2" --all "${@:3}" > /dev/null ;;
    transform) need 3 "$@" && transform "$@" ;;
    change) change "$@" ;;
    split) need 2 "$@" && split "$@" ;;
    merge) need 2 "$@" && merge "$@" ;;
    -h) help ;;
    *) help >&2 && exit 1 ;;
esac
