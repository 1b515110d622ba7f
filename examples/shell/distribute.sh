#!/usr/bin/env bash
# Share work out: to worker queues in turn or to the shortest, by priority, by stealing, to a team.
#
# Usage: distribute.sh turn SOURCE WORKER...        deal the messages of SOURCE out in turn
#        distribute.sh load SOURCE WORKER...        give each to the queue that is shortest then
#        distribute.sh rank N QUEUE                 store standard input; a smaller N is sooner
#        distribute.sh order HIGH,...,LOW COMMAND [ARG...]
#            before each message look into HIGH first; end when all are empty
#        distribute.sh steal OWN OTHER,... COMMAND [ARG...]
#            work on OWN; when it is empty, take one message of the longest OTHER; end when all are
#        distribute.sh team N QUEUE COMMAND [ARG...]
#            N workers, a line about them each second on standard error; SIGTERM: each finishes the
#            message in hand
#   COMMAND finds the body on its standard input; its exit status says whether it was handled.
#   steal exits with 1 if something failed.
#
# Guarantee: no message is lost; one that is dealt or stolen is in one queue at each moment and
#   keeps its id, so killing and starting again is safe. COMMAND runs at least once: again if it
#   fails (after the fourth time the message is in QUEUE.dlq), or if the worker is killed (under
#   order ten minutes later: so long is its lease, and so long may COMMAND take).
set -euo pipefail

help() { sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"; }

need() { [ $(($# - 1)) -ge "$1" ] || { help >&2 && exit 1; }; } # N "$@": N arguments or more

# Succeed if a message was moved, fail if there was none, end the script on an error.
take_one() { # SOURCE TARGET
    local status=0
    broker move "$1" "$2" > /dev/null || status=$?
    [ "$status" -eq 0 ] || [ "$status" -eq 2 ] || exit "$status"
    return "$status"
}

turn() { # SOURCE WORKER...
    local worker
    while true; do
        for worker in "${@:2}"; do
            take_one "$1" "$worker" || return 0
        done
    done
}

# Print how many messages wait in each of the queues, a tab, and its name.
waiting() { # QUEUE...
    broker list --json | jq -rs --args '(map({(.queue): .pending}) | add) as $waiting
        | $ARGS.positional[] | "\($waiting[.] // 0)\t\(.)"' "$@"
}

load() { # SOURCE WORKER...
    local shortest
    while true; do
        shortest=$(waiting "${@:2}" | sort -sn | sed -n '1s/.*\t//p')
        take_one "$1" "$shortest" || return 0
    done
}

order() { # HIGH,...,LOW COMMAND [ARG...]
    local queue claim receipt
    while true; do
        for queue in ${1//,/ }; do
            claim=$(broker claim "$queue" --lease 10m --json || [ $? -eq 2 ])
            [ -z "$claim" ] || break
        done
        [ -n "$claim" ] || return 0
        receipt=$(jq -r .receipt <<< "$claim")
        if "${@:2}" < <(jq -j .message <<< "$claim"); then
            broker ack "$receipt" || [ $? -eq 2 ] # its lease was over
        else
            broker nack "$receipt" || [ $? -eq 2 ]
        fi
    done
}

steal() { # OWN OTHER,... COMMAND [ARG...]
    local longest status failed=0
    while true; do
        status=0
        broker exec "$1" --all -- "${@:3}" || status=$?
        [ "$status" -ne 1 ] || failed=1 # what failed waits for its next attempt: go on
        [ "$status" -le 2 ] || exit "$status"
        # shellcheck disable=SC2086 # queue names have no blanks
        longest=$(waiting ${2//,/ } | sort -rn | sed -n '1{/^0/!s/.*\t//p}')
        [ -n "$longest" ] || return "$failed"
        take_one "$longest" "$1" || true # another thief was faster
    done
}

team() { # N QUEUE COMMAND [ARG...]
    local pids=() counts=() failed=0 pid
    trap 'kill "${pids[@]}" 2> /dev/null || true; echo "each ends after its message" >&2' TERM INT
    while [ "${#pids[@]}" -lt "$1" ]; do
        "$BASH" "$(dirname "$0")/safe_worker.sh" -w 1s "${@:2}" &
        pids+=($!)
    done
    printf '%-8s %8s %8s %8s\n' TIME WORKERS WAITING DEAD >&2
    while [ -n "$(jobs -pr)" ]; do
        mapfile -t counts < <(waiting "$2" "$2.dlq" | cut -f 1)
        printf '%(%T)T %8d %8d %8d\n' -1 "$(jobs -pr | wc -l)" "${counts[@]}" >&2
        sleep 1 > /dev/null 2>&1 &
        wait "$!" || true # a signal ends it
    done
    for pid in "${pids[@]}"; do wait "$pid" || failed=1; done
    return "$failed"
}

what=${1:-}
shift || true
case $what in
    turn | load | order) need 2 "$@" && "$what" "$@" ;;
    steal | team) need 3 "$@" && "$what" "$@" ;;
    rank) need 2 "$@" && broker write "$2" - --priority "$1" ;;
    -h) help ;;
    *) help >&2 && exit 1 ;;
esac
