from pathlib import Path

import numpy as np
import pytest
import torch

from experiments.common.representation import agreement, cls_states, flatten, separation
from masking import collate
from tests.support.learning_data import tiny_options
from training.runs.preparation import prepare


def test_states_come_in_order_whatever_the_batches(tmp_path: Path, tiny_bert: str) -> None:
    ready = prepare(tiny_options(tmp_path, tiny_bert))
    features = [item.features for item in ready.encoded.dev]
    states = cls_states(ready.base.encoder, ready.base, features, max_rows=5)
    for state, one in zip(states, features, strict=True):
        with torch.no_grad():
            alone = ready.base.encoder(**collate(one.rows, ready.base.tokenizer, ready.base.device))
        np.testing.assert_allclose(state, alone.last_hidden_state[0, 0].numpy(), atol=1e-5)


def test_separation_and_map_tell_classes_apart() -> None:
    draw = np.random.default_rng(0)
    labels = ["a"] * 20 + ["b"] * 20
    mixed = draw.normal(size=(40, 8)).astype(np.float32)
    apart = mixed + 10 * np.array([[label == "b"] for label in labels], np.float32)
    assert separation(mixed, labels) < 0.1
    assert separation(apart, labels) > 0.5
    points = flatten(apart)
    assert points.shape == (40, 2)
    assert separation(points, labels) == pytest.approx(separation(flatten(apart), labels))
    assert separation(points, labels) > 0.5
    assert agreement(points, labels) == agreement(apart, labels) == 1.0
    assert agreement(mixed, labels) < 0.9


def test_neighbours_agree_where_more_than_half_of_ten_have_the_label() -> None:
    line = np.array([[float(place), 0.0] for place in range(11)], np.float32)  # all others are neighbours
    labels = ["a"] * 7 + ["b"] * 4
    assert agreement(line, labels) == pytest.approx(7 / 11)  # 6 of 10 and 3 of 10
    assert agreement(line, ["a"] * 6 + ["b"] * 5) == 0.0  # 5 of 10 is no majority
