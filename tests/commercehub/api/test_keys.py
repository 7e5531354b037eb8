"""API keys: what they may be made for, shown once, and ended."""

from collections.abc import Mapping
from typing import Any

import pytest

from commercehub import auth, ids
from commercehub.database import Database
from tests.client import Channel, Channels

READ_KEY = "SELECT role, secret_hash, created_by FROM commercehub.api_keys WHERE id = $1"


async def _make(admin: Channel, **body: Any) -> Any:
    return await admin.ok("POST", "/v1/api-keys", body)


@pytest.mark.parametrize(
    ("channel", "role", "kind"),
    [
        ("web", "storefront", "pk"),
        ("app", "storefront", "pk"),
        ("agent", "storefront", "pk"),
        ("call_center", "service", "sk"),
        ("chat", "service", "sk"),
        ("web", "service", "sk"),
        ("back_office", "fulfillment", "sk"),
        ("back_office", "admin", "sk"),
    ],
)
async def test_a_new_key_works_at_once_in_its_channel(channel: str, role: str, kind: str, admin: Channel) -> None:
    made = await _make(admin, channel=channel, role=role)
    assert made["secret"].startswith(f"hub_{kind}_")
    assert (made["channel"], made["role"], made["location_id"]) == (channel, role, None)
    caller = Channel(admin.http, made["secret"])
    if role == "fulfillment":
        await caller.ok("GET", "/v1/fulfillments?limit=1")
    else:
        assert (await caller.ok("POST", "/v1/carts"))["channel"] == channel


async def test_a_tills_key_stands_at_its_location(admin: Channel, channels: Channels) -> None:
    place = await channels.location("S2")
    made = await _make(admin, channel="store", role="till", location_id=place)
    cart = await Channel(admin.http, made["secret"]).ok("POST", "/v1/carts")
    assert (made["location_id"], cart["location_id"], cart["channel"]) == (place, place, "store")


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"channel": "store", "role": "till"}, "/location_id"),
        ({"channel": "web", "role": "till"}, "/channel"),
        ({"channel": "store", "role": "service"}, "/channel"),
        ({"channel": "back_office", "role": "storefront"}, "/channel"),
        ({"channel": "store", "role": "storefront"}, "/channel"),
        ({"channel": "chat", "role": "service", "allowed_origins": ["https://shop.example"]}, "/allowed_origins"),
        ({"channel": "web", "role": "storefront", "allowed_origins": ["shop.example"]}, "/allowed_origins/0"),
        ({"channel": "web", "role": "root"}, "/role"),
        ({"channel": "pigeon", "role": "service"}, "/channel"),
        ({"role": "service"}, "/channel"),
    ],
)
async def test_a_key_that_makes_no_sense_is_not_made(body: Mapping[str, Any], pointer: str, admin: Channel) -> None:
    answer = await admin.post("/v1/api-keys", body)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")
    assert answer.json()["errors"][0]["pointer"] == pointer


async def test_a_public_key_stands_nowhere(admin: Channel, channels: Channels) -> None:
    body = {"channel": "web", "role": "storefront", "location_id": await channels.location("S1")}
    assert (await admin.post("/v1/api-keys", body)).status_code == 400


async def test_a_till_does_not_stand_where_no_place_is(admin: Channel) -> None:
    for place in (ids.show("loc", ids.new()), "loc_1", "S1"):
        answer = await admin.post("/v1/api-keys", {"channel": "store", "role": "till", "location_id": place})
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


async def test_of_a_secret_its_hash_alone_is_kept(admin: Channel, database: Database) -> None:
    made = await _make(admin, channel="app", role="storefront")
    async with database.connection() as db:
        row = await db.fetchrow(READ_KEY, ids.parse("key", made["id"]))
    assert row is not None
    assert (row["secret_hash"], row["role"]) == (auth.digest(made["secret"]), "storefront")
    assert row["created_by"].startswith("key_")


async def test_a_revoked_key_that_nobody_used_works_no_more(admin: Channel) -> None:
    made = await _make(admin, channel="app", role="storefront")
    assert await admin.ok("DELETE", f"/v1/api-keys/{made['id']}") == {"id": made["id"]}
    answer = await Channel(admin.http, made["secret"]).get("/v1/locations")
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")


async def test_a_key_is_revoked_once(admin: Channel) -> None:
    made = await _make(admin, channel="app", role="storefront")
    await admin.ok("DELETE", f"/v1/api-keys/{made['id']}")
    assert (await admin.delete(f"/v1/api-keys/{made['id']}")).status_code == 404


# --- in a browser -----------------------------------------------------------------------------------------------------

SHOP = "https://shop.example"


async def _from(secret: str, origin: str, admin: Channel) -> Any:
    return await Channel(admin.http, secret).get("/v1/locations", headers={"Origin": origin})


async def test_a_key_for_some_pages_is_refused_to_others(admin: Channel) -> None:
    made = await _make(admin, channel="web", role="storefront", allowed_origins=[SHOP])
    allowed = await _from(made["secret"], SHOP, admin)
    assert (allowed.status_code, allowed.headers["access-control-allow-origin"]) == (200, SHOP)
    assert "ETag" in allowed.headers["access-control-expose-headers"]
    for origin in ("https://evil.example", "http://shop.example", f"{SHOP}.evil.example", "null"):
        refused = await _from(made["secret"], origin, admin)
        assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
        assert "access-control-allow-origin" not in refused.headers


async def test_a_key_for_every_page_is_taken_from_any(channels: Channels, admin: Channel) -> None:
    answer = await _from(channels["web"].key, "https://any.example", admin)
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, "https://any.example")
    assert answer.headers["vary"] == "Origin"


async def test_no_page_may_read_what_a_secret_key_is_answered(admin: Channel) -> None:
    assert "access-control-allow-origin" not in (await _from(admin.key, SHOP, admin)).headers


async def test_a_page_may_read_that_its_token_has_ended(app: Channel) -> None:
    answer = await app.http.get("/v1/customers/me", headers={"Authorization": "Bearer hub_ct_ended", "Origin": SHOP})
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (401, "*")


async def test_a_customers_token_is_for_the_pages_of_the_key_that_it_came_through(
    admin: Channel, channels: Channels
) -> None:
    body = {"channel": "web", "role": "storefront", "allowed_origins": [SHOP]}
    key = await admin.ok("POST", "/v1/api-keys", body)
    account = {"email": f"o-{key['id']}@example.com", "password": "correct horse battery"}
    shop = Channel(admin.http, key["secret"])
    await shop.ok("POST", "/v1/customers", account)
    token = (await shop.ok("POST", "/v1/customers/sessions", account))["access_token"]
    for origin, status in ((SHOP, 200), ("https://elsewhere.example", 403)):
        headers = {"Authorization": f"Bearer {token}", "Origin": origin}
        assert (await admin.http.get("/v1/customers/me", headers=headers)).status_code == status


async def test_a_browser_that_asks_first_is_told_what_it_may_send(admin: Channel) -> None:
    headers = {"Origin": SHOP, "Access-Control-Request-Method": "POST"}
    answer = await admin.http.options("/v1/carts", headers=headers)
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (204, "*")
    for name in ("Authorization", "Idempotency-Key", "X-Cart-Token", "If-Match", "Content-Type", "Last-Event-ID"):
        assert name in answer.headers["access-control-allow-headers"]
