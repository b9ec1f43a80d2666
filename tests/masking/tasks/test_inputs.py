import pytest
from tokenizers.pre_tokenizers import BertPreTokenizer

from masking import ChoiceInput, TaskInput, TextInput, WordsInput, split_words


def test_words_keep_their_place_in_the_text() -> None:
    text = "Anna Smith left New York."
    words = split_words(text)
    assert [word.text for word in words] == ["Anna", "Smith", "left", "New", "York", "."]
    assert all(text[word.start : word.end] == word.text for word in words)
    assert split_words(" \n\u200b\ufeff") == ()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("नरेन्द्र मोदी हिन्दी", "नरेन्द्र|मोदी|हिन्दी"),
        ("தமிழ் மொழி।", "தமிழ்|மொழி|।"),
        ("বাংলা ভাষা", "বাংলা|ভাষা"),
        ("العَرَبِيَّة، كتاب", "العَرَبِيَّة|،|كتاب"),
        ("שָׁלוֹם עולם", "שָׁלוֹם|עולם"),
        ("한국어 문장입니다", "한국어|문장입니다"),
        ("Jose\u0301 Garci\u0301a", "Jose\u0301|Garci\u0301a"),
        ("小明在北京工作。", "小|明|在|北|京|工|作|。"),
        ("タワーへ行く", "タワー|へ|行|く"),
        ("ง่าย", "ง่|า|ย"),
        ("U.N. and J.R.R. Tolkien.", "U.N.|and|J.R.R.|Tolkien|."),
        ("3.5 and 12,000.50%", "3.5|and|12,000.50|%"),
        ("can't l\u2019homme snake_case", "can't|l\u2019homme|snake_case"),
        ("state-of-the-art (C++)", "state|-|of|-|the|-|art|(|C|+|+|)"),
        ("\ufeffhello\u200bworld so\u00adft\u200d \u00ad x\x00y", "hello|world|so\u00adft|x|y"),
        ("👨\u200d👩\u200d👧 🇩🇪🇫🇷", "👨\u200d👩\u200d👧|🇩🇪|🇫🇷"),
        ("a\u2060b \ud83d", "a\u2060b|\ud83d"),
    ],
)
def test_words_of_every_script(text: str, words: str) -> None:
    found = split_words(text)
    assert [word.text for word in found] == words.split("|")
    assert all(text[word.start : word.end] == word.text for word in found)


@pytest.mark.parametrize(
    "text",
    [
        "Anna Smith (34), of New York; left!",
        "Grüße aus Köln: -- \u201cja\u201d",
        "Привет, мир… «да»",
        "Ώρα? $5",
    ],
)
def test_words_are_those_of_the_tokenizers_own_split_where_both_split_at_punctuation(text: str) -> None:
    expected = [place for _, place in BertPreTokenizer().pre_tokenize_str(text)]
    assert [(word.start, word.end) for word in split_words(text)] == expected


def test_long_texts_of_one_kind_are_split_at_once() -> None:
    for text in ("a" * 90_000, "a." * 45_000, "\u0301" * 90_000, "." * 90_000, "\u200b" * 90_000):
        assert len(split_words(text)) <= len(text)


def test_no_more_words_are_split_off_than_asked_for() -> None:
    assert [word.text for word in split_words("\u200b one two three", most=2)] == ["one", "two"]
    assert split_words("one", most=0) == ()


@pytest.mark.parametrize(
    ("item", "characters"),
    [
        (TextInput("abc"), 3),
        (TextInput("abc", "de"), 5),
        (WordsInput(("ab", "c")), 3),
        (ChoiceInput("ab", ("c", "de")), 5),
    ],
)
def test_the_characters_of_an_input_are_those_of_all_its_texts(item: TaskInput, characters: int) -> None:
    assert item.characters == characters
