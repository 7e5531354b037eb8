"""The pages: the document for people, and a page for each code of a problem. They load nothing from elsewhere."""

import re
from collections.abc import Iterator, Mapping
from html.parser import HTMLParser
from typing import Any

import httpx
import pytest

from commercehub import api as routes_of
from commercehub.api.errors import CODES
from commercehub.api.openapi import operation_id
from commercehub.api.problems import ADVICE
from tests.client import Channel

PAGES = ("/docs", "/problems", "/problems/out_of_stock", "/demo/mailbox")
HTML = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
JSON = {"Accept": "application/json"}
EMPTY = {"meta", "link", "input", "br", "hr", "img"}
# HTML lets these end by themselves.
ENDED = {"p", "li", "dt", "dd", "tr", "td", "th", "thead", "tbody", "html"}


class Page(HTMLParser):
    """What is on a page: its ids, where its links and files lead, and what would run or be styled in it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.files: list[str] = []
        self.inline: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.inline += [f"{tag} {name}" for name in given if name.startswith("on") or name == "style"]
        if tag == "style" or (tag == "script" and "src" not in given):
            self.inline.append(tag)
        self.ids += [given["id"]] if "id" in given else []
        self.links += [given["href"]] if tag == "a" else []
        self.files += [given[name] for name in ("src", "href") if name in given and tag != "a"]
        if tag not in EMPTY | ENDED:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in ENDED:
            assert self._open.pop() == tag


async def _open(api: httpx.AsyncClient, path: str) -> Page:
    answer = await api.get(path, headers=HTML)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    return Page(answer.text)


@pytest.mark.parametrize("path", PAGES)
async def test_a_page_takes_everything_from_the_hub_itself(path: str, api: httpx.AsyncClient) -> None:
    page = await _open(api, path)
    assert page.inline == []
    for file in page.files:
        assert file.startswith("/docs/"), file
        answer = await api.get(file)
        assert (answer.status_code, answer.headers["cache-control"]) == (200, "public, max-age=3600")
        assert not re.search(r"https?://|@import|url\(|eval|innerHTML", answer.text)


async def test_a_file_is_what_it_says(api: httpx.AsyncClient) -> None:
    assert (await api.get("/docs/style.css")).headers["content-type"] == "text/css; charset=utf-8"
    assert (await api.get("/docs/filter.js")).headers["content-type"] == "text/javascript; charset=utf-8"


async def test_every_operation_and_every_part_is_on_the_page(
    api: httpx.AsyncClient, document: Mapping[str, Any]
) -> None:
    page = await _open(api, "/docs")
    assert len(set(page.ids)) == len(page.ids)
    told = set(page.ids)
    assert {operation_id(route) for route in routes_of.described(demo=True)} <= told
    assert {f"part-{name}" for name in document["components"]["schemas"]} <= told


async def test_every_link_leads_somewhere(api: httpx.AsyncClient) -> None:
    docs = await _open(api, "/docs")
    seen: set[str] = set()
    for page in [docs, await _open(api, "/problems"), await _open(api, "/problems/busy")]:
        for link in set(page.links) - seen:
            seen.add(link)
            path, _, fragment = link.partition("#")
            assert not fragment or fragment in docs.ids, link
            assert not path or (await api.get(path)).status_code == 200, link
    assert len(seen) > 200


@pytest.mark.parametrize("code", sorted(CODES))
async def test_the_type_of_a_problem_leads_to_what_can_be_done(code: str, api: httpx.AsyncClient) -> None:
    status, title = CODES[code]
    told = (await api.get(f"/problems/{code}", headers=JSON)).json()
    assert (told["code"], told["status"], told["title"], told["advice"]) == (code, status, title, ADVICE[code])
    answer = await api.get(f"/problems/{code}", headers=HTML)
    assert answer.headers["vary"] == "Accept"
    assert f"<h1>{title.replace(chr(39), '&#x27;')}</h1>" in answer.text


async def test_every_code_has_advice_that_ends_as_a_sentence() -> None:
    assert ADVICE.keys() == CODES.keys(), "add what can be done about a code to api/problems.py"
    assert all(text.endswith(".") and "  " not in text for text in ADVICE.values())


async def test_a_problem_leads_to_its_page(app: Channel, api: httpx.AsyncClient) -> None:
    problem = (await app.get("/v1/orders/ord_1")).json()
    told = (await api.get(problem["type"], headers=JSON)).json()
    assert told["code"] == problem["code"]
    assert "orders_get_order" in told["operations"]


async def test_all_codes_are_listed(api: httpx.AsyncClient) -> None:
    told = (await api.get("/problems", headers=JSON)).json()
    assert [each["code"] for each in told] == sorted(CODES)


async def test_a_code_that_is_none_has_no_page(api: httpx.AsyncClient) -> None:
    for code in ("nothing", "%00", "OUT_OF_STOCK", "<script>"):
        answer = await api.get(f"/problems/{code}", headers=HTML)
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("", "text/html"),
        ("*/*", "text/html"),
        ("text/html, application/json", "text/html"),
        ("application/json, text/html", "application/json"),
        ("application/problem+json", "application/json"),
        ("application/JSON;q=0.9", "application/json"),
    ],
)
async def test_people_get_a_page_and_programs_what_they_ask_for(accept: str, kind: str, api: httpx.AsyncClient) -> None:
    answer = await api.get("/problems/busy", headers={"Accept": accept})
    assert answer.headers["content-type"].partition(";")[0] == kind


async def test_the_advice_names_operations_that_there_are() -> None:
    known = {f"{route.method} {route.path}" for route in routes_of.described()}
    named = {each for text in ADVICE.values() for each in _operations(text)}
    assert len(named) > 5
    assert named <= known


def _operations(text: str) -> Iterator[str]:
    yield from re.findall(r"`((?:GET|POST|PUT|PATCH|DELETE) /[^`]+)`", text)
