"""Customers sign up once and are known in every channel; nobody else sees them."""

import asyncio
import re
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from argon2 import PasswordHasher

from commercehub import auth, ids
from commercehub.auth import attempts, passwords, sessions
from commercehub.workflows.parts import Hub
from tests.client import Channel, Channels

PASSWORD = "correct horse battery"

OUTDATE = "UPDATE commercehub.sessions SET refreshed_at = refreshed_at - interval '1 minute' WHERE subject_id = $1"
READ_HASH = "SELECT password_hash FROM commercehub.customers WHERE lower(email) = lower($1)"
WRITE_HASH = "UPDATE commercehub.customers SET password_hash = $2 WHERE lower(email) = lower($1)"


def _email() -> str:
    return f"ada-{uuid.uuid4().hex}@example.com"


async def _sign_up(app: Channel, email: str | None = None) -> tuple[str, Any]:
    email = email or _email()
    made = await app.ok("POST", "/v1/customers", {"email": email, "password": PASSWORD, "name": "Ada"})
    return email, made


async def _sign_in(channel: Channel, email: str, password: str = PASSWORD) -> Any:
    return await channel.post("/v1/customers/sessions", {"email": email, "password": password}, key="")


def _code(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json().get("code", "")


async def test_a_customer_signs_up_and_is_known_in_every_channel(app: Channel, channels: Channels) -> None:
    email, made = await _sign_up(app)
    for name in ("web", "app", "store", "call_center", "chat"):
        session = (await _sign_in(channels[name], email.upper())).json()
        me = await Channel(app.http, session["access_token"]).ok("GET", "/v1/customers/me")
        assert (me["id"], me["email"], me["name"]) == (made["id"], email, "Ada")


async def test_an_address_belongs_to_one_customer_ignoring_case(app: Channel) -> None:
    email, _ = await _sign_up(app)
    again = await app.post("/v1/customers", {"email": email.upper(), "password": PASSWORD})
    assert _code(again) == (409, "email_taken")


async def test_a_repeated_sign_up_answers_the_same_customer(app: Channel) -> None:
    body, key = {"email": _email(), "password": PASSWORD, "name": "Ada"}, str(uuid.uuid4())
    first, again = [await app.post("/v1/customers", body, key=key) for _ in range(2)]
    assert (first.status_code, first.json()) == (again.status_code, again.json())
    assert again.headers["Idempotent-Replayed"] == "true"


async def test_what_is_stored_of_a_sign_up_holds_nothing_personal(app: Channel, hub: Hub) -> None:
    email, key = _email(), str(uuid.uuid4())
    await app.post("/v1/customers", {"email": email, "password": PASSWORD}, key=key)
    async with hub.database.connection() as db:
        body = await db.fetchval("SELECT body FROM commercehub.idempotency_keys WHERE key = $1", key)
        stored = await db.fetchval(READ_HASH, email)
    assert email not in body
    assert stored.startswith("$argon2id$")


async def test_a_wrong_password_and_an_unknown_address_are_told_alike(app: Channel) -> None:
    email, _ = await _sign_up(app)
    wrong, unknown = await _sign_in(app, email, "not the password"), await _sign_in(app, _email())
    assert _code(wrong) == _code(unknown) == (401, "invalid_credentials")
    assert wrong.json()["detail"] == unknown.json()["detail"]


async def test_an_unknown_address_costs_a_hash_too(app: Channel, monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[object] = []
    real = passwords._verify

    def look(password: str, stored: str | None) -> bool:
        checked.append(stored)
        return real(password, stored)

    monkeypatch.setattr(passwords, "_verify", look)
    await _sign_in(app, _email())
    assert checked == [None]


async def test_after_ten_wrong_passwords_the_right_one_is_not_tried(app: Channel) -> None:
    email, _ = await _sign_up(app)
    answers = [await _sign_in(app, email, "not the password") for _ in range(attempts.ATTEMPTS_MAX)]
    assert {answer.status_code for answer in answers} == {401}
    refused = await _sign_in(app, email)
    assert _code(refused) == (429, "rate_limited")
    assert int(refused.headers["Retry-After"]) > 60


async def test_fifty_guesses_at_once_are_counted_like_fifty_one_by_one(app: Channel) -> None:
    email, _ = await _sign_up(app)
    answers = await asyncio.gather(*(_sign_in(app, email, f"guess {n}") for n in range(30)))
    assert [answer.status_code for answer in answers].count(401) == attempts.ATTEMPTS_MAX


async def test_letters_that_the_database_takes_for_the_same_are_one_subject(app: Channel) -> None:
    email, _ = await _sign_up(app, f"iiii-{uuid.uuid4().hex}@example.com")
    spellings = [email.replace("i", "\u0130", count) for count in range(5)] * 3
    answers = [await _sign_in(app, spelling, "not the password") for spelling in spellings[:12]]
    assert [answer.status_code for answer in answers][-2:] == [429, 429]


async def test_a_right_password_forgets_the_wrong_ones(app: Channel) -> None:
    email, _ = await _sign_up(app)
    for _ in range(2):
        for _ in range(attempts.ATTEMPTS_MAX - 1):
            await _sign_in(app, email, "not the password")
        assert (await _sign_in(app, email)).status_code == 201


async def test_more_sign_ins_than_may_wait_are_told_to_come_back(app: Channel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "_slots", 0)
    assert _code(await _sign_in(app, _email())) == (503, "busy")


async def test_a_password_is_hashed_anew_at_sign_in_when_costs_have_grown(app: Channel, hub: Hub) -> None:
    email, _ = await _sign_up(app)
    cheap = PasswordHasher(time_cost=1, memory_cost=1024, parallelism=1).hash(PASSWORD)
    async with hub.database.connection() as db:
        await db.execute(WRITE_HASH, email, cheap)
        assert (await _sign_in(app, email)).status_code == 201
        stored = await db.fetchval(READ_HASH, email)
    assert stored != cheap
    assert not auth.needs_rehash(stored)


async def test_without_a_password_nobody_signs_in(channels: Channels, app: Channel) -> None:
    email = _email()
    await channels["chat"].ok("POST", "/v1/customers", {"email": email})
    assert _code(await _sign_in(app, email, "anything else")) == (401, "invalid_credentials")


# --- sessions ---------------------------------------------------------------------------------------------------------


async def test_a_refresh_token_gets_the_next_two_and_is_used_up(app: Channel) -> None:
    email, _ = await _sign_up(app)
    first = (await _sign_in(app, email)).json()
    next_one = await app.ok("POST", "/v1/customers/sessions/refresh", {"refresh_token": first["refresh_token"]}, key="")
    assert next_one["access_token"] != first["access_token"]
    await Channel(app.http, next_one["access_token"]).ok("GET", "/v1/customers/me")


async def test_a_refresh_token_that_comes_again_ends_its_session(app: Channel, hub: Hub) -> None:
    email, made = await _sign_up(app)
    first = (await _sign_in(app, email)).json()
    body = {"refresh_token": first["refresh_token"]}
    second = await app.ok("POST", "/v1/customers/sessions/refresh", body, key="")
    async with hub.database.connection() as db:
        await db.execute(OUTDATE, ids_of(made["id"]))
    assert _code(await app.post("/v1/customers/sessions/refresh", body, key="")) == (401, "invalid_credentials")
    body = {"refresh_token": second["refresh_token"]}
    assert _code(await app.post("/v1/customers/sessions/refresh", body, key="")) == (401, "invalid_credentials")


async def test_two_tabs_that_refresh_at_once_get_the_same_tokens(app: Channel) -> None:
    email, _ = await _sign_up(app)
    body = {"refresh_token": (await _sign_in(app, email)).json()["refresh_token"]}
    both = await asyncio.gather(*(app.post("/v1/customers/sessions/refresh", body, key="") for _ in range(2)))
    first, second = [answer.json() for answer in both]
    assert (first["access_token"], first["refresh_token"]) == (second["access_token"], second["refresh_token"])
    await Channel(app.http, first["access_token"]).ok("GET", "/v1/customers/me")
    await app.ok("POST", "/v1/customers/sessions/refresh", {"refresh_token": first["refresh_token"]}, key="")


async def test_any_spent_token_of_a_session_ends_it_however_long_ago_it_was_spent(app: Channel) -> None:
    email, _ = await _sign_up(app)
    stolen = token = (await _sign_in(app, email)).json()["refresh_token"]
    for _ in range(3):
        body = {"refresh_token": token}
        token = (await app.ok("POST", "/v1/customers/sessions/refresh", body, key=""))["refresh_token"]
    victim = await app.post("/v1/customers/sessions/refresh", {"refresh_token": stolen}, key="")
    assert _code(victim) == (401, "invalid_credentials")
    thief = await app.post("/v1/customers/sessions/refresh", {"refresh_token": token}, key="")
    assert _code(thief) == (401, "invalid_credentials")


@pytest.mark.parametrize("token", ["hub_rt_", "hub_rt_x", "nothing", "hub_rt_" + "A" * 64])
async def test_what_is_no_refresh_token_is_refused(token: str, app: Channel) -> None:
    answer = await app.post("/v1/customers/sessions/refresh", {"refresh_token": token}, key="")
    assert _code(answer) == (401, "invalid_credentials")


async def test_an_access_token_ends_after_a_quarter_of_an_hour(app: Channel) -> None:
    email, _ = await _sign_up(app)
    ends_at = datetime.fromisoformat((await _sign_in(app, email)).json()["expires_at"])
    assert timedelta(minutes=14) < ends_at - datetime.now(UTC) <= sessions.ACCESS_FOR + timedelta(seconds=5)


async def test_who_signed_out_is_out_in_every_process_within_seconds(app: Channel, hub: Hub) -> None:
    email, _ = await _sign_up(app)
    token = (await _sign_in(app, email)).json()["access_token"]
    await Channel(app.http, token).ok("DELETE", "/v1/customers/sessions/current")
    assert await auth.Keyring(hub.database).verify(token) is None


async def test_a_new_password_ends_every_other_session(app: Channel, hub: Hub) -> None:
    email, _ = await _sign_up(app)
    here, there = [(await _sign_in(app, email)).json()["access_token"] for _ in range(2)]
    change = {"password": "another good one", "current_password": PASSWORD}
    await Channel(app.http, here).ok("PATCH", "/v1/customers/me", change)
    keyring = auth.Keyring(hub.database)
    assert await keyring.verify(here) is not None
    assert await keyring.verify(there) is None
    assert (await _sign_in(app, email)).status_code == 401
    assert (await _sign_in(app, email, "another good one")).status_code == 201


async def test_a_new_password_needs_the_current_one(app: Channel) -> None:
    email, _ = await _sign_up(app)
    me = Channel(app.http, (await _sign_in(app, email)).json()["access_token"])
    refused = await me.patch("/v1/customers/me", {"password": "another good one", "current_password": "wrong"})
    assert _code(refused) == (401, "invalid_credentials")
    assert (await _sign_in(app, email)).status_code == 201


async def test_a_sign_in_with_the_old_password_does_not_outlive_the_change(app: Channel, hub: Hub) -> None:
    email, _ = await _sign_up(app)
    me = Channel(app.http, (await _sign_in(app, email)).json()["access_token"])
    change = {"password": "another good one", "current_password": PASSWORD}
    changed, *signed_in = await asyncio.gather(
        me.patch("/v1/customers/me", change), *(_sign_in(app, email) for _ in range(8))
    )
    assert changed.status_code == 200
    keyring = auth.Keyring(hub.database)
    for answer in signed_in:
        if answer.status_code == 201:
            assert await keyring.verify(answer.json()["access_token"]) is None


async def test_of_two_password_changes_at_once_one_is_told_that_it_was_too_late(app: Channel) -> None:
    email, _ = await _sign_up(app)
    me = Channel(app.http, (await _sign_in(app, email)).json()["access_token"])
    changes = [{"password": f"another good one {n}", "current_password": PASSWORD} for n in range(2)]
    answers = await asyncio.gather(*(me.patch("/v1/customers/me", change) for change in changes))
    assert sorted(answer.status_code for answer in answers) == [200, 401]


# --- a password by mail -----------------------------------------------------------------------------------------------


async def _code_sent_to(app: Channel, email: str) -> str | None:
    mails = (await app.http.get("/demo/mailbox", headers={"Accept": "application/json"})).json()["data"]
    found = [re.search(r"\b[0-9A-Z]{4}-[0-9A-Z]{4}\b", mail["text"]) for mail in mails if mail["to"] == email]
    return found[0][0] if found and found[0] else None


async def _confirm(app: Channel, email: str, code: str, password: str = "another good one") -> Any:
    body = {"email": email, "code": code, "password": password}
    return await app.post("/v1/customers/password-resets/confirm", body, key="")


async def test_who_was_taken_in_by_a_store_sets_a_password_by_mail(app: Channel, channels: Channels) -> None:
    email = _email()
    made = await channels["store"].ok("POST", "/v1/customers", {"email": email})
    await app.ok("POST", "/v1/customers/password-resets", {"email": email.upper()}, key="")
    code = await _code_sent_to(app, email)
    assert code is not None
    session = (await _confirm(app, email, code.lower().replace("-", " "))).json()
    assert (await Channel(app.http, session["access_token"]).ok("GET", "/v1/customers/me"))["id"] == made["id"]
    assert (await _sign_in(app, email, "another good one")).status_code == 201


async def test_a_code_works_once_and_ends_every_session(app: Channel, hub: Hub) -> None:
    email, _ = await _sign_up(app)
    token = (await _sign_in(app, email)).json()["access_token"]
    await app.ok("POST", "/v1/customers/password-resets", {"email": email}, key="")
    code = await _code_sent_to(app, email)
    assert code is not None
    answers = await asyncio.gather(*(_confirm(app, email, code) for _ in range(3)))
    assert sorted(answer.status_code for answer in answers) == [201, 401, 401]
    assert await auth.Keyring(hub.database).verify(token) is None
    assert _code(await _sign_in(app, email)) == (401, "invalid_credentials")


async def test_the_last_code_counts(app: Channel) -> None:
    email, _ = await _sign_up(app)
    codes = []
    for _ in range(2):
        await app.ok("POST", "/v1/customers/password-resets", {"email": email}, key="")
        codes.append(await _code_sent_to(app, email) or "")
    assert [(await _confirm(app, email, code)).status_code for code in codes] == [401, 201]


async def test_nobody_is_told_whether_there_is_such_a_customer(app: Channel) -> None:
    email, _ = await _sign_up(app)
    known, unknown = [
        await app.post("/v1/customers/password-resets", {"email": each}, key="") for each in (email, _email())
    ]
    assert (known.status_code, known.json()) == (unknown.status_code, unknown.json()) == (202, {"sent": True})


async def test_ten_wrong_codes_close_the_door(app: Channel) -> None:
    email, _ = await _sign_up(app)
    await app.ok("POST", "/v1/customers/password-resets", {"email": email}, key="")
    answers = await asyncio.gather(*(_confirm(app, email, f"WRONG{n}") for n in range(12)))
    assert sorted(answer.status_code for answer in answers) == [401] * 10 + [429] * 2
    code = await _code_sent_to(app, email)
    assert _code(await _confirm(app, email, code or "")) == (429, "rate_limited")


# --- who sees whom ----------------------------------------------------------------------------------------------------


async def test_a_customer_sees_themselves_and_nobody_else(app: Channel) -> None:
    (email, mine), (_, other) = await _sign_up(app), await _sign_up(app)
    me = Channel(app.http, (await _sign_in(app, email)).json()["access_token"])
    assert (await me.ok("GET", f"/v1/customers/{mine['id']}"))["email"] == email
    assert _code(await me.get(f"/v1/customers/{other['id']}")) == (404, "not_found")
    assert (await me.get(f"/v1/customers?email={email}")).status_code == 403


async def test_who_helps_customers_finds_them_by_address_or_phone(app: Channel, channels: Channels) -> None:
    email, phone = _email(), f"+1 512 {uuid.uuid4().int % 10**7}"
    made = await app.ok("POST", "/v1/customers", {"email": email, "password": PASSWORD, "phone": phone})
    chat = channels["chat"]
    dotted = phone.replace(" ", ".")
    for query in ({"email": email.upper()}, {"phone": phone}, {"phone": dotted}, {"email": email, "phone": dotted}):
        answer = await chat.http.get("/v1/customers", params=query, headers={"Authorization": f"Bearer {chat.key}"})
        assert [each["id"] for each in answer.json()["data"]] == [made["id"]]
    assert _code(await chat.get("/v1/customers")) == (400, "invalid_request")


async def test_a_key_is_no_customer(channels: Channels) -> None:
    assert _code(await channels["chat"].get("/v1/customers/me")) == (404, "not_found")


def ids_of(shown: str) -> uuid.UUID:
    """The id itself."""
    return ids.parse("cus", shown)
