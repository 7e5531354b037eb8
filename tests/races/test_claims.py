"""Claims of carts against claims, edits, checkouts and what a declined card gives back: no line is lost, none doubled."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import httpx

from commercehub.database import Database
from tests.client import Channel, Channels, Customer
from tests.races.buyers import CARD, at_once, is_sound

DECLINED = {"type": "card", "payment_method": "pm_declined"}
CLAIMERS = 4
CARTS = 8
EDITS = 12
ROUNDS = 4


def _codes(answers: Sequence[httpx.Response]) -> Counter[tuple[int, str]]:
    return Counter((answer.status_code, answer.json().get("code", "")) for answer in answers)


def _units(page: Mapping[str, Any], count: str = "quantity") -> Counter[str]:
    return Counter({line["sku"]: line[count] for line in page["lines"]})


async def _claim(customer: Customer, cart: Mapping[str, Any]) -> httpx.Response:
    return await customer.post(f"/v1/carts/{cart['id']}/claim", {}, token=cart["token"])


async def _current(customer: Customer) -> Counter[str]:
    answer = await customer.get("/v1/carts/current")
    assert answer.status_code in {200, 404}
    return _units(answer.json()) if answer.status_code == 200 else Counter()


async def test_a_cart_that_many_claim_is_one_customers(app: Channel, channels: Channels) -> None:
    customers = [await channels.shopper() for _ in range(CLAIMERS)]
    sku = await channels.product()
    cart = await app.cart({"sku": sku, "quantity": 3})
    answers = await at_once(_claim(customer, cart) for customer in customers for _ in range(2))
    assert _codes(answers) == {(200, ""): 2, (404, "not_found"): 2 * CLAIMERS - 2}
    held = [await _current(customer) for customer in customers]
    assert sorted(each[sku] for each in held) == [0] * (CLAIMERS - 1) + [3]


async def test_many_carts_that_one_customer_claims_become_one_with_every_line(app: Channel, channels: Channels) -> None:
    customer, shared = await channels.shopper(), await channels.product()
    skus = [await channels.product() for _ in range(CARTS)]
    carts = [await app.cart({"sku": shared}, {"sku": sku, "quantity": 2}) for sku in skus]
    begun = [customer.post("/v1/carts") for _ in range(2)]
    answers = await at_once([_claim(customer, cart) for cart in carts * 2] + begun)
    assert {answer.status_code for answer in answers} <= {200, 201}
    assert await _current(customer) == Counter({shared: CARTS, **dict.fromkeys(skus, 2)})


async def test_what_a_guest_adds_while_the_cart_is_claimed_is_in_it_or_refused(
    app: Channel, channels: Channels
) -> None:
    for is_merged in (False, True):
        customer, sku = await channels.shopper(), await channels.product()
        if is_merged:
            await customer.cart({"sku": await channels.product()})
        cart = await app.cart()
        path = f"/v1/carts/{cart['id']}/lines"
        edits = [app.post(path, {"sku": sku}, token=cart["token"]) for _ in range(EDITS)]
        answers = await at_once([*edits[: EDITS // 2], _claim(customer, cart), *edits[EDITS // 2 :]])
        told = _codes([answer for answer in answers if answer.request.url.path == path])
        assert set(told) <= {(200, ""), (404, "not_found")}
        assert (await _current(customer))[sku] == told[200, ""]


async def test_a_merge_against_a_checkout_sells_the_cart_as_it_was_or_as_it_is(
    app: Channel, channels: Channels, database: Database
) -> None:
    mine, theirs = await channels.product({"DC1": 100}), await channels.product({"DC1": 100})
    for _ in range(ROUNDS):
        customer = await channels.shopper()
        cart = await customer.cart({"sku": mine}, ship=True)
        guest = await app.cart({"sku": theirs}, {"sku": mine}, ship=True)
        buy = customer.post(f"/v1/carts/{cart['id']}/checkout", {"tenders": [CARD]})
        bought, claimed = await at_once([buy, _claim(customer, guest)])
        assert (bought.status_code, claimed.status_code) == (201, 200)
        sold = _units(bought.json(), "ordered")
        assert sold + await _current(customer) == Counter({mine: 2, theirs: 1})
    await is_sound(database)


async def test_a_claim_against_the_guests_own_checkout_has_one_winner(app: Channel, channels: Channels) -> None:
    sku = await channels.product({"DC1": 100})
    for _ in range(ROUNDS):
        customer, guest = await channels.shopper(), await app.cart({"sku": sku}, ship=True)
        bought, claimed = await at_once([app.check_out(guest, CARD), _claim(customer, guest)])
        outcome = (bought.status_code, claimed.status_code)
        assert outcome in {(201, 409), (404, 200)}
        assert (await _current(customer))[sku] == (claimed.status_code == 200)


async def test_a_declined_card_and_what_is_begun_meanwhile_end_in_one_cart(
    channels: Channels, database: Database
) -> None:
    first, second = await channels.product({"DC1": 100}), await channels.product({"DC1": 100})
    for _ in range(ROUNDS):
        customer = await channels.shopper()
        cart = await customer.cart({"sku": first}, ship=True)

        async def wish(customer: Customer = customer) -> httpx.Response:
            made = await customer.ok("POST", "/v1/wishlists", {})
            items = f"/v1/wishlists/{made['id']}/items"
            item = (await customer.ok("POST", items, {"sku": second}))["items"][0]["id"]
            return await customer.post(f"{items}/{item}/move-to-cart")

        buy = customer.post(f"/v1/carts/{cart['id']}/checkout", {"tenders": [DECLINED]})
        answers = await at_once([buy, wish(), wish()])
        assert [answer.status_code for answer in answers] == [402, 200, 200]
        assert await _current(customer) == Counter({first: 1, second: 2})
        assert (await customer.ok("GET", "/v1/carts/current"))["id"] == cart["id"]
    await is_sound(database)


async def test_two_devices_that_edit_one_cart_lose_nothing_and_see_who_was_faster(channels: Channels) -> None:
    phone = await channels.shopper("app")
    laptop = await channels.sign_in(phone, through="web")
    skus = [await channels.product() for _ in range(3)]
    cart = await phone.ok("POST", "/v1/carts")
    path = f"/v1/carts/{cart['id']}"
    adds = [device.post(f"{path}/lines", {"sku": sku}) for sku in skus * 3 for device in (phone, laptop)]
    assert {answer.status_code for answer in await at_once(adds)} == {200}
    seen = await laptop.ok("GET", path)
    assert (_units(seen), seen["version"]) == (Counter(dict.fromkeys(skus, 6)), cart["version"] + len(adds))
    line, insisting = f"{path}/lines/{seen['lines'][0]['id']}", {"If-Match": f'"{seen["version"]}"'}
    edits = [device.patch(line, {"quantity": n}, headers=insisting) for n in range(1, 6) for device in (phone, laptop)]
    told = _codes(await at_once(edits))
    assert told == {(200, ""): 1, (412, "version_conflict"): len(edits) - 1}
