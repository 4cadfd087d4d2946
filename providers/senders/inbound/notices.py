"""Notices that servers write in words: whether a mail is one, and what it says of each address. Pure.

An address and the answer below or beside it, before the copy of the mail that came back.
"""

import re

from providers.senders.inbound import dialects, reasons
from providers.senders.inbound.answers import MOST_RECIPIENTS, Recipient, address_in, addresses_in, judged, status_in
from providers.senders.inbound.mail import Headers, Mail, headers_and_body
from providers.senders.inbound.markup import as_text

LONGEST = 30_000


_FROM_SERVER = re.compile(
    r"mailer[-_ ]?daemon|\bpost_?master\b|mail (?:delivery|administrator|system)|delivery (?:sub)?system|mailerdaemon"
    r"|smtpd?\s*(?:agent|daemon|server)|mail[- ]?router|^<>$|mmdf|\bmta\b|message transfer|internet mail"
    r"|mail[- ]?service|returned mail|bounce|microsoft exchange|system administrator|delivery[- ]?(?:agent|status|notif)"
    r"|mail[- ]?server|transport agent|mail transport|listserv|majordomo|mailmaster|ezmlm",
    re.I,
)
_SUBJECT = re.compile(
    r"undeliver(?:able|ed)|automatically rejected|^rejected:|non[- ]?deliver|(?:delivery|mail|message|returned)(?: \S+){0,3} (?:fail|failure|failed|problem"
    r"|error|status|unsuccessful|not delivered|delayed|warning|notification|report|returned|undeliver|rejected)"
    r"|failure notice|fail(?:ed|ure) (?:delivery|mail|notice)|returned (?:mail|e-?mail|message|to sender)|delivery status"
    r"|could not (?:be delivered|send|deliver)|(?:can ?not|unable to|not) (?:be )?(?:deliver|send)|delivery (?:failure|error"
    r"|notification|report|delay|incident|attempt)|mail (?:error|failure|delayed|could not|failed|status|not)|warning: (?:could"
    r"|message)|returning message|mail system error|user unknown|no such user|message (?:delayed|status|rejected|could not|"
    r"you sent)|\bNDN\b|\bNDR\b|delivery has failed|mailbox (?:is )?(?:full|unavailable)|delayed|bounced?\b|notify: see transcript"
    r"|unzustellbar|nicht zustellbar|nicht zugestellt|zustellung|fehlgeschlagen|non remis|[ée]chec|impossible de remettre"
    r"|no se (?:ha )?(?:pudo|podido|puede)|devuelto|no entregad|mancato recapito|non recapitat|impossibile recapitare"
    r"|n[ãa]o (?:foi )?(?:entregue|p[ôo]de)|falha na entrega|devolvid|niedostarczon|zwr[óo]t|onbestelbaar|niet (?:be|af)geleverd"
    r"|не (?:доставлен|может быть доставлен|удалось|было доставлено)|недоставл|невозможно доставить|ошибка доставки|возврат"
    r"|エラー|配信(?:不能|できません|失敗)|送信(?:失敗|できません)|未配信|loop alert|undelivered|退信|退回|系统退信",
    re.I,
)
# Words of a notice itself, for servers that sign as people and under any subject.
_INTRODUCTION = re.compile(
    r"this is (?:the|an?)(?: \S+){0,5} (?:qmail-send|mail (?:system|delivery|server|software)|mailer|postfix|deliver program"
    r"|email server|machine generated|automatic(?:ally)?[- ]generated|delivery (?:failure|status)|dragonfly)"
    r"|(?:was|were) (?:created|generated) automatically by"
    r"|(?:message|mail|e-?mail)\S*(?: \S+){0,8} (?:could not|couldn't|can ?not|cannot|was not|wasn't|has not|were not|not)"
    r" (?:been |be |able to be )?(?:deliver|sent|send|forward|process)"
    r"|(?:unable|not able|wasn't able|failed|not possible|couldn't|could not) (?:to )?(?:deliver|send|forward)(?: \S+){0,4} "
    r"(?:message|mail|e-?mail|to)"
    r"|(?:delivery|your (?:message|mail|e-?mail))(?: \S+){0,8} (?:has |have |was |were )?(?:failed|returned|rejected|delayed"
    r"|undeliver|aborted|encountered|bounced|not reach)"
    r"|(?:following|these|failed|intended|all)(?: \S+){0,3} (?:address|recipient)\S*(?: \S+){0,6}(?:fail|could not|had|did not"
    r"|undeliver|unknown|reject|were|cannot|follow|:)"
    r"|(?:transcript of (?:the )?(?:session|attempts)|failed (?:recipients|addresses)|undeliverable (?:mail|message|address|to)"
    r"|did not reach|duplicated message-id|non-delivery|delivery (?:failure|has failed|failed|to the following|of the following|attempt|error|report"
    r"|status))"
    r"|(?:user|recipient|mailbox|account|address|host|domain)(?: \S+){0,4} (?:unknown|not found|does not exist|is full|over quota"
    r"|disabled|invalid|unavailable|doesn't exist)"
    r"|nicht (?:zugestellt|zustellbar|ausgeliefert)|n'a pas pu|n'(?:a|ont) pas [ée]t[ée] (?:remis|distribu|d[ée]livr)"
    r"|no (?:pudo|ha podido|se pudo|se ha podido)|non [èe] stato (?:possibile|recapitato)|n[ãa]o (?:p[ôo]de|foi)"
    r"|nie (?:mog[łl]|zosta[łl])|kon niet|не (?:может быть|было|удалось|смогл|доставлен)|エラー|できません",
    re.I,
)


# What no automatic answer of a person says about an address.
_OF_NOTICES = ("hostunknown", "mailboxfull", "spamdetected", "suspend", "userunknown", "virusdetected")
_DOMAIN = re.compile(r"@[^\s>\"]+")
_OF_LIST = re.compile(r"loop alert|not (?:a )?member|too (?:big|large)|rejected|error", re.I)
_AWAY = re.compile(
    r"out of (?:the )?office|vacation|on leave|holiday|auto(?:matic)?[- ]?(?:reply|response)|urlaub|abwesen|cong[ée]s?\b|absen"
    r"|vacaciones|f[ée]rias|ferie|assen[tz]|urlop|nieobecn|vakantie|afwezig|отпуск|отсутств|автоответ|不在|休暇",
    re.I,
)
_ANSWER_SUBJECT = re.compile(r"\s*(?:re|aw|fw|fwd|wg|sv|antw|rif|tr|res|odp|ответ|на)\s*:", re.I)


def is_notice(mail: Mail) -> bool:
    """Whether a server wrote this mail about another mail: two signs, or one that stands alone."""
    headers = mail.headers
    if mail.bare:
        return False
    if "x-failed-recipients" in headers:
        return True
    if mail.kind == "multipart/report" and mail.parameters.get("report-type", "").lower() in ("delivery-status", ""):
        return True
    subject = headers.get("subject")
    text = own_text(mail)[:6000]
    if is_answer(mail):
        # A person answers or forwards a notice, unless he is none.
        return _signed_by_server(mail) and (_has_null_path(mail) or bool(re.match(r"\s*error\b", text, re.I)))
    if "x-mlserver" in headers and _OF_LIST.search(f"{subject}\n{text[:500]}"):
        return True
    about = bool(_SUBJECT.search(subject))
    if _signed_by_server(mail):
        return about or bool(_INTRODUCTION.search(text))
    # Who is away gives no way back either, and tells what becomes of mails.
    if not _has_null_path(mail) or _AWAY.search(f"{subject}\n{text[:1500]}"):
        return False
    replied = headers.get("auto-submitted").lower().startswith("auto-replied")
    if _INTRODUCTION.search(text) and (about or not replied):
        return True
    return not replied and reasons.find(text).reason in _OF_NOTICES and bool(Notice(mail).addresses())


def is_answer(mail: Mail) -> bool:
    """Whether the subject says that somebody answers or forwards."""
    return bool(_ANSWER_SUBJECT.match(mail.headers.get("subject")))


def is_from_server(mail: Mail) -> bool:
    """Whether a server signed it, or it leaves no way back."""
    return not mail.bare and (_signed_by_server(mail) or _has_null_path(mail))


def _signed_by_server(mail: Mail) -> bool:
    sender = mail.headers.get("from") or mail.headers.get("sender")
    path = mail.headers.get("return-path")
    return bool(
        _FROM_SERVER.search(_DOMAIN.sub("@", sender)) or re.match(r"\s*<?(?:mailer-daemon|postmaster)\b", path, re.I)
    )


def _has_null_path(mail: Mail) -> bool:
    return any(path.strip() in ("<>", "") for path in mail.headers.all("return-path"))


def of_text(mail: Mail, raw: bytes) -> list[Recipient]:
    """What a notice in words says of each address; of nobody's, where it names none."""
    said = Notice(mail)
    addresses = [
        found
        for value in mail.headers.all("x-failed-recipients")
        for one in value.split(",")
        if (found := address_in(one))
    ]
    addresses = addresses or said.addresses()
    if not addresses:
        if known := of_dialects(said, raw):
            return known
        # A notice that names nobody is one all the same: the envelope may still say which mail it is about.
        addresses = [said.fallback()]
    head = f"{mail.headers.get('subject')}\n{said.text[:1500]}"
    done = _DONE.search(head) and not status_in(said.text).startswith(("4", "5"))
    action = "delayed" if _DELAYED.search(head) else "delivered" if done else "failed"
    return [_of_notice(said, address, action) for address in dict.fromkeys(addresses)]


def of_dialects(said: "Notice", raw: bytes) -> list[Recipient]:
    """The same by rules of others for older servers; empty where they know none."""
    temporary, permanent = dialects.failures(raw)
    return [
        *(_of_notice(said, address, "failed") for address in permanent),
        *(_of_notice(said, address, "delayed") for address in temporary),
    ]


def _of_notice(said: "Notice", address: str, action: str) -> Recipient:
    about = said.about(address, "") or said.text
    return judged(address, action, "", "", about)


_DELAYED = re.compile(
    r"\bdelay(?:ed)?\b|still being (?:tried|retried)|not yet been delivered|this is a warning message only|you do not need to resend"
    r"|has not been delivered (?:yet|after)|will (?:continue|keep) (?:to )?(?:be )?(?:try|retr)|delivery attempts will continue"
    r"|warning: could not send|задерж|verzögert",
    re.I,
)
_DONE = re.compile(
    r"\b(?:success(?:ful|fully)?|was|were) (?:mail |message )?deliver(?:y|ed)\b(?! to (?:any|all))|delivery (?:succe|report: success)"
    r"|successful mail delivery report|(?:your )?message (?:has been|was) (?:successfully )?delivered\b",
    re.I,
)


class Notice:
    """What a server wrote itself, without the mail that it sends back."""

    def __init__(self, mail: Mail) -> None:
        self.mail = mail
        self.text = own_text(mail)
        self.lines = self.text.split("\n")[:3000]
        self._mine = {address.lower() for address in addresses_in(mail.headers.get("from"))}
        self._mine |= {
            address.lower() for name in ("to", "delivered-to") for address in addresses_in(mail.headers.get(name))
        }
        self._mine |= {
            address.lower()
            for original in self.originals()
            for name in ("from", "return-path", "sender", "reply-to")
            for address in addresses_in(original.get(name))
        }

    def originals(self) -> list[Headers]:
        """The headers of the mail that came back, enclosed or quoted."""
        found = list(self.mail.originals)
        if quoted := quoted_headers(self.mail):
            found.append(quoted)
        return found

    def only_address(self) -> str:
        """The one address that it names, else to whom the mail was addressed."""
        found = self.addresses()
        return found[0] if len(found) == 1 else self.fallback()

    def fallback(self) -> str:
        """To whom the mail that came back was addressed, where the notice names nobody."""
        for original in self.originals():
            for name in ("x-actual-recipient", "envelope-to", "x-original-to", "to"):
                if found := addresses_in(original.get(name)):
                    return found[0]
        return ""

    def addresses(self) -> list[str]:
        """The addresses it is about: those at prominent places, else any that is not the sender's own."""
        start = next((number + 1 for number, line in enumerate(self.lines) if _LIST_FOLLOWS.search(line)), 0)
        found = self._prominent(self.lines[start:]) or self._prominent(self.lines[:start])
        kept = {key: value for key, value in found.items() if key not in self._mine and not _SERVERS.match(key)}
        if kept:
            return list(kept.values())
        anywhere = [
            address
            for address in addresses_in(self.text[:8000])
            if address.lower() not in self._mine and not _SERVERS.match(address)
        ]
        # Else a mail that somebody sent to himself, or to a server's own address.
        return list(dict.fromkeys(anywhere))[:1] or list(found.values())

    def _prominent(self, lines: list[str]) -> dict[str, str]:
        found: dict[str, str] = {}
        for line in lines:
            for pattern in _PROMINENT:
                if (match := pattern.search(line)) and (address := address_in(match["address"])):
                    found.setdefault(address.lower(), address)
                    break
            if len(found) >= MOST_RECIPIENTS:
                break
        return found

    def about(self, address: str, original: str) -> str:
        """The part of the notice that concerns the address: from its line to the next address or two empty lines."""
        wanted = [name.lower() for name in (address, original) if name]
        places = [number for number, line in enumerate(self.lines) if any(name in line.lower() for name in wanted)]
        if not places:
            return self.text[:4000]
        blocks = []
        for start in places[:8]:
            kept, empty = [self.lines[start]], 0
            in_transcript = bool(_ANSWER_LINE.match(self.lines[start]))
            for line in self.lines[start + 1 : start + 25]:
                if not line.strip():
                    empty += 1
                    if empty > 2:
                        break
                other = address_in(line)
                named = any(name in line.lower() for name in wanted)
                if other and not named and (_PROMINENT[0].search(line) or _PROMINENT[3].search(line)):
                    break
                if in_transcript and not named and _ANSWER_LINE.match(line):
                    break
                kept.append(line)
            blocks.append("\n".join(kept))
        if len(self.addresses()) <= 1 and len(self.text) < 4000:
            blocks.append(self.text)
        return "\n".join(dict.fromkeys(blocks))[:6000]


_LIST_FOLLOWS = re.compile(
    r"(?:following|these|failed|intended|undeliverable)(?: \S+){0,3} (?:recipient|address|user|mailbox)\S*.{0,60}[:.\-]\s*$"
    r"|(?:delivery errors|permanent fatal errors|delivery problems|failed (?:addresses|recipients))",
    re.I,
)
_ANSWER_LINE = re.compile(r"\s*(?:<<< ?)?[245]\d\d[ -]|>>> ")
_SERVERS = re.compile(r"(?:mailer-daemon|postmaster|mail-daemon|abuse|support|helpdesk|help|noreply|no-reply)@", re.I)
_PROMINENT = [
    re.compile(
        pattern.replace("ADDRESS", r"(?P<address>[^\s<>()\[\],;:\"'=]{1,64}@[^\s<>()\[\],;:\"'*]{1,200}+)"), re.I
    )
    for pattern in (
        r"^[\s>*•\"'-]*(?:\(expanded from:? )?(?:to:? )?<?(?:smtp:|mailto:|rfc822;)?ADDRESS[>\"']?\)?\s*"
        r"(?:[:;,-]|\.\.\.|[(\[<]|on |$)",
        r"(?:rcpt to|recipient|recipient address|intended recipient|failed recipient|address|addressed to|user|to|for"
        r"|mailbox|email)\s*[:=]\s*['\"\[]?(?:smtp:|rfc822;)?\s*<?ADDRESS>?",
        r"(?:recipient|address|user|mailbox|account|deliver(?:ed|y)? to|undeliverable to|mail to|message to|send to|sent to"
        r"|addressed to)\s+['\"\[]?<?ADDRESS>?",
        r"<ADDRESS>(?:\.\.\.|:|\s+\()",
    )
]


def own_text(mail: Mail) -> str:
    texts = [
        part.text
        for part in mail.parts
        if not part.enclosed
        and (
            part.kind == "text/plain"
            or not part.kind.startswith(("text/", "application/", "image/", "message/", "audio/", "video/"))
        )
    ]
    if not any(text.strip() for text in texts):
        texts = [as_text(part.text) for part in mail.parts if not part.enclosed and part.kind == "text/html"]
    text = "\n".join(line[:1000] for line in "\n".join(texts)[:LONGEST].split("\n"))
    return text[: _original_at(text)]


_COPY_FOLLOWS = re.compile(
    r"^[\s>|*-]{0,30}(?:-{2,80}|_{3,80}|={3,80}|\*{3,80}|\|-{1,80}).{0,60}(?:copy of|original|returned|message (?:headers?|text|follows|below)|below this line"
    r"|header of|unsent message|undelivered message|body of).{0,80}$"
    r"|^.{0,40}(?:a copy of (?:the|your) (?:original )?(?:message|mail)|original message(?: headers?)?(?: follows)?|message headers? follows?|"
    r"(?:your )?(?:original|returned) (?:message|mail)(?: \S+){0,3}|header of the (?:original )?message|the (?:following )?original message"
    r"|original message details|message text follows|text of (?:your|the) message|start of returned message|your message reads"
    r"|included is a copy|copia del mensaje|copie du message|kopie der nachricht|copia del messaggio|текст письма"
    r"|копия (?:вашего )?(?:письма|сообщения)|(?:исходное|оригинальное) (?:письмо|сообщение)).{0,40}[:.\-*|=]?\s*$",
    re.I | re.M,
)
_HEADER_BLOCK = re.compile(
    r"^[>|\s]{0,3}(?:Return-Path|Received|From|Message-I[dD]|Date|Subject|To|MIME-Version|X-[\w-]+|DKIM-Signature|Content-Type|Reply-To|Delivered-To|Cc|Sender):[ \t]?.*\n"
    r"(?:[ \t]+\S.*\n){0,12}"
    r"(?:[>|\s]{0,3}[A-Z][\w-]{1,40}:[ \t]?.*\n(?:[ \t]+\S.*\n){0,12}){2}",
    re.M,
)


def _original_at(text: str) -> int:
    """Where the copy of the mail that came back begins: at the words that announce it with headers near, or at those."""
    block = _quoted_at(text)
    end = len(text) if block is None else block
    for match in _COPY_FOLLOWS.finditer(text, 0, end):
        rest = text[match.end() : end].strip()
        # A sentence that says so near the top, such as "your original message is attached", ends nothing.
        ends = match.start() > 40 if block is None else len(rest) < 200
        if ends and not _goes_on(rest):
            return match.start()
    return end


def _quoted_at(text: str) -> int | None:
    """Where the headers of a quoted mail begin."""
    for count, match in enumerate(_HEADER_BLOCK.finditer(text)):
        block, _, rest = text[match.start() : match.start() + 6000].partition("\n\n")
        mentioned = not _TRACE.search(block) and (
            _INTRODUCTION.search(rest[:1500]) or re.search(r"rcpt to:", block, re.I)
        )
        if _looks_like_mail(block) and not mentioned:
            return match.start()
        if count > 20:
            break
    return None


def _goes_on(rest: str) -> bool:
    """Whether what stands after the announcement is still the notice."""
    return bool(address_in(rest)) and reasons.find(rest).rule.startswith("phrase") and len(rest) < 2000


# What only a whole mail has; servers that name a few fields of it first write their notice below.
_TRACE = re.compile(r"^[>|\s]{0,3}(?:received|return-path|mime-version|content-type|dkim-signature):", re.I | re.M)
_NAME = re.compile(r"^[>|\s]{0,3}([A-Z][\w-]{1,40}):", re.M)
_OF_MAIL = {"received", "from", "message-id", "date", "subject", "to", "return-path", "mime-version", "content-type"}


def _looks_like_mail(block: str) -> bool:
    names = {name.lower() for name in _NAME.findall(block.split("\n\n", 1)[0])} & _OF_MAIL
    # Exchange names recipient and subject of the mail that it writes about.
    return len(names) >= 2 and not names <= {"to", "subject", "date"}


def quoted_headers(mail: Mail) -> Headers | None:
    """The headers of the mail that a notice quotes in its own text, if it does."""
    for part in mail.parts:
        if part.enclosed or not part.kind.startswith("text/"):
            continue
        text = part.text if part.kind != "text/html" else as_text(part.text)
        start = _quoted_at(text)
        if start is not None:
            block = re.sub(r"^(?:[>|] ?|[ \t]+(?=[A-Z][\w-]{1,40}:))", "", text[start : start + 60_000], flags=re.M)
            return headers_and_body(block.lstrip().encode())[0]
    return None
