"""The answer of a mail server about one address: its codes, the command it answers, its reason. Pure."""

import re
from dataclasses import dataclass

from providers.senders.inbound import reasons

# Of one notice; a mail of ours has one recipient, so more is somebody else's list.
MOST_RECIPIENTS = 100
DELIVERED = ("delivered", "relayed", "expanded")


@dataclass(frozen=True, slots=True)
class Recipient:
    """What a notice says of one address.

    `address` is whom the mail was sent to, `final` where it was forwarded to, if a server says so.
    `status` is RFC 3463's, `code` SMTP's; `action` is RFC 3464's. `fault` is recipient, sender or network;
    `rule` and `span` are the rule and the words that decided the reason; `said` the answer itself.
    """

    address: str
    action: str
    status: str = ""
    code: str = ""
    reason: str = ""
    hard: bool = False
    fault: str = "recipient"
    rule: str = ""
    span: str = ""
    said: str = ""
    final: str = ""


def judged(address: str, action: str, status: str, diagnostic: str, about: str) -> Recipient:
    """A recipient with its reason, from what its fields say, and from the notice where they say too little."""
    if action in DELIVERED:
        return Recipient(
            address,
            action,
            status or status_in(diagnostic),
            code_in(diagnostic) or "250",
            action,
            rule="action",
            span=action,
            said=_shortened(diagnostic),
        )
    temporary_action = action == "delayed"
    own, status = status, _best_status(status, diagnostic, about)
    code = code_in(diagnostic) or code_in(about)
    command = command_in(f"{diagnostic}\n{about}", diagnostic)
    if not command and diagnostic and not status.endswith((".0.0", ".3.0")):
        # An answer in a field of its own is to RCPT, unless anything says otherwise: most are.
        command = "RCPT"
    found = reasons.find(diagnostic, status=status, code=code, command=command)
    if not found.rule.startswith("phrase") and about:
        more = reasons.find(about, status=status, code=code, command=command)
        if more.rule.startswith("phrase") or found.rule == "none":
            found = more
    reason = found.reason
    if action == "delayed" and reason in ("onhold", "undefined"):
        reason = "expired"
    temporary = (status or code or ("4" if temporary_action else "5")).startswith("4")
    if not status or (status.endswith(".0.0") and not own):
        status = reasons.pseudo_status(reason, temporary=temporary)
    hard = action != "delayed" and reasons.is_hard(reason, status, code)
    return Recipient(
        address,
        action,
        status,
        code,
        reason,
        hard,
        reasons.fault(reason),
        found.rule,
        found.span[:200],
        _shortened(diagnostic or about),
    )


def _best_status(status: str, diagnostic: str, about: str) -> str:
    """The status that says most: the far server's own, then the field's, then one in the notice."""
    told = [one for one in _statuses_in(diagnostic) if not one.startswith("2")]
    known = [*reversed(told), status, *([] if told or status else _statuses_in(about))]
    known = [one for one in known if one]
    return next((one for one in known if not one.endswith(".0")), known[0] if known else "")


_ADDRESS = re.compile(
    r"(?:\"[^\"\s@]{1,64}\"|[^\s<>()\[\],;:\"'`|@=?&/\\]{1,64}(?:=[^\s<>()\[\],;:\"'`|@]{1,60})?)"
    r"@(?:[^\s<>()\[\],;:\"'`|@/?&=\\*]{1,200}|\[[\d.:a-fA-FIPv]{3,45}\])"
)
_TAIL = re.compile(r"[.…!]+$")

_STATUS = re.compile(r"(?<![\d.])([245]\.\d{1,3}\.\d{1,3})(?![\d.]\d|\d)")
_CODE = re.compile(r"(?:^|[^\d.,:/#-]|\n|\s#)([45]\d\d)(?=[ \-\n#:]|$)(?! (?:bytes|kb|mb|messages|\w+ ago))", re.I)
_COMMANDS = [
    (command, re.compile(pattern, re.I | re.M))
    for command, pattern in (
        # Postfix, Exim, GMX, Zimbra, qmail, DragonFly, Gmail's states, and transcripts of a session.
        ("RCPT", r"(?:in reply to|after|for|response to|answer to|our|during|>>>|-->)\s+(?:the |sending )*rcpt\b"),
        ("RCPT", r"smtp:rcpt|<<< ?rcpt to|does not like recipient|\(state 1[24]\)|\[rcpt_to\]"),
        (
            "DATA",
            r"(?:in reply to|after|for|response to|our|during|>>>|-->)\s+(?:the |sending )*(?:end of )?(?:data\b|text\b|message body)",
        ),
        (
            "DATA",
            r"failed after i sent the message|\(state 1[5-8]\)|after pipelined (?:end of )?data|while sending message body",
        ),
        (
            "MAIL",
            r"(?:in reply to|after|for|response to|our|during|>>>|-->)\s+(?:the |sending )*(?:mail (?:from|command)|mail\$|sender:)",
        ),
        ("MAIL", r"sender (?:address )?was rejected|\(state 13\)"),
        (
            "HELO",
            r"(?:in reply to|after|for|response to|our|during|>>>|-->)\s+(?:the |sending )*(?:pipelined )?(?:helo|ehlo)\b",
        ),
        (
            "CONN",
            r"initial connection|greeting failed|refused to talk to me|\(state 1[01]?\)|initial (?:server )?greeting",
        ),
    )
]
_TYPED = re.compile(r"^\s*[\w.-]+\s*;\s*")
_ANSWERED = re.compile(r"^>>> ?([A-Z]{4})\b", re.I | re.M)


def command_in(text: str, answer: str = "") -> str:
    """The SMTP command that was refused: in a transcript the last one before the answer, else what the notice says."""
    text = text[:6000]
    if (place := text.find("<<< " + answer[:25]) if answer else -1) > 0:
        asked = _ANSWERED.findall(text[:place])
        if asked:
            return str(asked[-1]).upper()
    return next((command for command, pattern in _COMMANDS if pattern.search(text)), "")


def _statuses_in(text: str) -> list[str]:
    return [match[1] for match in _STATUS.finditer(text[:6000])]


def untyped(value: str) -> str:
    """A field of RFC 3464 without the type in front: `rfc822; a@b.example` is `a@b.example`."""
    return _TYPED.sub("", value, count=1)


def status_in(text: str) -> str:
    """The first RFC 3463 status in a text, or an empty text."""
    return next(iter(_statuses_in(text)), "")


def code_in(text: str) -> str:
    match = _CODE.search(text[:6000])
    return match[1] if match else ""


def address_in(text: str) -> str:
    """The first address in a text, or an empty text."""
    match = _ADDRESS.search(text[:1000].strip())
    return _TAIL.sub("", match[0]).removeprefix("rfc822;").strip("'") if match else ""


def addresses_in(text: str) -> list[str]:
    """Every address in a text, in its order."""
    return [_TAIL.sub("", match[0]) for match in _ADDRESS.finditer(text[:20_000])]


def _shortened(text: str) -> str:
    return re.sub(r"\s+", " ", text[:2000]).strip()[:500]
