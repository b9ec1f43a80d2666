"""EMA: an exponential moving average of what learns, step by step, which is evaluated and published.

The optimizer works on the parameters themselves; averages never flow back into learning.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class Ema:
    """Average of parameters over the steps; starts as the parameters before the first."""

    def __init__(self, parameters: Mapping[str, nn.Parameter], decay: float) -> None:
        """Start an average.

        Args:
            parameters: What learns, by name.
            decay: Weight of the average so far in the next one, between 0 and 1.
        """
        self._parameters = parameters
        self._averages = {name: p.detach().clone() for name, p in parameters.items()}
        self._update = get_ema_multi_avg_fn(decay)

    def update(self) -> None:
        """Take a step that was made into the average."""
        self._update(list(self._averages.values()), [p.detach() for p in self._parameters.values()], 0)

    def swap(self) -> None:
        """Exchange parameters and averages."""
        for name, parameter in self._parameters.items():
            parameter.data, self._averages[name] = self._averages[name], parameter.data

    def state(self) -> dict[str, Tensor]:
        """Return copies of the averages, on the CPU, by name."""
        return {name: average.cpu().clone() for name, average in self._averages.items()}

    @torch.no_grad()
    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Put back what `state` gave."""
        for name, average in self._averages.items():
            average.copy_(state[name])
