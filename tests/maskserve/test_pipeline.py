import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import maskserve
from mask_store import MaskStore, StoreNotFoundError, UnknownTaskError
from masking import (
    Base,
    ChoiceInput,
    MaskedEncoder,
    TaskBatch,
    TaskInput,
    TaskInputError,
    TextInput,
    WordsInput,
    WordsPrediction,
    load_task,
)
from masking.kernels import Precision, choose_precision
from masking.tasks.sequence_classification import SequenceCodec
from tests.support.kernels.cases import NARROW
from tests.support.serving import EXACT, SPECS, bundle_of, expected_scores, fill

TEXT = "the movie was good"
PAIR = ("it is good", "it is great")
SENTENCE = "Anna met Bob, in Paris."
WORDS = ["Anna", "met", "Bob", ",", "in", "Paris", "."]
ENDINGS = ("it rained and", ["it was wet", "it was dry", "it was"])


@pytest.fixture
def store(base: Base, tmp_path: Path) -> MaskStore:
    return fill(tmp_path / "masks", base)


@pytest.fixture
def tasks(base: Base, store: MaskStore) -> maskserve.Pipeline:
    return maskserve.load(base, store=store, precision=EXACT)


@pytest.mark.parametrize(
    ("task", "given", "as_input"),
    [
        ("sentiment", TEXT, TextInput(TEXT)),
        ("paraphrase", PAIR, TextInput(*PAIR)),
        ("endings", ENDINGS, ChoiceInput(ENDINGS[0], tuple(ENDINGS[1]))),
    ],
)
def test_classes_come_best_first_with_the_scores_of_the_bundle(
    tasks: maskserve.Pipeline, base: Base, store: MaskStore, task: str, given: Any, as_input: TaskInput
) -> None:
    answer = tasks(task, given)
    scores = {entry["label"]: entry["score"] for entry in answer}
    assert scores == pytest.approx(expected_scores(base, store.load(task), as_input), rel=1e-5)
    assert [entry["score"] for entry in answer] == sorted(scores.values(), reverse=True)
    assert sum(scores.values()) == pytest.approx(1.0)


@pytest.mark.parametrize("precision", ["fp32", *NARROW])
def test_the_precision_is_told_and_scores_are_near_those_of_fp32(
    base: Base, store: MaskStore, precision: Precision
) -> None:
    tasks = maskserve.load(base, store=store, precision=precision)
    assert tasks.precision == precision
    scores = {entry["label"]: entry["score"] for entry in tasks("sentiment", TEXT)}
    assert scores == pytest.approx(expected_scores(base, store.load("sentiment")), abs=0.05)


def test_auto_is_the_precision_of_the_device(base: Base, store: MaskStore) -> None:
    assert maskserve.load(base, store=store).precision == choose_precision("auto", base.device)
    with pytest.raises(ValueError, match="precision tf32: needs CUDA"):
        maskserve.load(base, store=store, precision="tf32")


def test_choices_come_with_their_texts(tasks: maskserve.Pipeline) -> None:
    assert {entry["label"]: entry["text"] for entry in tasks("endings", ENDINGS)} == {
        str(number): text for number, text in enumerate(ENDINGS[1])
    }


def test_words_get_the_labels_of_the_bundle(tasks: maskserve.Pipeline, base: Base, store: MaskStore) -> None:
    task = load_task(store.load("names"), base)
    features = task.codec.encode([WordsInput(tuple(WORDS))], truncate=False)
    expected = task.codec.decode(MaskedEncoder(base).logits([TaskBatch(task, features)])[0][0])
    assert isinstance(expected, WordsPrediction)
    answer = tasks("names", WORDS)
    assert [entry["word"] for entry in answer] == WORDS
    assert [entry["label"] for entry in answer] == list(expected.labels)
    assert [entry["score"] for entry in answer] == pytest.approx(expected.scores.max(axis=-1).tolist())


def test_a_running_text_has_entities_with_their_places(tasks: maskserve.Pipeline) -> None:
    labels = [entry["label"] for entry in tasks("names", WORDS)]
    answer = tasks("names", SENTENCE)
    assert all(SENTENCE[entry["start"] : entry["end"]] == entry["word"] for entry in answer)
    assert {entry["entity_group"] for entry in answer} == {label[2:] for label in labels if label != "O"}
    assert all(entry.keys() == {"entity_group", "score", "word", "start", "end"} for entry in answer)


def test_a_batch_of_all_kinds_is_one_forward_pass_in_the_order_given(
    tasks: maskserve.Pipeline, base: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = [
        ("sentiment", TEXT),
        ("names", SENTENCE),
        ("endings", ENDINGS),
        ("sentiment", "good"),
        ("paraphrase", PAIR),
    ]
    alone = [tasks(task, given) for task, given in inputs]
    passes: list[int] = []
    logits = MaskedEncoder.logits

    def counted(self: MaskedEncoder, task_batches: Any) -> Any:
        passes.append(len(task_batches))
        return logits(self, task_batches)

    monkeypatch.setattr(MaskedEncoder, "logits", counted)
    together = tasks.batch(inputs)
    assert passes == [4]
    for one, other in zip(alone, together, strict=True):
        assert [{**entry, "score": 0} for entry in one] == [{**entry, "score": 0} for entry in other]
        assert [e["score"] for e in one] == pytest.approx([e["score"] for e in other], rel=1e-4)


def test_several_labels_a_value_and_a_relevance(
    tasks: maskserve.Pipeline, base: Base, store: MaskStore
) -> None:
    topics = tasks("topics", TEXT)
    scores = {entry["label"]: entry["score"] for entry in topics}
    assert scores == pytest.approx(expected_scores(base, store.load("topics")), rel=1e-5)
    spec = SPECS["topics"]
    reached = {
        name for name, least in zip(spec.labels, spec.thresholds, strict=True) if scores[name] >= least
    }
    assert {entry["label"] for entry in topics if entry["predicted"]} == reached
    (value,) = tasks("rating", TEXT)
    assert value["score"] == pytest.approx(expected_scores(base, store.load("rating"))["score"], abs=1e-6)
    (relevance,) = tasks("relevance", PAIR)
    assert 0 < relevance["score"] < 1


def test_documents_are_ranked_in_one_pass(tasks: maskserve.Pipeline) -> None:
    documents = ["it is great", "the plot of the film", "bad"]
    ranked = tasks.rank("relevance", TEXT, documents)
    scores = [tasks("relevance", (TEXT, document))[0]["score"] for document in documents]
    order = sorted(range(3), key=lambda place: -scores[place])
    assert [one["index"] for one in ranked] == order
    assert [one["score"] for one in ranked] == pytest.approx([scores[place] for place in order], rel=1e-4)
    assert [one["text"] for one in ranked] == [documents[place] for place in order]
    with pytest.raises(TaskInputError, match="can't rank"):
        tasks.rank("paraphrase", TEXT, documents)


def test_texts_are_embedded_and_compared(tasks: maskserve.Pipeline, base: Base, store: MaskStore) -> None:
    texts = [TEXT, "bad", "anna works in london"]
    task = load_task(store.load("semantic"), base)
    features = task.codec.encode([TextInput(text) for text in texts], truncate=False)
    raw = np.stack(MaskedEncoder(base).logits([TaskBatch(task, features)])[0])
    unit = raw / np.linalg.norm(raw, axis=1, keepdims=True)
    np.testing.assert_allclose(tasks.embed("semantic", texts), unit, atol=1e-5)
    np.testing.assert_allclose(tasks.embed("semantic", texts, normalize=False), raw, atol=1e-5)
    assert tasks("semantic", TEXT) == pytest.approx(unit[0].tolist(), abs=1e-5)
    assert tasks.similarity("semantic", TEXT, texts) == pytest.approx((unit @ unit[0]).tolist(), abs=1e-5)
    numbers, classes = tasks.batch([("semantic", TEXT), ("sentiment", TEXT)])
    assert (len(numbers), len(classes)) == (32, 3)
    with pytest.raises(TaskInputError, match="can't embed"):
        tasks.embed("sentiment", texts)


def test_nothing_given_is_nothing_answered(tasks: maskserve.Pipeline) -> None:
    assert tasks.batch([]) == []


@pytest.mark.parametrize(
    ("task", "given", "takes"),
    [
        ("sentiment", PAIR, "takes a text"),
        ("sentiment", 3, "takes a text"),
        ("paraphrase", TEXT, "takes two texts"),
        ("paraphrase", ("a", "b", "c"), "takes two texts"),
        ("names", [1, 2], "takes a text or a list of words"),
        ("endings", TEXT, "takes a context and choices"),
        ("endings", ("context", "no list"), "takes a context and choices"),
        ("semantic", PAIR, "takes a text"),
        ("names", "", "there are no words"),
        ("sentiment", "good " * 100, "at most 32"),
    ],
)
def test_a_wrong_input_names_the_task_and_what_it_takes(
    tasks: maskserve.Pipeline, task: str, given: Any, takes: str
) -> None:
    with pytest.raises(TaskInputError, match=f"^task '{task}'.*{re.escape(takes)}") as raised:
        tasks.batch([("sentiment", TEXT), (task, given)])
    assert raised.value.index == 1


def test_long_inputs_are_cut_where_that_is_asked_for(tasks: maskserve.Pipeline) -> None:
    assert len(tasks("sentiment", "good " * 100, truncate=True)) == len(SPECS["sentiment"].labels)


def test_a_task_that_is_not_in_the_store_is_named(tasks: maskserve.Pipeline) -> None:
    with pytest.raises(UnknownTaskError, match="nothing"):
        tasks("nothing", TEXT)


def test_the_tasks_are_those_of_the_store(tasks: maskserve.Pipeline) -> None:
    assert tasks.tasks == tuple(sorted(SPECS))


def test_a_new_version_is_used_after_a_refresh(
    tasks: maskserve.Pipeline, base: Base, store: MaskStore
) -> None:
    before = tasks("sentiment", TEXT)
    store.publish(bundle_of(base, "sentiment", seed=1))
    assert tasks("sentiment", TEXT) == before
    tasks.refresh()
    after = {entry["label"]: entry["score"] for entry in tasks("sentiment", TEXT)}
    assert after == pytest.approx(expected_scores(base, store.load("sentiment")), rel=1e-5)
    assert after != {entry["label"]: entry["score"] for entry in before}


def test_a_refresh_keeps_tasks_that_are_the_same(
    tasks: maskserve.Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks("sentiment", TEXT)
    tasks.refresh()
    monkeypatch.setattr("maskserve.pipeline.load_task", lambda *_: pytest.fail("loaded again"))
    tasks("sentiment", TEXT)


def test_base_and_store_are_loaded_by_name(tiny_bert: str, store: MaskStore, tmp_path: Path) -> None:
    tasks = maskserve.load(tiny_bert, store=tmp_path / "masks", device="cpu")
    assert tasks("sentiment", TEXT)[0].keys() == {"label", "score"}
    with pytest.raises(StoreNotFoundError):
        maskserve.load(tiny_bert, store=tmp_path / "nothing")


def test_one_input_for_many_tasks_is_encoded_once(
    tasks: maskserve.Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[str] = []
    real = SequenceCodec.encode

    def counting(codec: SequenceCodec, inputs: Any, **options: Any) -> Any:
        encoded.append(codec.spec.kind)
        return real(codec, inputs, **options)

    names = ["topics", "sentiment", "rating"]
    alone = {name: tasks(name, TEXT) for name in names}
    monkeypatch.setattr(SequenceCodec, "encode", counting)
    answers = tasks.fan_out(TEXT, names)
    assert len(encoded) == 1
    assert list(answers) == names
    for name, answer in answers.items():
        assert [entry["label"] for entry in answer] == [entry["label"] for entry in alone[name]]
        assert [entry["score"] for entry in answer] == pytest.approx(
            [entry["score"] for entry in alone[name]], abs=1e-5
        )
    with pytest.raises(TaskInputError, match="endings"):
        tasks.fan_out(TEXT, "*")
    assert tasks.fan_out(PAIR, ["paraphrase", "relevance"]).keys() == {"paraphrase", "relevance"}
