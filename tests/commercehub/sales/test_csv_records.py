"""CSV text as numbered records: every row that is whole arrives under its own line, whatever stands around it."""

import io
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commercehub.sales import csv_records
from commercehub.sales.csv_records import Record, Refused, Source, UnreadableFile, records


def text_of(*rows: str) -> str:
    """Rows of three columns below a heading."""
    return "\n".join(["Handle,Title,Price", *rows]) + "\n"


def everything(source: Source) -> list[Record | Refused]:
    _, rows = records(source)
    return list(rows)


def lines_and_names(source: Source) -> list[tuple[int, str | None]]:
    """Each row's line, with its first cell if it was read and None if it was refused."""
    return [(row.line, row.cells[0] if isinstance(row, Record) else None) for row in everything(source)]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_any_line_end_and_a_byte_order_mark_are_read(end: str, mark: str) -> None:
    text = mark + text_of("mug,Mug,1", "cup,Cup", "pot,Pot,3").replace("\n", end)
    assert records(text)[0].cells == ["Handle", "Title", "Price"]
    assert lines_and_names(text.encode()) == lines_and_names(text) == [(2, "mug"), (3, None), (4, "pot")]


def test_a_file_an_open_file_and_its_lines_read_the_same() -> None:
    text = text_of('mug,"Mug\r\nor cup",1', 'pot,"Pot\nor\rpan",3')
    binary, opened = io.BytesIO(text.encode()), io.StringIO(text, newline="")
    assert everything(text) == everything(text.encode()) == everything(binary) == everything(opened)


def test_the_heading_is_the_first_line_that_is_not_empty() -> None:
    heading, rows = records("\n\nHandle,Title\nmug,Mug\n")
    assert heading == Record(3, ["Handle", "Title"])
    assert [row.line for row in rows] == [4]


@pytest.mark.parametrize(
    ("source", "named"),
    [
        (b"", "empty"),
        (b"\n\n", "empty"),
        ('"Handle,Title\n', "the heading: this is not readable as CSV"),
        ("{}" * 200_000, "the heading: the row is longer than"),
        (b"\x89PNG\r\n", "line 1 is not UTF-8"),
    ],
)
def test_a_file_without_a_heading_is_unreadable_at_once(source: Source, named: str) -> None:
    with pytest.raises(UnreadableFile, match=named):
        records(source)


def test_a_line_that_is_not_utf_8_ends_the_reading_and_is_named() -> None:
    _, rows = records(text_of("mug,Mug,1").encode() + b"tea,T\xe9,2\n")
    assert next(rows) == Record(2, ["mug", "Mug", "1"])
    with pytest.raises(UnreadableFile, match="line 3 is not UTF-8"):
        next(rows)


def test_a_text_file_that_is_not_utf_8_is_unreadable_too() -> None:
    with pytest.raises(UnreadableFile, match="not UTF-8"):
        everything(io.TextIOWrapper(io.BytesIO(b"Handle\n\xe9\n"), encoding="utf-8", newline=""))


@pytest.mark.parametrize("row", ["mug,Mug", "mug,Mug,1,2", 'mug,"Mug"s,1', "mug,Mug," + "1" * 140_000])
def test_a_row_that_is_not_whole_is_refused_and_the_next_one_read(row: str) -> None:
    assert lines_and_names(text_of("cup,Cup,1", row, "pot,Pot,3")) == [(2, "cup"), (3, None), (4, "pot")]


@pytest.mark.parametrize("text", ["A\0B", "A\ud800B"])
def test_a_character_that_cannot_be_stored_is_refused_wherever_it_stands(text: str) -> None:
    assert lines_and_names(text_of(f'mug,"Mug\n{text}",1', "pot,Pot,3")) == [(2, None), (4, "pot")]


def test_empty_lines_and_rows_of_empty_cells_are_skipped_and_counted() -> None:
    assert lines_and_names(text_of("", "cup,Cup,1", ",,", "pot,Pot,3")) == [(3, "cup"), (5, "pot")]


def test_a_line_number_counts_the_lines_inside_quotes() -> None:
    source = text_of('cup,"Cup\nor\r\nbeaker",1', "pot,Pot", "pan,Pan,3")
    assert lines_and_names(source) == [(2, "cup"), (5, None), (6, "pan")]


@pytest.mark.parametrize(
    "after",
    [
        ["cup,Cup,1", "pot,Pot,2"],
        ['cup,"Cup, blue",1', "pot,Pot,2"],
        ['cup,"Cup\nblue",1', 'pot,"Pot",2'],
        ["cup,Cup,1", 'pot,"Pot,2', "pan,Pan,3"],
        ["cup,Cup,1", *(f"p{n},P,3" for n in range(24_000))],
    ],
    ids=["to the end", "to the next quote", "to a cell of two lines", "to another lost one", "longer than a record"],
)
def test_a_quote_that_is_never_closed_costs_its_own_row_alone(after: list[str]) -> None:
    whole = [row for row in after if row.count('"') != 1]
    refusal, *rest = everything(text_of('mug,"Mug,12.50', *after))
    assert isinstance(refusal, Refused)
    assert refusal.line == 2
    assert "is a quote missing?" in refusal.reason
    assert [row.cells[0] for row in rest if isinstance(row, Record)] == [row.split(",")[0] for row in whole]


def test_a_cell_of_many_lines_in_a_row_that_is_not_whole_is_one_refusal() -> None:
    source = text_of('mug,"one\ntwo\nthree, or\nfour",1,2,3', "pot,Pot,3")
    assert lines_and_names(source) == [(2, None), (6, "pot")]


def test_after_many_lost_quotes_one_more_costs_the_rows_it_swallows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_records, "REREADS_MAX", 1)
    *rest, last = everything(text_of('mug,"Mug,1', 'cup,"Cup",1', 'pot,"Pot,2', "pan,Pan,3", 'lid,"Lid",4'))
    assert [row.line for row in rest] == [2, 3]
    assert isinstance(last, Refused)
    assert last.line == 4
    assert "lines 4 to 6 read as one row" in last.reason


def test_rows_are_read_one_after_the_other() -> None:
    taken = 0

    def lines() -> Iterator[str]:
        nonlocal taken
        for n in range(10_000):
            taken += 1
            yield f"p{n},P,1\n"

    _, rows = records(lines())
    assert taken == 1
    assert next(rows).line == 2
    assert taken == 2
    assert sum(1 for _ in rows) == 9_998


@given(st.lists(st.text('ab,"\n\r\0é\ud800 ', max_size=30), max_size=20))
def test_any_text_below_a_heading_is_read_to_the_end_in_order(texts: list[str]) -> None:
    lines = [row.line for row in everything(text_of(*texts))]
    assert lines == sorted(set(lines))
