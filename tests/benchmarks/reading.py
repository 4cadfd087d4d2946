"""What a mail costs to make, and how fast its pixels are answered."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from django.db import connection
from django.utils import timezone

from campaigns import dispatch, tokens
from campaigns.envelopes import Envelopes
from campaigns.models import Message
from providers.accounts.adapters import mime
from providers.accounts.models import Allotment
from providers.senders import dkim
from providers.senders.models import Event, SenderDomain
from tenants import context
from tests.benchmarks import scene, texts, web
from tests.benchmarks.ground import Ground
from tests.benchmarks.keys import Values

STYLED = (
    texts.HTML.replace(
        "</head>",
        "<style>p { margin: 0 0 12px; line-height: 1.5 } a { color: #4a3fd6 } td b { letter-spacing: .01em }"
        " @media (max-width: 600px) { table { width: 100% } }</style></head>",
    )
    .replace("Hello {{ first_name }}", "{Hello|Hi|Good day} {{ first_name | default: 'there' }}")
    .replace("Kind regards", "{Kind regards|Best wishes|Yours}")
)


@contextmanager
def making(ground: Ground) -> Iterator[Callable[[], Values]]:
    """CPU of a mail from its row: Liquid, spintax, inlined styles, plain text, links, pixel and headers; with its bytes
    for the wire; and with those signed by its domain's key.
    """
    (alpha, *_), count = scene.agencies(), 400 if ground.quick else 2_000
    (account,) = scene.smtp_accounts(1, port=9)
    scene.senders(alpha, account, 100, per_day=1_000)
    scene.people(alpha, count)
    with context.entered(alpha):
        for domain in SenderDomain.objects.all():
            dkim.switch(domain, dkim.make(domain, now=timezone.now()).selector, now=timezone.now())
        sign = dkim.signer()
    assert sign

    def once() -> Values:
        scene.queue(alpha, subject=texts.SUBJECT, html=STYLED, text="")
        with context.entered(alpha):
            allotment = Allotment.objects.select_related("account").get(agency=alpha, account=account)
            batch = dispatch.claim_batch(alpha, allotment, now=timezone.now(), limit=count)
            envelopes = Envelopes(alpha)
            envelopes.prepare(batch)
            began = time.process_time()
            made = [envelopes.of(message) for message in batch]
            rendered = time.process_time()
            mails = [(envelope.sender.rpartition("@")[2], mime.as_bytes(envelope)) for envelope in made]
            written = time.process_time()
            for domain, content in mails:
                assert sign(domain, content) != content
            signed = time.process_time()
        a_mail = 1_000 / len(batch)
        return {
            "render_mail_ms": (rendered - began) * a_mail,
            "render_mail_with_mime_ms": (written - began) * a_mail,
            "render_mail_signed_ms": (signed - began) * a_mail,
        }

    yield once
    scene.clear()


@contextmanager
def pixels(ground: Ground) -> Iterator[Callable[[], Values]]:
    """Requests a second that a real gunicorn of two processes answers, and events lost when it is then stopped."""
    (alpha, *_), count = scene.agencies(), 1_000 if ground.quick else 8_000
    (account,) = scene.smtp_accounts(1, port=9)
    scene.senders(alpha, account, 100, per_day=1_000)
    scene.people(alpha, count)
    host = f"{alpha.slug}.localhost"

    def once() -> Values:
        scene.queue(alpha)
        with context.entered(alpha), connection.cursor() as cursor:
            cursor.execute("TRUNCATE senders_event")
            cursor.execute(_SENT)
            signer = tokens.Signer(alpha.schema_name, tokens.OPEN)
            paths = [f"/t/{signer.of(key.bytes)}.gif" for key in Message.objects.values_list("key", flat=True)]
        with web.served() as server:
            seconds, answered = server.ask(host, [("GET", path, {}, "") for path in paths])
        with context.entered(alpha):
            kept = Event.objects.count()
        return {"tracking_requests_per_s": answered / seconds, "tracking_events_lost": answered - kept}

    yield once
    scene.clear()


_SENT = """
UPDATE campaigns_message SET status = 'sent', sent_at = now(), claimed_at = now(), counted_on = current_date,
    sender_id = (SELECT min(id) FROM senders_sender)
"""
