import pytest
from transformers import AutoConfig

from masking import UnsupportedArchitectureError
from masking.architectures import check_architecture, check_encoder_config, own_class


@pytest.mark.parametrize(
    ("architecture", "message"),
    [("of-its-own", "no model of type 'of-its-own'.*never run"), ("t5", "'t5' is an encoder with a decoder")],
)
def test_types_that_are_no_encoders_are_refused_by_name(architecture: str, message: str) -> None:
    with pytest.raises(UnsupportedArchitectureError, match=message):
        check_architecture(architecture)


def test_decoders_are_refused_unless_they_see_both_ways() -> None:
    with pytest.raises(UnsupportedArchitectureError, match="'gpt2' is a decoder"):
        check_encoder_config(AutoConfig.for_model("gpt2"))
    check_encoder_config(AutoConfig.for_model("gemma3_text", use_bidirectional_attention=True))
    check_encoder_config(AutoConfig.for_model("bert"))  # a decoder, too, if it is asked to be one


def test_code_that_transformers_has_taken_up_is_no_code_of_its_own() -> None:
    taken = {"AutoModel": "EuroBERT/EuroBERT-210m--modeling_eurobert.EuroBertModel"}
    assert own_class(AutoConfig.for_model("eurobert", auto_map=taken)) is None
    other = {"AutoModel": "jinaai/jina-bert-implementation--modeling_bert.JinaBertModel"}
    assert own_class(AutoConfig.for_model("bert", auto_map=other)) == "JinaBertModel"
    assert own_class(AutoConfig.for_model("bert")) is None
