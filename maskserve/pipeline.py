"""Pipeline: inputs of any tasks in, predictions out, in one forward pass of one encoder."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import Any, Literal

import numpy as np

from mask_store import MaskStore, TaskKind
from masking import (
    Base,
    ChoiceInput,
    ClassPrediction,
    EmbeddingPrediction,
    Features,
    LabelsPrediction,
    LoadedTask,
    MaskedEncoder,
    Prediction,
    TaskBatch,
    TaskInput,
    TaskInputError,
    TextInput,
    ValuesPrediction,
    WordsInput,
    choose_device,
    entities_of,
    load_base,
    load_task,
    split_words,
)
from masking.inference import ResidentWeights
from masking.kernels import Precision, PrecisionChoice
from masking.tasks.predictions import Floats, normalise

Answer = list[Any]
"""What transformers' pipelines return for one input; of an embedding its numbers."""

_PAIR = 2
_Encoded = dict[tuple[Hashable, TaskInput], Features]


def load(
    base: str | Base,
    *,
    store: str | Path | MaskStore,
    revision: str | None = None,
    device: str = "auto",
    precision: PrecisionChoice = "auto",
) -> "Pipeline":
    """Load an encoder, to predict with the tasks of a store.

    Args:
        base: Hub id or folder of the pretrained encoder, or the encoder itself.
        store: Store of masks, or its folder or URL.
        revision: Branch, tag or commit on the hub.
        device: Where to compute: ``cpu``, ``cuda``, ``cuda:1``; ``auto`` is the GPU where there is one.
        precision: How masked layers are multiplied: ``fp32``, ``bf16``, ``int8`` (CPU), ``tf32``, ``tf32x3``
            (GPU); ``auto`` is bf16 where the device multiplies it natively, else fp32.

    Raises:
        BaseLoadError: The encoder can't be loaded.
        StoreNotFoundError: There is no store.
        ValueError: This machine does not have the device or the precision.
    """
    opened = store if isinstance(store, MaskStore) else MaskStore.open(store)
    if not isinstance(base, str):
        return Pipeline(base, opened, precision)
    pipeline = Pipeline(load_base(base, revision=revision, device=choose_device(device)), opened, precision)
    pipeline._weights.release(pipeline.base)  # nobody else has it
    return pipeline


class Pipeline:
    """Predicts with every task of a store over one encoder. May be called by several threads.

    What an input is, and what comes back, is up to the kind of task:

    - sequence classification takes a text, or a tuple of two texts where the task was learned on pairs;
      every label with its score, best first
    - multi-label classification takes the same; ``predicted`` says whether a label reaches its threshold
    - regression takes the same; the score is the value
    - reranking takes a query and a document, and `rank` a query and many documents
    - token classification takes a running text: its entities; or a list of words: the label of each
    - multiple choice takes a context and a list of choices, as a tuple: every choice with its score, best
      first
    - embedding takes a text: a list of numbers, a vector of length 1; `embed` takes many texts
    """

    def __init__(self, base: Base, store: MaskStore, precision: PrecisionChoice = "auto") -> None:
        """Use `load`, or this with an encoder and a store that are there already."""
        self.base = base
        self.store = store
        self._weights = ResidentWeights.of(base, precision)
        self._encoder = MaskedEncoder(base, self._weights)
        self._loaded: dict[str, LoadedTask] = {}
        self._lock = Lock()

    @property
    def precision(self) -> Precision:
        """In which precision the encoder multiplies: what ``auto`` chose, or what was asked for."""
        return self._weights.precision

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the store's tasks."""
        return self.store.tasks()

    def __call__(self, task: str, given: Any, *, truncate: bool = False) -> Answer:
        """Predict for one input.

        Args:
            task: Name of the task.
            given: The input.
            truncate: Cut an input that is too long, instead of refusing it. Running text and words are
                never cut.

        Returns:
            What the class describes.

        Raises:
            UnknownTaskError: The store has no such task.
            TaskInputError: The task does not take such an input, or it is too long.
            BaseMismatchError: The task was learned over another encoder.
        """
        return self.batch([(task, given)], truncate=truncate)[0]

    def batch(self, inputs: Sequence[tuple[str, Any]], *, truncate: bool = False) -> list[Answer]:
        """Predict for inputs of any tasks, all in one forward pass.

        Args:
            inputs: Task and input, in any order.
            truncate: As for one input.

        Returns:
            The answer to each input, in their order.

        Raises:
            UnknownTaskError: The store has no such task.
            TaskInputError: A task does not take its input; `index` is the input's in `inputs`.
            BaseMismatchError: A task was learned over another encoder.
        """
        found = self._predict(inputs, truncate)
        return [
            _answer(prediction, labels, given)
            for (labels, prediction), (_, given) in zip(found, inputs, strict=True)
        ]

    def _predict(
        self, inputs: Sequence[tuple[str, Any]], truncate: bool
    ) -> list[tuple[tuple[str, ...], Prediction]]:
        """Compute inputs of any tasks: the labels of each one's task, and its prediction."""
        if not inputs:
            return []
        places: dict[str, list[int]] = {}
        for place, (name, _) in enumerate(inputs):
            places.setdefault(name, []).append(place)
        encoded: _Encoded = {}
        with self._lock:
            batches = [self._task_batch(name, places[name], inputs, truncate, encoded) for name in places]
            logits = self._encoder.logits(batches)
        found = {}
        for batch, by_input, own in zip(batches, logits, places.values(), strict=True):
            for place, values in zip(own, by_input, strict=True):
                found[place] = batch.task.spec.labels, batch.task.codec.decode(values)
        return [found[place] for place in range(len(inputs))]

    def _check_kind(self, task: str, kind: TaskKind, does: str) -> None:
        """Refuse a task that is not of a kind."""
        with self._lock:
            found = self._task(task).spec.kind
        if found != kind:
            raise TaskInputError(f"task {task!r} ({found}) can't {does}; a task of the kind {kind} can")

    def embed(
        self, task: str, texts: Sequence[str], *, normalize: bool = True, truncate: bool = False
    ) -> Floats:
        """Embed texts, all in one forward pass.

        Args:
            task: Name of a task of the kind embedding.
            texts: The texts, at least one.
            normalize: Give every embedding the length 1, so that products are cosines.
            truncate: As for one input.

        Returns:
            float32 [texts, hidden].

        Raises:
            UnknownTaskError, TaskInputError, BaseMismatchError: As for `batch`; or the task is of another
                kind.
        """
        self._check_kind(task, "embedding", "embed")
        found = self._predict([(task, text) for text in texts], truncate)
        vectors = np.stack([one.logits for _, one in found if isinstance(one, EmbeddingPrediction)])
        return normalise(vectors) if normalize else vectors

    def similarity(
        self, task: str, source: str, sentences: Sequence[str], *, truncate: bool = False
    ) -> list[float]:
        """Compare a text with others, all in one forward pass.

        Args:
            task: Name of a task of the kind embedding.
            source: The text.
            sentences: The others.
            truncate: As for one input.

        Returns:
            The cosine of each with `source`.

        Raises:
            UnknownTaskError, TaskInputError, BaseMismatchError: As for `embed`.
        """
        vectors = self.embed(task, [source, *sentences], truncate=truncate)
        return [float(cosine) for cosine in vectors[1:] @ vectors[0]]

    def fan_out(
        self, given: Any, tasks: Sequence[str] | Literal["*"], *, truncate: bool = False
    ) -> dict[str, Answer]:
        """Predict for one input with several tasks, in one forward pass.

        The input is tokenised once for all tasks that read it alike, and computed once up to the first block
        that a task masks.

        Args:
            given: The input.
            tasks: Names of the tasks, or "*" for every task of the store.
            truncate: As for one input.

        Returns:
            The answer of each task, by name.

        Raises:
            UnknownTaskError, TaskInputError, BaseMismatchError: As for `batch`; `index` is the task's in
                `tasks`.
        """
        names = self.tasks if tasks == "*" else tasks
        return dict(zip(names, self.batch([(name, given) for name in names], truncate=truncate), strict=True))

    def rank(
        self, task: str, query: str, documents: Sequence[str], *, truncate: bool = False
    ) -> list[dict[str, Any]]:
        """Rank documents by their relevance to a query, all in one forward pass.

        Args:
            task: Name of a task of the kind reranking.
            query: The query.
            documents: The documents.
            truncate: As for one input.

        Returns:
            Index, score and text of each document, best first.

        Raises:
            UnknownTaskError, TaskInputError, BaseMismatchError: As for `batch`; or the task is of another
                kind.
        """
        self._check_kind(task, "reranking", "rank")
        answers = self.batch([(task, (query, document)) for document in documents], truncate=truncate)
        scores = [answer[0]["score"] for answer in answers]
        order = sorted(range(len(scores)), key=lambda place: -scores[place])
        return [{"index": i, "score": scores[i], "text": documents[i]} for i in order]

    def refresh(self) -> None:
        """Let go of tasks whose current version in the store is another now; the next call loads that one."""
        current = self.store.snapshot().current
        with self._lock:
            self._loaded = {
                name: task
                for name, task in self._loaded.items()
                if name in current and current[name].digest == task.digest
            }

    def _task_batch(
        self,
        name: str,
        places: Sequence[int],
        inputs: Sequence[tuple[str, Any]],
        truncate: bool,
        encoded: _Encoded,
    ) -> TaskBatch:
        task = self._task(name)
        return TaskBatch(
            task, [_encode(task, inputs[place][1], place, truncate, encoded) for place in places]
        )

    def _task(self, name: str) -> LoadedTask:
        if name not in self._loaded:
            self._loaded[name] = load_task(self.store.load(name), self.base, self._weights)
        return self._loaded[name]


def _encode(task: LoadedTask, given: Any, place: int, truncate: bool, encoded: _Encoded) -> Features:
    """Tokenise an input, or find it among those that were encoded alike."""
    name, spec = task.name, task.spec
    kind = f"pairs of {spec.kind}" if spec.pair else spec.kind
    read = _PAIRS if spec.pair else _READERS[spec.kind]
    found = read[0](given)
    if found is None:
        raise TaskInputError(
            f"task {name!r} ({kind}) takes {read[1]}, such as {read[2]}; found {given!r:.80}", index=place
        )
    key = task.codec.encoding, found
    try:
        if key not in encoded:
            encoded[key] = task.codec.encode([found], truncate=truncate)[0]
        return encoded[key]
    except TaskInputError as error:
        raise TaskInputError(f"task {name!r}: {error.message}", index=place) from error


def _text(given: Any) -> TaskInput | None:
    return TextInput(given) if isinstance(given, str) else None


def _pair(given: Any) -> TaskInput | None:
    return TextInput(*given) if _texts(given) and len(given) == _PAIR else None


def _words(given: Any) -> TaskInput | None:
    words = [word.text for word in split_words(given)] if isinstance(given, str) else given
    return WordsInput(tuple(words)) if _texts(words) else None


def _choice(given: Any) -> TaskInput | None:
    if not (isinstance(given, list | tuple) and len(given) == _PAIR):
        return None
    context, choices = given
    return ChoiceInput(context, tuple(choices)) if isinstance(context, str) and _texts(choices) else None


def _texts(given: Any) -> bool:
    return isinstance(given, list | tuple) and all(isinstance(one, str) for one in given)


_Reader = tuple[Callable[[Any], TaskInput | None], str, str]
_PAIRS: _Reader = (_pair, "two texts", "('It rains.', 'It is wet.')")
_TEXT: _Reader = (_text, "a text", "'what a great film'")
_READERS: Mapping[TaskKind, _Reader] = {
    "sequence-classification": _TEXT,
    "token-classification": (_words, "a text or a list of words", "'Anna left.' or ['Anna', 'left']"),
    "multi-label-classification": _TEXT,
    "regression": _TEXT,
    "reranking": _PAIRS,
    "embedding": _TEXT,
    "multiple-choice": (_choice, "a context and choices", "('It rained, so', ['it is wet', 'it is dry'])"),
}


def _answer(prediction: Prediction, labels: Sequence[str], given: Any) -> Answer:
    match prediction:
        case ClassPrediction():
            return _classes(prediction, labels, given)
        case LabelsPrediction():
            order, scores, chosen = prediction.ranking, prediction.scores, prediction.indices
            return [{"label": labels[i], "score": float(scores[i]), "predicted": i in chosen} for i in order]
        case ValuesPrediction():
            pairs = zip(labels, prediction.scores, strict=True)
            return [{"label": name, "score": float(score)} for name, score in pairs]
        case EmbeddingPrediction():
            numbers: list[float] = prediction.scores.tolist()
            return numbers
    if isinstance(given, str):
        return entities_of(given, split_words(given), prediction, tuple(labels))
    found = zip(given, prediction.labels, prediction.label_scores, strict=True)
    return [{"word": word, "label": label, "score": score} for word, label, score in found]


def _classes(prediction: ClassPrediction, labels: Sequence[str], given: Any) -> Answer:
    """Every class, best first; of multiple choice the label is the choice's number, from 0."""
    order, scores = prediction.ranking, prediction.scores
    if labels:
        return [{"label": labels[place], "score": float(scores[place])} for place in order]
    return [{"label": str(place), "score": float(scores[place]), "text": given[1][place]} for place in order]
