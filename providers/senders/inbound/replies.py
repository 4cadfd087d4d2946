"""What a person wrote himself: a reply without the mails it quotes and without signature. Pure.

Own rules, line by line: mail-parser-reply knows no Russian and no inline answers, wants to be told the language, and its
patterns take unbounded time on hostile text.
"""

import html
import re

from providers.senders.inbound.mail import Mail, Part
from providers.senders.inbound.markup import as_text

VERSION = "2026-11-24"

LONGEST = 60_000
MOST_LINES = 2000


def own_words(mail: Mail) -> tuple[str, str]:
    """The text of a mail that its sender wrote for it, and the same with signature."""
    text = _text(mail)
    return stripped(text), unquoted(text)


def stripped(text: str) -> str:
    """A text without quotes, the lines that announce them, signature and disclaimer."""
    return _joined(_without_signature(_without_quotes(_lines(text))))


def unquoted(text: str) -> str:
    """A text without quotes and the lines that announce them."""
    return _joined(_without_quotes(_lines(text)))


def _lines(text: str) -> list[str]:
    text = _INVISIBLE.sub("", text[:LONGEST]).replace("\r\n", "\n").replace("\xa0", " ").replace("\u202f", " ")
    return [line.rstrip() for line in text.split("\n")[:MOST_LINES]]


def _joined(lines: list[str]) -> str:
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


def _text(mail: Mail) -> str:
    texts = [part.text for part in mail.parts if part.kind == "text/plain" and _is_body(part)]
    if any(text.strip() for text in texts):
        return "\n".join(texts)
    return "\n".join(as_text(part.text) for part in mail.parts if part.kind == "text/html" and _is_body(part))


def _is_body(part: Part) -> bool:
    attached = part.headers.get("content-disposition").lower().startswith("attachment")
    return not part.enclosed and not attached and "x-preamble" not in part.headers


_INVISIBLE = re.compile("[\u200b\u200c\u200d\u2060\ufeff\u00ad\u202a-\u202e\u2066-\u2069]")


# --- quotes


def _without_quotes(lines: list[str]) -> list[str]:
    kept: list[str] = []
    number = 0
    while number < len(lines):
        length = _announcement(lines, number)
        if not length:
            if not _QUOTED.match(lines[number]):
                kept.append(lines[number])
            elif _broken_line(lines, number + 1):
                number += 1
            number += 1
            continue
        rest = lines[number + length :]
        if length < 0 or not _is_marked(rest):
            # Nothing tells the quoted mail from words below it, and hardly anybody writes there.
            break
        number += length
    return kept


def _is_marked(rest: list[str]) -> bool:
    first = next((line for line in rest if line.strip()), "")
    return bool(_QUOTED.match(first))


def _broken_line(lines: list[str], number: int) -> bool:
    """Whether a line is the end of a quoted one that some program wrapped: between two of them, after a long one."""
    return (
        number + 1 < len(lines)
        and len(lines[number - 1]) >= 60
        and bool(lines[number].strip())
        and not _QUOTED.match(lines[number])
        and bool(_QUOTED.match(lines[number + 1]))
    )


def _announcement(lines: list[str], number: int) -> int:
    """How many lines here announce a quoted mail; -1 where all that follows is one, 0 where none does."""
    line = _bare(lines[number])
    if not line or len(line) > 400:
        return 0
    if _SEPARATOR.match(line):
        return -1
    if _FROM.match(line) and any(_FIELD.match(_bare(one)) for one in lines[number + 1 : number + 8]):
        return -1
    if _UNDERLINE.match(line) and any(_FROM.match(_bare(one)) for one in lines[number + 1 : number + 4]):
        return -1
    joined = ""
    for count, part in enumerate(lines[number : number + 4], start=1):
        part = _bare(part)
        if not part:
            break
        joined = f"{joined} {part}".strip()
        if len(joined) > 400:
            break
        if not joined.endswith((":", "：")):
            continue
        dated = bool(_DATED.search(joined))
        if _WROTE.search(joined) and (_STARTS.match(joined) or (dated and "@" in joined)):
            return count
        if dated and _NAMED.search(joined):
            return count
    return 0


def _bare(line: str) -> str:
    """A line without marks of quotes; some programs leave entities of HTML in plain text."""
    return _MARKS.sub("", html.unescape(line) if "&" in line else line).strip()


_QUOTED = re.compile(r"\s{0,3}(?:>|\|\s)")
_MARKS = re.compile(r"^(?:\s{0,3}>)+ ?")
_UNDERLINE = re.compile(r"[_\-=]{10,}$")
# Words that mail programs put before the mail that is answered or forwarded.
_ORIGINAL = (
    r"original (?:message|e-?mail|appointment)|forwarded (?:message|by)|begin forwarded message|reply message"
    r"|urspr(?:ü|ue)ngliche (?:nachricht|e-?mail)|weitergeleitete (?:nachricht|mail)|originalnachricht"
    r"|message (?:d'origine|original|transf[ée]r[ée])|mensaje (?:original|reenviado)|mensagem (?:original|encaminhada)"
    r"|messaggio (?:originale|inoltrato)|wiadomo[śs][ćc] oryginalna|oryginalna wiadomo[śs][ćc]|przekazana wiadomo[śs][ćc]"
    r"|oorspronkelijk(?:e)? bericht|doorgestuurd bericht|oprindelig (?:besked|meddelelse)|opprinnelig melding"
    r"|ursprungligt meddelande|alkuper[äa]inen viesti|p[ůu]vodn[íi] zpr[áa]va|eredeti [üu]zenet|orijinal mesaj"
    r"|(?:исходное|оригинальное|пересылаемое|пересланное|переадресованное|перенаправленное) (?:сообщение|письмо)"
    r"|начало (?:переадресованного|пересылаемого) (?:сообщения|письма)|конец пересылаемого|原始邮件|转发的邮件|元のメッセージ|원본 메일"
)
_SEPARATOR = re.compile(
    rf"(?:[-_=*\s]{{2,}}(?:{_ORIGINAL})[-_=*\s:]*$|(?:begin forwarded message|(?:{_ORIGINAL}) follows)\s*:?$"
    rf"|начало (?:переадресованного|пересылаемого) (?:сообщения|письма)\s*:$|_{{30,}}$)",
    re.I,
)
# The fields that mail programs repeat of the mail that is answered.
_FROM = re.compile(
    r"\*?(?:from|von|de|da|van|od|fra|från|от(?: кого)?|lähettäjä|feladó|gönderen|kimden|发件人|差出人|보낸 ?사람|expéditeur|remitente|mittente"
    r"|afzender|отправитель)\*?\s?[:：]\s?\*?\s?\S.*",
    re.I,
)
_FIELD = re.compile(
    r"\*?(?:sent|to|date|subject|cc|gesendet|an|datum|betreff|envoy[ée](?: le)?|à|objet|date|enviad[oa](?: el| em)?|para|asunto|assunto|fecha"
    r"|data|inviato|a|oggetto|verzonden|aan|onderwerp|wysłano|do|temat|sendt|til|emne|dato|skickat|till|ämne|kopia|odesláno|komu|předmět"
    r"|отправлено|кому|тема|дата|копия|когда|发送时间|收件人|主题|日期|送信日時|宛先|件名|보낸 ?날짜|받는 ?사람|제목)\*?\s?[:：]\s?.*",
    re.I,
)
# How the line begins that names who wrote when, and the verb in it.
_STARTS = re.compile(
    r"(?:on|at|in|am|le|el|il|em|op|den|dne|dnia|w dniu|pe|на|в|во|от|il giorno|in data|a\(z\)|mon|tue|wed|thu|fri|sat|sun"
    r"|пн|вт|ср|чт|пт|сб|вс|понедельник|вторник|среда|четверг|пятница|суббота|воскресенье"
    r"|man|tir|ons|tor|fre|lør|søn|mån|tis|lör|sön|lun|mar|mer|mi[ée]|jeu|jue|ven|vie|sam|s[áa]b|dim|dom|seg|ter|qua|qui|sex|gio"
    r"|pon|wt|śr|czw|pt|nd|\"|'|<|\d|\*|\S+ \S+ <)",
    re.I,
)
_WROTE = re.compile(
    r"\b(?:wrote|writes|said|schrieb|a [ée]crit|[ée]crit|escribi[óo]|escreveu|ha scritto|scrive|schreef|geschreven|skrev|napisa[łl]\S*"
    r"|pisze|napsal\S*|írta|kirjoitti|yazdı|a scris|написал\S*|пишет|писал\S*|писав|написав)(?:\W.{0,200})?[:：]$"
    r"|写道[:：]$|작성하였습니다[:：]$|のメール[:：]$",
    re.I,
)
_DATED = re.compile(r"\d{1,2}[:.]\d{2}|\b(?:19|20)\d\d\b|\d{1,2}[./-]\d{1,2}")
_NAMED = re.compile(r"@[\w.-]+\s?>{1,2}\s?[:：]$|@[\w.-]+\)?\s?[:：]$")


# --- signatures


def _without_signature(lines: list[str]) -> list[str]:
    fenced = seen = False
    for number, line in enumerate(lines):
        text = line.strip()
        fenced ^= text.startswith("```")
        if fenced or not text or len(text) > 200:
            seen |= bool(text)
            continue
        rest = lines[number + 1 :]
        if _DISCLAIMER.match(text) or _DEVICE.match(text):
            return lines[:number]
        if _DASHES.fullmatch(text) and (seen or text.startswith("--")) and _is_short(rest, 25):
            return lines[:number]
        if seen and _SIGN_OFF.fullmatch(text) and _is_short(rest, 16) and not _goes_on(rest):
            return lines[:number]
        seen = True
    return lines


def _is_short(rest: list[str], most: int) -> bool:
    """Whether what stands below may be a signature: few lines, hardly any of them long."""
    written = [line for line in rest if line.strip()]
    return len(written) <= most and sum(len(line) > 160 for line in written) <= 3


def _goes_on(rest: list[str]) -> bool:
    """Whether a person goes on writing below his thanks."""
    return any(_SENTENCE.search(line) for line in rest[:6])


_SENTENCE = re.compile(r"(?:\S+\s+){4,}\S+[.?!]\s*$")
_DASHES = re.compile(r"[-–—]{2,3}|[-–—_=*~]{4,}|_{2,}|—")
_DEVICE = re.compile(
    r"\W*(?:(?:sent (?:from|via|with|by) (?:my \S+|mail for|yahoo|outlook|gmail|proton|samsung|[A-Z]\w*(?:App|Mail|Phone|Pad)\b|the \S+ \S+ app|a mobile)"
    r"|sent from [A-Z]\w+<|get outlook for|download outlook"
    r"|(?:von meinem|gesendet (?:von|mit|über|aus))|diese nachricht wurde von meinem|hol dir outlook"
    r"|envoy[ée] (?:depuis|de(?:puis)? mon|de mon|à partir|avec)|t[ée]l[ée]charger outlook|obtenez outlook"
    r"|enviado (?:desde|do|de meu|a partir|pelo|con)|obtener outlook|obter o outlook"
    r"|inviato da|inviata da|scarica outlook|ottieni outlook"
    r"|wysłan[eo] z|pobierz (?:program )?outlook|verzonden (?:vanaf|met|vanuit|door)|outlook voor|download outlook voor"
    r"|sendt fra|hent outlook|skickat fr[åa]n|h[äa]mta outlook|l[äa]hetetty|odesl[áa]no z|k[üu]ldve"
    r"|отправлено (?:из|с|через|от)|послано из|скачать outlook|отправлено со?"
    r"|发自我的|iPhoneから送信|나의 iPhone에서 보냄)\b[^,;!?]{0,60}|iPhoneから送信.{0,20}|发自我的.{0,20})$",
    re.I,
)
_SIGN_OFF = re.compile(
    r"\W*(?:(?:with )?(?:best|kind|warm|kindest|warmest|many|my best|very best)?\s?(?:regards|wishes|thanks)|best|all the best|cheers|sincerely"
    r"|yours(?: \w+)?|(?:many |thanks|thank you)(?: (?:again|a lot|so much|in advance|very much|and \w+ regards))?|thx|br|rgds|take care|respectfully|cordially|warmly"
    r"|mit (?:freundlichen|besten|herzlichen|lieben|vielen) gr(?:ü|ue)(?:ß|ss)en?(?: aus \w+)?|(?:beste|viele|liebe|freundliche|herzliche|sch[öo]ne)n?r? gr(?:ü|ue)(?:ß|ss)e?(?: aus \w+)?"
    r"|freundlicher gru(?:ß|ss)|gru(?:ß|ss)|gr(?:ü|ue)(?:ß|ss)e|mfg|lg|vg|hochachtungsvoll"
    r"|(?:bien )?(?:cordialement|amicalement)|(?:bien|tr[èe]s) cordialement|(?:meilleures |sinc[èe]res )?salutations(?: distingu[ée]es)?|bonne (?:journ[ée]e|r[ée]ception|soir[ée]e)|cdlt|bien à vous|merci(?: d'avance)?"
    r"|(?:un |cordiales |muchos )?(?:cordial )?saludos?(?: cordiales)?|atentamente|atte|cordialmente|(?:muchas )?gracias|un abrazo"
    r"|atenciosamente|att|cumprimentos|(?:com os )?(?:melhores |meus )?cumprimentos|abra[çc]os?|(?:muito )?obrigad[oa]|grat[oa]"
    r"|(?:cordiali|distinti|un cordiale|i miei pi[ùu] cordiali) salut[oi]|saluti|cordialmente|grazie(?: mille)?|buona giornata"
    r"|z powa[żz]aniem|pozdrawiam(?: serdecznie)?|(?:serdecznie |z )?pozdrowieni\w+|dzi[ęe]kuj[ęe]"
    r"|met (?:vriendelijke|hartelijke|beste) groet(?:en)?|(?:hartelijke |vriendelijke )?groet(?:en|jes)?|mvg|(?:alvast )?bedankt|dank u"
    r"|(?:med )?(?:v[äa]nlig|venlig|vennlig|b[äa]sta)\w* (?:h[äa]lsning\w*|hilsen\w*)|mvh|hilsen|h[äa]lsningar"
    r"|s (?:pozdravem|[úu]ctou)|d[ěe]kuji|[üu]dv[öo]zlettel|sayg[ıi]lar[ıi]mla|cu stim[ăa]"
    r"|(?:с|c) (?:уважением|наилучшими пожеланиями|благодарностью|приветом|любовью)|(?:всего|всех) (?:доброго|хорошего|наилучшего|благ)|хорошего (?:дня|вечера)|с ув"
    r"|(?:заранее |большое )?(?:спасибо|благодарю)(?: заранее)?|до свидания|удачи|з повагою"
    r"|よろしくお願い(?:いた)?します|此致|祝好|敬礼|감사합니다)"
    # The name may stand on the same line.
    r"(?:\s*[,!.…—–-]+\s*(?:[\w'’.-]+\s?){0,4}|\W*)",
    re.I,
)
_DISCLAIMER = re.compile(
    r"\W*(?:(?:confidential(?:ity)?|legal|privacy|important|privileged)(?: \w+)? (?:notice|note|statement|disclaimer|information)\s*:?"
    r"|disclaimer\s*:?\s*$|disclaimer\s*:|this (?:e-?mail|message|communication|transmission)(?: \S+){0,8} (?:is|are|may|contains?)(?: \S+){0,6} (?:confidential|privileged|intended)"
    r"|the information (?:contained )?in this (?:e-?mail|message)|caution\s*: this (?:e-?mail|message)"
    r"|diese (?:e-?mail|nachricht)(?: \S+){0,8} (?:vertraulich|ausschließlich)|ce (?:message|courriel|mail)(?: \S+){0,10} (?:confidentiel|destin[ée])"
    r"|este (?:mensaje|correo|e-?mail|mensagem)(?: \S+){0,10} confidencia|esta mensagem(?: \S+){0,10} confidencia|(?:questo messaggio|questa e-?mail|le informazioni contenute)(?: \S+){0,10} (?:riservat|confidenzial)"
    r"|niniejsza wiadomo|deze (?:e-?mail|bericht)(?: \S+){0,8} vertrouwelijk|(?:настоящее|данное|это) (?:электронное )?(?:сообщение|письмо)(?: \S+){0,10} конфиденциальн)",
    re.I,
)
