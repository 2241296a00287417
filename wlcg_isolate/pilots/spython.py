"""
The arguments and results of ``spython.main.Client.execute``.

Rules:

1. Arguments are those of `request_of`, and those that say what comes back.
2. Nothing is printed and nothing exits: what went wrong is raised, or is in
   the result.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any, Optional, Union

from wlcg_isolate.errors import IsolateError, LaunchError, Problem, RequestError
from wlcg_isolate.outcome import Outcome
from wlcg_isolate.pilots.spython_arguments import problem, request_of
from wlcg_isolate.plan import make_plan
from wlcg_isolate.policy import Policy, load_policy
from wlcg_isolate.request import Request
from wlcg_isolate.run import refuse, run_isolated, trace_places
from wlcg_isolate.running import start_plan

__all__ = ["execute", "request_of"]


def execute(
    image: Any = None,
    command: Union[str, Sequence[str], None] = None,
    *,
    policy: Optional[Policy] = None,
    stream: bool = False,
    stream_type: str = "stdout",
    return_result: bool = False,
    quiet: bool = True,  # noqa: ARG001 - a library prints nothing
    **more: Any,
) -> Any:
    """
    Run a payload as ``Client.execute`` does.

    Args:
        image: As for `request_of`.

        command: As for `request_of`.

        policy: What holds; what `load_policy` finds, when None.

        stream: Whether to return an iterator over lines as they come.

        stream_type: Of which of the payload's streams: ``"stdout"``,
            ``"stderr"`` or ``"both"``.

        return_result: Whether to return the whole result also of success.

        quiet: Means nothing: a library prints nothing.

        more: As for `request_of`.

    Returns:
        Of success what the payload printed: one text, or a list of output
        and errors when there are both, empty when there is neither.  Of
        failure, and with *return_result*, a dictionary: ``message`` (the
        same), ``return_code`` and ``outcome`` (in plain types).  A payload
        that was never started has 125 as its code, and the cause as its
        message.

    Raises:
        RequestError: As for `request_of`, at once.

        LaunchError: By the iterator, at its end: the payload failed, or was
            refused.
    """
    if stream_type not in ("stdout", "stderr", "both"):
        raise RequestError([problem(f"stream_type holds {stream_type!r}", "use stdout, stderr or both")])
    request = request_of(image, command, **more)
    policy = load_policy() if policy is None else policy
    if stream:
        return _stream(request, policy, stream_type)
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        outcome = run_isolated(request, policy, stdout=out, stderr=err)
        texts = [_text(file) for file in (out, err)] if outcome.started else [outcome.message]
    message = [text for text in texts if text]
    result = _result(message[0] if len(message) == 1 else message, outcome)

    return result if return_result or outcome.status else result["message"]


def _stream(request: Request, policy: Policy, stream_type: str) -> Iterator[str]:
    try:
        plan = make_plan(request, policy)
    except IsolateError as error:
        # It is recorded as every refusal is.
        raise _failure(refuse(error, request, trace_places(request, policy), policy)) from error
    reader, writer = os.pipe()
    with (
        open(reader, encoding="utf-8", errors="replace") as lines,
        open(writer, "wb") as to,
        open(os.devnull, "wb") as no,
    ):
        stdout, stderr = (to if stream_type in (name, "both") else no for name in ("stdout", "stderr"))
        with start_plan(plan, stdout=stdout, stderr=stderr) as running:
            to.close()
            yield from lines
            outcome = running.wait()
    if outcome.status:
        raise _failure(outcome)


def _failure(outcome: Outcome) -> LaunchError:
    return LaunchError([Problem(kind=outcome.kind, message=outcome.message, origin="payload")])


def _result(message: Any, outcome: Outcome) -> dict[str, Any]:
    # As `subprocess` has it, which the client passes on.
    code = outcome.status if outcome.signal is None else -outcome.signal

    return {"message": message, "return_code": code, "outcome": outcome.to_dict()}


def _text(file: Any) -> str:
    file.seek(0)

    return str(file.read().decode("utf-8", "replace"))
