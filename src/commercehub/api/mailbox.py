"""The demo's mail box: what customers were sent, for whoever tries the hub out. It exists in demos only."""

from datetime import datetime
from html import escape

import msgspec

from commercehub import ids
from commercehub.api.call import Answer, Call
from commercehub.api.fields import Page
from commercehub.api.routing import route
from commercehub.auth import Permission
from commercehub.workflows import messages


class Mail(msgspec.Struct, frozen=True, kw_only=True):
    """A message; ``qr`` is a picture of the code that it tells."""

    to: str
    subject: str
    text: str
    sent_at: datetime
    order_id: str | None = None
    qr: str | None = None


@route("GET", "/demo/mailbox", permission=Permission.PUBLIC, answer=Page[Mail])
async def get_mailbox(call: Call) -> Page[Mail] | Answer:
    """What was sent, newest first: as JSON where it is asked for, else to be looked at."""
    async with call.database.connection() as db:
        sent = await messages.list_messages(db, secret=call.hub.settings.secret)
    if "application/json" in call.request.headers.get("accept", ""):
        return Page(
            data=[
                Mail(
                    to=each.to,
                    subject=each.subject,
                    text=each.text,
                    sent_at=each.sent_at,
                    order_id=ids.show("ord", each.order_id) if each.order_id is not None else None,
                    qr=each.qr,
                )
                for each in sent
            ]
        )
    rows = "".join(
        f"<article><h2>{escape(each.subject)}</h2><p>to {escape(each.to)}, {each.sent_at:%Y-%m-%d %H:%M:%S} UTC</p>"
        f"<pre>{escape(each.text)}</pre>{_picture(each.qr)}</article>"
        for each in sent
    )
    page = (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>Mail box</title><h1>Mail box</h1>{rows or 'Empty.'}"
    )
    return Answer(body=page.encode(), headers={"Content-Type": "text/html; charset=utf-8"})


def _picture(qr: str | None) -> str:
    return f'<img src="{escape(qr)}" alt="The code as a picture">' if qr else ""


ROUTES = (get_mailbox,)
