"""Why a mail came back: rules as data, from most to least certain. Pure.

Sources: RFC 3463 and the IANA registry of enhanced status codes, RFC 5321, RFC 7372, RFC 7505, and the words that mail
servers answer with. The words of reasons are those of the sisimai project, so that its reports compare with ours, and
`greylisted`.
"""

import re
from dataclasses import dataclass

VERSION = "2026-11-24"

# The address will never take a mail: suppress it. `notaccept` is hard only where the answer was 5xx.
HARD = frozenset({"userunknown", "hostunknown", "hasmoved", "notaccept"})
# What the recipient's side did not like about us or our mail: it says nothing about the address.
OURS = frozenset(
    {
        "authfailure",
        "badreputation",
        "blocked",
        "contenterror",
        "failedstarttls",
        "mesgtoobig",
        "norelaying",
        "notcompliantrfc",
        "policyviolation",
        "rejected",
        "requireptr",
        "securityerror",
        "spamdetected",
        "syntaxerror",
        "toomanyconn",
        "virusdetected",
    }
)
# Nobody's fault for good: the way there, or the far server.
OF_THE_WAY = frozenset(
    {"expired", "greylisted", "mailererror", "networkerror", "onhold", "systemerror", "systemfull", "undefined"}
)

# What stands for a status where the mail names none: RFC 3463 leaves x.0.9xx free, and sisimai uses these numbers.
_PSEUDO = {
    "authfailure": 976,
    "badreputation": 975,
    "blocked": 971,
    "contenterror": 960,
    "exceedlimit": 923,
    "expired": 947,
    "failedstarttls": 976,
    "filtered": 910,
    "greylisted": 971,
    "hasmoved": 916,
    "hostunknown": 912,
    "mailboxfull": 922,
    "mailererror": 939,
    "mesgtoobig": 934,
    "networkerror": 944,
    "norelaying": 909,
    "notaccept": 932,
    "notcompliantrfc": 977,
    "onhold": 901,
    "policyviolation": 972,
    "rejected": 918,
    "requireptr": 973,
    "securityerror": 970,
    "spamdetected": 980,
    "suspend": 921,
    "syntaxerror": 902,
    "systemerror": 930,
    "systemfull": 931,
    "toomanyconn": 945,
    "undefined": 900,
    "userunknown": 911,
    "virusdetected": 980,
}


@dataclass(frozen=True, slots=True)
class Finding:
    """A reason, the rule that gave it, and the words or the status that decided."""

    reason: str
    rule: str
    span: str


def find(text: str, *, status: str = "", code: str = "", command: str = "") -> Finding:
    """The reason that an answer gives: its text, its RFC 3463 status, its SMTP code, the command it answered.

    Each may be empty. `undefined` where nothing is known, `onhold` where something is said that no rule knows.
    """
    plain = _simple(text)
    if reason := _CERTAIN.get(status[1:]):
        return Finding(reason, "status", status)
    for name, known in (("phrase", _STRONG), ("status", None), ("weak phrase", _WEAK)):
        if known is None:
            reason = _by_status(status)
            if reason:
                return Finding(reason, "status", status)
            continue
        for reason, pattern in known:
            if match := pattern.search(plain):
                if reason == "userunknown" and _speaks_a_filter(text, pattern, status, command, code):
                    reason = "filtered"
                if command == "MAIL" and reason in ("userunknown", "hostunknown"):
                    reason = "rejected"
                if status.endswith(".1.1") and reason not in _WITH_UNKNOWN_USER:
                    reason = "userunknown"
                return Finding(reason, f"{name} {reason}", match[0].strip())
    if reason := _by_command(command, code):
        return Finding(reason, "command", f"{command} {code}".strip())
    if plain.strip() or code:
        return Finding("onhold", "none", code)
    return Finding("undefined", "none", "")


def is_hard(reason: str, status: str, code: str) -> bool:
    """Whether the address is to be given up: by the reason, and never on an answer that is temporary."""
    if reason not in HARD:
        return False
    return not (reason == "notaccept" and (status.startswith("4") or code.startswith("4")))


def fault(reason: str) -> str:
    """Whose fault: `recipient`, `sender` (we, our mail, our server's name) or `network`."""
    return "sender" if reason in OURS else "network" if reason in OF_THE_WAY else "recipient"


def pseudo_status(reason: str, *, temporary: bool) -> str:
    """A status in the range for local use, for an answer that carried none."""
    number = _PSEUDO.get(reason)
    return f"{4 if temporary else 5}.0.{number}" if number else ""


_ADDRESS = re.compile(r"[^\s<>,;:\"'()\[\]]{1,64}@[\w.-]{1,255}")
# Names of hosts say nothing about the mail, whatever words they are made of.
_HOST_NAME = re.compile(
    r"\b(?:host|server|from|at|by|with|mx|client|mta|dns;) \(?\[?[\w-]+(?:\.[\w-]+)+\]?(?:\s?[\[(][\d.:a-fA-F]+[\])])?"
    r"(?=[\s\[(:;,)]|$)",
    re.I,
)
# Codes are told apart from the words; at the start of each line of an answer they would part what belongs together.
_CODES = re.compile(
    r"(?<![\d.])[245]\d\d(?:[- ]+#?[245]\.\d{1,3}\.\d{1,3})?(?=[- ]|$)|(?<![\d.])#?[245]\.\d{1,3}\.\d{1,3}(?![\d.])"
    # How Cisco's AsyncOS introduces the answer of the other server, whatever it is.
    r"|- (?:unknown address error|other mail system problem)"
    # How Postfix introduces what one of its checks says.
    r"|recipient address rejected:",
    re.I | re.M,
)
_SPACE = re.compile(r"\s+")
# What the patterns below may have to look at again and again stays short.
_LONG_WORD = re.compile(r"(\S{80})\S+")


def _simple(text: str) -> str:
    text = _CODES.sub(" ", _ADDRESS.sub("<address>", text[:6000]))
    text = _SPACE.sub(" ", _LONG_WORD.sub(r"\1", _HOST_NAME.sub(" ", text)))
    return text.replace("’", "'")


def _speaks_a_filter(text: str, pattern: re.Pattern[str], status: str, command: str, code: str) -> bool:
    """Whether "user unknown" is not said to RCPT: a server that knew of no such user would have said so there."""
    if command == "RCPT" or not code.startswith("5") or _NAMES_USER.match(status) or "account" in text:
        return False
    lines = text[:6000].split("\n")
    return any(
        code in first and pattern.search(_simple(f"{first} {second}"))
        for first, second in zip(lines, [*lines[1:], ""], strict=True)
    )


def _by_status(status: str) -> str:
    if not status:
        return ""
    return _STATUS.get(status) or _STATUS.get(status[1:]) or ""


def _by_command(command: str, code: str) -> str:
    command = command.upper()
    if not code.startswith("5"):
        return ""
    if command == "DATA":
        return "filtered"
    if command in ("MAIL", "FROM"):
        return "rejected"
    if command in ("CONN", "HELO", "EHLO"):
        return "blocked"
    return ""


def _rules(*lines: tuple[str, str]) -> list[tuple[str, re.Pattern[str]]]:
    return [
        (reason, re.compile("|".join(f"(?:{line.strip()})" for line in text.strip().splitlines()), re.I))
        for reason, text in lines
    ]


# 5.5.0 is what Outlook.com and La Poste say with "mailbox unavailable" and "invalid recipient".
_NAMES_USER = re.compile(r"[45]\.1\.|5\.4\.1$|5\.5\.0$")
# What an answer may say beside x.1.1; other words with it explain why the address is none.
_WITH_UNKNOWN_USER = frozenset(
    {
        "authfailure",
        "badreputation",
        "blocked",
        "greylisted",
        "hasmoved",
        "hostunknown",
        "mailboxfull",
        "norelaying",
        "notaccept",
        "rejected",
        "spamdetected",
    }
)
# Details that servers hardly ever give wrongly.
_CERTAIN = {
    ".1.2": "hostunknown",
    ".1.6": "hasmoved",
    ".1.7": "rejected",
    ".1.8": "rejected",
    ".2.2": "mailboxfull",
    ".2.3": "exceedlimit",
    ".3.4": "mesgtoobig",
    ".4.310": "networkerror",
    ".4.312": "networkerror",
    ".4.316": "networkerror",
    ".4.317": "networkerror",
    ".7.20": "authfailure",
    ".7.21": "authfailure",
    ".7.22": "authfailure",
    ".7.23": "authfailure",
    ".7.25": "requireptr",
    ".7.26": "authfailure",
}
# Exact statuses first, then by subject and detail for either class. What is too general is left to the weak phrases.
_STATUS = {
    "4.1.8": "rejected",
    "4.2.2": "mailboxfull",
    "4.4.1": "expired",
    "4.4.2": "networkerror",
    "4.4.7": "expired",
    "4.7.25": "requireptr",
    "4.7.650": "badreputation",
    "5.1.351": "userunknown",
    "5.2.1": "suspend",
    "5.2.121": "toomanyconn",
    "5.2.122": "toomanyconn",
    "5.3.190": "suspend",
    "5.4.1": "userunknown",
    "5.7.9": "policyviolation",
    "5.7.12": "rejected",
    "5.7.13": "suspend",
    "5.7.509": "authfailure",
    "5.7.511": "blocked",
    "5.7.512": "rejected",
    "5.7.606": "blocked",
    "5.7.705": "suspend",
    "5.7.708": "blocked",
    "5.7.750": "suspend",
    ".1.1": "userunknown",
    ".1.2": "hostunknown",
    ".1.3": "userunknown",
    ".1.4": "filtered",
    ".1.5": "userunknown",
    ".1.6": "hasmoved",
    ".1.7": "rejected",
    ".1.8": "rejected",
    ".1.9": "systemerror",
    ".1.10": "userunknown",
    ".2.2": "mailboxfull",
    ".2.3": "exceedlimit",
    ".2.4": "filtered",
    ".3.1": "systemfull",
    ".3.2": "notaccept",
    ".3.3": "systemerror",
    ".3.4": "mesgtoobig",
    ".3.5": "systemerror",
    ".4.1": "networkerror",
    ".4.2": "networkerror",
    ".4.3": "systemerror",
    ".4.4": "hostunknown",
    ".4.5": "systemfull",
    ".4.6": "networkerror",
    ".4.7": "expired",
    ".4.8": "networkerror",
    ".5.2": "syntaxerror",
    ".5.3": "toomanyconn",
    ".5.4": "syntaxerror",
    ".5.6": "contenterror",
    ".6.1": "contenterror",
    ".6.2": "contenterror",
    ".6.3": "contenterror",
    ".6.4": "contenterror",
    ".6.5": "contenterror",
    ".6.6": "contenterror",
    ".6.7": "contenterror",
    ".6.8": "contenterror",
    ".6.9": "contenterror",
    ".7.2": "filtered",
    ".7.3": "securityerror",
    ".7.4": "securityerror",
    ".7.5": "securityerror",
    ".7.6": "securityerror",
    ".7.7": "securityerror",
    ".7.8": "securityerror",
    ".7.10": "securityerror",
    ".7.11": "securityerror",
    ".7.14": "securityerror",
    ".7.17": "filtered",
    ".7.18": "filtered",
    ".7.20": "authfailure",
    ".7.21": "authfailure",
    ".7.22": "authfailure",
    ".7.23": "authfailure",
    ".7.24": "authfailure",
    ".7.25": "requireptr",
    ".7.26": "authfailure",
    ".7.27": "notaccept",
    ".7.28": "spamdetected",
    ".7.29": "authfailure",
    ".7.30": "failedstarttls",
}

# In their order: what names a thing exactly stands before what only mentions it.
_STRONG = _rules(
    (
        "syntaxerror",
        r"""
        malformed address
        """,
    ),
    (
        "notaccept",
        r"""
        \bnull mx\b
        (?:domain|host|server|system|machine|site)(?: \S+)? (?:does|do|will) ?n[o']t (?:currently )?accepts? (?:any |incoming |inbound |e-?)*mail
        (?:domain|host)\S* (?:accepts|takes|receives) no mail
        no mail is accepted (?:for|at|by)
        (?:indicated|has|offers) no smtp service
        reject all mails
        """,
    ),
    (
        "hostunknown",
        r"""
        account or domain may not exist
        because the domain is not reachable
        """,
    ),
    (
        # Yahoo's answer after DATA.
        "userunknown",
        r"""
        user (?:doesn't|does not) have an? \S+ account
        """,
    ),
    (
        "authfailure",
        r"""
        \bdmarc\b
        \b(?:spf|dkim)\b.{0,60}(?:fail|invalid|not pass|did not|check|reject|policy|denied|error|missing|validation|not authori)
        (?:fail|invalid|pass|missing|no|without|reject)\S*.{0,40}\b(?:spf|dkim)\b
        sender policy framework
        (?:message|mail|email|sender|domain) (?:is |was )?(?:not authenticated|unauthenticated)
        unauthenticated (?:e-?mail|sender|message)
        (?:message|e-?mail|sender|domain).{0,40} (?:failed|does not pass|did not pass) (?:the )?authentication
        arc (?:validation|seal).{0,20}fail
        """,
    ),
    (
        "requireptr",
        r"""
        reverse[- ](?:dns|lookup|mapping|hostname|name|address|record|resol)
        \b(?:no|without|missing|invalid|valid|have|has|generic|forward|lacks?|an?|your|of|dns)\b.{0,20}\bptr\b
        \bptr\b.{0,30}(?:record|lookup|not|missing|required|invalid)
        \brdns\b
        cannot (?:find|resolve|verify) your (?:reverse )?(?:host ?name|ip|address|domain|client)
        (?:ip|client) (?:address|host|name)?.{0,60}(?:does not|doesn't|did not|cannot|could not) (?:be )?(?:reverse |back)?(?:resolve|map)
        unverif[iy]\S* sending ip
        unresolvable (?:relay|client|ip|host|connecting)
        (?:ip|address)(?: address)? name (?:lookup|possibly) (?:fail|forged)
        all hosts? must have (?:a )?(?:valid )?(?:dns|reverse)
        (?:hostname|host name|name) (?:does not|doesn't) (?:resolve|match) .{0,30}(?:ip|address|hostname)
        (?:client host|connecting|ip address|sending ip|your ip|your server).{0,60}(?:no|without|missing).{0,15}(?:dns|hostname|host name)
        """,
    ),
    (
        "virusdetected",
        r"""
        \b(?:virus|virii|malware|worm|trojan)s?\b.{0,40}\b(?:detected|found|infect|reject|block|discovered|contain)
        (?:contains?|containing|infected|detected|found|carries|carrying|suspected|potentially|prohibited)\b.{0,40}\b(?:virus|malware|worm|trojan|exploit)
        \binfected (?:with|by|message|mail|e-?mail|attachment|file)
        potentially (?:executable|dangerous|harmful) (?:attachment|content|file)
        вирус
        """,
    ),
    (
        "toomanyconn",
        r"""
        frequency limit
        """,
    ),
    (
        "networkerror",
        r"""
        network error on destination
        host name lookup failure
        """,
    ),
    (
        "blocked",
        r"""
        spamhaus|spamcop|sorbs\.net|barracudacentral|uceprotect|senderbase|invaluement|mail-abuse|abuseat\.org|surriel|psbl\b
        \b(?:dns|ip|rb|ur)bls?\b
        \bdns(?:wl|bl)
        (?:ip|host|server|client|network|range|address|sender|subnet|you|domain)\S*(?: \S+){0,6} (?:is|are|was|has been|have been|been|currently|on|in|by)?(?: \S+){0,3} ?\b(?:black|block|deny|real-?time.{0,10}|reject|bad|ban)[- ]?list
        (?:black|block|deny)[- ]?listed
        listed (?:in|at|on|by) \S*(?:bl|black|block|list)
        \b(?:our|a|the|my|local|internal|this|public|private) (?:black|block|deny|access deny|ban) ?list
        (?:client|connecting|remote|sending|source|your|sender'?s?) (?:host|ip|server|mail server|network|address|ip address|mta|computer|system|isp)(?: \S+){0,4} (?:is |was |has been |are )?(?:temporarily |permanently |currently )?(?:blocked|banned|denied|refused|not allowed|not permitted|rejected for|blocklisted)
        (?:blocked|banned|refused|rejecting|denied|reject|restricted|refusing)(?: \S+){0,4} (?:ip|client host|your (?:ip|host|server|network))\b
        (?:ip|host|connection)s?(?: address)?(?: \S+){0,3} (?:is |was |has been )?(?:blocked|banned|blacklisted)
        blocked (?:for|due to|because of) (?:abuse|spam)
        (?:dynamic|dial-?up|residential|generic|consumer)[ /-](?:ip|address|host|pool|range|broadband|isp|user|client)
        connections? (?:from (?:your|this|the) \S+ )?(?:was |is |are |has been )?(?:refused|rejected|dropped|not accepted|denied|blocked)(?: \S+){0,5} (?:abuse|spam|your ip|policy|reputation)
        ip (?:source )?bloqu
        refused (?:to talk to me|connection).{0,40}(?:blocked|spam|abuse|listed)
        bad (?:helo|ehlo)|(?:helo|ehlo)\b.{0,60}(?:reject|invalid|bad|refused|denied|not resolv|fully-qualified|mismatch|forged|need|impersonat)
        invalid (?:helo|ehlo)
        no access from mail server
        (?:we|this (?:host|server|system)) (?:do|does) not accept (?:mail|connections|messages) from (?:your|this|dynamic|hosts|the|host)
        (?:mail|messages?|connections?) from (?:your )?(?:host|ip|ip address|server|\[?\d+\.\d+\.\d+\.\d+\]?)(?: \S+){0,3} (?:is |are |has been |have been )?(?:not|refused|rejected|denied|blocked|being)
        use the (?:smtp|mail) server of your (?:isp|provider)|use your (?:isp|provider)'?s? (?:smtp|mail)
        mail server ip .{0,40}(?:listed|blocked)
        """,
    ),
    (
        "greylisted",
        r"""
        gr[ea]y[- ]?list
        """,
    ),
    (
        "badreputation",
        r"""
        (?:low|poor|bad|very low|negative|insufficient|sender|ip|domain|network|their|your|server|sending)\S* reputation
        reputation (?:of|is|score|too|filter|for)
        senderscore
        unusual rate of unsolicited mail
        unexpected volume or user complaints
        """,
    ),
    (
        "spamdetected",
        r"""
        (?:identified|detected|classified|considered|recogni[sz]ed|tagged|flagged|marked|categorized|rejected|refused|blocked|scored|determined|treated|denied|regarded|deemed|bounced|reported|filtered|returned|suspected|discarded|dropped|quarantined)(?: \S+){0,3} (?:as|to be|for|being|of|like|because|by|due to)(?: \S+){0,5} \S*(?:spam|ube|uce|junk|bulk mail)\b
        (?:looks|look|appears|seems|seem|smells|likely|probably|suspicious|too much|is|be|very)(?: \S+){0,6} (?:like |as |to be )?\bspam\b
        \bspam\S* (?:message|mail|e-?mail|content|detected|rejected|found|score|refused|block|suspected|denied|check|not accepted|not allowed|filter|probab|level|traffic|reject|dete[ck]t|limit|assassin|is |engine|stop|word|threshold|blacklist|protection|-like)
        (?:message|mail|e-?mail|content|it)(?: \S+){0,4} (?:contain\S*|includ\S*|resembl\S*)(?: \S+){0,5} (?:spam|unsolicited|junk|ube|uce)
        \bspamassassin|\bspamminess|\brspamd
        \b(?:unsolicited|junk|bulk) (?:\S+ ){0,2}(?:mail|e-?mail|message|bulk|content|commercial)
        unsolicited|\bube\b
        (?:high|too high|over|exceeds?|hits)(?: \S+){0,3} spam
        anti-?spam (?:system|filter|engine|policy|rule|check|reject|block|content|measure|\S+ reject)
        (?:spam|junk)[- ]?(?:mail)?[- ]?(?:filter|score|content|rejected|detected|suspicion)
        no spam|is spam|as spam|\bspam\b\s*$|- spam\b|^(?:\d{3} )?(?:[245]\.\d{1,3}\.\d{1,3} )?\W*spam\b
        content (?:rejected|filter)\S*.{0,30}spam
        спам
        message (?:was )?(?:rejected|refused)(?: \S+){0,4} (?:content (?:filter|scan|check|analysis)|cloudmark|messagelabs content)
        mail rejet
        message content rejected|content rejected
        suspicious (?:due to|because of) the (?:very )?(?:low )?(?:nature of the )?content
        """,
    ),
    (
        "policyviolation",
        r"""
        (?:for|due to|because of|by|against|violates?|local|security|our|site) (?:\S+ )?polic(?:y|ies)\b(?: (?:reason|violation|restriction)s?)?
        """,
    ),
    (
        "norelaying",
        r"""
        relay(?:ing)? (?:access |is |was |mail |not |operation |attempt |of mail |to \S+ |this |has been |through |\S+ )?(?:is )?(?:denied|prohibited|rejected|refused|forbidden|disallowed|not (?:permitted|allowed|possible|authori[sz]ed|supported|enabled)|restricted|permitted|blocked|unauthori[sz]ed|disabled|allowed|access)
        (?:unable|not (?:permitted|allowed|able|authori[sz]ed|configured|willing|accept\S*)|cannot|can't|(?:does|do|will) ?n[o']t|refus\S+|no|attempt|denied|must not|isn't allowed|insecure(?: mail)?|without|unauthori[sz]ed|open|third[- ]party|mail)(?: to| for| mail| you)*(?: \S+)? relay
        list of allowed rcpthosts|rcpthosts
        not (?:a )?(?:local|hosted)(?: \S+){0,2} (?:domain|here|gateway)
        no relay
        (?:not (?:a )?gateway|isn't (?:in|on) my list|we do not relay|do not accept mail for)
        (?:domain|host)\S*(?: \S+){0,2} (?:is )?not (?:hosted|handled|served|local)(?: \S+)? here
        email address is not verified
        """,
    ),
    (
        "notcompliantrfc",
        r"""
        \brfc[- ]?\d{3,4}\b(?!;|-header).{0,60}(?:complian|violat|conform|requir|specif|section|reject|header)
        (?:not|non|isn't|aren't|un)[- ]?(?:\S+ )?(?:complian\S+|conform\S*)(?: \S+){0,4} rfc
        (?:duplicate|multiple|missing|invalid|bad|malformed|no valid|several|incorrect|illegal|more than one)(?: \S+){0,3} (?:header|from:|date:|to:|message-id|'?from'? header)
        message is not rfc
        bare (?:lf|cr|<lf>|<cr>|carriage|line ?feed)
        header\S* (?:is|are|was)? ?(?:missing|malformed|invalid|not valid|duplicated)
        """,
    ),
    (
        "mailboxfull",
        r"""
        (?:mail ?box|mail ?drop|inbox|mail ?folder|account|mail ?dir|user|recipient|recipient's \S+|storage|disk|mail spool|home|file ?system|quota|message store)\S*(?: \S+){0,5} (?:is |are |was |being |currently |too |almost |already )+full\b
        \b(?:full|overfull) (?:mail ?box|inbox|mailfolder|account|quota)
        mailbox[ _-]?full|mail ?box:? full|boxfull
        (?:over|exceed\S*|above|out of|beyond|reached|past|at|hit|surpass\S*|no|insufficient|would be over)(?: \S+){0,7} (?:quota|disk allocation|storage (?:allocation|limit|capacity|allotment)|mail ?box size|mailbox (?:limit|storage)|allotted storage|disk space limit|allowed space|storage space|max(?:imum)? mailbox|capacity limit)
        over ?quota|overquota|out of (?:quota|space|storage)
        quota (?:\S+ ){0,3}(?:exceed|violation|reached|full|overrun|is over|overdrawn|limit|used|usage|has been|error|check)
        (?:mail ?box|account|user|recipient)\S*(?: \S+){0,4} (?:exceed\S*|over|has reached|reached|at)(?: \S+){0,5} (?:size|limit|quota|allocation|storage|capacity|space|maximum)
        (?:not enough|insufficient|no|lack of|out of)(?: \S+){0,3} (?:space|storage|room)(?: \S+){0,6} (?:mail ?box|user|recipient|account|inbox|mail ?drop|spool|allocation|for this message|to (?:store|deliver|save))
        not enough disk space
        disk quota
        mailbox (?:size|storage)(?: \S+){0,2} (?:limit|exceed|quota)
        (?:mail|message|it) would exceed
        message (?:size )?(?:would )?exceeds? (?:the )?(?:remaining|available|recipient|user)
        bo[iî]te(?: aux lettres| de r[ée]ception| mail)?(?: \S+){0,4} (?:pleine|satur[ée]e)|quota d[ée]pass
        postfach(?: \S+){0,6} (?:voll|überf|ueberf)|(?:mailbox|speicher\S*|postfach)(?: \S+){0,3} (?:überschritten|voll\b)
        (?:buz[oó]n|cuenta)(?: \S+){0,5} (?:llen[oa]|excedid)|(?:cuota|espacio)(?: \S+){0,3} excedid
        casella(?: \S+){0,5} piena|quota superata
        caixa(?: \S+){0,5} cheia|cota excedida
        (?:ящик\S*|квот\S*|хранилищ\S*)(?: \S+){0,5} (?:переполнен|заполнен|превышен|исчерпан)|переполнен|(?:превышен\S*|исчерпан\S*)(?: \S+){0,3} (?:квот|лимит|размер ящика|места)
        skrzynka(?: \S+){0,4} (?:pełna|przepełnion)
        mailbox(?: \S+){0,3} (?:vol|is vol)\b
        メールボックス.{0,20}(?:容量|いっぱい|満杯|超え)
        """,
    ),
    (
        "expired",
        r"""
        (?:envelope|message|delivery time|lifetime|retry timeout) (?:has )?(?:expired|exceeded)
        did not accept our requests to connect
        """,
    ),
    (
        "exceedlimit",
        r"""
        message (?:length|size) exceeds administrative limit
        too (?:large|big|long) for (?:this |the )?(?:recipient|user|mailbox)
        (?:recipient|user|mailbox)\S*(?: \S+){0,4} (?:can ?not|does not|doesn't|limit\S*)(?: \S+){0,4} messages (?:of|larger|bigger|over|this)
        """,
    ),
    (
        "mesgtoobig",
        r"""
        (?:message|mail|e-?mail|content|body|data|file|attachment|it|size)\S*(?: \S+){0,4} (?:is |was |are )?(?:too|exceedingly) (?:big|large|long)
        (?:message|mail|e-?mail|data)(?: \S+){0,5} (?:exceed\S*|larger|greater|bigger|over)(?: \S+){0,6} (?:size|maximum|limit|length|bytes|\d+ ?[mk]b)
        \bsize(?: \S+){0,5} (?:exceed\S*|over|larger than|greater than)(?: \S+){0,4} (?:limit|max\S*|size|allowed|permitted|fixed|\d+)
        (?:exceed\S*|over)(?: \S+){0,4} (?:max\S*|fixed|allowed|global|permitted|server'?s?)(?: \S+){0,2} (?:message |mail )?(?:size|length)
        (?:larger|bigger|greater) than(?: \S+){0,3} (?:limit|size|allowed|accept|maximum|server)
        size limit(?: \S+){0,2} exceed
        слишком больш
        zu gro(?:ß|ss)
        trop (?:gros|volumineu)
        """,
    ),
    (
        "toomanyconn",
        r"""
        too many (?:simultaneous |concurrent |open |smtp |tcp |invalid |mail |e-?mail |bad |unknown |different |\S+ )?(?:connections?|sessions?|messages?|recipients|mails?|e-?mails?|errors|hosts|commands|requests|threads|incoming|emails|rcpt|transactions|smtp|concurrent|deliveries|login|logins|unknown)
        \b(?:rate|ratelimit|throughput|connection|sending|message|hourly|daily|concurrency|session|recipient|delivery|send|per[- ]\S+)[- ]?(?:rate |count )?(?:limit|limits|limiting|limited|throttl\S+|quota)
        throttl
        (?:exceed\S*|over|reached|hit|above|surpass\S*)(?: \S+){0,7} (?:rate|number of (?:messages|connections|recipients|mails?|emails)|per[- ](?:hour|day|minute|connection|session|second)|(?:messages|recipients|connections|emails?|mails?) (?:per|in|limit|an|a)|sending limit|daily|hourly|max(?:imum)? (?:number|sending|connections))
        max(?:imum)? (?:number of )?(?:simultaneous |concurrent |allowed |sending )?(?:connections|sessions|recipients|messages|errors|emails|mails|smtp|sending rate|rate)
        (?:sending|receiving|coming|received)(?: \S+){0,5} (?:too (?:fast|quickly|many|much|frequently|often)|at a rate)
        (?:try|connect|slow)(?: \S+){0,2} (?:slower|down)\b
        receiving mail at a rate|rate that
        """,
    ),
    (
        "blocked",
        r"""
        (?:refused|refuses) to talk to me
        """,
    ),
    (
        "rejected",
        r"""
        not (?:a )?member of (?:this|the)|posting to (?:this|the) list
        (?:sender|mail from|envelope|return[- ]path|originat\S+|reverse[- ]path|your (?:e-?mail )?(?:address|domain|name|envelope))[- ]?(?:address|e-?mail address|domain|name|envelope|e-?mail)?:? ?(?:\S+ ){0,4}(?:is |was |has been |were )?(?:rejected|refused|denied|not (?:accepted|allowed|permitted|verified|found|exist)|invalid|does not exist|doesn't exist|unverif\S+|not verif\S+|blocked|blacklisted|not in (?:the )?dns|must resolve|banned|unknown|cannot be resolved|does not resolve|forbidden|unacceptable|undeliverable|could not be verified|verify fail\S+|could not be resolved)
        (?:reject\S*|refus\S*|denied|invalid|bad|block\S*|unknown|unverif\S+|illegal|deny|verify|verifying|forged|spoofed|unacceptable|blacklisted)(?: \S+){0,3} (?:sender|envelope[- ]?(?:from|sender|address)|mail from|from address|return path|originator|reverse-path|from: |sending domain)
        (?:domain|address) of (?:the )?(?:sender|sender'?s? address|sender address \S+)(?: \S+){0,4} (?:not|does|doesn't|could|cannot|invalid|is)
        domain (?:of|in) sender address
        no (?:mail|mx|a record|dns|such|valid|mailbox|mails?)(?: \S+){0,4} (?:sender|mail from|from your domain|from you)
        (?:do not|does not|don't|will not|won't|cannot|not|only|doesn't)(?: \S+){0,3} (?:accept|allow|want|receive|permit|take)(?:s|ed|ing)?(?: \S+){0,4} (?:from (?:you|your (?:domain|address)|this sender|this domain|unknown|that domain|known|sender|senders|that|the sender|outside|external|address|domain|this address)|sender)
        groups\.google\.com|google groups|the group you tried to contact
        not authori[sz]ed to (?:send|use|deliver|submit)(?: \S+){0,6} (?:from|as|on behalf|to this|to the|with)
        (?:senders?|you)(?: \S+){0,3} (?:not|n't|isn't)(?: \S+){0,2} (?:allowed|authori[sz]ed|permitted|accepted|in (?:the|my|our)|on (?:the|my|our))
        (?:empty|null) (?:envelope )?(?:sender|senders|return|envelope|from)s?
        sender(?:'s)? (?:verify|verification|callback|call-?out|address verification)
        not accepting mail with (?:attachments|embedded)
        backscatter
        <> (?:sender|invalid|is)
        purported responsible address
        adresse d(?:e |')(?:l')?exp[ée]diteur
        отправител\S*(?: \S+){0,5} (?:отклон|запрещ|не (?:найден|существ)|заблокир)
        """,
    ),
    (
        "suspend",
        r"""
        (?:account|mail ?box|user|recipient|address|inbox|mail account|e-?mail|login|customer|domain|service|subscription|subscriber|addressee)\S*(?: \S+){0,9} (?:is|are|was|has been|been|has|being|currently|temporarily|recipient|am|were|seems)(?: \S+){0,3} (?:disabled|suspended|locked|inactive|deactivated|not active|inactivated|closed|frozen|blocked|expired|terminated|cancell?ed|restricted|on hold|archived|barred|dormant|disconnected|limited|over due|overdue)\b
        (?:disabled|suspended|locked|inactive|deactivated|closed|frozen|expired|terminated|dormant|blocked|non-?active)(?: \S+)? (?:account|user|mail ?box|recipient|e-?mail|customer|address|addressee|mail account)
        (?:account|mail ?box|user|recipient)[ :_-]{0,3}(?:disabled|suspended|locked|inactive|deactivated|closed|frozen|expired|blocked)
        (?:user|account|mailbox|recipient)\S*(?: \S+){0,3} temporar\S+ (?:locked|disabled|suspended|blocked)
        not (?:been )?(?:logged|accessed|used|signed) (?:in|into|on|for|recently)?
        (?:аккаунт|ящик|пользовател|уч[её]тная запись|адрес)\S*(?: \S+){0,4} (?:заблокирован|отключ[её]н|приостановлен|неактив|деактивирован)
        (?:konto|postfach)(?: \S+){0,4} (?:gesperrt|deaktiviert)
        compte(?: \S+){0,4} (?:d[ée]sactiv|suspendu|bloqu|inactif|ferm[ée])
        cuenta(?: \S+){0,4} (?:desactivad|suspendid|bloquead|inactiv)
        """,
    ),
    (
        "hasmoved",
        r"""
        (?:user|recipient|mail ?box|address|account|he|she|person|addressee|employee)\S*(?: \S+){0,4} (?:has|have|is|was)(?: \S+)? (?:moved|relocated|been replaced|been changed|migrated)
        (?:address|mailbox)(?: \S+){0,4} (?:has )?changed(?: \S+){0,2} to
        new (?:e-?mail )?address(?: \S+){0,3} (?:is|:)
        (?:please )?(?:use|try|send|forward)(?: \S+){0,4} (?:new (?:e-?mail )?address|<address> instead)
        please try <address>
        user not local; (?:please|will|try)
        has been replaced by
        """,
    ),
    (
        "hostunknown",
        r"""
        (?:recipient|destination|remote|target|mail|e-?mail|the|this|that|recipient's|to)?(?: |^)(?:domain|host|server|hostname|host name|site)(?: name| \([^ ()]+\)| \S+\.\S+)?(?: or domain(?: name)?)? ?(?:is |was |could |can ?|does |did |has |:)*(?:not (?:be )?(?:found|exist|known|valid|resolved|resolve|located|registered)|n't exist|non-?exist\S*|not be (?:found|resolved|located)|unknown|invalid|unresolvable|been (?:deleted|expired)|lookup failed|expired)
        (?:unknown|invalid|no such|non-?existent|nonexistant|unrout\S+|unresolvable|bad|unregistered|cannot resolve|can't resolve|could not resolve|unable to resolve|couldn't (?:find|resolve)|can't find|cannot find|unable to find|could not find|did not find|cannot route to|unreachable)(?: (?:any|a|the|such|mail|e-?mail|destination|recipient|remote|target|dns|ip|of|mail exchanger?|your|that|this))* (?:domain|host|hostname|host name|mail server|mx host|mail exchanger|route to domain|internet host|gateway|dns)\b(?! (?:reject|block|is block|denied|said|from|ip))
        no (?:a|mx|dns|such|valid)(?:,? (?:or|and|/)? ?(?:a|mx|aaaa|ns|dns|valid))* (?:record|host|domain|dns|entry|mail exchanger)s?
        no mx (?:found|for)|nonexistentdomain
        (?:nxdomain|host_not_found|hostnotfound|bad destination (?:host|system|mailbox system))
        unroute?able (?:mail )?(?:domain|address)
        all (?:relevant )?(?:mx records point|host address lookups failed)
        name (?:or service not known|not resolved|does not resolve)
        (?:illegal|invalid|bad) (?:host|domain)(?:/domain)? (?:name )?(?:found|in address)
        (?:домен|хост|узел)\S*(?: \S+){0,4} (?:не (?:найден|существует|зарегистрирован)|неизвест)
        (?:domain|rechner|server)(?: \S+){0,3} (?:nicht gefunden|existiert nicht|unbekannt)
        domaine(?: \S+){0,4} (?:inexistant|inconnu|n'existe)
        """,
    ),
    (
        "userunknown",
        r"""
        (?:user|recipient|mail ?box|account|address|addressee|alias|local[- ]?part|destination|username|name|login|person|customer|subscriber|inbox|recipients|mail account|mail address|e-?mail|user name|user id|userid|entry|contact|mailing list|list|group|user account|<address>)\S*(?: \S+){0,6} (?:is |was |does |could |can ?|has |are |did |been |were |do |seems |appears |to be |recipient |longer |a )*(?:not (?:be )?(?:found|exists?|known|valid|registered|located|recogni[sz]ed|listed|resolved|present|recogni[sz]e|a (?:valid|known|local)|our|here|on this|available here|have an?)|n't (?:exist|have|found|a valid|known|recogni[sz]ed|listed|listed in|here)|non-?exist\S*|not (?:in|on|at) (?:the|this|our|my|here)|unknown\b|invalid\b|unrecogni[sz]ed|no longer|does not accept|incorrect|unreachable|void|been (?:deleted|removed|discontinued|terminated|retired)|deleted|misspelled|not local|not exist|left|unlisted|ambiguous|non valid|not valid|nonexist\S*|missing)
        (?:unknown|invalid|no such|non-?existent|nonexistant|no|bad|unrecogni[sz]ed|incorrect|not a valid|not a known|unable to find|could not find|couldn't find|cannot find|can't find|illegal|undefined|undeliverable|wrong|isn't a|not an? (?:valid|existing|known|active)|dead|not our|unknown or illegal|unable to locate|does not have an?|doesn't have an?|don't have an?|there is no|there's no|unrouteable|unroutable|unreachable|obsolete|failed to find|not find|no valid)(?: (?:any|a|an|the|such|local|mail|e-?mail|destination|virtual|final|delivery|such|single|intended|valid|active|smtp|or|illegal|/|specified|\S+))? (?:user|recipient|mail ?box|account|address|addressee|alias|local[- ]?part|username|person|customer|subscriber|userid|rcpt|inbox|name|mail-box|recipients|users|mailboxes|mailuser|addresses|user id|user name|destination)\b(?! (?:is |was )?(?:full|disabled|over|denied|sender))
        nosuchuser|no such (?:user|person|address|recipient|mailbox|account|name|alias)|user ?unknown|unknown ?user|mailbox ?not ?found|recipnotfound|recipientnotfound|mailbox unavailable|invalid ?recipient|account ?not ?found|nouser\b|bad-?rcpt|recipient ?not ?found|not our customer
        (?:he|she|this (?:person|user|employee)|user)(?: \S+)? (?:no longer|not longer|does not|doesn't|has left|is not)(?: \S+){0,2} (?:works?|employed|with (?:us|the)|here|here\b|receiv|exist|at this|longer)
        (?:no mail ?box|no mailbox here|mailbox (?:does not|doesn't)|doesn't have a \S+ account|not have a \S+ account|not a (?:valid|known|registered) (?:mailbox|user|address|recipient))
        (?:can ?not|could not|unable to|can't) (?:be )?(?:found|find|verify|locate|resolve|match|recogni[sz]e|deliver to)(?: \S+){0,3} (?:user|recipient|mailbox|address|account|addressee|rcpt|to address)\b
        recipient (?:address )?rejected: (?:undeliverable|unknown|access denied|user|invalid|no such|not|unverified|address|recipient|mailbox|virtual|<address>:? )
        not listed in (?:domino|public name|the|name)
        (?:delivery not authori[sz]ed to) (?:nobody)
        (?:not|n't)(?: \S+){0,5} in(?: \S+){0,3} (?:directory|address book)
        access denied\. ?(?:as|\[)
        your (?:e-?)?(?:mail|message|envelope) recipient
        no one(?: here)? (?:by|with) that name
        by that name
        (?:пользовател\S*|адресат\S*|получател\S*|ящик\S*|адрес\S*|аккаунт\S*)(?: \S+){0,6} (?:не (?:найден|существ|обнаружен|зарегистрирован|извест)|неизвест|неверн|недействит|удал[её]н|отсутств)
        (?:нет так\S+|не существует так\S+|несуществующ\S+|неизвестн\S+|неверн\S+)(?: \S+){0,2} (?:пользоват|адрес|ящик|получат|аккаунт)
        (?:empf[äa]nger\S*|benutzer\S*|adresse|postfach|konto|mailbox|nutzer|teilnehmer)(?: \S+){0,6} (?:unbekannt|nicht (?:gefunden|bekannt|vorhanden|existent|existiert|existieren|mehr|g[üu]ltig|erreichbar|eingerichtet)|existiert nicht|ung[üu]ltig|unzustellbar)
        unbekannter? (?:empf|benutzer|adress)
        (?:utilisateur|destinataire|adresse|compte|bo[iî]te|usager|bal)\S*(?: \S+){0,6} (?:inconnue?|inexistante?|n'existe|introuvable|invalide|non trouv|erron[ée]e|n'est pas)
        adresse d\S* au moins un destinataire
        (?:usuario|destinatario|direcci[óo]n|cuenta|buz[óo]n|endere[çc]o|utilizador|conta|caixa|destinat[áa]rio|utente|indirizzo|casella|account)\S*(?: \S+){0,6} (?:desconocid|no (?:existe|encontrad|v[áa]lid)|inexistente|n[ãa]o (?:existe|encontrad)|inv[áa]lid|sconosciut|inesistente|non (?:esiste|trovat|valid)|desconhecid)
        (?:u[żz]ytkownik|adres|skrzynka|konto|odbiorca)\S*(?: \S+){0,6} (?:nie (?:istnieje|znalezion)|nieznan|nieprawid)
        (?:gebruiker|ontvanger|adres|postbus|mailbox)\S*(?: \S+){0,6} (?:onbekend|niet (?:gevonden|bekend|bestaat)|bestaat niet)
        (?:ユーザ|宛先|アドレス|メールアドレス).{0,20}(?:不明|存在し|見つかり|見つから|ありません|間違)
        ディレクトリ.{0,10}見つかり|non r[ée]pertori[ée]\S* dans
        收件人|用户不存在
        """,
    ),
    (
        "failedstarttls",
        r"""
        (?:starttls|tls|ssl|certificate)\b.{0,60}(?:fail|required|not available|error|invalid|expired|refused|mismatch|negotiat|handshake|first|needed|unavailable)
        must issue a starttls
        """,
    ),
    (
        "securityerror",
        r"""
        authentication (?:is )?(?:required|failed|failure|turned on|needed|unsuccessful|credentials|denied|rejected|error|must)
        (?:smtp )?auth(?:entication)? (?:is )?(?:required|failed|mechanism)
        not (?:properly )?authenticated|must (?:first )?authenticate|(?:please|must) (?:log ?in|authenticate|check your mail|pop)|log ?in first|sorry, you must
        (?:delivery|message|you are|sender|you're|user|client|submission|recipient|insufficient|access|group) (?:is |was )?not (?:authori[sz]ed|permitted to|have permission)
        you (?:are not|do not have|don't have|have no|aren't)(?: \S+){0,3} (?:permi\S+|authori[sz]ed|allowed|access|rights?)
        (?:insufficient|no|lacks?|without)(?: \S+){0,2} (?:permission|privilege|rights|authori[sz]ation|security)
        permission denied
        resources? restricted|recipientrestricted
        security (?:policy|violation|error|reason|restriction|failure)
        (?:executable|attachment|zip|file)\S*(?: \S+){0,4} (?:not allowed|prohibited|forbidden|blocked|rejected|not permitted|is not accepted|disallowed)
        blocked (?:file|attachment|extension)
        """,
    ),
    (
        "policyviolation",
        r"""
        (?:local|security|administrative|site|company|our|message|content|server|the|mail|e-?mail|sending|corporate|system|delivery|domain|acceptable use|usage|organization\S*|user|recipient|smtp|dbl|5\.7\.\d|compliance|it|acceptance|inbound|by|for|of|due to|to) polic(?:y|ies)\b
        polic(?:y|ies) (?:reject|violation|reason|restriction|block|does|prohibit|deny|denies|enforce|rule|filter|reasons|settings)
        (?:prohibited|banned|forbidden|unacceptable|disallowed|objectionable|restricted|illegal|inappropriate) (?:content|attachment|file|url|word|link|phrase|message|body|subject|extension|language)
        (?:attachment|message|content|url|link|mail|subject|body|e-?mail)\S*(?: \S+){0,5} (?:prohibited|banned|forbidden|disallowed|not allowed|not permitted|against our|violat\S+|unacceptable|potential security issue)
        violat(?:es|ion|ed|ing)
        administrative(?:ly)? (?:prohibition|prohibited|denied|rejected|reject)
        blocked because its content
        header error
        potential security (?:issue|risk|threat)
        """,
    ),
    (
        "systemfull",
        r"""
        (?:insufficient|not enough|no|out of|low on|lack of)(?: \S+){0,2} (?:system|disk|server|file ?system|queue|spool|device|storage|memory)(?: \S+){0,2} (?:storage|space|resources?|left|memory|full)?
        (?:disk|file ?system|spool|queue|device|server|system)\S* (?:is )?full
        """,
    ),
    (
        "expired",
        r"""
        (?:delivery|message|retry|maximum|queue|connection|time|mail|session|operation|delivery time|retries|it|been|life ?time|lookup|hold|allowed|conversation|smtp)\S*(?: \S+){0,4} (?:expired|timed? ?-?out\b|time ?out)
        (?:could not|unable to|not|can ?not|cannot|couldn't|has not been|wasn't|has not yet been|not yet|still)(?: \S+){0,5} (?:within|for|in|after|in the last|since|during|over)(?: \S+){0,4} (?:hours?|days?|minutes?|weeks?|time|period|attempts|seconds|retries|\d+h)\b
        (?:in|on|within) (?:the )?queue(?: \S+){0,2} (?:too long|for|longer|expired)
        too long in (?:the )?queue|queued too long|undeliverable for|been queued|too old
        retry (?:time|timeout|limit|count|period)(?: \S+){0,3} (?:not reached|exceeded|expired|reached)
        (?:failed|after|tried) \d+ (?:attempts|times|tries)
        (?:giving up|given up|gave up|max\S* (?:\S+ )?(?:attempts|retries|tries))
        delivery (?:is |has been |was |to \S+ )?(?:temporarily |been )?(?:delayed|deferred|postponed)
        (?:warning|message|mail)(?: \S+){0,3} (?:still )?(?:delayed|undelivered after)
        will (?:continue|keep) (?:to )?(?:be )?(?:retr|try|attempt)
        timed out|timeout
        истек|не удалось доставить(?: \S+){0,4} (?:в течение|за)
        """,
    ),
    (
        "networkerror",
        r"""
        (?:connection|connect|network|socket|route|routing|host|server|link|session|dialogue|gateway|tcp|remote|mx|dns|destination)\S*(?: \S+){0,5} (?:refused|unreachable|reset|closed|lost|dropped|broken|failed|aborted|down|fail\b|failure|terminated|not (?:available|responding|reachable|respond)|unavailable|did not respond|disconnect\S*|died|interrupted|cannot be reached|could not be (?:established|reached)|wasn't able to establish|no answer|no response)
        (?:could not|unable to|can ?not|can't|couldn't|cannot|failed to|wasn't able to) (?:be )?(?:connect\S*|contact\S*|reach\S*|establish\S*|open|communicate|talk)
        name service error
        (?:no route|broken pipe|bad connection|connection dead)
        (?:mail|routing|forwarding|message|alias) loop|loops? back|too many hops|hop count|looping|excessive hops|loop detected|routing-loop
        (?:mx|dns|name ?server|a record|domain name)(?: \S+){0,6} (?:fail\S*|error|not respond|timed out|temporar\S+|loop\S*|point\S*|misconfigur\S*|malformed|problem|lookup)
        network error
        """,
    ),
    (
        "mailererror",
        r"""
        (?:command|process|program|pipe|child|filter|exit|procmail|maildrop|mailer|unknown mailer|vacation|agent|x-unix;)\S*(?: \S+){0,4} (?:exited|returned|failed with|error|exit status|exit code|died|terminated|status|signal|aborted|failed|output)
        exit (?:status|code|value)|unknown mailer error|mailer error|\bpipe to\b|pipe\|
        """,
    ),
    (
        "systemerror",
        r"""
        (?:system|server|internal|configuration|config|local|software|program|database|i/o|ldap|lookup|memory|resource|misc|processing|input/output|file|backend|storage|disk|queue|operating|unexpected|general|resources)\S*(?: \S+){0,2} (?:error|failure|problem|errors|fault|misconfigur\S*|trouble|exception|failed|unavailable|busy|overload\S*)
        (?:can't|cannot|can not|couldn't|could not|unable to|failed to) (?:\S+ )?(?:create|open|write|lock|read|access|stat|load|process|accept|append|rename|allocate|execute|exec|fork|map|complete|look ?up|chdir|move|move to)
        service refus
        service (?:currently |is |temporarily |not )*(?:unavailable|not available|down)
        (?:out of memory|overload|busy|aliasing|misconfigured|config\S* mistake|loops back to me|local configuration|mx preference|best mx|all delivery|out of resources|insufficient resources|not accepting (?:messages|mail|network messages)|shutting down|system not)
        mail (?:for \S+ )?loops back
        """,
    ),
    (
        "syntaxerror",
        r"""
        (?:syntax|command)(?: \S+){0,2} (?:error|not (?:recogni[sz]ed|implemented|understood)|unrecogni[sz]ed|invalid|out of)
        (?:bad|invalid|unrecogni[sz]ed|unknown|unimplemented|wrong) (?:sequence|command|argument|parameter|syntax)
        """,
    ),
    (
        "contenterror",
        r"""
        (?:8 ?bit|smtputf8|utf-?8|charset|encoding|mime|conversion|unicode|internationali[sz]\S+|format|line length|line too long|lines?)\b(?: \S+){0,5} (?:not|required|error|fail\S*|too long|unsupported|prohibited|invalid|cannot|can't|reject\S*|exceed\S*)
        (?:improper|malformed|invalid|bad|broken|incomplete|corrupt\S*)(?: \S+){0,2} (?:mime|format|message|content|body|data|structure|encoding|header)
        headers? too (?:large|long|big)
        content error
        (?:message )?content (?:not accept\S*|filter\S*|is not|unacceptable)
        """,
    ),
    (
        "filtered",
        r"""
        (?:user|recipient|addressee|customer|subscriber|account|mail ?box)\S*(?: \S+){0,5} (?:reject\S*|refus\S*|not accept\S*|filter\S*|block\S*|restrict\S*|declin\S*|does not (?:want|wish)|only accept\S*|configured|setting|has not|discard\S*)
        (?:rejected|refused|blocked|filtered|declined|discarded|deleted|stopped) (?:\S+ )?by (?:the )?(?:user|recipient(?! (?:domain|server|host))|addressee|customer|subscriber|filter|rule|user-level)
        message filtered
        due to extended inactivity|user not (?:accept|allow)
        """,
    ),
)
_WEAK = _rules(
    (
        "blocked",
        r"""
        \b(?:blocked|banned|blocklist|blacklist|access denied|client host|connection refused|access to this|denied by|go away|not welcome|abus(?:e|ive)|no access|prohibited from)
        """,
    ),
    ("spamdetected", r"\bspam"),
    (
        "userunknown",
        r"""
        \b(?:no|not|unknown|invalid|bad)\b(?: \S+)? (?:user|mailbox|recipient|address|account)\b
        """,
    ),
    ("expired", r"\b(?:delay|deferred|defer|expire)"),
    ("policyviolation", r"\b(?:policy|prohibited|forbidden|not allowed|not permitted|denied)\b"),
    ("filtered", r"\b(?:filter|reject|refus|declin|discard)"),
)
