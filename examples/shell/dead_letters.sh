#!/usr/bin/env bash
# What becomes of messages that fail: the dead-letter queue QUEUE.dlq, the ways in and the way out.
#
# Usage: dead_letters.sh work QUEUE COMMAND [ARG...]      a failure goes to QUEUE.dlq at once
#        dead_letters.sh retry LIMIT QUEUE COMMAND [ARG...]
#            a failure is tried again at once; the LIMITth goes to QUEUE.dlq
#        dead_letters.sh backoff LIMIT SECONDS QUEUE COMMAND [ARG...]
#            the same, waiting SECONDS, then twice as long, and so on up to an hour
#        dead_letters.sh redrive QUEUE                    put the dead letters back, oldest first
#        dead_letters.sh depth QUEUE                      print how many there are, how old
#        dead_letters.sh alert DEPTH SECONDS QUEUE [COMMAND [ARG...]]
#            exit 3 if there are more than DEPTH or one is older than SECONDS; the sentence about
#            it is printed, or COMMAND finds it on its standard input. Silent else: made for cron.
#   COMMAND finds the body on its standard input. The first three end when nothing is ready: run
#   them again for what waits for its delay. An age counts from when a message was written.
#
# Guarantee: no message is lost; each is in QUEUE or in QUEUE.dlq. Besides its retries one is
#   handled twice only if the script is killed in the middle, or if COMMAND takes more than ten
#   minutes: so long is the lease, then the message is ready again.
set -euo pipefail

help() { sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"; }

need() { [ $(($# - 1)) -ge "$1" ] || { help >&2 && exit 1; }; } # N "$@": N arguments or more

# Handle every ready message; a failure is told to FAILED: RECEIPT and attempts so far.
drain() { # FAILED QUEUE COMMAND [ARG...]
    local failed=$1 queue=$2 claim receipt attempts
    shift 2
    while true; do
        claim=$(broker claim "$queue" --lease 10m --json || [ $? -eq 2 ])
        [ -n "$claim" ] || break
        read -r receipt attempts < <(jq -r '"\(.receipt) \(.attempts)"' <<< "$claim")
        if "$@" < <(jq -j .message <<< "$claim"); then
            broker ack "$receipt" || [ $? -eq 2 ] # its lease was over
        else
            "$failed" "$receipt" "$attempts" || [ $? -eq 2 ]
        fi
    done
}

bury() { broker nack "$1" --dead; }

retry() { broker nack "$1" --max-attempts "$limit" --delay 0s; }

backoff() {
    local delay=$((first << ($2 - 1 < 12 ? $2 - 1 : 12)))
    broker nack "$1" --max-attempts "$limit" --delay "$((delay < 3600 ? delay : 3600))s"
}

look() { # QUEUE; sets depth and age
    local oldest
    depth=$(broker stats "$1.dlq" --json | jq .pending)
    oldest=$(broker peek "$1.dlq" --json || [ $? -eq 2 ])
    age=0
    [ -z "$oldest" ] || # an id is the time of its writing, in nanoseconds
        age=$(($(date +%s) - $(jq -r .id <<< "$oldest") / 1000000000))
}

depth() { # QUEUE
    look "$1"
    echo "$1.dlq: $depth dead letters, the oldest is $age s old"
}

alert() { # DEPTH SECONDS QUEUE [COMMAND [ARG...]]
    look "$3"
    [ "$depth" -gt "$1" ] || [ "$age" -gt "$2" ] || return 0
    depth "$3" | if [ $# -gt 3 ]; then "${@:4}"; else cat; fi
    exit 3
}

what=${1:-}
shift || true
case $what in
    work) need 2 "$@" && drain bury "$@" ;;
    retry) need 3 "$@" && limit=$1 && drain retry "${@:2}" ;;
    backoff) need 4 "$@" && limit=$1 first=$2 && drain backoff "${@:3}" ;;
    redrive) need 1 "$@" && { broker move "$1.dlq" "$1" --all > /dev/null || [ $? -eq 2 ]; } ;;
    depth) need 1 "$@" && depth "$1" ;;
    alert) need 3 "$@" && alert "$@" ;;
    -h) help ;;
    *) help >&2 && exit 1 ;;
esac
