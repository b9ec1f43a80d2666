import sys
from collections.abc import Callable
from functools import cache
from threading import Thread

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from masking import Tokenizer, load_base
from masking.tasks.tokenizing import RowTokenizer, encode_texts, finish, in_steps
from tests.support.models import tiny_base

KINDS = ("bert", "roberta", "xlm-roberta")  # wordpieces, byte-level BPE, unigram behind a metaspace
MOST = 131_072  # characters that are read of a text at most

# fmt: off
_WORDS = (
    "the", "movie", "was", "good", "don't", "3.14", "http://a.b/c?d=e", "[SEP]", "<mask>", "<s>", "naïve",
    "é", "ﬁ", "İ", "ß", "Привет", "नरेन्द्र", "小明在北京工作", "שלום", "สวัสดี",
    "👍🏽", "👨\u200d👩\u200d👧", "\u200b", "\ufeff", "\x00", "\u00ad", "한국어",
)
# fmt: on
_words = st.sampled_from(_WORDS)
_runs = st.tuples(
    st.sampled_from([" ", "\n", "\t", "\u3000", "\u200b", "\u0301", "a", "é", "中", "-", "."]),
    st.sampled_from([1, 2, 99, 100, 101, 400]),
).map(lambda run: run[0] * run[1])
_spaces = st.sampled_from([" ", "\n", "\u3000"]).map(lambda space: space * 3000)
_segments = st.one_of(
    _words, _runs, _spaces, st.text(max_size=200), st.lists(_words, max_size=60).map(" ".join)
)
_texts = (
    st.lists(st.tuples(_segments, st.integers(1, 12)), min_size=1, max_size=6)
    .map(
        lambda parts: " ".join(
            segment if len(segment) > 999 else " ".join([segment] * n) for segment, n in parts
        )
    )
    .filter(str.strip)
)  # transformers takes an empty second text for none


@pytest.fixture(scope="module")
def tokenizer_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Tokenizer]:
    @cache
    def load(architecture: str) -> Tokenizer:
        folder = tmp_path_factory.mktemp(architecture)
        return load_base(tiny_base(folder, architecture)).tokenizer

    return load


def _rows(tokenizer: Tokenizer, *texts: str, max_length: int) -> tuple[list[int], list[int], bool]:
    """Ids and segments of a row, and whether it was cut."""
    rows = RowTokenizer(tokenizer, max_length, pair=len(texts) > 1)
    ((row, cut),) = finish(rows.rows([texts], truncate=True, owners=[0]))
    return row.input_ids.tolist(), row.token_type_ids.tolist(), cut


def _whole(tokenizer: Tokenizer, *texts: str, max_length: int) -> tuple[list[int], list[int], bool]:
    """The same by transformers, which tokenises all of it."""
    side = tokenizer.truncation_side
    uncut = tokenizer(*texts, truncation=False, verbose=False)
    sources = uncut.encodings[0].sequence_ids
    counts = [sources.count(part) for part in range(2)]
    special = len(sources) - sum(counts)
    kept = _longest_first(counts[0], counts[1], max_length - special)
    chosen, seen = [], [0, 0]
    for place, part in enumerate(sources):
        if part is not None:
            seen[part] += 1
            wanted = seen[part] <= kept[part] if side == "right" else seen[part] > counts[part] - kept[part]
        if part is None or wanted:
            chosen.append(place)
    ids, segments = (uncut.get(name, []) for name in ("input_ids", "token_type_ids"))
    return [ids[i] for i in chosen], [segments[i] for i in chosen if segments], len(ids) > max_length


def _longest_first(first: int, second: int, room: int) -> list[int]:
    """Take tokens away one by one from the longer text; the odd one stays with what was longer."""
    if first + second <= room:
        return [first, second]
    if 2 * min(first, second) <= room:
        shorter = min(first, second)
        return [shorter, room - shorter] if first <= second else [room - shorter, shorter]
    return [room // 2, room - room // 2] if first <= second else [room - room // 2, room // 2]


@pytest.mark.parametrize("kind", KINDS)
@given(texts=st.lists(_texts, min_size=1, max_size=2), max_length=st.integers(6, 60), left=st.booleans())
@settings(max_examples=30, deadline=None)
def test_rows_are_those_of_the_whole_text(
    tokenizer_of: Callable[[str], Tokenizer], kind: str, texts: list[str], max_length: int, left: bool
) -> None:
    tokenizer = tokenizer_of(kind)
    tokenizer.truncation_side = "left" if left else "right"
    assert _rows(tokenizer, *texts, max_length=max_length) == _whole(tokenizer, *texts, max_length=max_length)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "texts", [("the movie " * 9,), ("the " * 9, "good " * 12), ("bad " * 12, "a"), ("a", "b")]
)
@pytest.mark.parametrize("max_length", [9, 10, 16])
def test_short_rows_are_cut_as_transformers_cuts_them(
    tokenizer_of: Callable[[str], Tokenizer], kind: str, texts: tuple[str, ...], max_length: int
) -> None:
    tokenizer = tokenizer_of(kind)
    tokenizer.truncation_side = "right"
    expected = tokenizer(*texts, truncation="longest_first", max_length=max_length)
    ids, segments, _ = _rows(tokenizer, *texts, max_length=max_length)
    assert ids == expected["input_ids"]
    assert segments == expected.get("token_type_ids", [])


def test_white_space_and_invisible_characters_are_read_over(
    tokenizer_of: Callable[[str], Tokenizer],
) -> None:
    tokenizer = tokenizer_of("bert")
    tokenizer.truncation_side = "right"
    short = _rows(tokenizer, "good movie", max_length=8)
    for gap in (" ", "\n", "\x00", "\u200b"):
        ids, _, cut = _rows(tokenizer, f"{gap * 60_000}good {gap * 60_000}movie", max_length=8)
        assert (ids, cut) == (short[0], False)


def test_a_text_of_which_too_little_could_be_read_was_cut(tokenizer_of: Callable[[str], Tokenizer]) -> None:
    tokenizer = tokenizer_of("bert")
    ids, _, cut = _rows(tokenizer, "good" + " " * MOST + "movie", max_length=8)
    assert (tokenizer.decode(ids), cut) == ("[CLS] good [SEP]", True)


def test_truncation_and_padding_that_others_set_do_not_matter(tiny_bert: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_bert)
    rows = RowTokenizer(tokenizer, 16, pair=False)
    expected = finish(rows.rows([("the movie was good",)], truncate=False, owners=[0]))
    tokenizer("the movie", truncation=True, max_length=3, padding="max_length")
    assert finish(rows.rows([("the movie was good",)], truncate=False, owners=[0])) == expected


def test_several_threads_may_tokenise_at_once(tiny_bert: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_bert)
    rows = [RowTokenizer(tokenizer, length, pair=False) for length in (8, 16, 32)]
    text = ("the movie was good " * 20,)
    expected = [finish(one.rows([text], truncate=True, owners=[0])) for one in rows]
    wrong: list[int] = []

    def tokenise(place: int) -> None:
        for _ in range(100):
            if finish(rows[place].rows([text], truncate=True, owners=[0])) != expected[place]:
                wrong.append(place)

    threads = [Thread(target=tokenise, args=(place % 3,)) for place in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_text_of_several_rows_is_read_once(
    tokenizer_of: Callable[[str], Tokenizer], monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []

    def noted(tokenizer: Tokenizer, texts: list[str]) -> object:
        read.extend(texts)
        return encode_texts(tokenizer, texts)

    monkeypatch.setattr(sys.modules[RowTokenizer.__module__], "encode_texts", noted)
    rows = RowTokenizer(tokenizer_of("bert"), 32, pair=True)
    finish(rows.rows([("the film", word) for word in ("a", "b", "c", "a")], truncate=True, owners=[0] * 4))
    assert sorted(read) == ["a", "b", "c", "the film"]


def test_many_texts_are_several_steps() -> None:
    parts = list(in_steps(["x" * 5000] * 7, len))
    assert [len(part) for part in parts] == [3, 3, 1]
    assert list(in_steps([], len)) == []
