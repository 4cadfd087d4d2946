"""When somebody who is out of office is back, as his answer says. Pure."""

import re
from datetime import date, timedelta

LONGEST = 5000
# An absence is hardly ever longer; what is further away is a misread date.
FURTHEST = timedelta(days=400)

_ONE_DAY = timedelta(days=1)


def return_date(text: str, *, today: date) -> date | None:
    """The first day on which the sender reads mail again, or None if the text does not say or it is past.

    A date after "back on" or "until" is that day, after "through" or "from … to" the day after it. A date without year
    is the next one of its kind. Of days and months in figures the one that is not past and nearest is meant.
    """
    text = re.sub(r"\s+", " ", text[:LONGEST].lower().replace("ё", "е"))
    for pattern, inclusive in ((_BACK, False), (_RANGE, True), (_THROUGH, True), (_UNTIL, False)):
        for match in pattern.finditer(text):
            found = _date_at(text[match.end() : match.end() + 60], today)
            if found is None:
                continue
            inclusive_here = inclusive or bool(_INCLUSIVE.match(text[match.end() : match.end() + 80]))
            day = found + _ONE_DAY if inclusive_here else found
            if today <= day <= today + FURTHEST:
                return day
    return None


_BACK = re.compile(
    r"\b(?:(?:be |am |is |i'm )?back(?: (?:in|at|to)(?: the| my)? (?:office|work|desk|town))?|return(?:ing)?(?: to(?: the| my)? (?:office|work|desk))?|available(?: again)?"
    r"|in the office(?: again)?|resume(?: work)?|reachable(?: again)?|respond|reply|get back to you|out of (?:the )?office until"
    r"|вернусь|выйду(?: на работу)?|буду(?: (?:на (?:рабочем месте|работе|связи)|в офисе|доступ\w+))?|приступлю(?: к работе)?|отвечу(?: вам)?|возвращаюсь|дата (?:выхода|возвращения)"
    r"|(?:wieder|zurück|erreichbar|zurückkehren|rückkehr)(?: \w+){0,4}?|erst(?: \w+)?"
    r"|de retour(?: au bureau)?|retour|reprendrai|regres\w+|estar[ée] de (?:vuelta|regreso|volta)|de vuelta|retorn\w+|volt\w+|rientr\w+|torner[òo]|di ritorno|disponibile"
    r"|wracam|wr[óo]c[ęe]|b[ęe]d[ęe] (?:z powrotem|dost[ęe]pn\w+)(?: \w+){0,2}|powr[óo]t|(?:weer|terug)(?: \w+){0,4}?)"
    r"(?: (?:on|by|from|at|after|am|ab|vom|zum|le|à partir du|el|dia|em|no dia|il|dal|w|dnia|od|op|vanaf|с|в|на|only on|again on|the|d[eo]l?|only|again|um|den|und|per|по возвращении|после))*[ :,—-]+",
    re.I,
)
_RANGE = re.compile(
    r"\b(?:from|between|vom|von|du|del|desde|de|dal|dall'|od|van|с|со|в период с)(?: (?:the|el|le|dia|den))? (?=(?:\w+,? )?\d)"
    r"[\w. /,]{1,40}?(?: (?:to|until|till|and|bis(?: zum)?|au|al|hasta(?: el)?|a|at[ée]|do|tot(?: en met)?|по) | ?[-–—] ?)(?:the |el |le |den )?",
    re.I,
)
_THROUGH = re.compile(
    r"\b(?:through|thru|up to and including|until and including|bis einschlie(?:ß|ss)lich|bis (?:und mit|inkl\w*\.?)|jusqu'au (?:inclus)|tot en met|t/m|по)"
    r"(?: (?:the|den|zum))?[ :]+",
    re.I,
)
_UNTIL = re.compile(
    r"\b(?:until|till|til|before|ab|erst am|bis(?: zum)?|jusqu'(?:au|à)|hasta(?: el)?|at[ée](?: o dia| dia)?|fino (?:al|a)|sino al|do(?: dnia)?|tot(?: en)?|до)"
    r"(?: (?:the|den|dem|le|el|dia|at least))?[ :]+",
    re.I,
)
_INCLUSIVE = re.compile(
    r"[\w., /-]{3,40}?\(?(?:inclusive|included|inclus|incluido|inclusive|incluso|einschlie(?:ß|ss)lich|inklusive|w[łl][ąa]cznie|включительно)",
    re.I,
)

_MONTHS = {
    name: number
    for number, names in enumerate(
        (
            "jan january januar januari janvier enero janeiro gennaio stycznia styczen янв января январь jän jänner",
            "feb february februar februari fevrier février febrero fevereiro febbraio lutego luty фев февраля февраль",
            "mar march märz maerz maart mars marzo março marco marca marzec мар марта март",
            "apr april avril abril aprile kwietnia kwiecień апр апреля апрель",
            "may mai mei mayo maio maggio maja maj мая май",
            "jun june juni juin junio junho giugno czerwca czerwiec июн июня июнь",
            "jul july juli juillet julio julho luglio lipca lipiec июл июля июль",
            "aug august augustus août aout agosto sierpnia sierpień авг августа август",
            "sep sept september septembre septiembre setembro settembre września wrzesień сен сент сентября сентябрь",
            "oct october oktober octobre octubre outubro ottobre października październik okt окт октября октябрь",
            "nov november novembre noviembre novembro listopada listopad ноя нояб ноября ноябрь",
            "dec december dezember décembre decembre diciembre dezembro dicembre grudnia grudzień dez дек декабря декабрь",
        ),
        start=1,
    )
    for name in names.split()
}
_DAYS = {
    name: number
    for number, names in enumerate(
        (
            "monday mon montag lundi lunes segunda-feira segunda lunedì lunedi poniedziałek maandag понедельник пн",
            "tuesday tue dienstag mardi martes terça-feira terça martedì martedi wtorek dinsdag вторник вт",
            "wednesday wed mittwoch mercredi miércoles quarta-feira quarta mercoledì środa środę woensdag среду среда ср",
            "thursday thu donnerstag jeudi jueves quinta-feira quinta giovedì giovedi czwartek donderdag четверг чт",
            "friday fri freitag vendredi viernes sexta-feira sexta venerdì venerdi piątek vrijdag пятницу пятница пт",
            "saturday sat samstag sonnabend samedi sábado sabado sabato sobotę sobota zaterdag субботу суббота сб",
            "sunday sun sonntag dimanche domingo domenica niedzielę niedziela zondag воскресенье вс",
        )
    )
    for name in names.split()
}
_WORD = r"[^\W\d_][^\W\d_.'-]*(?:-feira)?"
_WEEKDAY = re.compile(
    rf"(?:(?:next|coming|nächsten|prochain|próximo|следующ\w+)\s+)?(?P<day>{'|'.join(sorted(_DAYS, key=len, reverse=True))})\b[.,]?\s*",
    re.I,
)
_ISO = re.compile(r"(\d{4})[-./](\d{1,2})[-./](\d{1,2})\b")
_FIGURES = re.compile(r"(\d{1,2})([./-])(\d{1,2})(?:\2(\d{4}|\d{2}))?\b")
_DAY_MONTH = re.compile(
    rf"(\d{{1,2}})(?:st|nd|rd|th|er|º|ª|°|-?го|-?е)?\.?,?\s+(?:of |de |do )?({_WORD})\.?,?(?:\s+(?:de |of |do )?(\d{{4}}))?"
)
_MONTH_DAY = re.compile(rf"({_WORD})\.?\s+(?:the )?(\d{{1,2}})(?:st|nd|rd|th)?\b(?:,?\s+(\d{{4}}))?")
_LEAD = re.compile(
    r"(?:on|the|am|den|dem|le|el|il|la|op|de|w|we|dnia|em|o|dia|a|в|во|с|со|к|на|just|only|ab|ab dem|vanaf|from|of|day|\W)+(?=\s|\d)\s*",
    re.I,
)
_TOMORROW = re.compile(r"(?:tomorrow|morgen|demain|ma[ñn]ana|amanh[ãa]|domani|jutro|завтра)\b", re.I)
_NEXT_WEEK = re.compile(
    r"(?:next week|nächste woche|la semaine prochaine|la pr[óo]xima semana|na pr[óo]xima semana|la prossima settimana|w przyszłym tygodniu|volgende week|(?:на )?следующей неделе)\b",
    re.I,
)


def _date_at(text: str, today: date) -> date | None:
    """The date at the start of a text, or None."""
    text = _LEAD.sub("", text, count=1) if _LEAD.match(text) else text
    if _TOMORROW.match(text):
        return today + _ONE_DAY
    if _NEXT_WEEK.match(text):
        return today + timedelta(days=7 - today.weekday())
    weekday = None
    if match := _WEEKDAY.match(text):
        weekday = _DAYS[match["day"].lower()]
        text = _LEAD.sub("", text[match.end() :], count=1)
    if match := _ISO.match(text):
        return _day(int(match[1]), int(match[2]), int(match[3]))
    if match := _FIGURES.match(text):
        return _of_figures(match, today)
    if (match := _DAY_MONTH.match(text)) and match[2] in _MONTHS:
        return _next(_MONTHS[match[2]], int(match[1]), match[3], today)
    if (match := _MONTH_DAY.match(text)) and match[1] in _MONTHS:
        return _next(_MONTHS[match[1]], int(match[2]), match[3], today)
    if weekday is not None:
        return today + timedelta(days=(weekday - today.weekday() - 1) % 7 + 1)
    return None


def _of_figures(match: re.Match[str], today: date) -> date | None:
    first, second, year = int(match[1]), int(match[3]), match[4]
    year = f"20{year}" if year and len(year) == 2 else year
    readings = [_next(second, first, year, today)]
    if match[2] != ".":
        # Americans write the month first.
        readings.append(_next(first, second, year, today))
    known = sorted(reading for reading in readings if reading is not None)
    return next((reading for reading in known if reading >= today), known[-1] if known else None)


def _next(month: int, day: int, year: str | None, today: date) -> date | None:
    if year:
        return _day(int(year), month, day)
    this = _day(today.year, month, day)
    # What has just passed is an answer that was left on, not one for next year.
    if this is None or today - this <= timedelta(days=90):
        return this
    return _day(today.year + 1, month, day)


def _day(year: int, month: int, day: int) -> date | None:
    try:
        return date(year, month, day)
    except ValueError:
        return None
