from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AttentionInterface

from masking import Base, Row, load_base
from masking.inference.packing import RowBatch, attend_by_row, attending, can_pack, pack_rows, pad_rows
from tests.support.models import ARCHITECTURES, tiny_base


def _rows(*lengths: int, typed: bool = True) -> list[Row]:
    rng = np.random.default_rng(sum(lengths))
    return [Row.of(rng.integers(5, 40, n).tolist(), (0,) * n if typed else ()) for n in lengths]


def test_packed_rows_lie_one_after_another(tiny_bert: str) -> None:
    base, rows = load_base(tiny_bert), _rows(3, 1, 4)
    batch = pack_rows(rows, base)
    assert batch.inputs["input_ids"].tolist() == [[i for row in rows for i in row.input_ids]]
    assert batch.inputs["position_ids"].tolist() == [[0, 1, 2, 0, 0, 1, 2, 3]]
    assert (batch.lengths, batch.widths, batch.starts) == ((3, 1, 4), (3, 1, 4), (0, 3, 4))


def test_padded_rows_take_the_width_of_the_longest(tiny_bert: str) -> None:
    batch = pad_rows(_rows(3, 1, 4), load_base(tiny_bert))
    assert batch.inputs["attention_mask"].sum(1).tolist() == [3, 1, 4]
    assert (batch.lengths, batch.widths, batch.starts) == ((3, 1, 4), (4, 4, 4), (0, 4, 8))


def _attention(base: Base, batch: RowBatch, states: Tensor) -> Tensor:
    """The registered function itself, called as transformers calls it."""
    encoder = base.share_encoder()
    attend_by_row(encoder)
    with attending(batch):
        attend: Any = AttentionInterface()[encoder.config._attn_implementation]
        output, weights = attend(torch.nn.Module(), states, states, states, None, dropout=0.0)
    assert weights is None
    assert isinstance(output, Tensor)
    return output


@pytest.mark.parametrize("lengths", [(5,), (4, 4, 4), (7, 2), (1, 2, 3, 10, 11, 12, 12), (1, 1, 30)])
def test_attention_keeps_rows_apart(lengths: tuple[int, ...], tiny_bert: str) -> None:
    states = torch.randn(1, 2, sum(lengths), 8)
    base = load_base(tiny_bert)
    batch = pack_rows(_rows(*lengths), base)
    rows = [states[:, :, start : start + n] for start, n in zip(batch.starts, lengths, strict=True)]
    parts = [F.scaled_dot_product_attention(row, row, row).transpose(1, 2) for row in rows]
    torch.testing.assert_close(_attention(base, batch, states), torch.cat(parts, dim=1))


def test_rows_of_similar_length_share_a_group(tiny_bert: str) -> None:
    batch = pack_rows(_rows(10, 3, 12, 11, 3, 30), load_base(tiny_bert))
    assert [(group.rows, group.length) for group in batch.groups] == [(2, 3), (3, 12), (1, 30)]
    assert [group.allowed is None for group in batch.groups] == [True, False, True]
    equal = pack_rows(_rows(6, 6), load_base(tiny_bert)).groups
    assert [(group.rows, group.length, group.tokens) for group in equal] == [(2, 6, None)]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_encoders_give_the_same_states_packed_as_alone(architecture: str, tmp_path: object) -> None:
    base = load_base(tiny_base(tmp_path, architecture))  # type: ignore[arg-type]
    if not can_pack(base):
        pytest.skip("its attention can't be replaced")
    rows = _rows(9, 4, 5, 17, typed=architecture in ("bert", "electra"))
    encoder = base.share_encoder()
    encoder.set_attn_implementation("attention_by_row")
    batch = pack_rows(rows, base)
    with torch.inference_mode(), attending(batch):
        packed = encoder(**batch.inputs).last_hidden_state[0]
    for row, start in zip(rows, batch.starts, strict=True):
        with torch.inference_mode():
            alone = base.encoder(**pad_rows([row], base).inputs).last_hidden_state[0]
        torch.testing.assert_close(packed[start : start + len(row.input_ids)], alone, rtol=1e-4, atol=1e-5)


def test_all_but_mpnet_are_packed(tmp_path_factory: pytest.TempPathFactory) -> None:
    padded = [
        name
        for name in ARCHITECTURES
        if not can_pack(load_base(tiny_base(tmp_path_factory.mktemp(name), name)))
    ]
    assert padded == ["mpnet"]
