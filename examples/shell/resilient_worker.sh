#!/usr/bin/env bash
# Handle the messages of a queue for days: through crashes, long messages, failures and restarts.
#
# Usage: resilient_worker.sh [-c FILE] [-l SECONDS] [-w WAIT] QUEUE COMMAND [ARG...]
#   COMMAND finds the body on its standard input; its exit status says whether it was handled.
#   -c FILE     the checkpoint: which message was handled last (QUEUE.checkpoint); one per worker
#   -l SECONDS  the lease (60); it is extended for as long as COMMAND runs
#   -w WAIT     end when no message came for so long (go on for ever)
#   SIGTERM, SIGINT: the message in hand is finished, then the worker ends with 0. One that has
#   nothing in hand ends within 5 s, or WAIT.
#
# Guarantee: no message is lost. After a kill at most one message, the one in hand, is handled
#   twice: when its lease is over. If COMMAND had ended and the checkpoint was written, it is not:
#   the next start acknowledges it. A failed message is tried again, the delays doubling; after the
#   fourth failure it is in QUEUE.dlq.
set -euo pipefail

help() { sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"; }
say() { echo "$queue: $*" >&2; }

# Run COMMAND on the claimed body, and extend the lease as often as a third of it has passed.
# A child in the background does not hear Ctrl-C, and `wait` lets this shell hear SIGTERM.
handle() {
    local hand tick
    "$@" < <(jq -j .message <<< "$claim") &
    hand=$!
    while kill -0 "$hand" 2> /dev/null; do
        sleep "$((seconds * 1000 / 3))e-3" > /dev/null 2>&1 &
        tick=$!
        wait -n "$hand" "$tick" || true
        kill "$tick" 2> /dev/null || extend || kill "$hand" 2> /dev/null || true
    done
    wait "$hand"
}

# Fail if somebody else may have the message by now: then COMMAND shall not go on.
extend() { broker extend "$receipt" --lease "${seconds}s" || [ $? -ne 2 ]; }

# The file is the old one or the new one, never half of one, also after a power cut.
checkpoint() {
    echo "$id $receipt" > "$file.new"
    sync "$file.new"
    mv "$file.new" "$file"
}

# Acknowledge what was handled before the last kill, whoever holds it now.
resume() {
    [ -s "$file" ] || return 0
    read -r id receipt < "$file"
    broker ack "$receipt" || broker delete "$queue" -m "$id" || [ $? -eq 2 ]
}

file='' seconds=60 wait=5s for_ever=yes
while getopts hc:l:w: option; do
    case $option in
        h) help && exit ;;
        c) file=$OPTARG ;;
        l) seconds=$OPTARG ;;
        w) wait=$OPTARG for_ever=no ;;
        *) exit 1 ;;
    esac
done
shift $((OPTIND - 1))
[ $# -ge 2 ] || { help >&2 && exit 1; }
queue=$1
file=${file:-$queue.checkpoint}
shift

stopping=
trap 'stopping=yes' TERM INT
resume
while [ -z "$stopping" ]; do
    status=0
    claim=$(broker claim "$queue" --lease "${seconds}s" --wait "$wait" --json) || status=$?
    case $status$stopping in
        0*) ;;
        *yes) break ;; # SIGINT ended the wait
        2) if [ "$for_ever" = yes ]; then continue; else break; fi ;;
        *) exit "$status" ;;
    esac

    read -r id receipt < <(jq -r '"\(.id) \(.receipt)"' <<< "$claim")
    handle "$@" || status=$?
    if [ "$status" -eq 0 ]; then
        checkpoint
        broker ack "$receipt" || say "a lease was over: its message may run twice"
    else
        broker nack "$receipt" --error "exit status $status" || say "a lease was over"
    fi
done
