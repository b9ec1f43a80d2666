"""Response rendering: from predictions to JSON, in the shape that the client's library parses."""

from collections.abc import Sequence
from typing import Any

from masking import KnownTask, Prediction, TaskInput
from server.http.kinds import http_kind
from server.http.kinds.kind import ReplyFormat


def render(
    task: KnownTask, inputs: Sequence[TaskInput], predictions: Sequence[Prediction], reply: ReplyFormat
) -> list[Any]:
    """Give the predictions of a request the shape that was asked for.

    Args:
        task: The version that computed them.
        inputs: The inputs of the request.
        predictions: One per input.
        reply: How the reply is to look.

    Returns:
        The reply, ready for JSON.
    """
    return http_kind(task.spec).reply(inputs, predictions, reply)
