"""The two pages for people: what the books hold, and the payer's question. Everything in them is escaped."""

from collections.abc import Sequence
from html import escape
from typing import Final

from commercehub.sandbox.books import Payment, Status, Total

_PAGE: Final = """<!doctype html><html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>{title}</title><style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem }}
table {{ border-collapse: collapse; width: 100%; margin-bottom: 2rem }}
th, td {{ border-bottom: 1px solid #ccc; padding: .3rem .6rem; text-align: left }}
td.amount {{ text-align: right; font-variant-numeric: tabular-nums }}
button {{ font: inherit; min-height: 44px; padding: 0 1.5rem; margin-right: 1rem }}
</style><h1>{title}</h1>{body}</html>"""

_HEADINGS: Final = ("Payment", "Reference", "Method", "Status", "Amount", "Authorized", "Captured", "Refunded", "Done")


def truth_page(payments: Sequence[Payment], totals: Sequence[Total]) -> str:
    """The newest payments and all the money, in minor units as the books have it."""
    sums = [(one.currency, one.authorized, one.captured, one.voided, one.refunded) for one in totals]
    rows = [
        (
            one.id,
            one.reference,
            one.payment_method,
            one.status if one.decline_code is None else f"{one.status} ({one.decline_code})",
            f"{one.amount} {one.currency}",
            one.amount_authorized,
            one.amount_captured,
            one.amount_refunded,
            ", ".join(f"{operation.kind} {operation.amount} {operation.status}" for operation in one.operations),
        )
        for one in payments
    ]
    body = (
        "<p>What this processor really did, in minor units. For programs: <code>GET /v1/truth</code>.</p>"
        + _table(("Currency", "Authorized", "Captured", "Voided", "Refunded"), sums)
        + f"<h2>The newest {len(rows)} payments</h2>"
        + _table(_HEADINGS, rows)
    )
    return _PAGE.format(title="Sandbox processor", body=body)


def action_page(payment: Payment) -> str:
    """The question to the payer, or what came of it."""
    amount = f"{payment.amount} minor units of {escape(payment.currency)}"
    if payment.status is not Status.REQUIRES_ACTION:
        return _PAGE.format(title="Thank you", body=f"<p>This payment of {amount} is {escape(payment.status)}.</p>")
    body = (
        f"<p>A shop asks for {amount}. Is it you who pays?</p><form method='post'>"
        "<button name='decision' value='approve'>Approve</button>"
        "<button name='decision' value='decline'>Decline</button></form>"
    )
    return _PAGE.format(title="Confirm your payment", body=body)


def _table(headings: Sequence[str], rows: Sequence[Sequence[str | int]]) -> str:
    head = "".join(f"<th scope='col'>{escape(heading)}" for heading in headings)
    lines = "".join("<tr>" + "".join(map(_cell, row)) for row in rows)
    return f"<table><tr>{head}{lines}</table>"


def _cell(value: str | int) -> str:
    return f"<td class='amount'>{value}" if isinstance(value, int) else f"<td>{escape(value)}"
