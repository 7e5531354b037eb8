"""Words as a search compares them: without case and accents, cut in the same way in a product and in a question.

They are cut here, not by PostgreSQL: its parser goes by the locale of the database, and takes "1.5" or "a-b" for one
word in some places and for several in others. ``unaccent`` is an extension that not every PostgreSQL has.
"""

import html
import re
import unicodedata
from enum import StrEnum
from typing import Final

import msgspec

WORD_CHARS_MAX: Final = 64
QUESTION_WORDS_MAX: Final = 16
HTML_CHARS_MAX: Final = 20_000
TEXT_CHARS_MAX: Final = 2_000
"""How much of a description is searched: a batch of an import has to be indexed well within its transaction's time."""
BEGINNING_CHARS_MIN: Final = 2
"""A single letter begins too many words to be looked for."""
SKU_BEGINNING_CHARS_MIN: Final = 3

# Never past the next "<": a text of nothing else would be read to its end from each of them.
_TAG: Final = re.compile(r"<[^<>]*>")
_WORD: Final = re.compile(r"[^\W_]+")

# What a title says counts most, then vendor, kind and tags, then the description. Beside its stem stands each word as
# it is: the beginning of "running" is no beginning of "run".
VECTOR_EN: Final = """
       setweight(to_tsvector('english', title_words) || to_tsvector('simple', title_words), 'A')
    || setweight(to_tsvector('english', label_words) || to_tsvector('simple', label_words), 'B')
    || setweight(to_tsvector('english', text_words) || to_tsvector('simple', text_words), 'D')"""
VECTOR_ES: Final = """
       setweight(to_tsvector('spanish', title_words) || to_tsvector('simple', title_words), 'A')
    || setweight(to_tsvector('spanish', label_words) || to_tsvector('simple', label_words), 'B')
    || setweight(to_tsvector('spanish', text_words) || to_tsvector('simple', text_words), 'D')"""


class Language(StrEnum):
    """A language that words are stemmed in."""

    EN = "en"
    ES = "es"


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody looks for, as ``to_tsquery`` reads it; ``None`` where there is nothing to look for.

    ``others`` are all words but the last, ``last`` is the last one, and ``beginning`` how a word begins that may not be
    finished. ``sku`` is the whole of it, ``sku_beginning`` too unless it is too short to begin one.
    """

    others: str
    last: str | None
    beginning: str | None
    sku: str
    sku_beginning: str | None


def language_of(locale: str) -> Language:
    """The language of a locale like ``es-AR``; English for all that is not Spanish."""
    return Language.ES if locale.partition("-")[0].lower() == "es" else Language.EN


def words_of(text: str) -> list[str]:
    """The words of a text, folded: ``Camión-100`` has ``camion`` and ``100``."""
    letters = unicodedata.normalize("NFKD", text).casefold()
    plain = "".join([letter for letter in letters if not unicodedata.combining(letter)])
    return [word[:WORD_CHARS_MAX] for word in _WORD.findall(plain)]


def folded_text(*texts: str) -> str:
    """The words of some texts, one after the other."""
    return " ".join([word for text in texts for word in words_of(text)])


def folded_html(text: str) -> str:
    """The words of a description without its mark-up, as many as are searched."""
    plain = html.unescape(_TAG.sub(" ", text[:HTML_CHARS_MAX]))
    return folded_text(" ".join(plain.split())[:TEXT_CHARS_MAX])


def question(text: str) -> Question:
    """What a text asks for."""
    words = words_of(text)[:QUESTION_WORDS_MAX]
    last = words[-1] if words else None
    whole = text.strip()
    return Question(
        others=" & ".join(words[:-1]),
        last=last,
        beginning=last + ":*" if last is not None and len(last) >= BEGINNING_CHARS_MIN else last,
        sku=whole,
        sku_beginning=whole if len(whole) >= SKU_BEGINNING_CHARS_MIN else None,
    )
