"""Barcode numbers, against the rules of the GS1 General Specifications and numbers found on real packs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commercehub.sales.barcodes import InvalidBarcode, check_digit, gtin14, is_in_store

DIGITS = "0123456789"


def digits(length: int) -> st.SearchStrategy[str]:
    return st.text(DIGITS, min_size=length, max_size=length).filter(lambda text: text.strip("0") != "")


gtins = st.sampled_from([12, 13, 14]).flatmap(lambda n: digits(n - 1)).map(lambda body: body + check_digit(body))


def compress(upc_a: str) -> str | None:
    """The eight digits of the UPC-E of a UPC-A, or None where too few zeros can be left out. Written from the table."""
    system, maker, item, check = upc_a[0], upc_a[1:6], upc_a[6:11], upc_a[11]
    if system not in "01":
        return None
    if maker[3:] == "00" and maker[2] in "012" and item[:2] == "00":
        six = maker[:2] + item[2:] + maker[2]
    elif maker[3:] == "00" and item[:3] == "000":
        six = maker[:3] + item[3:] + "3"
    elif maker[4] == "0" and item[:4] == "0000":
        six = maker[:4] + item[4] + "4"
    elif item[:4] == "0000" and item[4] in "56789":
        six = maker + item[4]
    else:
        return None
    return system + six + check


def upc_as(system: str) -> st.SearchStrategy[str]:
    """UPC-As that a UPC-E can stand for, in all four of its forms."""
    makers = st.one_of(
        st.builds(lambda a, b: f"{a}{b}00", digits(2), st.sampled_from("012")),
        st.builds(lambda a, b: f"{a}{b}00", digits(2), st.sampled_from("3456789")),
        digits(4).map(lambda a: a + "0"),
        digits(5),
    )
    items = st.integers(0, 999).map(lambda n: f"{n:05}")
    bodies = st.builds(lambda maker, item: system + maker + item, makers, items)
    return bodies.map(lambda body: body + check_digit(body)).filter(lambda upc: compress(upc) is not None)


@pytest.mark.parametrize(
    ("scanned", "looked_up"),
    [
        ("96385074", "00000096385074"),  # GTIN-8
        ("036000291452", "00036000291452"),  # GTIN-12
        ("4006381333931", "04006381333931"),  # GTIN-13
        ("10036000291459", "10036000291459"),  # GTIN-14, a case of several
        ("9780553380958", "09780553380958"),  # ISBN-13
    ],
)
def test_every_gtin_is_looked_up_by_fourteen_digits(scanned: str, looked_up: str) -> None:
    assert gtin14(scanned) == looked_up


@pytest.mark.parametrize("scanned", ["425261", "0425261", "4252614", "04252614", "042100005264"])
def test_all_ways_to_write_one_upc_e_are_the_same_number(scanned: str) -> None:
    assert gtin14(scanned) == "00042100005264"


def test_eight_digits_from_0_are_a_upc_e_even_where_they_would_also_pass_as_a_gtin_8() -> None:
    assert check_digit("0123456") == "5"
    assert gtin14("01234565") == "00012345000065"


def test_eight_digits_from_0_that_are_no_upc_e_are_an_in_store_gtin_8() -> None:
    number = gtin14("01234206")
    assert number == "00000001234206"
    assert is_in_store(number)


def test_eight_digits_from_1_are_a_gtin_8_where_the_check_digit_allows_it() -> None:
    assert gtin14("1234567" + check_digit("1234567")) == "00000012345670"


@given(upc_as("0"))
def test_a_upc_e_comes_back_as_the_upc_a_it_stands_for(upc_a: str) -> None:
    short = compress(upc_a)
    assert short is not None
    assert gtin14(short) == gtin14(upc_a)


@given(upc_as("0"))
def test_a_upc_e_without_its_check_digit_comes_back_too(upc_a: str) -> None:
    short = compress(upc_a)
    assert short is not None
    assert gtin14(short[:-1]) == gtin14(short[1:-1]) == gtin14(upc_a)


@given(upc_as("1"))
def test_a_upc_e_of_number_system_1_comes_back_unless_it_passes_as_a_gtin_8(upc_a: str) -> None:
    short = compress(upc_a)
    assert short is not None
    passes = check_digit(short[:-1]) == short[-1]
    assert gtin14(short) == (short.zfill(14) if passes else gtin14(upc_a))


@given(gtins)
def test_a_number_is_looked_up_by_itself_with_zeros_before_it(number: str) -> None:
    assert gtin14(number) == number.zfill(14)


@given(gtins, st.data())
def test_one_wrong_digit_is_always_noticed(number: str, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(number) - 1))
    wrong = data.draw(st.sampled_from([digit for digit in DIGITS if digit != number[place]]))
    with pytest.raises(InvalidBarcode, match="check digit"):
        gtin14(number[:place] + wrong + number[place + 1 :])


@pytest.mark.parametrize("length", [1, 5, 9, 11, 15, 18])
def test_a_number_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(InvalidBarcode, match=f"not {length}"):
        gtin14("1" * length)


def test_an_isbn_10_is_refused_and_the_reason_names_the_isbn_13() -> None:
    with pytest.raises(InvalidBarcode, match="ISBN-13"):
        gtin14("0553380958")


@pytest.mark.parametrize(
    "text", ["", "978055338095X", "978-0553380958", " 9780553380958", "٩٧٨٠٥٥٣٣٨٠٩٥٨", "9780553380958\n", "1e12"]
)
def test_anything_but_ascii_digits_is_refused(text: str) -> None:
    with pytest.raises(InvalidBarcode, match="digits 0 to 9"):
        gtin14(text)


@pytest.mark.parametrize("length", [6, 7, 8, 12, 13, 14])
def test_all_zeros_are_nobodys_number(length: int) -> None:
    with pytest.raises(InvalidBarcode, match="zeros"):
        gtin14("0" * length)


@given(st.text(max_size=20) | st.text(DIGITS, max_size=20))
def test_any_text_is_a_number_that_stands_for_itself_or_is_refused(text: str) -> None:
    try:
        number = gtin14(text)
    except InvalidBarcode:
        return
    assert gtin14(number) == number


@pytest.mark.parametrize("prefix", ["02", *(str(n) for n in range(20, 30))])
def test_the_shops_own_ranges_are_accepted_and_told(prefix: str) -> None:
    body = prefix + "1234567890"
    assert is_in_store(gtin14(body + check_digit(body)))


@pytest.mark.parametrize("prefix", ["00", "01", "03", "19", "30", "97", "95"])
def test_other_ranges_are_not_the_shops_own(prefix: str) -> None:
    body = prefix + "1234567890"
    assert not is_in_store(gtin14(body + check_digit(body)))


@pytest.mark.parametrize(("body", "own"), [("2123456", True), ("9638507", False)])
def test_a_gtin_8_from_2_is_the_shops_own(body: str, *, own: bool) -> None:
    assert is_in_store(gtin14(body + check_digit(body))) is own


def test_a_case_of_several_is_never_the_shops_own() -> None:
    body = "1201234567890"
    assert not is_in_store(gtin14(body + check_digit(body)))
