"""The face that speaks as Stripe does: its forms, its errors, its keys and its events, held against the SDK's types."""

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import httpx
import msgspec
import pytest
import stripe

from commercehub.app import open_hub
from commercehub.sandbox.app import Settings, create_app
from commercehub.sandbox.stripe_face import StripeSender
from commercehub.sandbox.stripe_words import Malformed, form, units_of_books
from commercehub.sandbox.webhooks import signature
from commercehub.settings import Settings as HubSettings
from payments.processors import Operation, RequiresAction

CREATE = {
    "amount": "1000",
    "currency": "usd",
    "payment_method": "pm_ok",
    "capture_method": "manual",
    "confirm": "true",
    "return_url": "https://shop.example/back",
    "allowed_payment_method_types[0]": "card",
    "payment_method_options[card][request_multicapture]": "if_available",
    "metadata[hub_key]": "first",
}


@dataclass
class Caller:
    """One API key's view of the face, in this process."""

    client: httpx.AsyncClient
    app: Any
    api_key: str

    async def post(self, path: str, fields: dict[str, str], *, key: str | None = None) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.api_key}", "Idempotency-Key": key or str(uuid4())}
        return await self.client.post(f"/stripe/v1{path}", data=fields, headers=headers)

    async def get(self, path: str, **params: str) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {self.api_key}"}
        found: dict[str, Any] = (await self.client.get(f"/stripe/v1{path}", params=params, headers=headers)).json()
        return found

    async def pay(self, **fields: str) -> dict[str, Any]:
        answer = await self.post("/payment_intents", {**CREATE, **fields})
        assert answer.status_code == 200, answer.text
        made: dict[str, Any] = answer.json()
        return made


@pytest.fixture(scope="module")
async def face(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Caller]:
    books = tmp_path_factory.mktemp("stripe") / "books.sqlite"
    keys = tuple(f"sk_{n}" for n in range(200))
    app = create_app(
        Settings(
            database=books,
            api_keys=keys,
            webhook_url="http://hub.test/sandbox",
            webhook_secrets=("whsec",),
            stripe_webhook_url="http://hub.test/stripe",
        )
    )
    transport = httpx.ASGITransport(app=cast("Any", app))
    async with httpx.AsyncClient(transport=transport, base_url="http://stripe.test") as client:
        yield Caller(client, app, "sk_0")
    app.state.peer.stripe.close()
    app.state.peer.books.close()


API_KEYS = (f"sk_{n}" for n in range(1, 200))


@pytest.fixture
def caller(face: Caller) -> Caller:
    """Somebody with an account of their own."""
    return Caller(face.client, face.app, next(API_KEYS))


def assert_error(answer: httpx.Response, status: int, kind: str, code: str | None) -> None:
    error = answer.json()["error"]
    assert (answer.status_code, error["type"], error.get("code")) == (status, kind, code)
    assert error["message"]


async def test_its_documents_have_no_field_that_the_sdk_does_not_know(caller: Caller) -> None:
    made = await caller.pay()
    assert made.keys() <= stripe.PaymentIntent.__annotations__.keys()
    assert made["latest_charge"].keys() <= stripe.Charge.__annotations__.keys()
    await caller.post(f"/payment_intents/{made['id']}/capture", {"amount_to_capture": "600"})
    given = (await caller.post("/refunds", {"payment_intent": made["id"], "amount": "100"})).json()
    assert given.keys() <= stripe.Refund.__annotations__.keys()
    assert (given["amount"], given["payment_intent"]) == (100, made["id"])


async def test_metadata_is_kept_with_the_payment_and_grows_with_each_capture(caller: Caller) -> None:
    made = await caller.pay()
    path = f"/payment_intents/{made['id']}"
    more = {"amount_to_capture": "400", "final_capture": "false", "metadata[second]": "2"}
    taken = (await caller.post(f"{path}/capture", more)).json()
    assert (taken["status"], taken["amount_received"], taken["amount_capturable"]) == ("requires_capture", 400, 600)
    refused = await caller.post(f"{path}/capture", {"amount_to_capture": "601", "metadata[third]": "3"})
    assert_error(refused, 400, "invalid_request_error", "amount_too_large")
    await caller.post(path, {"metadata[fourth]": "4", "metadata[hub_key]": ""})
    assert (await caller.get(path))["metadata"] == {"second": "2", "fourth": "4"}
    assert (await caller.get("/payment_intents"))["data"][0]["metadata"] == {"second": "2", "fourth": "4"}


async def test_the_last_capture_lets_go_of_the_rest(caller: Caller) -> None:
    made = await caller.pay()
    taken = (await caller.post(f"/payment_intents/{made['id']}/capture", {"amount_to_capture": "400"})).json()
    assert (taken["status"], taken["amount_received"], taken["amount_capturable"]) == ("succeeded", 400, 0)


async def test_many_captures_have_to_be_asked_for_before(caller: Caller) -> None:
    made = await caller.pay(**{"payment_method_options[card][request_multicapture]": "never"})
    asked = {"amount_to_capture": "400", "final_capture": "false"}
    assert_error(await caller.post(f"/payment_intents/{made['id']}/capture", asked), 400, "invalid_request_error", None)


async def test_a_decline_says_so_as_stripe_does(caller: Caller) -> None:
    answer = await caller.post("/payment_intents", {**CREATE, "payment_method": "pm_insufficient_funds"})
    assert_error(answer, 402, "card_error", "card_declined")
    error = answer.json()["error"]
    assert error["decline_code"] == "insufficient_funds"
    assert error["payment_intent"]["status"] == "requires_payment_method"


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"amount": "ten"}, "parameter_missing"),
        ({"amount": "0"}, None),
        ({"currency": "dollars"}, None),
        ({"payment_method": "pm_nonsense"}, "resource_missing"),
        ({"capture_method": "automatic"}, None),
        ({"payment_method_types[0]": "card"}, "parameter_unknown"),
        ({"metadata": "a"}, None),
        ({"a b": "c"}, None),
    ],
)
async def test_what_is_no_request_is_refused_and_leaves_the_key_free(
    caller: Caller, fields: dict[str, str], code: str | None
) -> None:
    refused = await caller.post("/payment_intents", {**CREATE, **fields}, key="k")
    assert_error(refused, 400, "invalid_request_error", code)
    assert (await caller.post("/payment_intents", CREATE, key="k")).status_code == 200


async def test_a_key_stands_for_one_request_down_to_its_metadata(caller: Caller) -> None:
    first = await caller.post("/payment_intents", CREATE, key="k")
    again = await caller.post("/payment_intents", CREATE, key="k")
    assert (again.json(), again.headers["idempotent-replayed"]) == (first.json(), "true")
    other = await caller.post("/payment_intents", {**CREATE, "metadata[hub_key]": "other"}, key="k")
    assert_error(other, 400, "idempotency_error", None)


async def test_one_account_sees_nothing_of_another(caller: Caller, face: Caller) -> None:
    made = await caller.pay(**{"metadata[hub_reference]": "mine"})
    stranger = Caller(face.client, face.app, next(API_KEYS))
    assert (await stranger.get(f"/payment_intents/{made['id']}"))["error"]["code"] == "resource_missing"
    refused = await stranger.post(f"/payment_intents/{made['id']}/cancel", {})
    assert_error(refused, 404, "invalid_request_error", "resource_missing")
    assert (await stranger.get("/payment_intents"))["data"] == []
    nobody = Caller(face.client, face.app, "sk_nobody")
    assert (await nobody.get("/payment_intents"))["error"]["type"] == "invalid_request_error"


async def test_the_search_is_behind_and_finds_in_the_end(caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    made = await caller.pay(**{"metadata[hub_reference]": 'ref-"1"'})
    query = 'metadata["hub_reference"]:"ref-\\"1\\""'
    assert (await caller.get("/payment_intents/search", query=query))["data"] == []
    monkeypatch.setattr("commercehub.sandbox.stripe_face.SEARCH_LAG_SECONDS", 0)
    found = await caller.get("/payment_intents/search", query=query)
    assert (found["object"], [one["id"] for one in found["data"]]) == ("search_result", [made["id"]])
    assert (await caller.get("/payment_intents/search", query="amount>1"))["error"]["type"] == "invalid_request_error"


async def test_events_are_told_in_the_words_that_the_payment_was_made_in(caller: Caller) -> None:
    peer = caller.app.state.peer
    made = await caller.pay(**{"metadata[hub_reference]": "told"})
    await caller.post(f"/payment_intents/{made['id']}/capture", {})
    await caller.post("/refunds", {"payment_intent": made["id"], "metadata[hub_reference]": "told"})
    key = {"Authorization": f"Bearer {caller.api_key}", "Idempotency-Key": "native"}
    native = {"amount": 1, "currency": "USD", "reference": "native", "payment_method": "pm_ok"}
    await caller.client.post("/v1/payments", json=native, headers=key)

    letters = [peer.sender.letter(event) for event in peer.books.due_events(limit=1000)]
    ours = [one for one in letters if b'"told"' in one[1]]
    assert {(url, header) for url, _, header in ours} == {("http://hub.test/stripe", "Stripe-Signature")}
    told = []
    for _, body, _ in ours:
        proof = signature(body, signed_at=int(time.time()), secrets=("whsec",))
        told.append(stripe.Webhook.construct_event(body, proof, "whsec", api_key="sk").type)
    assert told == ["payment_intent.amount_capturable_updated", "payment_intent.succeeded", "refund.created"]
    (theirs,) = [one for one in letters if b'"reference":"native"' in one[1]]
    assert (theirs[0], theirs[2]) == ("http://hub.test/sandbox", "Sandbox-Signature")


async def test_without_an_address_of_its_own_everything_is_told_as_ever(caller: Caller, tmp_path: Path) -> None:
    peer = caller.app.state.peer
    await caller.pay(**{"metadata[hub_reference]": "plain"})
    sender = StripeSender(peer.books, url="http://h", secrets=("s",), shelf=peer.stripe, stripe_url=None)
    (letter,) = [
        sender.letter(event) for event in peer.books.due_events(limit=1000) if b'"reference":"plain"' in event.body
    ]
    assert (letter[0], msgspec.json.decode(letter[1])["type"]) == ("http://h", "payment.authorized")


def test_a_form_has_documents_in_brackets() -> None:
    assert form("a=1&b[c]=2&b[d][e]=3&f[0]=4&f[1]=5") == {
        "a": "1",
        "b": {"c": "2", "d": {"e": "3"}},
        "f": {"0": "4", "1": "5"},
    }
    assert form("") == {}


@pytest.mark.parametrize("text", ["a", "a=1&a[b]=2", "A=1", "a[b=1", "&".join(f"a{n}=1" for n in range(201))])
def test_what_is_no_form_is_malformed(text: str) -> None:
    with pytest.raises(Malformed):
        form(text)


def test_there_is_nothing_smaller_than_the_smallest_coin() -> None:
    assert units_of_books(500, "ISK") == 5
    with pytest.raises(Malformed):
        units_of_books(501, "ISK")


async def test_a_hub_with_a_key_of_stripes_has_stripe_beside_what_it_had(hub_settings: HubSettings) -> None:
    with_stripe = msgspec.structs.replace(
        hub_settings,
        stripe_secret_key="sandbox-key-of-the-suite",
        stripe_base_url=f"{hub_settings.sandbox_url}/stripe",
        stripe_webhook_secret="whsec_new, whsec_old",
        stripe_many_captures=True,
    )
    async with open_hub(with_stripe) as hub:
        assert hub.processors.keys() == {"sandbox", "stripe"}
        adapter = hub.processors["stripe"]
        assert adapter.capabilities.many_captures
        asked = Operation(
            id=uuid4(),
            key=str(uuid4()),
            reference=str(uuid4()),
            amount_minor=5,
            currency="EUR",
            payment_method="pm_requires_action",
        )
        outcome = await adapter.authorize(asked)
    assert isinstance(outcome, RequiresAction)
    async with open_hub(hub_settings) as hub:
        assert hub.processors.keys() == {"sandbox"}


@pytest.fixture
def hub_settings(settings: HubSettings) -> HubSettings:
    """The suite's own, without Stripe whatever they have."""
    return msgspec.structs.replace(settings, stripe_secret_key=None)
