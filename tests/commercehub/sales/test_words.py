"""Words as a search compares them, and what somebody asks for."""

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from commercehub.sales.words import (
    QUESTION_WORDS_MAX,
    TEXT_CHARS_MAX,
    WORD_CHARS_MAX,
    Language,
    folded_html,
    folded_text,
    language_of,
    question,
    words_of,
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Camión-100", ["camion", "100"]),
        ("  ÑANDÚ, Straße ", ["nandu", "strasse"]),
        ("a_b 1.5 x/y", ["a", "b", "1", "5", "x", "y"]),
        ("ﬁne №5 ½", ["fine", "no5", "1", "2"]),
        ("!? … ", []),
        ("x" * 100, ["x" * WORD_CHARS_MAX]),
    ],
)
def test_words_have_neither_case_nor_accents(text: str, words: list[str]) -> None:
    assert words_of(text) == words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("<p class='x'>Blue</p><br/>cup", "blue cup"),
        ("caf&eacute; &lt;b&gt; &nbsp;x", "cafe b x"),
        ("1 < 2 > 0", "1 0"),
        ("<" * 50_000, ""),
    ],
)
def test_mark_up_is_left_out_of_a_description(text: str, words: str) -> None:
    assert folded_html(text) == words


def test_the_beginning_of_a_long_description_counts() -> None:
    assert len(folded_html("<p> word</p>\n" * 10_000)) <= TEXT_CHARS_MAX


@pytest.mark.parametrize(
    ("locale", "language"),
    [("es", Language.ES), ("es-AR", Language.ES), ("en-US", Language.EN), ("de-DE", Language.EN), ("est", Language.EN)],
)
def test_what_is_not_spanish_is_english(locale: str, language: Language) -> None:
    assert language_of(locale) is language


@hypothesis_settings(max_examples=50)
@given(st.text(max_size=100))
def test_whatever_is_asked_is_made_of_words_alone(text: str) -> None:
    asked = question(text)
    found = [*asked.others.split(" & "), asked.last or ""] if asked.others else [asked.last or ""]
    assert len(found) <= QUESTION_WORDS_MAX
    assert all(word.isalnum() and len(word) <= WORD_CHARS_MAX for word in found if word)
    assert words_of(folded_text(text)) == words_of(text)


def test_one_letter_is_a_word_and_no_beginning_of_one() -> None:
    assert (question("x").beginning, question("xy").beginning) == ("x", "xy:*")
    assert (question("xy").sku_beginning, question(" xyz ").sku_beginning) == (None, "xyz")
