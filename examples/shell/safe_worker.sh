#!/usr/bin/env bash
# Handle the messages of a queue one by one; each leaves the queue after it was handled, not before.
#
# Usage: safe_worker.sh [-l LEASE] [-w WAIT] QUEUE COMMAND [ARG...]
#   COMMAND finds the body on its standard input; its exit status says whether it was handled.
#   -l LEASE  how long COMMAND may take before others may take the message (60s)
#   -w WAIT   how long to wait for a message before ending (not at all)
#   SIGTERM: the message in hand is finished, or WAIT, then the worker ends. Any number of workers
#   may run. (`broker exec --all` does the same in one command; here is what it is made of.)
#
# Guarantee: no message is lost. One is handled twice if the worker is killed between COMMAND's end
#   and `ack`, or if COMMAND outlives LEASE. A failed one is tried again later, the delays doubling;
#   after the fourth failure it is in QUEUE.dlq.
set -euo pipefail

help() { sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"; }

lease=60s wait=()
while getopts hl:w: option; do
    case $option in
        h) help && exit ;;
        l) lease=$OPTARG ;;
        w) wait=(--wait "$OPTARG") ;;
        *) exit 1 ;;
    esac
done
shift $((OPTIND - 1))
[ $# -ge 2 ] || { help >&2 && exit 1; }
queue=$1
shift

stopping=
trap 'stopping=yes' TERM INT

while [ -z "$stopping" ]; do
    status=0
    claim=$(broker claim "$queue" --lease "$lease" "${wait[@]}" --json) || status=$?
    case $status$stopping in
        0*) ;;
        2* | *yes) break ;; # nothing is ready, or Ctrl-C ended the wait
        *) exit "$status" ;;
    esac

    receipt=$(jq -r .receipt <<< "$claim")
    # Not `jq | COMMAND`: where COMMAND reads nothing, jq and with it the pipe would fail. Not
    # `body=$(jq ...)` either: that drops the newlines at the end.
    "$@" < <(jq -j .message <<< "$claim") || status=$?
    if [ "$status" -eq 0 ]; then
        broker ack "$receipt" || echo "$queue: a lease was over: its message may run twice" >&2
    else
        broker nack "$receipt" --error "exit status $status" ||
            echo "$queue: a lease was over: its message runs again" >&2
    fi
done
