"""CSV text as numbered records: one bad row is refused by its line, and the rows after it are still read.

The dialect is RFC 4180 as spreadsheets write it: commas, double quotes, any of the three line ends, perhaps a byte
order mark, UTF-8. The first record is the heading, and every other one has to be as wide.
"""

import csv
import io
import re
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

import msgspec

Source = bytes | str | Iterable[bytes] | Iterable[str]
"""A whole file as bytes or text, or its lines: an open file, binary or text (``newline=""``), is such an iterable."""

RECORD_CHARS_MAX: Final = 262_144
"""The longest record that is read; what goes on longer has lost a quote."""

REREADS_MAX: Final = 100
"""How many records with a lost quote are read again line by line, in one file. Each may cost ``RECORD_CHARS_MAX``."""

_LINE_WITH_ITS_END: Final = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")

# PostgreSQL stores neither, and no text that people wrote has them.
_NOT_STORABLE: Final = re.compile("[\0\ud800-\udfff]")


class UnreadableFile(ValueError):
    """The file as a whole cannot be read: not UTF-8, not CSV, or without a heading that says what its columns are."""


class Refused(msgspec.Struct, frozen=True, kw_only=True):
    """A row that is not taken. ``line`` is the physical line it starts on, the heading being on line 1."""

    line: int
    reason: str


class Record(NamedTuple):
    """The cells of one row, as many as the heading has. ``line`` is the physical line it starts on."""

    line: int
    cells: list[str]


class _Fault(Exception):
    """The record under way is none that we read, and why."""


def records(source: Source) -> tuple[Record, Iterator[Record | Refused]]:
    """The heading, and every row below it that is not empty, read as they are asked for.

    A quote that is never closed swallows the rows after it. Such a row is refused by its first line alone, and what
    it swallowed is read again from the next line on. Raises ``UnreadableFile``: for the heading at once, for a later
    line that is not UTF-8 when it is come to.
    """
    lines = _Lines(source)
    # Strict: text after a closing quote is the sign of a lost one, not something to be joined to the cell.
    reader = csv.reader(lines, strict=True)
    heading = _heading(reader, lines)
    return heading, _rows(reader, lines, width=len(heading.cells))


def _heading(reader: Iterator[list[str]], lines: "_Lines") -> Record:
    while True:
        line = lines.begin_record()
        try:
            cells = _cells(reader)
        except StopIteration:
            raise UnreadableFile("the file is empty") from None
        except _Fault as fault:
            raise UnreadableFile(f"line {line}, the heading: {fault}") from fault
        if any(cells):
            return Record(line, cells)


def _rows(reader: Iterator[list[str]], lines: "_Lines", *, width: int) -> Iterator[Record | Refused]:
    rereads = doubtful_until = 0
    while True:
        line = lines.begin_record()
        try:
            cells = _cells(reader, width=width)
        except StopIteration:
            return
        except _Fault as fault:
            if line > doubtful_until:
                yield Refused(line=line, reason=f"{fault}{lines.extent(line)}")
            if lines.number > line and rereads < REREADS_MAX:
                rereads += 1
                doubtful_until = max(doubtful_until, lines.number)
                lines.read_again_after_first()
            continue
        if not lines.storable:
            yield Refused(line=line, reason="a NUL or half a character (a lone surrogate) stands in this row")
        elif any(cells):
            yield Record(line, cells)


def _cells(reader: Iterator[list[str]], *, width: int | None = None) -> list[str]:
    """The next record's cells: as many as asked for, or none on an empty line. Raises ``_Fault``."""
    try:
        cells = next(reader)
    except csv.Error as error:
        raise _Fault(f"this is not readable as CSV ({error})") from error
    if cells and width is not None and len(cells) != width:
        raise _Fault(f"{len(cells)} columns where the heading has {width}")
    return cells


class _Lines(Iterator[str]):
    """The physical lines of a source, counted, with those of the record under way kept so they can be read again."""

    def __init__(self, source: Source) -> None:
        self._fresh = _decoded(source)
        self._again: deque[str] = deque()
        self._record: list[str] = []
        self._record_chars = 0
        self.number = 0
        self.storable = True

    def __next__(self) -> str:
        line = self._again.popleft() if self._again else next(self._fresh)
        self.number += 1
        self._record.append(line)
        self._record_chars += len(line)
        if self._record_chars > RECORD_CHARS_MAX:
            raise _Fault(f"the row is longer than {RECORD_CHARS_MAX} characters")
        if _NOT_STORABLE.search(line):
            self.storable = False
        return line

    def begin_record(self) -> int:
        """The number of the line that the next record starts on."""
        self._record = []
        self._record_chars = 0
        self.storable = True
        return self.number + 1

    def read_again_after_first(self) -> None:
        """Only the first line of the record under way stays read."""
        self._again.extendleft(reversed(self._record[1:]))
        self.number -= len(self._record) - 1

    def extent(self, line: int) -> str:
        """What to add to a refusal when the record under way, begun on ``line``, ran over several lines."""
        return f"; lines {line} to {self.number} read as one row: is a quote missing?" if self.number > line else ""


def _decoded(source: Source) -> Iterator[str]:
    """Every physical line with its end, whichever of the three it is, without a byte order mark."""
    if isinstance(source, bytes):
        source = io.BytesIO(source)
    elif isinstance(source, str):
        source = io.StringIO(source, newline="")
    number = 0
    try:
        for chunk in source:
            text = chunk if isinstance(chunk, str) else chunk.decode()
            if number == 0:
                text = text.removeprefix("\ufeff")
            # A binary file gives lines that end in \n alone: an old Mac's \r are still inside.
            for line in _LINE_WITH_ITS_END.findall(text) if "\r" in text else (text,):
                number += 1
                yield line
    except UnicodeDecodeError as error:
        # A text file decodes ahead of the line it gives, so there the number may fall short.
        raise UnreadableFile(f"line {number + 1} is not UTF-8: save the file as CSV UTF-8") from error
