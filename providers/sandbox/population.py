"""Pure: what becomes of a mail, and what is answered, by whom it is to. The same address always fares the same."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

# What the local part begins with decides; else chance does, seeded with the address: (name, of 1,000, events).
STORIES: Sequence[tuple[str, int, tuple[str, ...]]] = (
    ("bounce", 20, ("bounced",)),
    ("full", 8, ("soft",)),
    ("complain", 2, ("delivered", "opened", "complained")),
    ("optout", 3, ("delivered", "opened", "unsubscribed")),
    ("click", 40, ("delivered", "opened", "clicked")),
    ("open", 260, ("delivered", "opened")),
    ("slow", 5, ("delayed", "delivered")),
    ("plain", 0, ("delivered",)),
)
_USUAL = ("delivered",)


@dataclass(frozen=True, slots=True)
class Answer:
    """What somebody answers. `label` is what it means, `automatic` that no person wrote it; `{day}` in its text is a
    date some days ahead."""

    label: str
    text: str
    subject: str = ""
    automatic: bool = False


def _away(text: str, subject: str) -> Answer:
    return Answer("out_of_office", text, subject, automatic=True)


# The same for answers: what the local part begins with, of 1,000 to whom nothing else happens, and what they write.
ANSWERS: Sequence[tuple[str, int, tuple[Answer, ...]]] = (
    (
        "interested",
        12,
        (
            Answer("interested", "Yes, this sounds interesting. Let's talk on Thursday."),
            Answer("interested", "Да, нам это интересно. Давайте созвонимся на неделе."),
            Answer("interested", "Ja, das klingt interessant. Rufen Sie mich gern an."),
        ),
    ),
    (
        "question",
        8,
        (
            Answer("question", "How much does it cost for a team of ten?"),
            Answer("question", "Сколько это стоит для команды из десяти человек?"),
        ),
    ),
    (
        "notinterested",
        10,
        (
            Answer("not_interested", "Thank you, but we are not interested."),
            Answer("not_interested", "Спасибо, нам это не интересно."),
            Answer("not_interested", "Nein danke, kein Interesse."),
        ),
    ),
    (
        "later",
        5,
        (
            Answer("not_now", "Not right now. Please write to me again in six months."),
            Answer("not_now", "Сейчас не время. Напишите, пожалуйста, через полгода."),
        ),
    ),
    (
        "wrong",
        4,
        (
            Answer("wrong_person", "I am not the right person for this, please contact our purchasing department."),
            Answer("wrong_person", "Я этим не занимаюсь, обратитесь к нашему коммерческому директору."),
        ),
    ),
    (
        "leave",
        5,
        (
            Answer("opt_out", "Please remove me from your list."),
            Answer("opt_out", "Отпишите меня от рассылки, пожалуйста."),
            Answer("opt_out", "Unsubscribe"),
        ),
    ),
    (
        "away",
        15,
        (
            _away("I am out of the office and will be back on {day}.", "Automatic reply: {subject}"),
            _away("Я в отпуске, вернусь {day}.", "Автоответ: {subject}"),
            _away("Ich bin zurzeit nicht im Büro.", "Abwesenheitsnotiz: {subject}"),
        ),
    ),
    (
        "auto",
        6,
        (
            Answer(
                "auto_reply",
                "Thank you for your message. We have received it and will deal with it within two working days.",
                "We have received your message",
                automatic=True,
            ),
            Answer("auto_reply", "Спасибо за письмо, мы его получили.", "Ваше письмо получено", automatic=True),
        ),
    ),
)


def story(address: str) -> tuple[str, ...]:
    """The events of a mail to this address, in their order."""
    address = address.lower()
    for name, _, events in STORIES:
        if address.startswith(name):
            return events
    if any(address.startswith(name) for name, _, _ in ANSWERS):
        return _USUAL
    chance = _number(address) % 1000
    for _, share, events in STORIES:
        if chance < share:
            return events
        chance -= share
    return _USUAL


def answer(address: str) -> Answer | None:
    """What this address answers. Who bounces, complains or leaves otherwise answers nothing."""
    address = address.lower()
    number = _number(f"answer {address}")
    for name, _, texts in ANSWERS:
        if address.startswith(name):
            return texts[number % len(texts)]
    if any(address.startswith(name) for name, _, _ in STORIES) or story(address)[-1] not in _READ:
        return None
    chance, choice = number % 1000, number // 1000
    for _, share, texts in ANSWERS:
        if chance < share:
            return texts[choice % len(texts)]
        chance -= share
    return None


_READ = ("delivered", "opened", "clicked")


def _number(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4])
