"""Calls the webhook of a run; the termination message says why it was not taken.

Run as ``python3 -m tapchanger_serving.webhook``.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

from tapchanger_serving.contract import retraining as told
from tapchanger_serving.contract.names import ENV_TERMINATION_LOG, EXIT_USER_ERROR, TERMINATION_LOG
from tapchanger_serving.contract.retraining import RunInputs
from tapchanger_serving.webhook.call import CallError, client, credentials, post


def main() -> int:
    """0 where the service took the run."""
    environment = os.environ
    folder = Path(environment.get("TAPCHANGER_WEBHOOK_SECRET_DIR", told.WEBHOOK_SECRET_DIR))
    run_file = environment.get(told.ENV_RUN_FILE, f"{told.RUN_DIR}/{told.RUN_FILE}")
    inputs = RunInputs.model_validate_json(Path(run_file).read_text(encoding="utf-8"))
    try:
        known = credentials(folder, environment.get(told.ENV_WEBHOOK_SECRET))
        with client(known, float(environment.get(told.ENV_WEBHOOK_TIMEOUT, "30"))) as session:
            url = environment[told.ENV_WEBHOOK_URL]
            status = post(session, url, inputs, known, clock=time.time, sleep=time.sleep)
    except CallError as problem:
        _say("error", problem.failure.message)
        Path(environment.get(ENV_TERMINATION_LOG, TERMINATION_LOG)).write_text(
            problem.failure.dumps(), encoding="utf-8"
        )
        return EXIT_USER_ERROR if problem.final else 1
    _say("info", f"the service took run {inputs.run} with status {status}")
    return 0


def _say(level: str, message: str) -> None:
    sys.stdout.write(json.dumps({"ts": round(time.time(), 3), "level": level, "msg": message}) + "\n")


if __name__ == "__main__":
    sys.exit(main())
