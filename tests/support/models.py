"""Models: tiny random encoders of every supported architecture, in the hub's own folder format, and copies.

Nothing here is pretrained: these models are for shape and logic only.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from transformers import (
    AutoConfig,
    AutoModel,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
)

from mask_store import WITHOUT_CLASSES, MaskBundle, Pooling, TaskKind
from masking import Base, MaskedModel, MaskSettings, TaskSpec
from masking.architectures.heads import PROBLEM_TYPES, auto_class
from masking.checkpoints import CopySigns, load_copy

ARCHITECTURES = ("bert", "roberta", "distilbert", "mpnet", "electra", "xlm-roberta")
LATER = (
    *("albert", "camembert", "data2vec-text", "ernie"),
    *("deberta", "deberta-v2", "eurobert", "gte", "modernbert", "nomic_bert", "roformer"),
)
"""Further architectures: with a row of names, and such whose layers are found by computing."""
# fmt: off
WORDS = (
    "the", "a", "is", "was", "good", "bad", "movie", "film", "great", "terrible", "plot", "acting", "i",
    "you", "he", "she", "it", "card", "lost", "money", "refund", "please", "help", "my", "account",
    "locked", "in", "on", "at", "paris", "london", "anna", "works", "for", "acme", ".", ",", "!", "?",
    "'", "-", "not", "and", "or", "yes", "no",
)
# fmt: on
_OFFSET = ("roberta", "mpnet", "xlm-roberta", "camembert", "data2vec-text")
_ENDS = {"bos_token_id": 2, "eos_token_id": 3}
_SETTINGS: dict[str, dict[str, Any]] = {
    "deberta": {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "type_vocab_size": 0},
    "deberta-v2": {
        "relative_attention": True,
        "pos_att_type": ["c2p", "p2c"],
        "share_att_key": True,
        "position_buckets": 8,
        "norm_rel_ebd": "layer_norm",
        "position_biased_input": False,
        "type_vocab_size": 0,
    },
    "eurobert": {"num_key_value_heads": 1, "bos_token_id": 0, "eos_token_id": 2, "mask_token_id": 4},
    "modernbert": {"local_attention": 6, "cls_token_id": 2, "sep_token_id": 3} | _ENDS,
}
TOLERANCE = 5e-6  # a two-hundredth of a step of Adam at 1e-3
COPY_LABELS = ("down", "level", "up")
_BERT_SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_ROBERTA_SPECIALS = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")


def tiny_base(
    folder: Path,
    architecture: str = "bert",
    *,
    blocks: int = 3,
    hidden: int = 32,
    pooler: bool = True,
    positions: int = 64,
    seed: int = 0,
) -> str:
    """Saves a random encoder with its tokenizer and returns the folder as a string.

    With `pooler=False` the checkpoint has no pooler, like many sentence encoders.
    """
    vocabulary = _save_tokenizer(folder, architecture, positions)
    torch.manual_seed(seed)
    model = AutoModel.from_config(_config(architecture, vocabulary, blocks, hidden, positions))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(0.0, 0.05)
            elif "norm" not in name.lower():
                parameter.normal_(0.0, 0.15)
    if not pooler and getattr(model, "pooler", None) is not None:
        model.pooler = None
    model.save_pretrained(folder)
    return str(folder)


def _config(architecture: str, vocabulary: int, blocks: int, hidden: int, positions: int) -> PretrainedConfig:
    offset = 2 if architecture in _OFFSET else 0
    shape = {
        "vocab_size": vocabulary,
        "hidden_size": hidden,
        "num_hidden_layers": blocks,
        "num_attention_heads": 2,
        "intermediate_size": 2 * hidden,
        "max_position_embeddings": positions + offset,
        "pad_token_id": 1 if offset else 0,
    }
    if architecture in ("albert", "electra"):
        shape["embedding_size"] = hidden // 2
    if offset:
        shape.update(bos_token_id=0, eos_token_id=2)
    if architecture == "distilbert":
        shape["hidden_dim"] = shape.pop("intermediate_size")
    return AutoConfig.for_model(architecture, **shape, **_SETTINGS.get(architecture, {}))


def _save_tokenizer(folder: Path, architecture: str, positions: int) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    bert_like = architecture not in (*_OFFSET, "eurobert", "gte")
    tokenizer = _wordpiece() if bert_like else _byte_level() if architecture == "roberta" else _metaspace()
    tokenizer.save(str(folder / "tokenizer.json"))
    cls, sep = ("[CLS]", "[SEP]") if bert_like else ("<s>", "</s>")
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": positions,
        "cls_token": cls,
        "sep_token": sep,
        "pad_token": "[PAD]" if bert_like else "<pad>",
        "unk_token": "[UNK]" if bert_like else "<unk>",
        "mask_token": "[MASK]" if bert_like else "<mask>",
        "model_input_names": ["input_ids", *(["token_type_ids"] if bert_like else []), "attention_mask"],
    }
    if architecture == "eurobert":
        config = {name.replace("cls_", "bos_").replace("sep_", "eos_"): one for name, one in config.items()}
    if architecture == "distilbert":
        config["model_input_names"] = ["input_ids", "attention_mask"]
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return int(tokenizer.get_vocab_size())


def _wordpiece() -> Tokenizer:
    pieces = [chr(c) for c in range(ord("a"), ord("z") + 1)] + [str(d) for d in range(10)]
    entries = list(dict.fromkeys([*_BERT_SPECIALS, *WORDS, *pieces, *(f"##{p}" for p in pieces)]))
    vocabulary = {entry: index for index, entry in enumerate(entries)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.BertProcessing(
        ("[SEP]", vocabulary["[SEP]"]), ("[CLS]", vocabulary["[CLS]"])
    )
    return tokenizer


def _byte_level() -> Tokenizer:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    entries = [*_ROBERTA_SPECIALS, *alphabet]
    vocabulary = {entry: index for index, entry in enumerate(dict.fromkeys(entries))}
    tokenizer = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    return tokenizer


def _metaspace() -> Tokenizer:
    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)]
    entries = [*_ROBERTA_SPECIALS, "▁", *(f"▁{word}" for word in WORDS), *letters]
    tokenizer = Tokenizer(models.Unigram([(e, -float(i)) for i, e in enumerate(dict.fromkeys(entries))], 3))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()]
    )
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    return tokenizer


def random_bundle(
    base: Base, spec: TaskSpec, *, task: str = "demo", seed: int = 0, settings: MaskSettings | None = None
) -> MaskBundle:
    """A bundle for `base` with a random, untrained mask: what publishing and serving need in a test."""
    model = MaskedModel.create(base, spec, settings or MaskSettings(initial_sparsity=0.2), seed=seed)
    return model.to_bundle(
        task=task,
        metric="accuracy",
        metrics={"accuracy": 0.5},
        training={"lr": 1e-3},
        data_digest="sha256:" + "0" * 64,
        seed=seed,
    )


@contextmanager
def saved_for_backward() -> Iterator[list[Tensor]]:
    """Collects the tensors that operations inside keep for their backward pass, in order."""
    saved: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        saved.append(tensor)
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        yield saved


def assert_learned_alike(kind: TaskKind, mine: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Asserts that learned states agree, up to the rounding of sums.

    Left out is what the output does not depend on, for its gradient is rounding alone: the biases of keys,
    and the classifier's where softmax goes over the choices, which share it.
    """
    assert mine.keys() == expected.keys()
    without_effect = ("key.bias", *(["classifier.bias"] if kind == "multiple-choice" else []))
    for name, tensor in expected.items():
        if not name.endswith(tuple(without_effect)):
            torch.testing.assert_close(mine[name], tensor, atol=TOLERANCE, rtol=0.0)


def finetuned(
    base_folder: str,
    folder: Path,
    kind: TaskKind,
    *,
    step: float = 0.02,
    seed: int = 0,
    tokens: Sequence[int] = (),
    types: bool = False,
    **config: Any,
) -> str:
    """Saves a copy of a base with a head of its own, if any, as plain transformers would; returns its folder.

    Args:
        base_folder: The base.
        folder: Where to.
        kind: Kind of task.
        step: Standard deviation of the change of every number.
        seed: Of the changes and of the head.
        tokens: Those whose embeddings are changed, too, by ten times as much.
        types: Whether the embedding of token types is changed so, too.
        config: Further fields of the configuration.
    """
    torch.manual_seed(seed)
    labels: dict[str, Any] = {
        "id2label": dict(enumerate(COPY_LABELS)),
        "label2id": {n: i for i, n in enumerate(COPY_LABELS)},
    }
    if kind in WITHOUT_CLASSES:
        labels = {"num_labels": 1} if kind == "reranking" else labels
        config = {"problem_type": PROBLEM_TYPES.get(kind)} | config
    if kind in ("multiple-choice", "embedding"):
        labels = {}
    cls = getattr(transformers, auto_class(kind))
    model: PreTrainedModel = cls.from_pretrained(base_folder, **(labels | config))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "embeddings." not in name or "LayerNorm" in name:
                parameter.add_(torch.randn_like(parameter) * step)
        if tokens:
            table = model.get_input_embeddings().get_parameter("weight")
            rows = table[list(tokens)]
            table[list(tokens)] = rows + torch.randn_like(rows) * 10 * step
        for name, parameter in model.named_parameters():
            if types and "token_type" in name:
                parameter.add_(torch.randn_like(parameter) * 10 * step)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(base_folder).save_pretrained(folder)
    return str(folder)


def sign_bundle(
    base: Base,
    model: str,
    *,
    task: str = "copied",
    factor: float = 1.0,
    pooling: Pooling | None = None,
    keeps_rows: bool = False,
) -> MaskBundle:
    """The bundle of a copy's signs."""
    copied = load_copy(model, base, pooling=pooling)
    signs = CopySigns(base, copied, keeps_rows)
    spec = TaskSpec(
        *(copied.kind, copied.labels),
        max_length=32,
        word_piece="first",
        pair=copied.kind == "reranking",
        pooling=copied.pooling,
    )
    scales = {name: factor * mean for name, mean in signs.mean_scales.items()}
    return signs.bundle(task, spec, scales, settings={"factor": factor}, metrics={})
