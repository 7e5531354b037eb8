"""A payment processor to try the hub against: a real HTTP peer in its own process, with books of its own.

``python -m commercehub.sandbox --port 8900`` starts it; ``GET /health`` answers once it does. It stands in this
package only to be installed with it: it imports nothing of the hub and nothing of ``payments``, and a test holds it
to that. What is true about a payment is in its books, at ``GET /v1/truth`` for programs and ``GET /`` for people.

    HUB_SANDBOX_DATABASE        the SQLite file with the books; they outlive the process (needed)
    HUB_SANDBOX_SECRET          the API keys, comma separated; each is an account of its own (needed)
    HUB_SANDBOX_WEBHOOK_URL     where events are sent; without it there are none
    HUB_SANDBOX_STRIPE_WEBHOOK_URL  where events go in Stripe's words, of payments that were made at ``/stripe/v1``
    HUB_SANDBOX_WEBHOOK_SECRET  what they are signed with; two, comma separated, while one replaces the other
    HUB_SANDBOX_WEBHOOK_COPIES  how often each event is sent, 1 unless set
    HUB_SANDBOX_WEBHOOK_SHUFFLE_SECONDS  how long an event may be held back, at random, so that they come in any order
    HUB_SANDBOX_PUBLIC_URL      how a payer's browser reaches this server, where it is not how the hub does
"""
