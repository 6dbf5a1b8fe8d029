"""`python -m tapchanger_serving.build {inspect,probe,fetch,export,distill,measure,collect}`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence

from tapchanger_serving.build import log, termination
from tapchanger_serving.build.failures import MODEL_FIELD, StepError, TransientStepError, WrongNodeError
from tapchanger_serving.build.places import Places
from tapchanger_serving.contract.messages import BuildRequest, Collection, Inspection, StepFailure
from tapchanger_serving.contract.names import ENV_BUILD_REQUEST, ENV_COLLECTION, EXIT_USER_ERROR
from tapchanger_serving.ending import end_when_told

TASKS = ("text-classification", "token-classification", "feature-extraction", "text-generation")
EXIT_CRASH = 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one step. Exit codes: 0 done, 42 the user has to change something, 1 the step broke and may be tried again."""
    # Threads that spin while they wait take the very cores that the others need when cores are shared or limited.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    log.adopt_libraries()
    options = _parser().parse_args(arguments)
    places = Places.from_environment()
    try:
        message = _step(options)(places)
    except StepError as error:
        log.warning("step failed", **error.failure.model_dump())
        _last_word(places, error.failure)
        return EXIT_CRASH if isinstance(error, TransientStepError) else EXIT_USER_ERROR
    except PermissionError as error:
        log.crash("a file can't be read or written", error)
        _last_word(places, _unreadable(error))
        return EXIT_USER_ERROR
    except WrongNodeError as error:
        log.crash("step is on the wrong node", error)
        _last_word(places, StepFailure(reason="HardwareMismatch", message=str(error)))
        return EXIT_CRASH
    except Exception as error:  # noqa: BLE001 - the boundary of the process: reported, then the Job may try again
        log.crash("step crashed", error)
        _last_word(places, StepFailure(reason="BuildCrashed", message=_first_line(error)))
        return EXIT_CRASH
    if message:
        termination.write(places.termination_log, message)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tapchanger_serving.build", description="Build an engine, step by step."
    )
    steps = parser.add_subparsers(dest="step", required=True)
    inspecting = steps.add_parser("inspect", help="say what a checkpoint and this machine are")
    inspecting.add_argument("--uri", required=True)
    inspecting.add_argument(
        "--task", required=True, choices=(*TASKS, "auto"), help="auto: what the checkpoint's head does"
    )
    inspecting.add_argument("--known", type=Inspection.model_validate_json, help="JSON of what was found before")
    steps.add_parser("probe", help="say what this machine is")
    for name, text in (
        ("fetch", "copy and verify the checkpoint"),
        ("export", "make the ONNX graph and PyTorch's reference answers"),
        ("distill", "train a smaller student with the model as its teacher"),
        ("measure", "make, time and compare the candidates, and store the chosen engine"),
    ):
        steps.add_parser(name, help=f"{text}; reads ${ENV_BUILD_REQUEST}")
    steps.add_parser("collect", help=f"remove what nobody needs from the store; reads ${ENV_COLLECTION}")
    return parser


def _step(options: argparse.Namespace) -> Callable[[Places], str | None]:
    """Imports only what the step needs."""
    match options.step:
        case "inspect":
            from tapchanger_serving.build.inspection import inspect

            return lambda places: termination.inspection_text(inspect(options.uri, options.task, places, options.known))
        case "probe":
            from tapchanger_serving.hardware import probe

            return lambda _: probe().dumps()
        case "fetch":
            from tapchanger_serving.build.fetch import fetch

            return lambda places: fetch(_request(), places)
        case "export":
            from tapchanger_serving.build.export import export

            return lambda places: export(_request(), places)
        case "distill":
            from tapchanger_serving.build.distill.step import distill

            return lambda places: distill(_request(), places)
        case "collect":
            from tapchanger_serving.build.collect import collect

            return lambda places: collect(Collection.model_validate_json(os.environ[ENV_COLLECTION]), places)
        case _:
            from tapchanger_serving.build.measure import measure

            return lambda places: measure(_request(), places)


def _request() -> BuildRequest:
    return BuildRequest.model_validate_json(os.environ[ENV_BUILD_REQUEST])


def _unreadable(error: PermissionError) -> StepFailure:
    return StepFailure(
        reason="PermissionDenied",
        message=f"user {os.getuid()} may not access {error.filename}",
        field=MODEL_FIELD,
        remedy="let everyone read the checkpoint and the data: chmod -R a+rX FOLDER; a store must be writable for group 65532",
    )


def _last_word(places: Places, failure: StepFailure) -> None:
    termination.write(places.termination_log, termination.failure_text(failure))


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


if __name__ == "__main__":
    end_when_told()
    sys.exit(main())
