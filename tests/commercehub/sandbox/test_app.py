"""The processor over HTTP: who may ask, what is refused and how, and the truth that adds up."""

import asyncio
import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import httpx
import pytest

from commercehub.sandbox.__main__ import claim_port
from commercehub.sandbox.app import BODY_BYTES_MAX, Settings, create_app
from tests.payments.processors.bench import Peer

CARD = "4242 4242 4242 4242"
OK = {"amount": 1000, "currency": "USD", "reference": "ref-1", "payment_method": "pm_ok"}


@dataclass
class Caller:
    """One API key's view of a processor in this process."""

    client: httpx.AsyncClient
    api_key: str
    folder: Path

    async def post(self, path: str, body: Any, *, key: str | None = "", **headers: str) -> httpx.Response:
        usual = {"Authorization": f"Bearer {self.api_key}"}
        if key is not None:
            usual["Idempotency-Key"] = key or str(uuid4())
        content = {"content": body} if isinstance(body, bytes) else {"json": body}
        if isinstance(body, bytes):
            usual["Content-Type"] = "application/json"
        return await self.client.post(path, headers={**usual, **headers}, **content)

    async def get(self, path: str) -> httpx.Response:
        return await self.client.get(path, headers={"Authorization": f"Bearer {self.api_key}"})

    async def pay(self, **facts: Any) -> dict[str, Any]:
        answer = await self.post("/v1/payments", {**OK, "reference": f"ref-{uuid4()}", **facts})
        assert answer.status_code == 201, answer.text
        payment: dict[str, Any] = answer.json()
        return payment


@pytest.fixture(scope="module")
async def own_process(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Caller]:
    folder = tmp_path_factory.mktemp("sandbox")
    app = create_app(Settings(database=folder / "books.sqlite", api_keys=tuple(f"sk_{n}" for n in range(1000))))
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app=cast("Any", app)), base_url="http://sandbox.test"
    ) as client:
        yield Caller(client, "sk_0", folder)
    app.state.peer.books.close()


API_KEYS = (f"sk_{n}" for n in range(1, 1000))


@pytest.fixture
def caller(own_process: Caller) -> Caller:
    """Somebody with an API key of their own, and so with books that no other test writes in."""
    return Caller(own_process.client, next(API_KEYS), own_process.folder)


@pytest.fixture
def stranger(own_process: Caller) -> Caller:
    return Caller(own_process.client, next(API_KEYS), own_process.folder)


def assert_problem(answer: httpx.Response, status: int, code: str) -> None:
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert {"type", "title", "status", "detail", "instance"} <= answer.json().keys()


GUARDED = [
    ("POST", "/v1/payments"),
    ("GET", "/v1/payments?reference=r"),
    ("GET", "/v1/payments/pay_1"),
    ("POST", "/v1/payments/pay_1/capture"),
    ("POST", "/v1/payments/pay_1/void"),
    ("POST", "/v1/payments/pay_1/refund"),
    ("GET", "/v1/truth"),
]


@pytest.mark.parametrize(("method", "path"), GUARDED)
@pytest.mark.parametrize("credential", [None, "sk_0", "Bearer", "Bearer ", "Bearer sk_00", "Basic sk_0", "Bearer é"])
async def test_nobody_asks_without_an_api_key(caller: Caller, method: str, path: str, credential: str | None) -> None:
    headers = {} if credential is None else {b"Authorization": credential.encode("latin-1")}
    answer = await caller.client.request(method, path, headers=headers)
    assert_problem(answer, 401, "unauthenticated")
    assert answer.headers["www-authenticate"] == "Bearer"


async def test_an_authorization_answers_with_the_whole_payment(caller: Caller) -> None:
    payment = await caller.pay(reference="ref-7")
    assert payment["status"] == "authorized"
    assert (payment["amount"], payment["amount_authorized"], payment["amount_capturable"]) == (1000, 1000, 1000)
    assert (await caller.get(f"/v1/payments/{payment['id']}")).json() == payment
    assert (await caller.get("/v1/payments?reference=ref-7")).json()["data"] == [payment]


async def test_the_same_key_and_body_get_the_same_answer_and_say_so(caller: Caller) -> None:
    first = await caller.post("/v1/payments", OK, key="k")
    again = await caller.post("/v1/payments", dict(reversed(OK.items())), key="k")
    assert (again.status_code, again.content) == (first.status_code, first.content)
    assert again.headers["idempotent-replayed"] == "true"
    assert "idempotent-replayed" not in first.headers


async def test_a_decline_is_replayed_like_any_answer(caller: Caller) -> None:
    declined = {**OK, "payment_method": "pm_declined"}
    first = await caller.post("/v1/payments", declined, key="k")
    again = await caller.post("/v1/payments", declined, key="k")
    assert_problem(first, 402, "payment_declined")
    assert first.json()["decline_code"] == "card_declined"
    assert (again.content, again.headers["idempotent-replayed"]) == (first.content, "true")


async def test_the_same_key_with_another_body_or_address_is_refused(caller: Caller) -> None:
    payment = (await caller.post("/v1/payments", OK, key="k")).json()
    assert_problem(await caller.post("/v1/payments", {**OK, "amount": 1}, key="k"), 422, "idempotency_key_reused")
    capture = await caller.post(f"/v1/payments/{payment['id']}/capture", {}, key="k")
    assert_problem(capture, 422, "idempotency_key_reused")


async def test_a_key_in_flight_is_told_so(caller: Caller) -> None:
    slow = {**OK, "payment_method": "pm_slow"}
    first = asyncio.create_task(caller.post("/v1/payments", slow, key="k"))
    await asyncio.sleep(0.1)
    assert_problem(await caller.post("/v1/payments", slow, key="k"), 409, "idempotency_in_progress")
    assert_problem(await caller.post("/v1/payments", OK, key="k"), 422, "idempotency_key_reused")
    assert (await first).status_code == 201


async def test_what_was_refused_before_it_began_leaves_the_key_free(caller: Caller) -> None:
    assert (await caller.post("/v1/payments", {**OK, "amount": 0}, key="k")).status_code == 400
    assert (await caller.post("/v1/payments", OK, key="k")).status_code == 201


async def test_every_post_needs_a_key(caller: Caller) -> None:
    payment = await caller.pay()
    for path in ("/v1/payments", *(f"/v1/payments/{payment['id']}/{verb}" for verb in ("capture", "void", "refund"))):
        assert_problem(await caller.post(path, {}, key=None), 400, "idempotency_key_required")


@pytest.mark.parametrize("key", [" ", "a b", "k" * 256, "é", "\x7f"])
async def test_a_key_is_printable_and_short(caller: Caller, key: str) -> None:
    answer = await caller.client.post(
        "/v1/payments",
        json=OK,
        headers={b"Authorization": b"Bearer sk_0", b"Idempotency-Key": key.encode("latin-1")},
    )
    assert_problem(answer, 400, "invalid_idempotency_key")


async def test_one_api_key_neither_sees_nor_replays_the_payments_of_another(caller: Caller, stranger: Caller) -> None:
    mine = (await caller.post("/v1/payments", OK, key="k")).json()
    theirs = (await stranger.post("/v1/payments", OK, key="k")).json()
    assert mine["id"] != theirs["id"]
    for answer in (
        await stranger.get(f"/v1/payments/{mine['id']}"),
        await stranger.post(f"/v1/payments/{mine['id']}/capture", {}),
        await stranger.post(f"/v1/payments/{mine['id']}/void", {}),
        await stranger.post(f"/v1/payments/{mine['id']}/refund", {}),
    ):
        assert_problem(answer, 404, "no_such_payment")
    found = (await stranger.get(f"/v1/payments?reference={OK['reference']}")).json()["data"]
    assert [payment["id"] for payment in found] == [theirs["id"]]
    assert [payment["id"] for payment in (await stranger.get("/v1/truth")).json()["payments"]] == [theirs["id"]]


async def test_the_truth_adds_up(caller: Caller) -> None:
    for method in ("pm_ok", "pm_declined", "pm_requires_action", "pm_capture_declined"):
        await caller.post("/v1/payments", {**OK, "payment_method": method})
    paid, yen = await caller.pay(amount=900), await caller.pay(amount=50, currency="JPY")
    for payment, verb, body in (
        (paid, "capture", {"amount": 500}),
        (paid, "refund", {"amount": 200}),
        (paid, "refund", {"amount": 301}),
        (paid, "void", {}),
        (yen, "capture", {}),
    ):
        await caller.post(f"/v1/payments/{payment['id']}/{verb}", body)
    truth = (await caller.get("/v1/truth")).json()
    assert truth["totals"]["JPY"] == {"currency": "JPY", "authorized": 50, "captured": 50, "voided": 0, "refunded": 0}
    usd = truth["totals"]["USD"]
    assert (usd["authorized"], usd["captured"], usd["voided"], usd["refunded"]) == (2900, 500, 400, 200)
    dollars = [payment for payment in truth["payments"] if payment["currency"] == "USD"]
    for counter in ("authorized", "captured", "refunded"):
        assert sum(payment[f"amount_{counter}"] for payment in dollars) == usd[counter]
    assert len(truth["payments"]) == 6
    assert truth["next_after"] is None


async def test_the_truth_about_one_reference_is_only_about_it(caller: Caller) -> None:
    await caller.pay()
    payment = await caller.pay(reference="ref-one", amount=7)
    truth = (await caller.get("/v1/truth?reference=ref-one")).json()
    assert [one["id"] for one in truth["payments"]] == [payment["id"]]
    assert truth["totals"]["USD"]["authorized"] == 7


async def test_the_truth_comes_in_pages(caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("commercehub.sandbox.app.TRUTH_PAYMENTS_MAX", 2)
    made = [(await caller.pay())["id"] for _ in range(5)]
    seen: list[str] = []
    after: int | None = 0
    while after is not None:
        page = (await caller.get(f"/v1/truth?after={after}")).json()
        seen += [payment["id"] for payment in page["payments"]]
        after = page["next_after"]
    assert seen == made


async def test_two_hundred_refunds_at_once_give_back_no_more_than_was_captured(caller: Caller) -> None:
    payment = await caller.pay()
    await caller.post(f"/v1/payments/{payment['id']}/capture", {})
    answers = await asyncio.gather(
        *(caller.post(f"/v1/payments/{payment['id']}/refund", {"amount": 90}) for _ in range(60))
    )
    assert sorted(answer.status_code for answer in answers) == [200] * 11 + [422] * 49
    assert (await caller.get(f"/v1/payments/{payment['id']}")).json()["amount_refunded"] == 990


async def test_a_card_number_is_refused_and_written_nowhere(caller: Caller) -> None:
    for number in (CARD, CARD.replace(" ", ""), CARD.replace(" ", "-")):
        answer = await caller.post("/v1/payments", {**OK, "payment_method": number}, key="k")
        assert_problem(answer, 422, "card_number_refused")
        assert number not in answer.text
        assert all(number.encode() not in path.read_bytes() for path in caller.folder.iterdir())


BAD_FIELDS: list[tuple[str, Any]] = [
    ("amount", 0),
    ("amount", -1),
    ("amount", 2**53),
    ("amount", 2**63),
    ("amount", 2**70),
    ("amount", 1.5),
    ("amount", "1000"),
    ("amount", True),
    ("amount", None),
    ("currency", "usd"),
    ("currency", "USDX"),
    ("currency", "USD\n"),
    ("currency", ""),
    ("currency", "ÜSD"),
    ("reference", ""),
    ("reference", "a\x00b"),
    ("reference", "a b"),
    ("reference", "a\n"),
    ("reference", "r" * 256),
    ("reference", "ñ"),
    ("payment_method", "pm_nonsense"),
    ("payment_method", "pm_ok\x00"),
    ("payment_method", ""),
    ("payment_method", 4242424242424242),
    ("payment_method", "pm_ok" * 9_000),
    ("return_url", "javascript:alert(1)"),
    ("return_url", "file:///etc/passwd"),
    ("return_url", "//shop.example/"),
    ("return_url", "https://"),
    ("return_url", "https://["),
    ("return_url", "https://shop.example/\r\nSet-Cookie: a=b"),
    ("return_url", "https://shop.example/" + "a" * 2_000),
    ("return_url", ""),
    ("capture", True),
    ("capture", "no"),
    ("surprise", 1),
]
BAD_BODIES = [
    b"",
    b"null",
    b"[]",
    b"{",
    b"\xff",
    b'{"amount": 1e400}',
    b'{"reference": "\\ud800"}',
    b'{"reference": "\xed\xa0\x80"}',
    b'{"\xff": 1}',
    b'{"surprise": ' + b"[" * 10_000,
    b"[" * 10_000,
    b'{"amount": 1, "amount": 2}',
]


@pytest.mark.parametrize(("field", "value"), BAD_FIELDS)
async def test_a_field_out_of_bounds_is_refused(caller: Caller, field: str, value: Any) -> None:
    answer = await caller.post("/v1/payments", {**OK, field: value})
    assert (answer.status_code, answer.headers["content-type"]) == (400, "application/problem+json")
    assert (await caller.get("/v1/truth")).json()["payments"] == []


@pytest.mark.parametrize("body", BAD_BODIES)
async def test_a_body_that_is_none_is_refused(caller: Caller, body: bytes) -> None:
    assert_problem(await caller.post("/v1/payments", body), 400, "invalid_request")


@pytest.mark.parametrize("verb", ["capture", "refund"])
@pytest.mark.parametrize("amount", [0, -1, 2**53, 2**70, 1.5, "1"])
async def test_an_amount_out_of_bounds_is_refused_later_too(caller: Caller, verb: str, amount: Any) -> None:
    payment = await caller.pay()
    answer = await caller.post(f"/v1/payments/{payment['id']}/{verb}", {"amount": amount})
    assert_problem(answer, 400, "invalid_request")


async def test_a_huge_body_is_refused_before_it_is_read(caller: Caller) -> None:
    answer = await caller.post("/v1/payments", b'{"reference": "' + b"r" * BODY_BYTES_MAX + b'"}')
    assert_problem(answer, 413, "body_too_large")


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
async def test_only_json_is_taken(caller: Caller, content_type: str) -> None:
    answer = await caller.post("/v1/payments", b"{}", **{"Content-Type": content_type})
    assert_problem(answer, 415, "unsupported_media_type")


@pytest.mark.parametrize("reference", ["", "%00", "%ff", "%ed%a0%80", "a%20b", "a" * 256, "%0d%0a"])
async def test_a_reference_that_can_be_none_is_refused(caller: Caller, reference: str) -> None:
    assert_problem(await caller.get(f"/v1/payments?reference={reference}"), 400, "invalid_request")
    assert_problem(await caller.get(f"/v1/truth?reference={reference}"), 400, "invalid_request")


@pytest.mark.parametrize("after", ["-1", "1e9", "9" * 40, "%00", "", "٣"])
async def test_a_cursor_that_is_none_is_refused(caller: Caller, after: str) -> None:
    assert_problem(await caller.get(f"/v1/truth?after={after}"), 400, "invalid_request")


@pytest.mark.parametrize("payment_id", ["pay_1", "%00", "%ff", "%ed%a0%80", "'", "a" * 5_000])
async def test_an_id_that_is_none_is_not_found(caller: Caller, payment_id: str) -> None:
    assert_problem(await caller.get(f"/v1/payments/{payment_id}"), 404, "no_such_payment")
    assert_problem(await caller.post(f"/v1/payments/{payment_id}/capture", {}), 404, "no_such_payment")
    assert_problem(await caller.client.get(f"/action/{payment_id}"), 404, "no_such_payment")


async def test_an_address_or_method_that_there_is_not_says_so(caller: Caller) -> None:
    assert_problem(await caller.get("/v1/nothing"), 404, "not_found")
    assert_problem(await caller.client.delete("/v1/payments"), 405, "method_not_allowed")


async def test_the_payers_page_asks_once_and_goes_back_to_the_shop(caller: Caller) -> None:
    payment = await caller.pay(payment_method="pm_requires_action", return_url="https://shop.example/?a=1&b=%20")
    url = payment["next_action"]["url"]
    assert url == f"http://sandbox.test/action/{payment['id']}"
    page = await caller.client.get(url)
    assert re.findall(r"name='decision' value='(\w+)'", page.text) == ["approve", "decline"]
    for decision in ("approve", "decline"):
        redirect = await caller.client.post(url, data={"decision": decision})
        assert (redirect.status_code, redirect.headers["location"]) == (303, "https://shop.example/?a=1&b=%20")
    after = (await caller.get(f"/v1/payments/{payment['id']}")).json()
    assert (after["status"], after["next_action"]) == ("authorized", None)
    assert "form" not in (await caller.client.get(url)).text


async def test_without_a_way_back_the_payer_stays_on_the_page(caller: Caller) -> None:
    payment = await caller.pay(payment_method="pm_requires_action")
    redirect = await caller.client.post(payment["next_action"]["url"], data={"decision": "decline"})
    assert (redirect.status_code, redirect.headers["location"]) == (303, f"/action/{payment['id']}")


@pytest.mark.parametrize(
    "body", [b"", b"decision=", b"decision=maybe", b"decision=approve&decision=decline", b"\xff", b"a=1&" * 50, b"{}"]
)
async def test_a_decision_that_is_none_decides_nothing(caller: Caller, body: bytes) -> None:
    payment = await caller.pay(payment_method="pm_requires_action")
    answer = await caller.client.post(payment["next_action"]["url"], content=body)
    assert_problem(answer, 400, "invalid_request")
    assert (await caller.get(f"/v1/payments/{payment['id']}")).json()["status"] == "requires_action"


async def test_the_page_of_the_truth_shows_each_payment_and_runs_nothing_of_it(caller: Caller) -> None:
    await caller.pay(reference="<script>alert(1)</script>")
    page = await caller.client.get("/")
    assert "&lt;script&gt;" in page.text
    assert "<script" not in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]


def test_a_server_without_its_settings_names_what_is_missing() -> None:
    with pytest.raises(ValueError, match=r"HUB_SANDBOX_DATABASE, HUB_SANDBOX_SECRET"):
        Settings.read({})
    with pytest.raises(ValueError, match=r"HUB_SANDBOX_WEBHOOK_SECRET"):
        Settings.read({"HUB_SANDBOX_DATABASE": "a", "HUB_SANDBOX_SECRET": "b", "HUB_SANDBOX_WEBHOOK_URL": "c"})


def test_the_peer_shares_no_code_with_the_hub() -> None:
    script = "import sys, commercehub.sandbox.__main__; print(*sorted(sys.modules))"
    modules = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    ours = {name for name in modules if name.split(".")[0] in {"commercehub", "payments", "inventory", "fulfillment"}}
    assert {name for name in ours if not name.startswith("commercehub.sandbox")} == {"commercehub"}


async def test_the_process_stops_when_asked_even_while_an_answer_is_lost(tmp_path: Path) -> None:
    peer = Peer(tmp_path, webhook_url="http://127.0.0.1:9/")
    peer.start()
    try:
        headers = {"Authorization": "Bearer sk_contract", "Idempotency-Key": "k"}
        async with httpx.AsyncClient(base_url=peer.url, trust_env=False, timeout=30) as client:
            lost = asyncio.create_task(
                client.post("/v1/payments", json={**OK, "payment_method": "pm_answer_lost"}, headers=headers)
            )
            await asyncio.sleep(0.3)
            assert len((await client.get("/v1/truth", headers=headers)).json()["payments"]) == 1
            began = time.monotonic()
            assert await asyncio.to_thread(peer.end, signal.SIGTERM) == 0
            assert time.monotonic() - began < 5
            with contextlib.suppress(httpx.TransportError):
                pytest.fail(f"a lost answer arrived: {(await lost).text}")
    finally:
        peer.end()


def test_a_second_processor_does_not_share_the_port_of_the_first() -> None:
    with socket.create_server(("127.0.0.1", 0), reuse_port=True) as first:
        port = first.getsockname()[1]
        with pytest.raises(OSError, match="in use"):
            claim_port("127.0.0.1", port)
    claim_port("127.0.0.1", port)


def test_a_kill_leaves_no_process_behind(tmp_path: Path) -> None:
    peer = Peer(tmp_path, webhook_url="http://127.0.0.1:9/")
    peer.start()
    assert peer.end(signal.SIGKILL) == -signal.SIGKILL
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{peer.url}/health", trust_env=False)
    needle = str(tmp_path).encode()
    for environment in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            assert needle not in environment.read_bytes() or environment.parent.name == str(os.getpid())
