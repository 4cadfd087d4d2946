"""What people and their machines answer: the words of the sender alone, what they mean, when he is back."""

from datetime import date

import pytest

from providers.senders.inbound.labels import Label, label_of
from providers.senders.inbound.replies import stripped
from providers.senders.inbound.returns import return_date
from providers.senders.inbound.verdict import Kind, classify
from tests.providers.inbound_mails import THEIRS, mail, reply

TODAY = date(2026, 11, 24)
QUOTED = "> Hello Max, are you interested?\n> Unsubscribe here\n"

ANNOUNCED = {
    "english": "On Mon, 2 Mar 2026 at 10:00, Anna <anna@sender.test> wrote:",
    "english over lines": "On Mon, 2 Mar 2026 at 10:00, Anna Sender of Sender and Partners\n<anna@sender.test>\nwrote:",
    "russian": "пн, 2 мар. 2026 г. в 10:00, Anna <anna@sender.test>:",
    "russian verb": "2 марта 2026 г., 10:00, Анна <anna@sender.test> написала:",
    "russian mail.ru": "Понедельник, 2 марта 2026, 10:00 +03:00 от Anna <anna@sender.test>:",
    "german": "Am 02.03.2026 um 10:00 schrieb Anna <anna@sender.test>:",
    "french": "Le lun. 2 mars 2026 à 10:00, Anna <anna@sender.test> a écrit :",
    "spanish": "El lun, 2 mar 2026 a las 10:00, Anna (<anna@sender.test>) escribió:",
    "portuguese": "Em seg., 2 de mar. de 2026 às 10:00, Anna <anna@sender.test> escreveu:",
    "italian": "Il giorno lun 2 mar 2026 alle ore 10:00 Anna <anna@sender.test> ha scritto:",
    "polish": "pon., 2 mar 2026 o 10:00 Anna <anna@sender.test> napisał(a):",
    "dutch": "Op ma 2 mrt 2026 om 10:00 schreef Anna <anna@sender.test>:",
    "swedish": "Den mån 2 mars 2026 kl 10:00 skrev Anna <anna@sender.test>:",
    "danish": "man. 2. mar. 2026 kl. 10.00 skrev Anna <anna@sender.test>:",
    "czech": "po 2. 3. 2026 v 10:00 odesílatel Anna <anna@sender.test> napsal:",
    "japanese": "2026年3月2日(月) 10:00 Anna <anna@sender.test>:",
    "chinese": "Anna <anna@sender.test> 于2026年3月2日周一 10:00写道：",
    "korean": "2026년 3월 2일 (월) 오전 10:00, Anna <anna@sender.test>님이 작성하였습니다:",
}
BLOCKS = {
    "outlook": "________________________________\nFrom: Anna <anna@sender.test>\nSent: Monday, March 2, 2026\nTo: Max\nSubject: Fair\n",
    "outlook russian": "От: Anna <anna@sender.test>\nОтправлено: 2 марта 2026 г.\nКому: Max\nТема: Ярмарка\n",
    "outlook german": "Von: Anna <anna@sender.test>\nGesendet: Montag, 2. März 2026\nAn: Max\nBetreff: Messe\n",
    "outlook french": "De : Anna <anna@sender.test>\nEnvoyé : lundi 2 mars 2026\nÀ : Max\nObjet : Salon\n",
    "outlook polish": "Od: Anna <anna@sender.test>\nWysłano: poniedziałek\nDo: Max\nTemat: Targi\n",
    "original": "-----Original Message-----\nFrom: Anna\n",
    "original russian": "-------- Исходное сообщение --------\nОт: Anna\n",
    "forwarded russian": "-------- Пересылаемое сообщение --------\n02.03.2026, Anna\n",
    "samsung german": "-------- Ursprüngliche Nachricht --------\nVon: Anna\n",
    "apple": "Begin forwarded message:\n\nFrom: Anna\n",
}
SIGNATURES = [
    "-- \nMax Muster\nClient GmbH",
    "Best regards,\nMax",
    "Kind regards",
    "Sent from my iPhone",
    "Get Outlook for Android<https://aka.ms/x>",
    "С уважением,\nМаксим Петров\n+7 900 000-00-00",
    "Отправлено с iPhone",
    "Отправлено из мобильной Почты Mail.ru",
    "Mit freundlichen Grüßen\nMax Muster",
    "Gesendet von meinem iPhone",
    "Cordialement,\nMax",
    "Envoyé de mon iPhone",
    "Saludos cordiales,\nMax",
    "Enviado desde mi iPhone",
    "Atenciosamente,\nMax",
    "Cordiali saluti\nMax",
    "Inviato da iPhone",
    "Pozdrawiam,\nMax",
    "Met vriendelijke groet,\nMax",
    "CONFIDENTIALITY NOTICE: this e-mail is for you alone.",
    "This e-mail and any attachments are confidential and intended for the addressee.",
    "—————\nMax Muster\nCEO",
]


@pytest.mark.parametrize("name", ANNOUNCED)
def test_quotes_are_cut_with_the_line_that_announces_them(name: str) -> None:
    assert stripped(f"Yes, tell me more.\n\n{ANNOUNCED[name]}\n{QUOTED}") == "Yes, tell me more."


@pytest.mark.parametrize("name", ANNOUNCED)
def test_a_quote_without_marks_is_cut_too(name: str) -> None:
    assert (
        stripped(f"Yes, tell me more.\n\n{ANNOUNCED[name]}\n\nHello Max, are you interested?") == "Yes, tell me more."
    )


@pytest.mark.parametrize("name", BLOCKS)
def test_what_outlook_and_others_put_below_is_cut(name: str) -> None:
    assert stripped(f"Yes, tell me more.\n\n{BLOCKS[name]}\nHello Max, are you interested?") == "Yes, tell me more."


@pytest.mark.parametrize("signature", SIGNATURES)
def test_signatures_and_disclaimers_are_cut(signature: str) -> None:
    assert stripped(f"Yes, tell me more.\n\n{signature}\n\n{ANNOUNCED['english']}\n{QUOTED}") == "Yes, tell me more."


@pytest.mark.parametrize(
    "text",
    [
        "With regards to your offer, I have a question.",
        "The data was sent from my server.",
        "On Friday we wrote to you about that.",
        "Let us meet at 10:00:\nin the lobby",
        "Sent from my desk, which is easier than the phone.",
        "From: is a field that we need in the form.",
        "I said no. -- Really.",
    ],
)
def test_words_that_look_like_the_edge_of_a_reply_stay(text: str) -> None:
    assert stripped(text) == text


def test_answers_between_the_quoted_lines_stay() -> None:
    text = f"{ANNOUNCED['english']}\n> Are you interested?\n\nYes.\n\n> When may I call?\n\nTomorrow.\n"
    assert stripped(text) == "Yes.\n\nTomorrow."


def test_the_words_of_html_are_taken_without_its_quotes() -> None:
    html = (
        "<html><head><style>p {color: red}</style></head><body><p>Yes, <b>tell</b> me more.</p>"
        '<div class="gmail_quote">On Mon, 2 Mar 2026 at 10:00, Anna &lt;anna@sender.test&gt; wrote:<br>'
        "<blockquote>Hello Max, unsubscribe here</blockquote></div></body></html>"
    )
    verdict = classify(reply(html, kind="text/html"))
    assert (verdict.kind, verdict.text) == (Kind.HUMAN, "Yes, tell me more.")


MEANT = [
    (Label.INTERESTED, "Sounds great, let's talk tomorrow"),
    (Label.INTERESTED, "We are interested! Can you send pricing?"),
    (Label.INTERESTED, "Why not? Let's do it"),
    (Label.INTERESTED, "No problem, call me on Tuesday at 3 pm"),
    (Label.INTERESTED, "Да, интересно. Пришлите презентацию"),
    (Label.INTERESTED, "Не против созвониться завтра"),
    (Label.INTERESTED, "Klingt interessant, schicken Sie mir mehr Infos"),
    (Label.INTERESTED, "Ça m'intéresse, rappelez-moi"),
    (Label.INTERESTED, "Me interesa, envíenme más información"),
    (Label.INTERESTED, "Tenho interesse, pode me enviar mais detalhes?"),
    (Label.INTERESTED, "Mi interessa, mi mandi maggiori informazioni"),
    (Label.INTERESTED, "Jestem zainteresowany, proszę o więcej informacji"),
    (Label.INTERESTED, "Klinkt goed, stuur me meer informatie"),
    (Label.QUESTION, "How much does it cost?"),
    (Label.QUESTION, "Where did you get my address?"),
    (Label.QUESTION, "Сколько стоит?"),
    (Label.QUESTION, "Подскажите, для кого это"),
    (Label.NOT_INTERESTED, "Not interested, thanks"),
    (Label.NOT_INTERESTED, "I am not at all interested."),
    (Label.NOT_INTERESTED, "This isn't interesting to us"),
    (Label.NOT_INTERESTED, "We already have a vendor that we are happy with"),
    (Label.NOT_INTERESTED, "Не интересно"),
    (Label.NOT_INTERESTED, "Нас это не заинтересовало, не нужно"),
    (Label.NOT_INTERESTED, "Спасибо, не надо"),
    (Label.NOT_INTERESTED, "Kein Interesse"),
    (Label.NOT_INTERESTED, "Nous ne sommes pas intéressés"),
    (Label.NOT_INTERESTED, "No nos interesa, gracias"),
    (Label.NOT_INTERESTED, "Não tenho interesse"),
    (Label.NOT_INTERESTED, "Non sono interessato"),
    (Label.NOT_INTERESTED, "Nie jestem zainteresowany"),
    (Label.NOT_INTERESTED, "Geen interesse"),
    (Label.NOT_NOW, "I'm not interested right now, maybe next year"),
    (Label.NOT_NOW, "Please get back to me in March"),
    (Label.NOT_NOW, "Интересно, но не сейчас"),
    (Label.NOT_NOW, "Сейчас не актуально, напишите в январе"),
    (Label.NOT_NOW, "Derzeit leider keine Kapazität"),
    (Label.WRONG_PERSON, "I'm not the right person, please contact Eva"),
    (Label.WRONG_PERSON, "I left the company in May"),
    (Label.WRONG_PERSON, "Это не ко мне, обратитесь к Ивану"),
    (Label.WRONG_PERSON, "Я этим не занимаюсь"),
    (Label.WRONG_PERSON, "Dafür bin ich nicht zuständig"),
    (Label.OPT_OUT, "unsubscribe"),
    (Label.OPT_OUT, "STOP"),
    (Label.OPT_OUT, "Please remove me from your list"),
    (Label.OPT_OUT, "Interesting offer, but do not contact me again"),
    (Label.OPT_OUT, "How did you get my address? Delete my data."),
    (Label.OPT_OUT, "Отпишите меня от рассылки"),
    (Label.OPT_OUT, "Больше не пишите мне"),
    (Label.OPT_OUT, "Прекратите слать спам"),
    (Label.OPT_OUT, "Удалите мой адрес из базы"),
    (Label.OPT_OUT, "Bitte nehmen Sie mich aus dem Verteiler"),
    (Label.OPT_OUT, "Désabonnez-moi"),
    (Label.OPT_OUT, "Quiero darme de baja"),
    (Label.OPT_OUT, "Por favor, me descadastre"),
    (Label.OPT_OUT, "Cancellatemi dalla lista"),
    (Label.OPT_OUT, "Proszę o usunięcie mojego adresu"),
    (Label.OPT_OUT, "Graag uitschrijven"),
    (Label.OTHER, "Thanks!"),
    (Label.OTHER, "To unsubscribe click here"),
]


@pytest.mark.parametrize(("label", "text"), MEANT)
def test_an_answer_means_what_a_reader_would_say(label: Label, text: str) -> None:
    found, span = label_of(text)
    assert found is label
    assert bool(span) == (label is not Label.OTHER)


@pytest.mark.parametrize("yes", [text for label, text in MEANT if label is Label.INTERESTED])
@pytest.mark.parametrize("no", ["Remove me from your list.", "Отпишите меня.", "Please stop emailing me."])
def test_an_opt_out_wins_over_any_interest(yes: str, no: str) -> None:
    assert label_of(f"{yes}. {no}")[0] is Label.OPT_OUT
    assert label_of(f"{no} {yes}.")[0] is Label.OPT_OUT


def test_an_opt_out_below_the_signature_counts() -> None:
    verdict = classify(reply("Interesting.\n\nBest regards,\nMax\n\nPS remove me from your list"))
    assert (verdict.text, verdict.label) == ("Interesting.", Label.OPT_OUT)


def test_an_opt_out_in_the_subject_counts_and_one_in_the_quote_does_not() -> None:
    assert classify(reply("", subject="unsubscribe")).label is Label.OPT_OUT
    assert classify(reply(f"Yes, please.\n\n{ANNOUNCED['english']}\n> unsubscribe\n")).label is Label.INTERESTED


AWAY = [
    ("Automatic reply: Your autumn fair", "I am out of the office until 5 December with limited access to e-mail.", ""),
    ("Out of Office", "I'm on vacation, back on December 7th.", ""),
    ("Автоответ: Ваша ярмарка", "Нахожусь в отпуске до 5 декабря.", ""),
    ("Abwesenheitsnotiz", "Ich bin im Urlaub bis zum 05.12.2026.", ""),
    ("Réponse automatique", "Je suis absent jusqu'au 5 décembre.", ""),
    ("Respuesta automática", "Estoy fuera de la oficina hasta el 5 de diciembre.", ""),
    ("Re: Your autumn fair", "I am out of the office.", "Auto-Submitted: auto-replied\r\n"),
    ("Re: Your autumn fair", "I am out of the office.", "X-Autoreply: yes\r\n"),
    ("Re: Your autumn fair", "I am out of the office.", "Precedence: auto_reply\r\n"),
]


@pytest.mark.parametrize(("subject", "text", "headers"), AWAY)
def test_absences_are_automatic_and_no_bounces(subject: str, text: str, headers: str) -> None:
    verdict = classify(reply(text, subject=subject, headers=headers), today=TODAY)
    assert (verdict.kind, verdict.label) == (Kind.AUTO_REPLY, Label.OUT_OF_OFFICE)
    assert [one.address for one in verdict.recipients] == [THEIRS]


def test_an_answer_to_a_subject_of_ours_is_no_absence() -> None:
    assert classify(reply("Sounds good", subject="Re: Out of office solutions")).kind is Kind.HUMAN


def test_an_absence_that_leaves_no_way_back_is_no_bounce() -> None:
    raw = mail(
        "I am on leave. Your message will not be forwarded, my mailbox is full of mails.",
        sender=f"Max <{THEIRS}>",
        subject="Re: Your autumn fair",
    )
    assert classify(raw).kind is Kind.AUTO_REPLY


def test_a_subject_in_japanese_brackets_is_read_too() -> None:
    assert (
        classify(reply("このメールは自動送信されています。", subject="【自動返信】お問い合わせ")).kind
        is Kind.AUTO_REPLY
    )
    assert classify(reply("よろしくお願いします。", subject="【重要】お問い合わせ")).kind is Kind.HUMAN


def test_other_automatic_answers_and_people_who_left_are_told_apart() -> None:
    headers = "Auto-Submitted: auto-replied\r\n"
    assert classify(reply("We have received your request.", headers=headers)).label is Label.AUTO_REPLY
    assert classify(reply("Max no longer works here.", headers=headers)).label is Label.WRONG_PERSON


@pytest.mark.parametrize(
    ("text", "day"),
    [
        ("I will be back on Monday, 5 January 2027.", date(2027, 1, 5)),
        ("out of office until December 5th", date(2026, 12, 5)),
        ("I am on vacation from 1 December to 10 December", date(2026, 12, 11)),
        ("returning on 12/14/2026", date(2026, 12, 14)),
        ("out through December 4", date(2026, 12, 5)),
        ("until 2026-12-31", date(2026, 12, 31)),
        ("back next week", date(2026, 11, 30)),
        ("I will return tomorrow", date(2026, 11, 25)),
        ("Back in the office on Thursday", date(2026, 11, 26)),
        ("Я в отпуске до 5 декабря", date(2026, 12, 5)),
        ("Нахожусь в отпуске с 1 по 14 декабря 2026 включительно", date(2026, 12, 15)),
        ("вернусь 10.12.2026", date(2026, 12, 10)),
        ("bis zum 15.12.2026 im Urlaub", date(2026, 12, 15)),
        ("Ich bin ab dem 07.12. wieder erreichbar", date(2026, 12, 7)),
        ("Je serai de retour le 3 janvier", date(2027, 1, 3)),
        ("Estaré de vuelta el 15 de diciembre", date(2026, 12, 15)),
        ("estou de férias até 20 de dezembro", date(2026, 12, 20)),
        ("sono assente fino al 10 dicembre", date(2026, 12, 10)),
        ("wracam 7 grudnia", date(2026, 12, 7)),
        ("afwezig tot 4 december", date(2026, 12, 4)),
        ("I was away until 5 October", None),
        ("until 31 February", None),
        ("no date here", None),
    ],
)
def test_the_day_of_return_is_read(text: str, day: date | None) -> None:
    assert return_date(text, today=TODAY) == day
