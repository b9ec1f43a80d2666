from typing import Any

import pytest
from transformers import AutoConfig

from masking.architectures import COMPUTED_SETTINGS, LAYER_NAMES, computed_settings


def test_rows_of_names_have_rows_of_settings() -> None:
    assert LAYER_NAMES.keys() <= COMPUTED_SETTINGS.keys()


@pytest.mark.parametrize("architecture", COMPUTED_SETTINGS)
def test_settings_are_fields_of_the_configuration(architecture: str) -> None:
    config = AutoConfig.for_model(architecture)
    missing = [name for name in COMPUTED_SETTINGS[architecture] if not hasattr(config, name)]
    # of DeBERTa's, some are in no class and in most files
    assert missing in ([], ["norm_rel_ebd", "position_buckets", "share_att_key"])


@pytest.mark.parametrize(
    ("setting", "value", "counts"),
    [
        ("hidden_act", "relu", True),
        ("rotary_value", True, True),
        ("hidden_dropout_prob", 0.3, False),
        ("initializer_range", 0.3, False),
        ("name_or_path", "elsewhere", False),
        ("use_cache", False, False),
    ],
)
def test_without_a_row_what_is_not_the_class_s_own_counts(setting: str, value: Any, counts: bool) -> None:
    assert "roformer" not in COMPUTED_SETTINGS
    changed = AutoConfig.for_model("roformer", **{setting: value})
    plain = computed_settings(AutoConfig.for_model("roformer"))
    assert (computed_settings(changed) != plain) == counts
