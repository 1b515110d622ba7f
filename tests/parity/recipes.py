"""The transcripts and scripts that the documents of SimpleBroker print."""
# ruff: noqa: E501

from __future__ import annotations

from typing import Final

from parity.transcript import Case

SCOPE: Final = {"BROKER_PROJECT_SCOPE": "true"}

CASES: Final = (
    Case(
        "quick-start",
        r"""
broker write tasks "ship it 🚀"
broker read tasks
broker write myqueue "Hello, World!"
broker read myqueue
echo "another message" | broker write myqueue
echo "another message" | broker write myqueue -
broker read myqueue --all
broker peek myqueue
broker write myqueue 1 && broker write myqueue 2 && broker write myqueue 3
broker peek myqueue
broker move myqueue processed
broker move errors retry --all
broker list
broker stats myqueue
broker exists myqueue
broker list --prefix jobs. --stats
broker broadcast "System maintenance at 5pm"
broker broadcast --pattern 'jobs-*' "Pipeline paused"
broker peek processed --all
broker --cleanup  # prose
test -e .broker.db
broker list
""",
    ),
    Case(
        "queue-aliases",
        r"""
broker alias add task1.outbox agent1-to-agent2
broker alias add task2.inbox agent1-to-agent2
broker write @task1.outbox "Job ready"
broker read @task2.inbox
broker alias list
broker alias list --target agent1-to-agent2
broker write task1.outbox "goes to literal queue"
broker read task1.outbox
broker alias remove task1.outbox
broker alias list
broker write @task1.outbox "nobody"
""",
    ),
    Case(
        "json-for-safe-processing",
        r"""
broker write alerts "ERROR: Database connection failed\nRetrying in 5 seconds..."
broker read alerts | wc -l
broker write alerts $'ERROR: Database connection failed\nRetrying in 5 seconds...'
broker peek alerts | wc -l
broker peek alerts --json
broker read alerts --json | jq -r '.message'
""",
    ),
    Case(
        "checkpoint",
        r"""
for n in 1 2 3; do broker write tasks "$n"; done
broker read tasks --json > result; jq '.timestamp' < result > checkpoint; cat result checkpoint
broker read tasks --all -t --after "$(cat checkpoint)"
broker read tasks --all --after "$(cat checkpoint)"
broker write tasks 4
broker read tasks --all --after "2024-01-15T14:30:00Z"
for n in 5 6 7; do broker write bounds "$n"; done
start=$(broker peek bounds -t | cut -f1); end=$(broker peek bounds --all -t | tail -1 | cut -f1)
 broker peek bounds --all --after "$start" --before "$end"
""",
    ),
    Case(
        "worker-loop",
        r"""
for n in 'a b' 'c  d'; do broker write work "$n"; done
while msg=$(broker read work 2>/dev/null); do echo "Processing: $msg"; done
broker list
""",
    ),
    Case(
        "multiple-queues",
        r"""
broker write emails "send welcome to user@example.com"
broker write logs "2023-12-01 system started"
broker write metrics "cpu_usage:0.75"
broker list
""",
    ),
    Case(
        "fan-out",
        r"""
for n in worker1 worker2; do broker write $n start && broker read $n; done
broker broadcast "shutdown signal"
broker read worker1
broker read worker2
""",
    ),
    Case(
        "unix-tools",
        r"""
printf 'Filesystem Size\n/dev/sda 10G\n' | broker write monitoring -
broker peek monitoring
touch a.log b.log; find . -name "*.log" | sort | while read f; do
 broker write logfiles "$f" </dev/null
 done
broker read logfiles --all | xargs -P 4 -I {} echo process {} | sort
mkdir app; echo "remote task" | sh -c "cd app && broker write tasks -"
sh -c "cd app && broker read tasks"
mkdir -p var/myapp; broker -f "$PWD/var/myapp/queue.db" write tasks "backup database"
broker -f "$PWD/var/myapp/queue.db" read tasks
""",
    ),
    Case(
        "reserve-by-move",
        r"""
broker write todo one; broker write todo "two 2"
msg_json=$(broker move todo in-process --json 2>/dev/null)
 if [ -n "$msg_json" ]; then
     msg_id=$(echo "$msg_json" | jq -r '.timestamp')
     msg_data=$(echo "$msg_json" | jq -r '.message')
     echo "Processing message $msg_id: $msg_data"
     broker delete in-process -m "$msg_id"
 else echo "No messages to process"; fi
broker list
broker move todo in-process --all --json | while IFS= read -r msg_json; do
     msg_id=$(echo "$msg_json" | jq -r '.timestamp')
     msg_data=$(echo "$msg_json" | jq -r '.message')
     echo "$msg_data" && broker delete in-process -m "$msg_id" </dev/null
 done
broker list
msg_json=$(broker move todo in-process --json 2>/dev/null); echo "$? [$msg_json]"
""",
    ),
    Case(
        "dead-letter",
        r"""
for n in good bad "bad 2"; do broker write tasks "$n"; done
while msg=$(broker read tasks); do
 if [ "${msg#bad}" != "$msg" ]; then echo "$msg" | broker write dlq -; fi
 done
broker peek dlq --all
broker move dlq tasks --all
broker list
""",
    ),
    Case(
        "resilient-worker",
        r"""
for n in a b c; do broker write events "$n"; done
broker peek events --json --since 0
cat > worker.sh <<'EOS'
 last=$(cat checkpoint 2>/dev/null || echo 0); processed=0
 while [ $processed -lt 100 ]; do
     message_data=$(broker peek events --json --after "$last" 2>/dev/null)
     if [ -z "$message_data" ]; then echo "No more messages to process"; break; fi
     message=$(echo "$message_data" | jq -r '.message')
     timestamp=$(echo "$message_data" | jq -r '.timestamp')
     echo "Processing: $message"
     if [ "$message" = "$1" ]; then echo "Error processing message"; exit 1; fi
     if ! broker delete events -m "$timestamp" >/dev/null 2>&1; then exit 1; fi
     echo "$timestamp" > checkpoint.tmp; mv checkpoint.tmp checkpoint
     last="$timestamp"; processed=$((processed + 1))
 done
 echo "processed $processed"
 EOS
bash worker.sh b
bash worker.sh none
broker list
""",
    ),
    Case(
        "safe-worker",
        r"""
broker write tasks one; broker write tasks bad; broker write tasks three
broker watch tasks --peek --json 2>/dev/null | while IFS= read -r line; do
     message=$(echo "$line" | jq -r '.message'); timestamp=$(echo "$line" | jq -r '.timestamp')
     if [ "$message" = bad ]; then echo "kept $timestamp"; continue; fi
     broker delete tasks -m "$timestamp" </dev/null; echo "done $timestamp $?"
 done  # INT after 3
broker peek tasks --all -t
""",
    ),
    Case(
        "build-system",
        r"""
mkdir -p project/frontend project/backend; cd project && BROKER_PROJECT_SCOPE= broker init  # prose
cd project/frontend && broker write build-tasks "compile assets"
cd project/backend && broker read build-tasks
""",
        SCOPE,
    ),
    Case(
        "data-pipeline",
        r"""
mkdir -p pipeline/extractors pipeline/transformers pipeline/loaders
cd pipeline && broker init && test -f pipeline.db  # prose
cd pipeline/extractors && broker write raw-data "/path/to/file1.csv"
cd pipeline/transformers && broker read raw-data && broker write clean-data "/path/to/processed1.json"
cd pipeline/loaders && broker read clean-data
""",
        {**SCOPE, "BROKER_DEFAULT_DB_NAME": "pipeline.db"},
    ),
    Case(
        "ci-build",
        r"""
mkdir -p repo/sub
cd repo && if ! broker list >/dev/null 2>&1; then broker init; fi  # prose
cd repo && if ! broker list >/dev/null 2>&1; then echo again; fi
cd repo/sub && for n in compile-frontend run-tests; do broker write builds "$n"; done
cd repo && broker list
""",
        {**SCOPE, "BROKER_DEFAULT_DB_NAME": "ci-queue.db"},
    ),
)
