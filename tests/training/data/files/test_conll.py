from pathlib import Path

import pytest

from training.data.files.conll import read_conll
from training.data.rows import Row, RowSet
from training.errors import DataFileError


def _read(text: str) -> RowSet:
    return read_conll(Path("t.conll"), text)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_sentences_are_rows_and_texts_are_no_words(end: str) -> None:
    lines = [
        "-DOCSTART- -X- O O",
        "",
        "EU NNP I-NP B-ORG",
        "rejects VBZ I-VP O",
        "",
        "",
        "Peter NNP I-NP B-PER",
    ]
    assert _read(end.join(lines)).rows == (
        Row(
            3,
            {
                "tokens": ["EU", "rejects"],
                "column-2": ["NNP", "VBZ"],
                "column-3": ["I-NP", "I-VP"],
                "tags": ["B-ORG", "O"],
            },
        ),
        Row(7, {"tokens": ["Peter"], "column-2": ["NNP"], "column-3": ["I-NP"], "tags": ["B-PER"]}),
    )


def test_words_with_spaces_stand_between_tabs() -> None:
    assert _read("New York\tB-LOC\n is\tO\n").rows[0].values == {
        "tokens": ["New York", "is"],
        "tags": ["B-LOC", "O"],
    }


def test_comments_before_a_sentence_are_told_from_number_signs() -> None:
    text = "# id 7\nEU B-ORG\n# O\n\n# O\n1 O\n\n# id=8\nUN B-ORG\n"
    assert [row.values["tokens"] for row in _read(text).rows] == [["EU", "#"], ["#", "1"], ["UN"]]


def test_numbers_of_words_are_left_out() -> None:
    rows = _read("1\tSchartau\tB-PER\tO\n2\tsagte\tO\tO\n\n1\tBonn\tB-LOC\tO\n").rows
    assert rows[0].values == {"tokens": ["Schartau", "sagte"], "column-2": ["B-PER", "O"], "tags": ["O", "O"]}


def test_conllu_has_its_own_names() -> None:
    def line(number: str, word: str, tag: str) -> str:
        return "\t".join([number, word, "_", tag, "XX", "_", "0", "root", "_", "_"])

    text = "\n".join(
        ["# text = don't go", line("1-2", "don't", "_"), line("1", "do", "AUX"), line("2", "n't", "PART")]
    )
    (row,) = _read(text + "\n").rows
    assert (row.values["tokens"], row.values["tags"]) == (["do", "n't"], ["AUX", "PART"])
    assert row.values["xpos"] == ["XX", "XX"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("EU B-ORG\nrejects\n", r"t\.conll:2: 1 columns where the first line has 2"),
        ("EU\nrejects\n", r"t\.conll:1: one column"),
    ],
)
def test_lines_of_other_columns_are_an_error(text: str, message: str) -> None:
    with pytest.raises(DataFileError, match=message):
        _read(text)
