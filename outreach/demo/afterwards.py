"""What comes back once the campaign is over: people and their machines answer, some mails bounce, Alpha's owner goes
through the inbox, and Beta writes to an old list, of which too much comes back.

Each mail takes the way of one that a mail server brings; nothing is written past the verbs of the product.
"""

import base64
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.message import EmailMessage
from email.policy import SMTP
from pathlib import Path
from uuid import UUID, uuid4

from django.conf import settings
from django.db.models import Q
from django.utils import timezone

from campaigns import actions, backlash, conversations, intake, jobs, launch, sources, tokens
from campaigns.envelopes import message_id
from campaigns.models import Basis, Campaign, ContactList, Message, Reply, ReplyLabel, Step, TrialMail
from outreach.demo.contacts import write_contacts
from providers.accounts import inbox
from providers.senders import recovering
from providers.senders.inbound import tokens as returns
from tenants import context
from tenants.models import Agency
from tenants.users.models import User

PATIENCE_SECONDS = 60
OLD_ROWS, OLD_BAD, OLD_BOUNCED = 140, 20, 14
# One pixel is enough for a picture that is part of the mail.
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)


@dataclass(frozen=True, slots=True)
class Answer:
    """What somebody answers, and what it is to be taken for. `{day}` is the day on which they are back."""

    label: str
    text: str
    russian: bool = False
    automatic: bool = False
    html: bool = False


ANSWERS = (
    Answer(
        "interested",
        "Hi,\n\nthis comes at a good moment. Yes, let's talk: Tuesday or Wednesday after 2 pm works for me.",
    ),
    Answer(
        "interested", "Добрый день!\n\nДа, нам это интересно. Давайте созвонимся в четверг после обеда.", russian=True
    ),
    Answer("question", "Thanks for writing. How much would it cost for a team of twelve, and is there a trial?"),
    Answer("question", "Здравствуйте!\n\nА сколько это стоит и есть ли интеграция с 1С?", russian=True),
    Answer(
        "interested",
        "Sounds interesting! I have put our current numbers into this mail, please call me to talk them through.",
        html=True,
    ),
    Answer("not_interested", "Thank you, but we are not interested. We do this with our own people."),
    Answer("not_interested", "Спасибо, но нам это не интересно.", russian=True),
    Answer("not_now", "Not now, please: our budget for this year is spent. Write again in the autumn."),
    Answer("not_now", "Сейчас не актуально, напишите нам после нового года.", russian=True),
    Answer(
        "wrong_person",
        "I am not the right person for this. Please contact our head of support, Ms Keller (keller@support.example).",
    ),
    Answer("out_of_office", "I am out of the office and will be back on {day}.\n\nBest regards", automatic=True),
    Answer("out_of_office", "Я в отпуске до {day}. Отвечу, когда вернусь.", russian=True, automatic=True),
    Answer(
        "auto_reply",
        "Thank you for your message. We have received your request and will answer within two working days.",
        automatic=True,
    ),
    Answer("opt_out", "Please remove me from your list and do not write to me again."),
    Answer("opt_out", "Отпишите меня, пожалуйста, от рассылки.", russian=True),
)
# What the mail servers of those who can not be reached say.
REFUSALS = (
    ("5.1.1", "550 5.1.1 The email account that you tried to reach does not exist"),
    ("5.2.2", "552 5.2.2 The mailbox is full"),
    ("5.1.1", "550 5.1.1 User unknown"),
    ("5.7.1", "550 5.7.1 Message rejected as spam by content scanning"),
)


def play(alpha: Agency, beta: Agency, campaign: Campaign) -> None:
    """All of it, as far as workers come to it in a minute each: some faults keep them from it."""
    with context.entered(alpha):
        mails = bring_answers(campaign)
        bring_bounces(alpha, _unanswered(campaign)[-len(REFUSALS) :])
    with context.entered(beta):
        old = write_to_old_list()
    _until(lambda: not inbox.pending())
    with context.entered(alpha):
        go_through_inbox(mails)
    with context.entered(beta):
        _until(lambda: not Message.objects.filter(campaign=old, status__in=["scheduled", "claimed"]).exists())
        gone = Message.objects.filter(campaign=old, status=Message.Status.SENT).select_related(
            "contact", "sender__domain"
        )
        back = list(gone.order_by("pk")[:OLD_BOUNCED])
        bring_bounces(beta, back)
    _until(lambda: not inbox.pending())
    with context.entered(beta):
        now = timezone.now()
        backlash.pause_harmful(beta, now=now)
        sources.pause_harmful(beta, now=now)
        for domain in {one.sender.domain for one in back[:1] if one.sender}:
            recovering.pause(domain, beta, by=_owner(), why="Its mails to the old list come back.", now=now)


def bring_answers(campaign: Campaign, answers: Sequence[Answer] = ANSWERS) -> dict[str, UUID]:
    """Let contacts of the campaign answer, each in their own language; return the mails, by what was meant first."""
    now = timezone.now()
    waiting = _unanswered(campaign)
    said: dict[str, UUID] = {}
    # Another contact file may have fewer people, or none of a language.
    for answer in answers[: len(waiting)]:
        mail = next((one for one in waiting if answer.russian != one.contact.first_name.isascii()), waiting[0])
        waiting.remove(mail)
        said.setdefault(answer.label, mail.key)
        _bring(mail, written(answer, mail, now=now))
    return said


def written(answer: Answer, mail: Message, *, now: datetime) -> bytes:
    """The answer to this mail as a mail program writes it, with what was answered quoted below."""
    contact, sender = mail.contact, _address(mail)
    day = (now + timedelta(days=9)).date()
    text = answer.text.replace("{day}", f"{day:%d.%m.%Y}" if answer.russian else f"{day:%d %B %Y}")
    name = f"{contact.first_name} {contact.last_name}".strip()
    quoted = f"On {now:%d %b %Y} {sender} wrote:\n> We help teams like yours to answer their customers within a day."
    made = EmailMessage(policy=SMTP)
    made["From"] = f"{name} <{contact.email}>"
    made["To"] = sender
    made["Subject"] = f"{'Automatic reply' if answer.automatic else 'Re'}: {contact.first_name}, a question"
    made["Message-ID"] = f"<{uuid4()}@{contact.email.rpartition('@')[2]}>"
    made["In-Reply-To"] = made["References"] = message_id(mail.key, sender)
    if answer.automatic:
        made["Auto-Submitted"] = "auto-replied"
        made.set_content(f"{text}\n")
        return made.as_bytes()
    made.set_content(f"{text}\n\n-- \n{name}\n{contact.company}\n\n{quoted}\n")
    if answer.html:
        made.add_alternative(HTML.format(text=text, name=name, company=contact.company), subtype="html")
        made.add_attachment(PIXEL, maintype="image", subtype="png", filename="numbers.png")
    return made.as_bytes()


HTML = """\
<div style="font-family:Arial,sans-serif;color:#1f2937"><p>{text}</p>
<table style="border-collapse:collapse"><tr><th style="padding:4px 12px;text-align:left">Month</th>
<th style="padding:4px 12px;text-align:right">Requests</th></tr>
<tr><td style="padding:4px 12px">August</td><td style="padding:4px 12px;text-align:right">1,204</td></tr>
<tr><td style="padding:4px 12px">September</td><td style="padding:4px 12px;text-align:right">1,377</td></tr></table>
<p>{name}<br><b>{company}</b></p><img src="https://pictures.example/signature.png" alt="{company}"></div>
"""


def bring_bounces(agency: Agency, mails: Sequence[Message]) -> None:
    """Let mail servers send these mails back, to the address that names each."""
    for place, mail in enumerate(mails):
        status, words = REFUSALS[0] if len(mails) > len(REFUSALS) else REFUSALS[place]
        address = f"{returns.make(agency.pk, mail.key, keys=tokens.envelope_keys())}@returns.example"
        with context.public():
            inbox.keep("", [address], _notice(mail, address, status, words))


def _notice(mail: Message, to: str, status: str, words: str) -> bytes:
    """RFC 3464, as Postfix writes it."""
    to_whom = mail.contact.email
    return (
        f"From: Mail Delivery System <MAILER-DAEMON@mx.example>\r\nTo: {to}\r\n"
        "Subject: Undelivered Mail Returned to Sender\r\nMIME-Version: 1.0\r\nAuto-Submitted: auto-replied\r\n"
        'Content-Type: multipart/report; report-type=delivery-status; boundary="notice"\r\n\r\n'
        f"--notice\r\nContent-Type: text/plain\r\n\r\n<{to_whom}>: {words}\r\n"
        "--notice\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx.example\r\n\r\n"
        f"Final-Recipient: rfc822; {to_whom}\r\nAction: failed\r\nStatus: {status}\r\n"
        f"Diagnostic-Code: smtp; {words}\r\n"
        "--notice--\r\n"
    ).encode()


def go_through_inbox(said: dict[str, UUID]) -> None:
    """The owner answers one, and is answered again; others are assigned, snoozed, done, labelled otherwise."""
    now, owner = timezone.now(), User.objects.get(email=_owner())
    if set(said) != {one.label for one in ANSWERS} or inbox.pending():
        return

    def of(label: str) -> Reply:
        return Reply.objects.select_related("message__contact", "message__sender", "message__campaign").get(
            message__key=said[label]
        )

    question = of("question")
    answer = actions.answer(
        question,
        "Thank you for asking. For twelve people it is 240 a month, and the first month is free.\n\nBest regards",
        by=owner.email,
        once=uuid4(),
        now=now,
    )
    conversations.assign(of("interested"), owner)
    conversations.snooze(of("not_now"), now + timedelta(days=60), now=now)
    conversations.finish(of("not_interested"), now=now)
    conversations.change(of("wrong_person"), {"label": ReplyLabel.QUESTION}, by=owner.email, clock=timezone.now)

    def gone() -> bool:
        answer.refresh_from_db()
        return answer.status not in (TrialMail.Status.WAITING, TrialMail.Status.CLAIMED)

    if not _until(gone):
        return
    again = Answer("interested", "Great, that fits. Please send me the contract, I would like to begin next month.")
    _bring(question.message, written(again, question.message, now=timezone.now()))
    sender = question.message.sender
    assert sender is not None
    recovering.pause(
        sender,
        context.current_agency(),
        by=owner.email,
        why="Is on leave, nobody reads the mailbox.",
        now=timezone.now(),
    )


def write_to_old_list() -> Campaign:
    """Beta writes to people of long ago, through its own servers alone."""
    now, path = timezone.now(), Path(settings.VAR) / "demo" / "old-fair.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_contacts(path, rows=OLD_ROWS, bad=OLD_BAD, seed=3)
    people, _created = ContactList.objects.get_or_create(name="Fair of 2019")
    grounds = intake.Grounds(Basis.CONSENT, source="Business cards of a fair", at=now, text="Cards in a bowl")
    with path.open("rb") as file:
        intake.import_file(file, file_name=path.name, into=people, now=now, grounds=grounds)
    campaign = Campaign.objects.create(
        name="Do you remember us?",
        list=people,
        distribution=Campaign.Distribution.SHARES,
        shares={"smtp": 100},
        gap_seconds=0,
        gap_jitter_seconds=0,
    )
    Step.objects.create(campaign=campaign, subject="It has been a while", html="<p>Do you remember us?</p>")
    Step.objects.create(campaign=campaign, position=2, delay=3, subject="", html="<p>Shall we talk next week?</p>")
    launch.launch(campaign, now=now)
    jobs.ring()
    return campaign


def _unanswered(campaign: Campaign) -> list[Message]:
    """Some of its mails that went and of which nobody has told anything bad or written back."""
    heard = Q(facts__bounced_at=None) & Q(facts__complained_at=None) & Q(facts__unsubscribed_at=None)
    found = Message.objects.filter(heard | Q(facts=None), campaign=campaign, status=Message.Status.SENT, replies=None)
    some = list(found.select_related("contact", "sender").order_by("pk"))
    random.Random(0).shuffle(some)  # noqa: S311 - the same people in each run
    return some


def _bring(mail: Message, raw: bytes) -> None:
    address, theirs = _address(mail), mail.contact.email
    with context.public():
        inbox.keep(theirs, [address], raw)


def _address(mail: Message) -> str:
    assert mail.sender is not None
    return mail.sender.address


def _owner() -> str:
    return f"owner@{context.current_agency().slug}.example"


def _until(done: Callable[[], bool]) -> bool:
    """Wait until it is so, but for no more than a minute."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not done():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True
