"""The plain loop that the engine is measured by: `python -m tests.benchmarks.rival smtp PORT COUNT`, or `http`.

One connection, the same texts filled in by the same library, `email.mime` or one `requests.Session`, no database.
Says "ready", waits for a line, sends, and says as JSON how long it took.
"""

import json
import smtplib
import sys
import time
from collections.abc import Callable
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from email.utils import formataddr, formatdate
from typing import Any
from uuid import uuid4

import requests
from liquid import Environment

from tests.benchmarks import texts

SENDERS = [(f"Sender {number}", f"s{number}@d{number % 24}.sender.example") for number in range(1200)]
_html = Environment(autoescape=True)
_plain = Environment()
TEMPLATES = (_plain.from_string(texts.SUBJECT), _plain.from_string(texts.TEXT), _html.from_string(texts.HTML))


def main() -> None:
    kind, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    people = [texts.contact(number) for number in range(1, count + 1)]
    loops: dict[str, Callable[[int, list[dict[str, Any]]], None]] = {"smtp": over_smtp, "http": over_http}
    print("ready", flush=True)
    sys.stdin.readline()
    started, cpu = time.monotonic(), time.process_time()
    loops[kind](port, people)
    ended = time.monotonic()
    print(json.dumps({"sent": count, "started": started, "ended": ended, "cpu": time.process_time() - cpu}), flush=True)


def over_smtp(port: int, people: list[dict[str, Any]]) -> None:
    with smtplib.SMTP("127.0.0.1", port, "localhost") as connection:
        for number, person in enumerate(people):
            name, address = SENDERS[number % len(SENDERS)]
            connection.sendmail(address, [person["email"]], mail(name, address, person))


def mail(name: str, address: str, person: dict[str, Any]) -> str:
    subject, text, html = (template.render(**person) for template in TEMPLATES)
    message = MIMEMultipart("alternative")
    message["From"] = formataddr((name, address))
    message["To"] = formataddr((f"{person['first_name']} {person['last_name']}", person["email"]))
    message["Subject"] = subject
    message["Date"] = formatdate()
    message["Message-ID"] = f"<{uuid4()}@{address.rsplit('@', 1)[1]}>"
    message.attach(MIMEText(text))
    message.attach(MIMEText(html, "html"))
    return message.as_string()


def over_http(port: int, people: list[dict[str, Any]]) -> None:
    with requests.Session() as session:
        session.headers["Authorization"] = "Bearer re_bench"
        for number, person in enumerate(people):
            name, address = SENDERS[number % len(SENDERS)]
            subject, text, html = (template.render(**person) for template in TEMPLATES)
            answer = session.post(
                f"http://127.0.0.1:{port}/emails",
                json={
                    "from": formataddr((name, address)),
                    "to": [person["email"]],
                    "subject": subject,
                    "text": text,
                    "html": html,
                },
                timeout=30,
            )
            answer.raise_for_status()


if __name__ == "__main__":
    main()
