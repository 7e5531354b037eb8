"""The frame of the hub's own pages. They load nothing from another host, and run nothing that stands in them."""

import re
from html import escape
from importlib.resources import files
from typing import Final

import msgspec

from commercehub.api.call import Answer, Call
from commercehub.api.routing import Route, route
from commercehub.auth import Permission

_HTML: Final = {"Content-Type": "text/html; charset=utf-8", "Vary": "Accept"}
_JSON: Final = {"Content-Type": "application/json", "Vary": "Accept"}
_KEPT_SECONDS: Final = 3_600
_STATIC: Final = files("commercehub.api") / "static"


def show(title: str, body: str) -> Answer:
    """A page."""
    page = (
        "<!doctype html><html lang=en><meta charset=utf-8>"
        '<meta name=viewport content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)} · commercehub</title><link rel=stylesheet href=/docs/style.css>"
        "<script src=/docs/filter.js defer></script>"
        f"<header><a href=/docs>commercehub</a></header><main><h1>{escape(title)}</h1>{body}</main></html>"
    )
    return Answer(body=page.encode(), headers=_HTML)


def as_json(content: object) -> Answer:
    """The same for a program."""
    return Answer(body=msgspec.json.encode(content), headers=_JSON)


def wants_json(call: Call) -> bool:
    """Whether a program asks, by the first type of ``Accept`` that is one of the two; people get a page."""
    for each in call.request.headers.get("accept", "").lower().split(","):
        kind = each.partition(";")[0].strip()
        if kind in {"application/json", "application/problem+json"}:
            return True
        if kind == "text/html":
            return False
    return False


def prose(text: str) -> str:
    """A text of ours as HTML: Markdown's code, and nothing else of it."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))


def _static(path: str, name: str, media_type: str) -> Route:
    body = (_STATIC / name).read_bytes()
    headers = {"Content-Type": f"{media_type}; charset=utf-8", "Cache-Control": f"public, max-age={_KEPT_SECONDS}"}

    @route("GET", path, permission=Permission.PUBLIC, answer=str)
    async def give(_: Call) -> Answer:
        """A file that pages take."""
        return Answer(body=body, headers=headers)

    return give


ROUTES: Final = (
    _static("/docs/style.css", "style.css", "text/css"),
    _static("/docs/filter.js", "filter.js", "text/javascript"),
)
