"""What a handler may decide: Retry, Snooze, Dead, Drop, and what `job` tells it."""

import json
import time

from brokerrun import Dead, Drop, Job, Retry, Snooze


def deliver(job: Job) -> None:
    """Deliver a message like {"to": "ann", "not_before": 1767225600, "fails": 2}.

    It waits until its time has come, is tried again as often as it says that it fails, and is
    buried where nobody could ever deliver it.
    """
    try:
        order = json.loads(job.body)
    except ValueError:
        raise Dead("the body is no JSON") from None
    if not order.get("to"):
        raise Drop("addressed to nobody")
    wait = order.get("not_before", 0) - time.time()
    if wait > 0:
        raise Snooze(wait)
    if job.attempt <= order.get("fails", 0):
        raise Retry(after=0.2 * job.attempt)
    job.log.info("delivered", to=order["to"], attempt=job.attempt)
