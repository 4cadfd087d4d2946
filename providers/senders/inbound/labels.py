"""What an answer means: rules as data, in the order in which they are asked. Pure.

An opt-out wins over everything, then what says no, and only what is left can be a yes: "not interested" contains
"interested". What stands behind a word that turns it round is taken out first.
"""

import re
from enum import StrEnum

VERSION = "2026-11-24.2"

# Of a longer text its start and its end are read.
LONGEST = 8000


class Label(StrEnum):
    """What an answer means for whoever wrote to its sender."""

    INTERESTED = "interested"
    QUESTION = "question"
    NOT_INTERESTED = "not_interested"
    NOT_NOW = "not_now"
    WRONG_PERSON = "wrong_person"
    OPT_OUT = "opt_out"
    OUT_OF_OFFICE = "out_of_office"
    AUTO_REPLY = "auto_reply"
    OTHER = "other"


def label_of(text: str, subject: str = "", *, signed: str = "", automatic: bool = False) -> tuple[Label, str]:
    """The label of an answer and the words that decided it, empty where none did.

    `text` is without quotes and signature, `signed` the same with signature: an opt-out counts there too. `automatic`
    says that no person wrote it: then only an opt-out, an absence, or that somebody has left can be read from it.
    """
    plain = _plain(text)
    if found := _first(_OPT_OUT, _NO_OPT_OUT.sub(" ", _plain(f"{text}\n{signed}"))):
        return Label.OPT_OUT, found
    if _STOP_SUBJECT.fullmatch(subject.strip()):
        return Label.OPT_OUT, subject.strip()[:200]
    if automatic:
        about = f"{_plain(subject)}\n{plain}"
        for label, patterns in ((Label.WRONG_PERSON, _LEFT), (Label.OUT_OF_OFFICE, _AWAY)):
            if found := _first(patterns, about):
                return label, found
        return Label.AUTO_REPLY, ""
    for label, patterns in _ORDER:
        searched = _NOT_NEGATIVE.sub(" ", plain) if label is not Label.INTERESTED else plain
        if found := _first(patterns, searched):
            return label, found
    if match := _QUESTION_MARK.search(_URL.sub(" ", plain)):
        return Label.QUESTION, match[0].strip()[-200:]
    return Label.OTHER, ""


def _plain(text: str) -> str:
    """Lower case, one blank between words, no empty lines: what the patterns below expect."""
    if len(text) > LONGEST:
        text = f"{text[: LONGEST - 2000]}\n{text[-2000:]}"
    text = text.lower().replace("’", "'").replace("`", "'").replace("ё", "е")
    lines = (" ".join(_LONG_WORD.sub(r"\1", line).split()) for line in text.split("\n"))
    return "\n".join(line for line in lines if line)


def _first(patterns: list[re.Pattern[str]], text: str) -> str:
    for pattern in patterns:
        if match := pattern.search(text):
            return re.sub(r"\s+", " ", match[0]).strip()[:200]
    return ""


def _rules(*languages: str) -> list[re.Pattern[str]]:
    """One pattern a language or two; a blank in it is a blank or the end of a line."""
    return [
        re.compile(
            "|".join(f"(?:{line.strip().replace(' ', _GAP)})" for line in lines.strip().splitlines()), re.I | re.M
        )
        for lines in languages
    ]


_GAP = r"\s"
_LONG_WORD = re.compile(r"(\S{60})\S+")
_URL = re.compile(r"(?:https?://|www\.)\S+")
_QUESTION_MARK = re.compile(r"[^.!?\n]{0,150}[?？]")

_STOP_SUBJECT = re.compile(
    r"\W*(?:(?:re|fwd?|aw)\s*:\s*)?(?:unsubscribe(?: me)?(?: [\w-]{40})?|stop|remove(?: me)?|opt[- ]?out|abmelden|abmeldung|d[ée]sabonner|d[ée]sinscription|baja"
    r"|cancellami|cancellazione|descadastrar|wypisz|rezygnacja|afmelden|uitschrijven|отписаться|отписка|отпишите(?: меня)?|стоп)\W*",
    re.I,
)
# Mentions that ask for nothing: footers, and the same words turned round.
_NO_OPT_OUT = re.compile(
    r"(?:click|tap|press|if you|to|you (?:can|may)|link to|how (?:to|do i|can i|do \w+))\s+(?:\w+\s+){0,6}(?:unsubscribe|opt[- ]?out)\b(?! me\b| us\b)"
    r"|unsubscribe (?:link|here|button|at any time|rate|page|from this list\s*[:<\[|])|\bunsubscribe\s*[<\[|(]"
    r"|(?:do not|don't|please don't|never|not|no need to|didn't|did not|mistakenly|accidentally) (?:want to |wish to |mean to |ask to )?(?:remove|unsubscribe|delete|take|opt|stop|exclude)(?: \w+)?"
    r"|unsubscribed? (?:by accident|by mistake|accidentally)"
    r"|не (?:надо |нужно )?(?:отписывайте|удаляйте|исключайте|убирайте)|(?:чтобы|если хотите|для того чтобы|можно) (?:\w+ ){0,3}отписаться"
    r"|um sich (?:\w+ ){0,4}abzumelden|pour (?:vous|se) d[ée]sabonner|para darse de baja|per (?:disiscriversi|cancellarsi)"
    r"|why (?:would|should) (?:i|we|anyone) (?:unsubscribe|stop)",
    re.I,
)

_OPT_OUT = _rules(
    r"""
    ^\W*(?:please )?(?:unsubscribe|stop|remove|opt[- ]?out|remove me|unsubscribe me|take me off|stop it|stop this|stop please|unsub)(?: please)?(?:,? (?:thanks|thank you))?\W*$
    unsubscribe (?:me|us|this|my|immediately|now|from|please|asap)
    (?:please|kindly|must|want to|wish to|like to|pls|need to|just) (?:be )?unsubscribed?
    unsubscribe,? (?:please|pls|thanks)
    (?:remove|delete|take|drop|exclude|strike|erase|scrub|cancel|get|leave) (?:me|us|my|our|this|the|all)(?: \S+){0,5} (?:from|off|out of)(?: \S+){0,4} (?:list|lists|database|db|mailings?|system|e-?mails?|records|crm|distribution|contacts|subscription|sequence|campaign|newsletter|outreach|mail)
    (?:remove|delete|erase) (?:me|us|my (?:e-?mail|address|data|details|contact|name|info|information|personal)|our (?:e-?mail|address|data)|this (?:e-?mail|address))
    take (?:me|us|my \S+|this \S+) off
    opt (?:me |us )?out(?! of the)
    (?:want|wish|like) to opt[- ]?out
    (?:stop|quit|cease|discontinue|refrain from|no longer)(?: \S+){0,2} (?:e-?mailing|mailing|contacting|sending|spamming|messaging|writing|bothering|soliciting|harassing|cold[- ]?(?:e-?)?mail\w*|reaching out)
    (?:stop|no more|enough)(?: \S+){0,2} (?:e-?mails|mails|messages|spam|newsletters|communications?|follow[- ]?ups|solicitations?|outreach)
    (?:do not|don't|dont|never|please not|not to|shouldn't)(?: ever)? (?:e-?mail|contact|write(?: to)?|message|bother|spam|mail|approach|solicit|reach out to) (?:me|us|this|here|again|any ?more|anyone)
    (?:do not|don't|dont|never|not) send (?:me|us|any|this|these|such|further|more)(?: \S+){0,3} (?:any ?more|again|further|e-?mails?|mails?|messages?|offers?|spam|newsletters?|things|stuff|unsolicited|like this|materials?)
    (?:do not|don't|no longer)(?: \S+)? (?:want|wish|like|care) to (?:receive|get|hear|be contacted|be e-?mailed)
    (?:do not|don't) (?:want|need) (?:your|these|any|any more|such|more)(?: \S+)? (?:e-?mails?|mails?|messages?|spam|newsletters?)
    leave (?:me|us) alone|go away\W*$|get lost|f\S{0,3}k off
    lose my (?:e-?mail|address|number|contact)
    (?:right to (?:erasure|be forgotten)|article 17|gdpr (?:request|deletion|removal|erasure))
    (?:this is|it's|is|just|considered|pure|such) (?:unsolicited )?spam\b
    (?:reported|reporting|report|mark(?:ed|ing)?|flag(?:ged|ging)?|block(?:ed|ing)?)(?: \S+){0,4} (?:as|for) spam
    (?:i will|i'll|i have|i've|going to|am) (?:report|block|reporting|blocking|reported|blocked)(?:ed)? (?:you|this|your)
    (?:not|never) (?:consent|sign(?:ed)? up|subscribe|opt(?:ed)? in)\S*(?: \S+){0,4} (?:e-?mails?|list|newsletter|this|contact\S*)
    """,
    r"""
    ^\W*(?:стоп|отписка|отписаться|отпишите|отпишитесь|отпиши|удалите|удалите меня|хватит|не пишите|спам)(?:,? (?:пожалуйста|спасибо))?\W*$
    отпи(?:шите|шитесь|сать|ши|шусь|сываюсь)(?:,? (?:пожалуйста,? )?(?:меня|нас|мой|мою|наш|этот|от|из|с|адрес|пожалуйста))
    (?:хочу|хотел\w*(?: бы)?|прошу|просим|хотим|желаю|как|нужно|надо) отписаться
    (?:прошу|просим|требую|просьба)(?: \S+)? отписать
    отписываюсь|отстаньте|отвалите|отвяжитесь|оставьте (?:меня|нас) в покое
    (?:удалите|уберите|исключите|вычеркните|удалить|убрать|исключить|снимите|вычеркнуть)(?:,? пожалуйста,?)? (?:меня|нас|мой|мою|мои|моей|наш|нашу|наши|этот|эту|данный|контакт\w*|адрес|почту)
    (?:удалите|уберите|исключите|удалить|исключить|убрать)(?: \S+){0,4} (?:из|с) (?:\S+ )?(?:баз\w*|рассыл\w*|списк\w*)
    (?:больше )?не (?:пишите|беспокойте|тревожьте|спамьте|звоните)(?: \S+){0,2} ?(?:мне|нам|больше|сюда|нас|меня|на этот|никогда|пожалуйста|[.!]|$)
    больше (?:мне |нам |сюда )?не (?:пиши|присылай|отправляй|шли|беспоко)\w*
    не (?:присылайте|отправляйте|шлите|направляйте|высылайте)(?: \S+){0,3} ?(?:мне|нам|больше|сюда|ваш\w*|писем|письма|спам|рассыл\w*|предложени\w*|реклам\w*|подобн\w*|такое|это|[.!]|$)
    (?:прекратите|перестаньте|хватит|прекращайте|завязывайте|прекратить|заканчивайте)(?: \S+){0,3} ?(?:рассыл\w*|слать|писать|присылать|отправлять|спам\w*|беспокоить|письма|отправку|высылать|засорять)
    (?:не хочу|не желаю|не хотим|не желаем)(?: больше)? получать
    не (?:давал\w*|даю|давали)(?: \S+)? соглас
    (?:отзываю|отзываем)(?: \S+)? соглас
    (?:это|ваш|чистый|ваше письмо) ?[-—]? спам\b
    (?:пожалуюсь|жалоба|жалобу|пожалуемся|буду жаловаться|жалуюсь)(?: \S+){0,4} ?(?:спам|фас|роскомнадзор|рассыл\w*|вас)
    (?:отмечу|отметил\w*|помечу|пометил\w*|отправлю|отправил\w*|добавил\w*)(?: \S+){0,3} (?:как|в) спам
    (?:удал\w+|уничтож\w+) (?:мои|все мои|наши) (?:персональные )?данные
    """,
    r"""
    ^\W*(?:abmelden|abmeldung|bitte abmelden|austragen|löschen)\W*$
    (?:bitte )?(?:melden|tragen|nehmen|streichen|löschen|entfernen) sie (?:mich|uns|meine|unsere|diese)
    (?:möchte|will|möchten|wollen)(?: mich| uns)?(?: \S+){0,3} (?:abmelden|austragen|abbestellen|gelöscht)
    (?:aus|von)(?: \S+){0,3} (?:verteiler|liste|datenbank|newsletter|mailingliste)(?: \S+){0,2} (?:streichen|löschen|entfernen|nehmen|austragen|abmelden)
    keine (?:weiteren |weitere )?(?:e-?mails|mails|nachrichten|werbung|werbemails|newsletter|anfragen)(?: \S+){0,2} (?:mehr|schicken|senden|zusenden|erhalten)
    keine weiteren (?:e-?mails|mails|nachrichten|anfragen)
    nicht (?:mehr|weiter|wieder)(?: \S+)? (?:anschreiben|kontaktieren|schreiben|anmailen|belästigen)
    (?:schreiben|kontaktieren|schicken) sie (?:mir|mich|uns)(?: \S+)? (?:nicht|nie|keine)(?: \S+)? (?:mehr|wieder)
    (?:hören|unterlassen) sie (?:auf|es|bitte|weitere)
    (?:meine|unsere) daten(?: \S+)? (?:löschen|zu löschen|entfernen)
    widerspreche (?:der|hiermit)
    """,
    r"""
    ^\W*(?:d[ée]sabonner|d[ée]sabonnement|d[ée]sinscription|stop pub)\W*$
    d[ée]sabonne[zr](?:-| )?(?:moi|nous|svp)?
    d[ée]sinscri\w+
    (?:retirez|supprimez|enlevez|retirer|supprimer|enlever|rayez)[ -](?:moi|nous|mon|mes|notre|cette)
    (?:me|nous) (?:retirer|supprimer|enlever|d[ée]sabonner|d[ée]sinscrire|rayer)
    ne (?:plus|m'|me|nous)(?: \S+)? ?(?:contacte[zr]|[ée]cri\w+|envoye[zr]|recevoir|solliciter|m'envoyer|me contacter|m'[ée]crire)(?: \S+)?(?: plus)?
    (?:arr[êe]tez|cessez|stoppez)(?: \S+)? (?:de|d'|vos|les|ces)
    (?:plus|pas)(?: \S+)? (?:de|aucun) (?:vos )?(?:e-?mails?|mails?|messages?|courriels?)
    """,
    r"""
    ^\W*(?:baja|dar de baja|darme de baja|stop)\W*$
    (?:dar(?:me|nos)?|d[ée]n?(?:me|nos)|causar|solicito)(?: \S+)?(?: de)?(?: la)? baja
    (?:elim[ií]n\w+|b[oó]rr\w+|qu[ií]t\w+|ret[ií]r\w+|s[áa]qu\w+)(?:me|nos)(?: \S+)? (?:de|del)
    (?:eliminen?|borren?|quiten?) (?:mi|mis|nuestro|este)(?: \S+){0,2} (?:correo|direcci[óo]n|datos|e-?mail|contacto)
    no (?:me |nos )?(?:env[ií]\w+|escrib\w+|contact\w+|mand\w+)(?: \S+){0,3} m[áa]s
    (?:no (?:quiero|deseo|queremos|deseamos)) (?:recibir|que me)
    (?:dejen?|deje|pare\w*) de (?:enviar|escribir|contactar|mandar|molestar)\w*
    """,
    r"""
    (?:me |nos )?(?:descadastr\w+|desinscrev\w+)
    (?:remov\w+|retir\w+|exclu\w+|tir\w+|apag\w+)-?(?:me|nos| meu| meus| o meu)(?: \S+){0,3} (?:da|do|de|lista|e-?mail|dados|base)
    (?:me|favor) (?:remov\w+|retir\w+|exclu\w+|tir\w+)
    n[ãa]o (?:me |nos )?(?:envi\w+|mand\w+|escrev\w+|contat\w+)(?: \S+){0,3} mais
    n[ãa]o (?:quero|desejo|queremos)(?: mais)? receber
    (?:parem?|pare) de (?:enviar|mandar|escrever|contatar|contactar|me)
    cancelar(?: a)?(?: minha)? (?:inscri|subscri|assinatura)\w+
    """,
    r"""
    ^\W*(?:cancellami|cancellatemi|disiscrivimi|cancellazione|disiscrizione)\W*$
    (?:cancell\w+|rimuov\w+|elimin\w+|togli\w+|disiscriv\w+)(?:mi|ci|temi|teci)\b
    (?:cancell\w+|rimuov\w+|elimin\w+) (?:il mio|la mia|i miei|questo|i nostri|il nostro)
    non (?:mi |ci )?(?:inviat\w+|scriv\w+|contatt\w+|mand\w+)(?: \S+){0,3} pi[ùu]
    non (?:voglio|desidero|vogliamo|intendo)(?: pi[ùu])? ricevere
    (?:smett\w+|basta|finitela)(?: \S+)? (?:di |con |mail|e-?mail|spam)
    """,
    r"""
    ^\W*(?:wypisz|rezygnuj[ęe]|rezygnacja|usu[ńn])\W*$
    (?:wypis(?:z|zcie|a[ćc]|anie)|usu[ńn](?:cie|i[ęe]cie)?|wykre[śs]l(?:cie|enie)?)(?: prosz[ęe])?(?: o)? (?:mnie|nas|mojego|m[óo]j|moje|adresu?|danych|z)
    prosz[ęe](?: \S+)? (?:o wypisanie|o usuni[ęe]cie|o wykre[śs]lenie|nie (?:pisa[ćc]|wysy[łl]a[ćc]|kontaktowa[ćc]|przysy[łl]a[ćc]))
    (?:nie (?:piszcie|wysy[łl]ajcie|przysy[łl]ajcie|kontaktujcie|[żz]ycz[ęe]|chc[ęe])|przesta[ńn]cie)(?: \S+){0,3} ?(?:wi[ęe]cej|sobie|do mnie|otrzymywa[ćc]|pisa[ćc]|wysy[łl]a[ćc]|maili)
    """,
    r"""
    ^\W*(?:afmelden|uitschrijven)\W*$
    (?:wil|graag|gelieve|kunt u|kan je)(?: \S+){0,4} (?:afmelden|uitschrijven|uitgeschreven|verwijder\w*)
    (?:verwijder|schrijf|haal|meld)(?: \S+)? (?:mij|me|mijn|ons|onze)(?: \S+){0,4} ?(?:uit|af|van|adres|lijst|gegevens|bestand)
    geen (?:e-?mails?|mails?|berichten|post)(?: \S+){0,2} meer
    (?:stop|houd op) met (?:mailen|e-?mailen|sturen|schrijven|spammen)
    niet meer (?:mailen|benaderen|contacteren|schrijven)
    """,
)

# A no that is none.
_NOT_NEGATIVE = re.compile(
    r"\bwhy not\b|\bno (?:problem|worries|doubt|rush|issues?)\b|\bnot (?:only|just|bad|a problem|an issue|uninterest\w+|at all bad|sure)\b"
    r"|\bif (?:you(?:'re| are)|it(?:'s| is)|that(?:'s| is)) not\b|n't want to miss|почему (?:бы )?(?:и )?нет|не против|нет проблем|не только|не плохо|неплох\w*"
    r"|warum nicht|kein problem|pourquoi pas|pas de (?:souci|probl[èe]me)|por qu[ée] no|sin problema|por que n[ãa]o|sem problema|perch[ée] no|nessun problema"
    r"|dlaczego nie|czemu nie|waarom niet|geen probleem",
    re.I,
)

_NOT_INTERESTED = _rules(
    r"""
    (?:n't|\b(?:not|never|no longer|hardly|un))[ -]?(?:\S+ ){0,3}?(?:interested|interesting|keen|of interest|looking for|looking to|in the market|a (?:good )?(?:fit|match)|a priority|relevant|needed|required|for (?:me|us)|something (?:we|i)|our (?:thing|cup)|what (?:we|i) need|going to work|convinced|want(?:ed)?|need(?:ed)?)\b
    (?:no|zero|little|without|lack of|have no|lost) (?:\S+ )?interest\b
    ^\W*(?:nope|nah|no)\W*$
    \bno,? ?(?:thanks|thank you|thx|need|sorry)
    thanks?(?: you)?,? but no\b
    (?:we'll|i'll|we will|i will|going to|gonna|have to|we|i|let's) (?:respectfully )?(?:pass|decline|opt out of)\b
    (?:hard|easy|a) pass\b
    (?:do not|don't|doesn't|does not|wouldn't|won't|will not|can't)(?: \S+)? (?:need|want|require|use|buy|see (?:a|the|any) (?:need|fit|value|use)|have (?:a|any) (?:need|use|interest)|work for (?:us|me)|make sense|do this|be (?:a fit|moving|proceeding|going|needing))
    (?:already|currently) (?:have|use|using|work(?:ing)? with|got|covered|partner\S*|being handled|set up|in (?:place|contract))
    (?:all set|all good|well covered|happy with (?:our|what|the|my)|satisfied with (?:our|what|the))
    (?:have to|must|would like to|i|we) decline
    not (?:now or|today or) ever
    not at this (?:time|stage|point),? (?:thanks|thank you)
    """,
    r"""
    не ?(?:очень |особо |совсем |слишком |сильно )?(?:интересн\w*|заинтересован\w*|интересует|интересуют|интересуемся|интересуюсь|интересно|актуальн\w*|нужд\w+|требу\w+|нужн\w*|надо|подход\w+|рассматрива\w+|планиру\w+|наш\w* (?:профиль|тема|формат|случай)|пригодит\w*|хот\w+|используем|будем|готов\w*)
    (?:нет|никако\w+|без|отсутствует|потеряли)(?: \S+)? (?:интереса|необходимост\w*|потребност\w*|желания|нужды)
    ^\W*(?:нет|не)\W*$
    нет,? ?спасибо
    спасибо,? (?:но |за (?:письмо|предложение),? (?:но )?)?(?:нет|не)\b
    (?:отказываемся|отказываюсь|откажемся|откажусь|отклоняем|вынуждены отказать\w*)
    (?:у нас |мы )?уже (?:есть|работаем|используем|пользуемся|сотрудничаем|имеется|имеем|налажен\w*)
    (?:обойдемся|обойдусь|справляемся|все устраивает|нас устраивает)
    """,
    r"""
    (?:kein|keinerlei|null)(?:en)? (?:\S+ )?(?:interesse|bedarf)
    nicht (?:\S+ )?(?:interessiert|relevant|interessant|nötig|notwendig|benötig\w*|brauchen|gebraucht|passend)
    nein,? ?danke|danke,? (?:aber )?nein|^\W*nein\W*$
    (?:brauchen|benötigen|wollen|möchten) (?:wir|ich)(?: \S+)? (?:nicht|keine?n?)
    (?:haben|nutzen|arbeiten) (?:wir )?(?:bereits|schon)|(?:wir|ich) (?:haben|nutzen) (?:bereits|schon)
    (?:passt|kommt) (?:\S+ ){0,2}nicht
    lehnen (?:wir )?(?:\S+ )?ab
    """,
    r"""
    pas (?:du tout |vraiment |tr[èe]s )?(?:int[ée]ress\w*|besoin|pertinent|preneurs?|concern\w*)
    (?:aucun|pas d'|sans) ?(?:int[ée]r[êe]t|besoin)
    non,? ?merci|merci,? mais non|^\W*non\W*$
    (?:ne )?(?:nous|m'|me|vous) ?(?:n'|ne )?(?:int[ée]resse|int[ée]ressent|correspond) pas
    (?:avons|ai|disposons|travaillons) d[ée]j[àa]
    (?:d[ée]clin|refus)\w+
    """,
    r"""
    no (?:me |nos |le )?(?:interesa|interesan|estamos interesad\w+|estoy interesad\w+|necesit\w+|es de (?:mi|nuestro) inter[ée]s|tenemos inter[ée]s|tengo inter[ée]s|hay inter[ée]s|requerimos|buscamos|aplica)
    no,? ?(?:muchas )?gracias|gracias,? pero no|^\W*no\W*$
    (?:sin|ning[úu]n) inter[ée]s
    ya (?:tenemos|contamos|trabajamos|usamos|disponemos)
    """,
    r"""
    n[ãa]o (?:me |nos |tenho |temos |h[áa] |estou |estamos |é |tem |possuo |possuímos )?(?:interess\w*|precis\w*|necessit\w*|relevante)
    n[ãa]o,? ?(?:muito )?obrigad\w+|obrigad\w+,? mas n[ãa]o|^\W*n[ãa]o\W*$
    sem interesse
    j[áa] (?:temos|tenho|utilizamos|usamos|trabalhamos|contamos)
    """,
    r"""
    non (?:mi |ci |sono |siamo |è |abbiamo |ho |c'è )?(?:molto )?(?:interess\w+|bisogno|necessit\w+|utile|fa per)
    no,? ?grazie|grazie,? ma no|^\W*no\W*$
    (?:nessun|senza) interesse
    (?:abbiamo|utilizziamo|usiamo|collaboriamo|ho) gi[àa]
    """,
    r"""
    nie (?:jestem |jeste[śs]my |jest |mam |mamy )?(?:zainteresowan\w*|interesuj\w*|potrzeb\w*|potrzebuj\w*)
    nie,? ?dzi[ęe]kuj\w*|dzi[ęe]kuj\w*,? (?:ale )?nie|^\W*nie\W*$
    brak (?:zainteresowania|potrzeby)
    (?:mamy|korzystamy|posiadamy|wsp[óo][łl]pracujemy) ju[żz]|ju[żz] (?:mamy|korzystamy|posiadamy)
    """,
    r"""
    geen (?:\S+ )?(?:interesse|behoefte|belangstelling)
    niet (?:\S+ )?(?:ge[ïi]nteresseerd|nodig|relevant|interessant)
    nee,? ?(?:bedankt|dank|hoor)|bedankt,? maar (?:nee|niet)|^\W*nee\W*$
    (?:hebben|gebruiken|werken) (?:wij |we )?(?:al|reeds)
    """,
)

_NOT_NOW = _rules(
    r"""
    not (?:interested |looking |ready |a priority |needed |possible |available |something we need |the right time )?(?:right now|just now|now|at (?:the|this) (?:moment|time|point|stage)|currently|yet|this (?:week|month|quarter|year)|for now|today|at present|presently|immediately|until)\b
    (?:maybe|perhaps|possibly|might|could be|interested)(?: \S+){0,3} (?:later|in the future|next (?:quarter|month|year|season)|another time|down the (?:road|line)|some ?(?:other )?time)
    (?:circle|check|reach|get|come|follow|touch|ping|write|contact|try|e-?mail|revisit|reconnect)(?: \S+){0,6} (?:later (?:this|in|on)|next (?:quarter|month|year|season|spring|summer|autumn|fall|winter)|in (?:a )?(?:few|couple of|several|some|\d+|two|three|four|five|six) (?:weeks|months)|in (?:q[1-4]|the (?:new year|spring|summer|autumn|fall|winter)|january|february|march|april|may|june|july|august|september|october|november|december|six months|the future)|after (?:the|our|my|new year|summer|christmas|easter|q[1-4]|january|february|march|april|june|july|august|september|october|november|december)|again in|in \d+ (?:weeks|months|days))
    (?:timing|time)(?: \S+){0,3} (?:isn't|is not|not|wasn't|is off|is bad|bad)(?: \S+)? ?(?:right|good|great|ideal|best)?
    (?:bad|wrong|poor|not (?:a|the) (?:good|right|best|ideal)) (?:time|timing|moment)
    (?:too (?:busy|early|soon)|swamped|on hold|snowed under|no (?:time|capacity|bandwidth|budget)|don't have (?:the |any )?(?:time|bandwidth|capacity|budget)|budget (?:is )?(?:frozen|spent|closed|locked))
    (?:remind me|put (?:a )?pin in|table this|park this|postpone|hold off|revisit (?:this|it)|not a priority)
    (?:currently|at the moment|right now|for now),? (?:we(?:'re| are)|i(?:'m| am))? ?(?:not|no|don't|n't)
    """,
    r"""
    (?:не|нет) (?:\S+ )?(?:сейчас|в данный момент|на данный момент|в ближайшее время|пока|сегодня|на данном этапе|в этом (?:году|месяце|квартале))
    (?:пока|сейчас|в данный момент|на данный момент|на текущий момент|в настоящее время|в ближайшее время|на данном этапе|в этом году|временно|покамест)(?: \S+){0,4} (?:не|нет|рано|неактуальн\w*|без|некогда|отложи\w*|заморо\w*|занят\w*|нету)\b
    (?:пока|сейчас) (?:нет|не|неактуальн\w*|рано|некогда)
    (?:рано|некогда|не время|не ко времени|нет времени|нет бюджета|бюджет\w*(?: \S+){0,3} (?:нет|заморожен\w*|исчерпан\w*|потрачен\w*|закрыт\w*))
    (?:напишите|свяжитесь|обратитесь|вернитесь|вернемся|напомните|спишемся)(?: \S+){0,6} (?:позже|попозже|потом|в следующем (?:году|месяце|квартале|сезоне)|через (?:месяц|полгода|год|пару|неделю|несколько|\d+|квартал|две|два|три)|после (?:праздников|нового года|отпуска|лета|выходных|\d+)|ближе к|осенью|весной|зимой|летом|в (?:январе|феврале|марте|апреле|мае|июне|июле|августе|сентябре|октябре|ноябре|декабре))
    (?:может быть|возможно|может)(?: \S+){0,2} (?:позже|потом|в будущем|в следующ\w+)
    (?:отложим|отложили|перенесем|вернемся к (?:этому|вопросу|теме|разговору))
    """,
    r"""
    (?:zurzeit|zur zeit|derzeit|momentan|aktuell|im moment|im augenblick|vorerst|gegenwärtig|jetzt)(?: \S+){0,4} (?:nicht|kein\w*)
    (?:nicht|kein\w*)(?: \S+){0,2} (?:zurzeit|zur zeit|derzeit|momentan|aktuell|im moment|jetzt|im augenblick)
    (?:melden|schreiben|kontaktieren|kommen)(?: \S+){0,5} (?:später|nächste\w*|im (?:januar|februar|märz|april|mai|juni|juli|august|september|oktober|november|dezember|herbst|frühjahr|sommer|winter)|in (?:ein paar|einigen|\w+) (?:wochen|monaten))
    (?:vielleicht|eventuell|evtl\.?) (?:später|nächste\w*|ein ander\w*)|keine zeit|kein budget
    """,
    r"""
    pas (?:pour (?:le moment|l'instant)|maintenant|actuellement|tout de suite|en ce moment|cette ann[ée]e)
    (?:pour (?:le moment|l'instant)|actuellement|en ce moment)(?: \S+){0,4} (?:pas|aucun)
    (?:recontact\w+|revenez|reparl\w+|reven\w+|rappel\w+|relanc\w+)(?: \S+){0,5} (?:plus tard|dans|en|apr[èe]s|l'ann[ée]e|le mois|prochain)
    (?:peut-[êe]tre )?plus tard|pas le (?:temps|bon moment|budget)
    """,
    r"""
    (?:ahora|por ahora|por el momento|de momento|actualmente|en este momento|este a[ñn]o)(?: \S+){0,3} no\b
    no (?:\S+ ){0,3}(?:ahora|por ahora|por el momento|de momento|actualmente|en este momento)
    (?:contact\w+|escrib\w+|habl\w+|llam\w+|retom\w+)(?: \S+){0,5} (?:m[áa]s adelante|m[áa]s tarde|el pr[óo]ximo|dentro de|en (?:unos|un par|enero|febrero|marzo|abril|mayo|junio|julio|agosto|septiembre|octubre|noviembre|diciembre))
    (?:quiz[áa]s?|tal vez) m[áa]s (?:adelante|tarde)|no (?:es (?:el|buen) momento|tenemos (?:tiempo|presupuesto)|tengo tiempo)
    """,
    r"""
    (?:agora|no momento|por enquanto|atualmente|neste momento)(?:,)?(?: \S+){0,3} n[ãa]o
    n[ãa]o (?:\S+ ){0,3}(?:agora|no momento|por enquanto|atualmente|neste momento)
    (?:mais (?:tarde|para frente|adiante)|pr[óo]ximo (?:m[êe]s|ano|trimestre|semestre))
    """,
    r"""
    (?:non|no)(?: \S+){0,3} (?:ora|adesso|al momento|in questo momento|per ora|per il momento|attualmente)
    (?:al momento|per ora|per il momento|attualmente|adesso|in questo momento)(?: \S+){0,3} non
    (?:magari |forse )?(?:pi[ùu] avanti|pi[ùu] tardi)|(?:risent\w+|ricontatt\w+|risentiamoci)(?: \S+){0,4} (?:tra|fra|dopo|a (?:gennaio|febbraio|marzo|aprile|maggio|giugno|luglio|settembre|ottobre|novembre|dicembre))
    """,
    r"""
    (?:nie|nie jeste\S+ \S+) (?:teraz|obecnie|w tej chwili|na razie)
    (?:obecnie|teraz|na razie|w tej chwili|aktualnie|chwilowo)(?: \S+){0,3} (?:nie|brak)
    (?:mo[żz]e )?p[óo][źz]niej|(?:odezw\w+|kontakt\w*|napisz\w*|wr[óo]\w+)(?: \S+){0,5} (?:za (?:miesi[ąa]c|kilka|rok|\w+ miesi)|w przysz[łl]ym|po)
    """,
    r"""
    (?:nu|momenteel|op dit moment|voorlopig|op het moment)(?: \S+){0,4} (?:niet|geen)
    (?:niet|geen)(?: \S+){0,2} (?:nu|momenteel|op dit moment|voorlopig)
    (?:misschien )?later|(?:volgend (?:jaar|kwartaal)|volgende maand)
    """,
)

_LEFT = _rules(
    r"""
    (?:no longer|not longer|doesn't|does not|don't|do not|never|ceased to) (?:\S+ )?(?:works?|working|employed|with (?:the|us|our|\S+)|at|here|part of|a member|monitored|in use|valid|active)\b
    (?:has|have|i've|he's|she's) (?:now |recently |since )?(?:left|departed|resigned|retired|moved on)(?: \S+){0,3} ?(?:company|organi[sz]ation|firm|business|team|us|role|position|employment|$)?
    (?:left|leaving) (?:the|our|this) (?:company|organi[sz]ation|firm|team|business)
    """,
    r"""
    (?:больше|уже) (?:\S+ )?не (?:работа\w+|занима\w+|явля\w+)
    (?:уволи\w+|уволен\w*|покинул\w*)(?: \S+)?
    не работает (?:в|у|здесь|больше)
    (?:адрес|ящик|почта)(?: \S+){0,3} (?:больше )?не (?:использ\w+|действ\w+|обслуж\w+)
    """,
    r"""
    nicht mehr (?:im unternehmen|in (?:unserem|diesem)|bei (?:uns|der)|für|tätig|beschäftigt|aktiv)|(?:arbeitet|ist)(?: \S+){0,3} nicht mehr|hat (?:das|unser) unternehmen verlassen
    (?:ne (?:fait|travaille|fais) plus|n'est plus|quitt[ée] (?:la soci[ée]t[ée]|l'entreprise|mes fonctions))
    ya no (?:trabaj\w+|forma|est[áa]|labor\w+)|n[ãa]o (?:trabalha|faz|está|trabalho) mais
    non (?:lavora|fa|è|lavoro) pi[ùu]|(?:ju[żz]|d[łl]u[żz]ej) nie pracuj\w+|nie pracuj\w+ ju[żz]|niet (?:meer|langer) (?:werkzaam|in dienst)|werkt (?:hier |niet )?(?:niet )?meer
    """,
)
_WRONG_PERSON = _rules(
    r"""
    (?:wrong|incorrect) (?:person|contact|department|address|e-?mail|team|guy|recipient|company|one)
    (?:not|n't|isn't) (?:\S+ )?(?:the |a |my |our )?(?:right|correct|best|appropriate|proper|responsible|relevant) (?:person|contact|department|one|address|point|guy|team|recipient)
    (?:not|n't) (?:\S+ )?(?:responsible|in charge|the one (?:who|to|in)|my (?:area|department|responsibility|job|field|role|decision)|handle|deal with|involved in|the decision[- ]maker|who you)
    (?:please |kindly |better |should |best to |you can |suggest (?:you )?|try )(?:contact|reach out to|write to|speak (?:to|with)|talk (?:to|with)|get in touch with|e-?mail|ask|forward (?:this|it|your)(?: \S+)? to|direct (?:this|your|it)(?: \S+)? to|address (?:this|it)(?: \S+)? to) (?!me\b|us\b|again|you\b|back)
    (?:right|best|correct|appropriate|responsible) (?:person|contact|one)(?: \S+){0,6} (?:is|would be|are)\b
    mistaken (?:me|identity)|you have the wrong|meant for someone else|i think you (?:want|mean|meant)
    """,
    r"""
    не (?:по адресу|ко мне|к нам|тот (?:человек|отдел|контакт|адрес)|туда|мой вопрос|моя (?:зона|область|компетенция|тема)|в моей компетенции|мой профиль|я (?:занима\w+|отвеча\w+|реша\w+|принима\w+))
    (?:я )?не (?:занима\w+|отвечаю|принимаю решени\w+|курирую|решаю) ?(?:\S+ ){0,4}(?:этим|этими|за|такими|данным\w*|вопрос\w*|закуп\w*|маркетинг\w*|реклам\w*|решени\w*|it|ит|данн\w*|подобн\w*)
    (?:обратитесь|обращайтесь|пишите|напишите|свяжитесь|адресуйте|перешлите|направьте|отправьте)(?: \S+){0,4} (?:к|с|моему|моей|коллег\w*|отдел\w*|директор\w*|руководител\w*|на (?:почту|адрес)|в отдел|специалист\w*)\b
    (?:этим|этими|данным|такими)(?: \S+){0,2} (?:вопросом |вопросами )?(?:занима\w+|отвеча\w+|ведает)
    (?:ошиблись|ошибочно|вы ошиблись)(?: \S+){0,3} ?(?:адрес\w*|контакт\w*|человек\w*|написали|номер\w*)?
    """,
    r"""
    (?:falsche\w*|verkehrte\w*) (?:person|ansprechpartner\w*|adresse|abteilung|kontakt)
    nicht (?:der |die |das )?(?:richtige\w*|zuständig\w*|verantwortlich\w*|mein (?:bereich|thema))
    (?:wenden|richten) sie sich(?: \S+){0,3} an|zuständig (?:ist|dafür|wäre|sind)|(?:richtige|zuständige)\w* (?:ansprechpartner\w*|person|kollege|kollegin)(?: \S+){0,3} (?:ist|wäre)
    """,
    r"""
    (?:mauvais(?:e)?) (?:personne|interlocuteur|contact|adresse|destinataire|service)
    (?:ne suis|n'est|suis) pas (?:la bonne|le bon|la personne|le responsable|responsable|en charge|charg[ée])
    (?:adressez[- ]vous|contactez|rapprochez[- ]vous|voyez|[ée]crivez)(?: \S+){0,2} (?:à|au|mon|ma|notre|le|la|directement|avec|de)
    """,
    r"""
    (?:persona|contacto|departamento|direcci[óo]n) (?:equivocad\w|incorrect\w|err[óo]ne\w)
    no (?:soy|es|somos) (?:la persona|el (?:encargado|responsable|indicado)|la (?:encargada|responsable|indicada)|quien)
    (?:contact\w+|dir[ií]ja\w*|escrib\w+|habl\w+|comun[ií]que\w+)(?: \S+)? (?:con|a) (?:mi|nuestr\w|el|la|\w+@)
    """,
    r"""
    pessoa errada|contato errado|n[ãa]o sou (?:a pessoa|o respons[áa]vel|eu|quem)|(?:fale|entre em contato|contate|procure)(?: \S+)? (?:com|o|a) (?:meu|minha|o|a|nosso|nossa)
    (?:persona|contatto|indirizzo|reparto) sbagliat\w|non sono (?:la persona|io|il (?:responsabile|referente)|la responsabile)|non (?:mi occupo|è di mia competenza)|(?:si rivolga|contatt[ia]|scriv[ai]|rivolgersi)(?: \S+)? (?:a|al|alla|il|la)\b
    """,
    r"""
    (?:niew[łl]a[śs]ciw\w+|z[łl]a|nie ta|nieodpowiedni\w+) (?:osoba|adres|kontakt|dzia[łl])|nie (?:jestem|ja) (?:\S+ )?(?:odpowiedni\w*|w[łl]a[śs]ciw\w*|osob[ąa])|nie zajmuj\w+ si[ęe]|prosz[ęe] (?:\S+ )?(?:kontakt z|skontaktowa[ćc] si[ęe] z|zwr[óo]ci[ćc] si[ęe] do|napisa[ćc] do)
    (?:verkeerde|foute) (?:persoon|adres|contactpersoon|afdeling)|niet de (?:juiste|goede) (?:persoon|contactpersoon)|(?:neem|u kunt)(?: \S+)? contact (?:op )?(?:met|opnemen)|daar ga ik niet over
    """,
)

_AWAY = _rules(
    r"""
    out of (?:the )?office|out-of-office|\booo\b|away from (?:the |my )?(?:office|desk|e-?mail|work|computer)
    (?:i am|i'm|we are|i will be|i'll be|currently|be) (?:currently |now |away )?(?:away|on (?:\S+ )?(?:leave|vacation|holiday|holidays|sabbatical|pto|a business trip|annual leave|parental leave|maternity leave|paternity leave|sick leave)|out until|out from|out of|out till|travel\w+|absent|unavailable|out for|out this|out on)
    (?:on|from|maternity|annual|parental|sick|paternity) (?:vacation|holiday|holidays|leave)\b
    (?:limited|no|without|sporadic|restricted|intermittent) access to (?:my )?(?:e-?mails?|mails?|internet|phone)
    (?:i will|i'll) (?:be back|return|respond (?:to you )?(?:when|upon|on|after)|reply (?:when|upon|on|after)|get back to you (?:when|upon|on|after))
    (?:back (?:in the office|at work|at my desk)|return to (?:the )?(?:office|work)|returning on)
    (?:office|offices|we) (?:is|are|will be) closed
    """,
    r"""
    (?:нахожусь|нахожус|буду|я|сейчас|уже)?(?: \S+){0,3} ?в (?:ежегодном |очередном |декретном |учебном )?(?:отпуск\w*|командировк\w*|отгул\w*|декрет\w*)
    (?:отсутств\w+)(?: \S+){0,3} ?(?:на рабочем месте|в офисе|до|с|по|на работе)?
    (?:меня (?:сейчас |пока |временно )?(?:нет|не будет)|не буду)(?: \S+){0,3} ?(?:на (?:рабочем )?месте|в офисе|на работе)
    (?:вне офиса|на больничном|не в офисе|без доступа к почте|ограничен\w* доступ\w*)
    (?:вернусь|выйду на работу|буду на (?:работе|рабочем месте|связи)|отвечу (?:вам )?(?:после|по возвращени|когда)|приступлю)
    """,
    r"""
    (?:nicht im (?:büro|haus|hause)|außer haus|abwesen\w*|im urlaub|auf (?:dienst|geschäfts)reise|nicht (?:am arbeitsplatz|erreichbar|im dienst)|in elternzeit|wieder (?:im büro|erreichbar|da|zurück|im haus)|urlaubsbedingt|bin (?:ich )?(?:erst )?wieder)
    (?:absent\w*|en (?:cong[ée]s?|vacances|d[ée]placement)|hors (?:du|de mon) bureau|de retour|absence du bureau|mon absence|serai de retour|cong[ée] (?:maternit[ée]|parental))
    (?:fuera de (?:la |mi )?oficina|de vacaciones|ausente|mi ausencia|regres\w+ (?:el|a la)|estar[ée] (?:de vuelta|ausente|fuera)|baja (?:por )?maternidad|de viaje)
    (?:fora do escrit[óo]rio|de f[ée]rias|em f[ée]rias|estou ausente|estarei (?:ausente|de volta|fora)|aus[êe]ncia|retorn\w+ (?:em|no|dia)|licen[çc]a)
    (?:fuori (?:ufficio|sede)|in ferie|assente|la mia assenza|assenza|rientr\w+ (?:il|in|lun|mar|mer|gio|ven)|sar[òo] (?:di ritorno|assente)|torner[òo] (?:il|in))
    (?:poza biurem|na urlopie|nieobecn\w+|przebywam na|wracam|wr[óo]c[ęe]|b[ęe]d[ęe] (?:z powrotem|dost[ęe]pn\w+|nieobecn\w+)|urlop\w*)
    (?:afwezig\w*|niet (?:op kantoor|aanwezig|bereikbaar)|(?:op|met) (?:vakantie|verlof)|buiten kantoor|weer (?:aanwezig|terug|bereikbaar|op kantoor))
    (?:不在|休暇|外出|休假|부재중)
    """,
)

_INTERESTED = _rules(
    r"""
    \b(?:interested|interesting|intrigued|curious to|keen to|keen on)\b
    (?:sounds|looks|seems|that's|this is|is) (?:\S+ )?(?:good|great|interesting|promising|perfect|awesome|like a plan|relevant|cool|useful|amazing|excellent)
    (?:let's|let us|can we|could we|shall we|we (?:can|could|should)|happy to|glad to|would like to|i'd like to|we'd like to|love to|open to|willing to|want to|ready to|i can|free to|able to) (?:\S+ )?(?:talk|chat|discuss|meet|schedule|set up|set something|connect|hop on|jump on|speak|have a (?:call|chat|meeting|look|demo)|book|arrange|do (?:it|this|that|a (?:call|demo)|\S+day)|learn|hear|know more|see (?:a demo|more|it)|explore|try|move forward|proceed|get on a|catch up|find (?:a )?time|take a look|get started|start)
    (?:tell|send|share|give|show|forward|shoot|provide)(?: (?:me|us|over|through))?(?: \S+){0,4} (?:more|details?|info|information|pricing|prices|price list|proposal|deck|presentation|brochure|materials?|calendar|link|quote|offer|examples?|case stud\w+|contract|invite|catalog(?:ue)?)\b
    (?:book|schedule|set up|arrange|organi[sz]e|plan) (?:a |an |some )?(?:\S+ )?(?:call|meeting|demo|time|chat|zoom|intro|appointment)
    (?:call|ring|phone|text|ping) me\b|give me a (?:call|ring|shout)|reach me (?:at|on)|my (?:number|phone|cell|mobile|calendar|calendly)(?: \S+)? (?:is|:|here)
    (?:i am|i'm|we are|we're) (?:\S+ )?(?:in\b|game|available|free|up for|open|all ears|keen|on board|ready)
    (?:available|free|works?|good|happy|how about|what about|can do)(?: \S+){0,4} (?:on |at |next |this )?(?:monday|tuesday|wednesday|thursday|friday|tomorrow|next week|this week|afternoon|morning|\d{1,2}(?::\d{2})? ?(?:am|pm))
    (?:works|good|fine) for (?:me|us)|count (?:me|us) in|sign (?:me|us) up|go ahead|why not|yes,? please|please do|by all means
    ^\W*(?:yes|yeah|yep|sure|absolutely|definitely|of course|ok|okay|certainly|yup|great|perfect)\b
    """,
    r"""
    (?:интересн\w*|заинтересова\w+|заинтересован\w*|интересует|интересно|любопытно)
    (?:расскажите|пришлите|вышлите|скиньте|отправьте|направьте|поделитесь|присылайте|высылайте|покажите|пришли|скинь|дайте|предоставьте)(?: \S+){0,5} (?:подробн\w*|больше|прайс\w*|презентац\w*|кп|коммерческ\w*|информаци\w*|предложени\w*|материал\w*|детал\w*|цен\w*|ссылк\w*|демо|услови\w*|стоимост\w*|расценк\w*|договор\w*|кейс\w*|примеры|смету|каталог\w*)
    (?:присылайте|высылайте|расскажите подробнее|подробнее расскажите|присылай)
    (?:давайте|давай|можем|можно|готов\w*|хотел\w*(?: бы)?|хочу|хотим|рад\w*(?: будем)?|предлагаю|будем рады|хотелось бы|удобно|согласен|согласны)(?: \S+){0,3} (?:созвон\w*|обсуд\w*|встрет\w*|пообща\w*|поговор\w*|попроб\w*|рассмотр\w*|узнать|посмотр\w*|протестир\w*|начн\w*|начать|познаком\w*|сотруднич\w*|послуша\w*|договор\w*|подключ\w*|заказ\w*|купить|встреч\w*)
    (?:звучит|выглядит)(?: \S+)? (?:интересн\w*|хорош\w*|неплох\w*|здорово|заманчив\w*|отлично|перспективн\w*)
    (?:перезвоните|позвоните|наберите|созвонимся|жду (?:звонк\w*|предложени\w*|презентаци\w*|от вас|вас)|мой (?:номер|телефон)|звоните)
    ^\W*(?:да|ок|окей|хорошо|согласен|согласны|конечно|отлично|давайте|супер|договорились|можно)\b
    (?:почему (?:бы )?(?:и )?нет|не против|актуально)
    """,
    r"""
    (?:interesse|interessant|interessiert|klingt (?:\S+ )?(?:gut|interessant|spannend)|hört sich (?:\S+ )?(?:gut|interessant) an|neugierig)
    (?:schicken|senden|erzählen|geben|zeigen) sie (?:mir|uns)(?: \S+){0,4} (?:mehr|info\w*|details|angebot|unterlagen|präsentation|preise?\w*)
    (?:gerne?|können wir|lassen sie uns|würde gerne|möchte)(?: \S+){0,4} (?:telefonieren|sprechen|termin|treffen|austauschen|kennenlernen|mehr erfahren|ausprobieren)
    rufen sie (?:mich|uns)|^\W*(?:ja|gerne|klar|sehr gerne)\b|warum nicht
    """,
    r"""
    (?:int[ée]ress[ée]\w*|[çc]a m'int[ée]resse|nous int[ée]resse|int[ée]ressant|avec plaisir|volontiers|pourquoi pas)
    (?:envoyez|transmettez|donnez|faites parvenir|parlez)[- ](?:moi|nous|m'en|en)(?: \S+){0,5}
    (?:rappelez|appelez)[- ](?:moi|nous)|(?:pouvons|peut)[- ](?:nous|on)(?: \S+)? (?:discuter|[ée]changer|parler|se voir|planifier)|(?:rendez-vous|un appel|une d[ée]mo)
    ^\W*(?:oui|d'accord|bien s[ûu]r|parfait)\b
    """,
    r"""
    (?:(?:me|nos) interesa|interesad\w+|interesante|suena (?:\S+ )?(?:bien|interesante)|con gusto|por qu[ée] no)
    (?:env[ií]\w+|mand\w+|comp[áa]rt\w+|cu[ée]nt\w+|p[áa]s\w+)(?:me|nos)(?: \S+){0,5}
    (?:ll[áa]m\w+me|podemos (?:hablar|agendar|reunirnos|conversar)|agend\w+|una (?:llamada|reuni[óo]n|demo))|^\W*(?:s[ií]|claro|perfecto|de acuerdo|por supuesto)\b
    """,
    r"""
    (?:interessad\w+|interessante|(?:me|nos) interessa|tenho interesse|temos interesse|parece (?:bom|interessante)|por que n[ãa]o)
    (?:(?:me |nos )?(?:envi\w+|mand\w+|pass\w+)(?: \S+){0,3} (?:mais|informa\w+|detalhes|proposta|apresenta\w+|pre[çc]os?))|(?:podemos (?:conversar|marcar|agendar|falar)|vamos (?:conversar|marcar|agendar|falar)|me lig\w+)|^\W*(?:sim|claro|perfeito|com certeza)\b
    (?:interessat\w+|interessante|(?:mi|ci) interessa|volentieri|perch[ée] no)
    (?:mi |ci )?(?:mand\w+|invi\w+|raccont\w+)(?: \S+){0,3} (?:maggiori|pi[ùu]|informazioni|dettagli|preventivo|presentazione|materiale|prezzi)|(?:possiamo (?:sentirci|parlare|fissare|vederci)|sentiamoci|mi chiami)|^\W*(?:s[ìi]|certo|perfetto|va bene)\b
    """,
    r"""
    (?:zainteresowan\w+|interesuj\w+|brzmi (?:\S+ )?(?:dobrze|ciekawie)|ch[ęe]tnie|czemu nie|dlaczego nie)
    prosz[ęe] (?:o |\S+ )?(?:przes[łl]a\w+|wys[łl]a\w+|wi[ęe]cej|ofert\w+|szczeg[óo][łl]y|cennik|telefon|informacj\w+|zadzwoni\w+)|(?:porozmawiajmy|um[óo]wmy|mo[żz]emy (?:porozmawia\w+|si[ęe]))|^\W*(?:tak|jasne|oczywi[śs]cie|pewnie)\b
    (?:ge[ïi]nteresseerd|interessant|klinkt (?:\S+ )?(?:goed|interessant)|waarom niet|graag)
    (?:stuur|vertel|geef) (?:mij|me|ons)(?: \S+){0,3} (?:meer|info\w*|details|voorstel|prijzen|offerte)|(?:bel|belt u) (?:mij|me)|(?:kunnen we|laten we) (?:\S+ )?(?:bellen|praten|afspreken|een afspraak)|^\W*(?:ja|zeker|prima|akkoord)\b
    """,
)
_QUESTION = _rules(
    r"(?:could|can|would) you (?:please )?(?:explain|clarify|tell me|elaborate|specify|confirm|advise)",
    r"(?:подскажите|уточните|поясните|объясните|сколько стоит|каков\w* (?:стоимость|цена|условия|срок\w*)|как это работает|в чем (?:суть|разница|отличие)|откуда (?:у вас|вы))",
)

_ORDER = [
    (Label.NOT_NOW, _NOT_NOW[:2]),
    (Label.WRONG_PERSON, [*_LEFT, *_WRONG_PERSON]),
    (Label.NOT_INTERESTED, _NOT_INTERESTED),
    (Label.OUT_OF_OFFICE, _AWAY),
    (Label.NOT_NOW, _NOT_NOW[2:]),
    (Label.INTERESTED, _INTERESTED),
    (Label.QUESTION, _QUESTION),
]
