"""A month of one campaign, told what came of it by mails as servers, programs and people write them: who gets which
mails and when, and that each is the one that was previewed."""

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from campaigns import changes, files, launch, mail_audit, optout, preview, rendering, returned, tokens, variants
from campaigns import feedback as facts
from campaigns.changes import Wanted, WantedVariant
from campaigns.envelopes import Envelopes
from campaigns.models import Contact, Enrollment, Link, Message, Step
from providers.accounts import inbox
from providers.accounts.adapters import mime
from providers.accounts.envelope import Envelope
from providers.accounts.events import EventType, Reader
from providers.accounts.models import Account, InboundMail
from providers.senders.models import Sender
from tenants import context
from tenants.models import Agency
from tests import stage
from tests.campaigns import ledgers
from tests.campaigns.test_files import PDF, PNG
from tests.campaigns.test_sequences import DAY, HOUR, Days, tell
from tests.campaigns.test_variants import claimed
from tests.providers.inbound_mails import ORIGINAL, mail, reply, report, status
from tests.providers.test_inbound_bounces import ARF
from tests.stage import NOON

AWAY = "I am on vacation and back on 9 December 2026."
# What a contact does with the mail of a step, and which mails they get.
REACTIONS: list[tuple[str, int, list[int]]] = [
    ("nothing", 1, [1, 2, 3]),
    ("reply", 1, [1]),
    ("reply", 2, [1, 2]),
    ("reply", 3, [1, 2, 3]),
    ("no such address", 1, [1]),
    ("no such address", 2, [1, 2]),
    ("mailbox full", 1, [1]),
    ("delayed", 1, [1, 2, 3]),
    ("page", 1, [1]),
    ("page", 2, [1, 2]),
    ("mail program", 1, [1]),
    ("stop, please", 2, [1, 2]),
    ("complaint", 1, [1]),
    ("away", 1, [1, 2, 3]),
    ("away", 2, [1, 2, 3]),
    ("opened", 1, [1, 2, 3]),
    ("goal", 1, [1]),
    ("program at the goal", 1, [1, 2, 3]),
]
ENDED = {
    "reply": "replied",
    "no such address": "bounced",
    "mailbox full": "bounced",
    "page": "opted_out",
    "mail program": "opted_out",
    "stop, please": "opted_out",
    "complaint": "complained",
    "goal": "goal_reached",
}
GOAL = "https://shop.example/buy"
_ours = re.compile(r"/(u|t)/[\w-]{40,44}|<[\w-]+@[\w.-]+>")


def bare(envelope: Envelope) -> bytes:
    """The whole mail, without what names it."""
    nameless = replace(
        envelope,
        date=NOON,
        key="x",
        message_id="<x@y>",
        headers={name: _ours.sub("", value) for name, value in envelope.headers.items() if "nsubscribe" not in name},
        text=_ours.sub("", envelope.text),
        html=envelope.html and _ours.sub("", envelope.html),
        envelope_sender=None,
        metadata={},
    )
    return mime.as_bytes(nameless)


def came_back(raw: bytes, message: Message, now: datetime) -> None:
    """This mail comes, and is about that one."""
    named = raw.replace(b"7c3e1f@sender.test", f"{message.key}@sender.test".encode())
    with context.public():
        assert inbox.keep("", ["replies@bounces.test"], named)
        InboundMail.objects.filter(handled_at=None).update(received_at=now)
        returned.take_in(clock=lambda: now)
        assert InboundMail.objects.latest("pk").trouble == ""


def react(agency: Agency, message: Message, now: datetime) -> None:
    number = int(message.contact.email.partition("@")[0][1:])
    what, step, _ = REACTIONS[number]
    if message.step.position != step:
        return
    match what:
        case "reply":
            came_back(reply(f"Yes, tell me more. {number}"), message, now)
        case "no such address":
            came_back(report(status(diagnostic="550 5.1.1 user unknown")), message, now)
        case "mailbox full":
            came_back(report(status(code="5.2.2", diagnostic="552 5.2.2 mailbox full")), message, now)
        case "delayed":
            came_back(report(status(action="delayed", code="4.4.1")), message, now)
        case "page":
            facts.opted_out(message, how=optout.PAGE, clock=lambda: now)
        case "mail program":
            token = tokens.Signer(agency.schema_name, tokens.OPT_OUT).of(message.key.bytes)
            came_back(mail("", sender="max@client.test", subject=f"unsubscribe {token}", headers=""), message, now)
        case "stop, please":
            came_back(reply(f"Please remove me from your list {number}"), message, now)
        case "complaint":
            form = {"report_type": "feedback-report", "part": "message/feedback-report"}
            came_back(report(ARF.format("abuse"), sender="FBL <fbl@mailbox.test>", headers="", **form), message, now)
        case "away":
            came_back(reply(f"{AWAY} {number}", headers="Auto-Submitted: auto-replied\r\n"), message, now)
        case "opened":
            tell(message, EventType.OPENED, now, reader=Reader.HUMAN)
        case "goal" | "program at the goal":
            link = Link.objects.get(step=message.step, url=f"{GOAL}?from=mail")
            reader = Reader.HUMAN if what == "goal" else Reader.MACHINE
            raw_id = f"{link.pk}.{message.key.hex}.1.{reader}"
            # Long after the mail, for what comes at once was a program anyway.
            tell(message, EventType.CLICKED, now + HOUR, reader=reader, raw_id=raw_id)


def again(agency: Agency, message: Message) -> Envelope:
    """The mail as another attempt would send it."""
    who, sender = message.contact, message.sender
    assert sender
    tried = replace(
        claimed(message),
        attempts=1,
        contact=rendering.fields(who.email, who.first_name, who.last_name, who.company, who.attributes),
        sender_id=sender.pk,
        sender_address=sender.address,
        sender_name=sender.name,
    )
    made = Envelopes(agency)
    made.prepare([tried])
    return made.of(tried)


def test_a_month_of_three_steps_ends_with_exactly_the_expected_mails(alpha: Agency, account: Account) -> None:
    """Each kind of contact reacts to the mail of one step, at once, and hears what is expected of them after it."""
    count = len(REACTIONS)
    expected = {f"a{number}@people.example": REACTIONS[number][2] for number in range(count)}
    assert ORIGINAL.count("7c3e1f@sender.test") == 1
    days = Days(alpha, account)

    with context.entered(alpha):
        for sender in Sender.objects.all():
            Sender.objects.filter(pk=sender.pk).update(signature=f"Yours, {sender.name} <{sender.pk}>")
        people = stage.contact_list("a", count)
        made = stage.campaign(people, traffic_class="bulk", weekdays=[0, 1, 2, 3, 4], goal_url=GOAL)
        (first,) = changes.steps_of(made)
        html = (
            f'<p>{{Hello|Hi|Good day}} {{{{ first_name }}}}</p><img src="cid:logo.png" alt="">'
            f'<a href="{GOAL}?from=mail">{{buy|order}}</a><p>{{{{ signature }}}}</p>'
        )
        b = WantedVariant(subject="{One|Two} of B for {{ first_name }}", html=html.replace("Hello", "Salut"))
        c = WantedVariant(subject="C", text="{Plain|Simple} words {{ city }}\n{{ signature }}", html=html)
        second = Wanted(html="<p>{Still|Yet} there, {{ first_name }}?</p>", delay=3)
        second = replace(second, variants=(WantedVariant(text="{Well|So}, {{ first_name }}? {{ sender_name }}"),))
        third = Wanted(text="{Last|Final} words, {{ first_name | default: 'you' }}", delay=5, unit="working_days")
        changes.change(made, [replace(first, html=html, variants=(b, c)), second, third], now=NOON)
        steps = {step.position: step for step in made.steps.select_related("campaign")}
        files.add(steps[1], "logo.png", PNG, inline=True, by="carol@alpha.test", now=NOON)
        files.add(steps[2], "Прайс.pdf", PDF, by="carol@alpha.test", now=NOON)

        def previewed(step: Step, contact: Contact, sender: Sender) -> bytes:
            return bare(preview.of(step, contact, sender=sender))

        sender = Sender.objects.earliest("pk")
        before = {
            (one.email, place): previewed(step, one, sender)
            for one in Contact.objects.all()
            for place, step in steps.items()
        }
        launch.launch(made, now=NOON)
        days.live(NOON + 30 * DAY, lambda message, now: react(alpha, message, now), every=6 * HOUR)

        assert days.steps() == expected
        made.refresh_from_db()
        assert made.status == "finished"
        for who, sent in days.mails.items():
            number = int(who.partition("@")[0][1:])
            what, step, _ = REACTIONS[number]
            for (place, earlier), (following, after) in pairwise(sent):
                assert after - earlier >= {2: 3 * DAY, 3: 7 * DAY}[following]
                assert after.weekday() < 5
                soonest = earlier + timedelta(days={2: 3, 3: 7}[following])
                if what == "away" and step == place:
                    # Midnight of that day in the agency's zone.
                    soonest = datetime(2026, 12, 8, 23, tzinfo=UTC)
                assert soonest <= after <= soonest + 3 * DAY, (who, what)

        ended = dict(Enrollment.objects.values_list("contact__email", "ended"))
        assert ended == {who: ENDED.get(REACTIONS[int(who.partition("@")[0][1:])][0], "") for who in expected}
        # Nothing else is left to say of any of them.
        waiting = Message.objects.exclude(status="sent").values_list("status", "reason").distinct()
        assert set(waiting) <= {("cancelled", reason) for reason in ENDED.values()}
        assert mail_audit.audit_mails(now=days.now) == []
        assert ledgers.used().items() <= ledgers.all_at(sum(map(len, expected.values()))).items()

        # Each follow-up comes from the one who wrote first, in one thread.
        for envelopes in days.envelopes.values():
            opening, *rest = envelopes
            assert {one.sender for one in envelopes} == {opening.sender}
            ids = [one.message_id for one in envelopes]
            for number, one in enumerate(rest, start=1):
                assert one.subject == f"Re: {opening.subject}"
                assert one.headers["In-Reply-To"] == ids[number - 1]
                assert one.headers["References"] == " ".join(ids[:number])
            assert "References" not in opening.headers

        # What was previewed before the launch, for this sender, is what was sent, and would be sent again.
        got: dict[int, set[str]] = {}
        alike = 0
        for message in made.messages.filter(status="sent").select_related("contact", "step", "sender"):
            place = message.step.position or 0
            one = days.envelopes[message.contact.email][expected[message.contact.email].index(place)]
            assert message.sender
            assert bare(one) == previewed(message.step, message.contact, message.sender)
            if message.sender == sender:
                alike += 1
                assert bare(one) == before[message.contact.email, place]
            if place == 1:
                whole, made_again = (mime.as_bytes(replace(each, date=NOON)) for each in (one, again(alpha, message)))
                assert whole == made_again
            got.setdefault(place, set()).add(message.variant)
            assert message.variant == variants.assigned(message.step.weights, message.step_id, message.contact.email)
        assert alike > 3
        assert got == {1: {"A", "B", "C"}, 2: {"A", "B"}, 3: {""}}
        mails = [one for envelopes in days.envelopes.values() for one in envelopes]
        assert {tuple(file.name for file in one.files) for one in mails} == {("logo.png",), ("Прайс.pdf",), ()}
        assert len({one.text.split()[0] for one in mails}) > 8
        assert {f"Yours, Sender {number}" in one.text for one in mails for number in range(4)} == {True, False}
