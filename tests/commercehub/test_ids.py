"""Identifiers: UUIDv7, shown as TypeIDs."""

import time
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commercehub import ids

UUIDS = st.integers(0, 2**128 - 1).map(lambda number: UUID(int=number))
PREFIXES = st.text("abcdefghijklmnopqrstuvwxyz_", min_size=1, max_size=20)

# https://github.com/jetify-com/typeid/blob/main/spec/valid.json
VALID = {
    "prefix_01h455vb4pex5vsknk084sn02q": "01890a5d-ac96-774b-bcce-b302099a8057",
    "prefix_00000000000000000000000000": "00000000-0000-0000-0000-000000000000",
    "prefix_00000000000000000000000001": "00000000-0000-0000-0000-000000000001",
    "prefix_0000000000000000000000000g": "00000000-0000-0000-0000-000000000010",
    "prefix_0123456789abcdefghjkmnpqrs": "0110c853-1d09-52d8-d73e-1194e95b5f19",
    "prefix_7zzzzzzzzzzzzzzzzzzzzzzzzz": "ffffffff-ffff-ffff-ffff-ffffffffffff",
}

INVALID = (
    "",
    "ord",
    "ord_",
    "01h455vb4pex5vsknk084sn02q",
    "_01h455vb4pex5vsknk084sn02q",
    "cart_01h455vb4pex5vsknk084sn02q",
    "ORD_01h455vb4pex5vsknk084sn02q",
    "ord-01h455vb4pex5vsknk084sn02q",
    "ord_01H455VB4PEX5VSKNK084SN02Q",
    "ord_81h455vb4pex5vsknk084sn02q",
    "ord_01h455vb4pex5vsknk084sn02",
    "ord_01h455vb4pex5vsknk084sn02q0",
    "ord_01h455vb4pex5vsknk084sn02i",
    "ord_01h455vb4pex5vsknk084sn02l",
    "ord_01h455vb4pex5vsknk084sn02o",
    "ord_01h455vb4pex5vsknk084sn02u",
    "ord_01h455vb4pex5vsknk084sn02\u0664",
    "ord_01h455vb4pex5vsknk084sn02q\n",
    " ord_01h455vb4pex5vsknk084sn02q",
    "ord_01h455vb-4pex5vsknk084sn02q",
    "ord__1h455vb4pex5vsknk084sn02q",
)


@pytest.mark.parametrize(("shown", "uuid"), VALID.items())
def test_an_id_is_shown_as_the_specification_says(shown: str, uuid: str) -> None:
    assert ids.show("prefix", UUID(uuid)) == shown
    assert ids.parse("prefix", shown) == UUID(uuid)


@given(PREFIXES, UUIDS)
def test_an_id_comes_back_as_it_was(prefix: str, uuid: UUID) -> None:
    assert ids.parse(prefix, ids.show(prefix, uuid)) == uuid


@given(UUIDS, UUIDS)
def test_shown_ids_sort_as_they_are(first: UUID, second: UUID) -> None:
    assert (ids.show("x", first) < ids.show("x", second)) == (first < second)


@pytest.mark.parametrize("text", INVALID)
def test_what_is_no_id_of_the_kind_is_refused(text: str) -> None:
    with pytest.raises(ids.InvalidId):
        ids.parse("ord", text)


@given(st.text(max_size=40))
def test_whatever_text_it_is_an_id_or_refused(text: str) -> None:
    try:
        uuid = ids.parse("ord", text)
    except ids.InvalidId:
        return
    assert ids.show("ord", uuid) == text


def test_a_new_id_is_a_uuid_of_version_7_made_now() -> None:
    before = time.time_ns() // 1_000_000
    uuid = ids.new()
    after = time.time_ns() // 1_000_000
    assert (uuid.version, uuid.variant) == (7, "specified in RFC 4122")
    assert before <= uuid.int >> 80 <= after


def test_new_ids_differ_and_later_ones_sort_later() -> None:
    early = [ids.new() for _ in range(1_000)]
    time.sleep(0.002)
    late = [ids.new() for _ in range(1_000)]
    assert len({*early, *late}) == 2_000
    assert max(early) < min(late)


def test_every_random_bit_of_a_new_id_is_used() -> None:
    ones, zeros = 0, 0
    for _ in range(200):
        number = ids.new().int
        ones, zeros = ones | number, zeros | ~number
    random_bits = (1 << 80) - 1 - (0xF << 76) - (0b11 << 62)
    assert ones & random_bits == zeros & random_bits == random_bits
