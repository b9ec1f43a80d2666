import pytest

from masking import MaskedModel, MaskSettings, TaskSpec, load_base
from training.loop.sparsity_schedule import SparsitySchedule, ramp_epochs


@pytest.mark.parametrize(("epochs", "ramp"), [(1, 1), (2, 1), (5, 3), (10, 5)])
def test_the_target_is_reached_after_half_of_the_epochs(epochs: int, ramp: int) -> None:
    assert ramp_epochs(epochs) == ramp


@pytest.mark.parametrize("end", [0.01, 0.6])
def test_the_share_goes_from_start_to_end_in_a_cubic_and_stays(tiny_bert: str, end: float) -> None:
    spec = TaskSpec("sequence-classification", ("a", "b"), max_length=16)
    model = MaskedModel.create(load_base(tiny_bert), spec, MaskSettings(), seed=0)
    start = model.sparsity()
    schedule = SparsitySchedule(model, end, ramp_steps=50)
    expected = {0: start, 25: end + (start - end) / 8, 50: end, 100: end}
    for step, share in expected.items():
        schedule.move(step)
        assert model.sparsity() == pytest.approx(share, abs=1e-4)
