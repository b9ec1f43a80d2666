"""Named sets of values for `LearnOptions`, fixed whatever its defaults are or become."""

from collections.abc import Mapping
from typing import Any, Literal

from mask_store import JsonScalar
from training.errors import OptionsError
from training.options import EXTRA_SETTINGS, LearnOptions

Preset = Literal["paper"]

# All that decides a mask but data, base, seed and the learning rate, which the paper searches for each task.
PRESETS: Mapping[Preset, Mapping[str, JsonScalar]] = {
    "paper": {
        "epochs": 10,
        "patience": 2,
        "batch_size": 32,
        "accumulate": 1,
        "group_by_length": False,
        "precision": "fp32",
        "max_length": 128,
        "blocks": "2-",
        "initial_sparsity": 0.05,
        "threshold": 0.01,
        "score_low": -0.02,
        "head": "masked",
        **EXTRA_SETTINGS,
    }
}


def options_of(given: Mapping[str, Any], preset: Preset | None = None) -> LearnOptions:
    """Return options of the values that are given, of a preset, and of the defaults for the rest.

    Args:
        given: values of fields of `LearnOptions`.
        preset: name of the preset; None for none.

    Raises:
        OptionsError: a value makes no sense, or is set by the preset as well; lists every mistake.
    """
    values = PRESETS[preset] if preset else {}
    problems = [
        f"--{name.replace('_', '-')}: --preset {preset} sets it; leave out one of the two"
        for name in given
        if name in values
    ]
    try:
        options = LearnOptions(**{**values, **given})
    except OptionsError as error:
        raise OptionsError([*problems, *error.problems]) from None
    if problems:
        raise OptionsError(problems)
    return options
