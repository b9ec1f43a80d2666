import pytest

from masking import MaskSettings


def test_the_papers_setting_is_the_default() -> None:
    settings = MaskSettings()
    assert settings.threshold == 0.01
    assert settings.score_low == -0.02
    assert settings.score_high == pytest.approx(0.58)
    assert settings.score_range == pytest.approx(0.6)
    assert (settings.score_init, settings.score_gradient) == ("uniform", "straight-through")


@pytest.mark.parametrize("sparsity", [0.01, 0.05, 0.5, 0.95])
def test_score_high_gives_the_wanted_share_of_zeros(sparsity: float) -> None:
    settings = MaskSettings(initial_sparsity=sparsity)
    share = (settings.threshold - settings.score_low) / (settings.score_high - settings.score_low)
    assert share == pytest.approx(sparsity)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"initial_sparsity": 0.0}, "initial_sparsity"),
        ({"initial_sparsity": 1.0}, "initial_sparsity"),
        ({"initial_sparsity": float("nan")}, "initial_sparsity"),
        ({"score_low": 0.5}, "score_low"),
        ({"threshold": float("inf")}, "threshold"),
        ({"head": "random"}, "head"),
        ({"score_init": "normal"}, "score_init"),
        ({"score_gradient": "identity"}, "score_gradient"),
        ({"score_gradient": "sigmoid"}, "temperature"),
        ({"temperature": 0.1}, "temperature"),
        ({"score_gradient": "sigmoid", "temperature": 0.0}, "temperature"),
    ],
)
def test_a_wrong_value_is_named(arguments: dict[str, float], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        MaskSettings(**arguments)  # type: ignore[arg-type]
