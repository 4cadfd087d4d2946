"""Our mails at a real Postfix: it takes them, and what it stores is what we wrote."""

import email
import email.policy
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from email.message import EmailMessage
from pathlib import Path

import dkim as dkimpy
import pytest

from campaigns import dispatch, launch
from campaigns.models import Contact, Message
from providers.accounts.adapters import mime
from providers.accounts.envelope import Envelope
from providers.accounts.models import Account
from providers.senders.models import Sender
from tenants import context
from tenants.models import Agency
from tests import stage
from tests.stage import NOON

POSTFIX = shutil.which("postfix") or "/usr/sbin/postfix"
NAMES = ['Ann "the" O\'Brien, Dr.', "Жанна Дарк", "👩‍👩‍👧 Ünï"]
# What it writes above a mail that it delivers, and what our signature is.
ABOVE = {"DKIM-Signature", "Return-Path", "X-Original-To", "Delivered-To", "Received"}
MAIN = """
compatibility_level = 3.6
queue_directory = {place}/queue
data_directory = {place}/data
maillog_file = {place}/log
maillog_file_prefixes = {place}
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = mx.people.example
mydestination =
mynetworks = 127.0.0.0/8
alias_maps =
alias_database =
smtpd_peername_lookup = no
smtpd_relay_restrictions = reject_unauth_destination
local_recipient_maps =
virtual_mailbox_domains = people.example
virtual_mailbox_base = {place}/mail
virtual_mailbox_maps = static:all/
virtual_uid_maps = static:65534
virtual_gid_maps = static:65534
"""
MASTER = """
127.0.0.1:{port} inet n - n - - smtpd
cleanup   unix  n - n - 0 cleanup
qmgr      unix  n - n 300 1 qmgr
rewrite   unix  - - n - - trivial-rewrite
bounce    unix  - - n - 0 bounce
defer     unix  - - n - 0 bounce
trace     unix  - - n - 0 bounce
verify    unix  - - n - 1 verify
proxymap  unix  - - n - - proxymap
virtual   unix  - n n - - virtual
error     unix  - - n - - error
retry     unix  - - n - - error
anvil     unix  - - n - 1 anvil
postlog   unix-dgram n - n - 1 postlogd
"""


@dataclass(frozen=True)
class Postfix:
    """One that runs: where it listens, and where it keeps its mail."""

    port: int
    place: Path

    def stored(self, count: int) -> list[bytes]:
        """What it has delivered, once it is so much."""
        until = time.monotonic() + 30
        folder = self.place / "mail" / "all" / "new"
        while time.monotonic() < until:
            if folder.is_dir() and len(files := sorted(folder.iterdir())) >= count:
                return [file.read_bytes() for file in files]
            time.sleep(0.05)
        raise AssertionError((self.place / "log").read_text())


@pytest.fixture
def postfix() -> Iterator[Postfix]:
    """A Postfix of our own: nothing of the machine's is read or written, and it speaks to nobody."""
    if not Path(POSTFIX).exists():
        pytest.skip("Postfix is not installed")
    if os.getuid() != 0:
        pytest.skip("Postfix starts as root alone")
    place = Path(tempfile.mkdtemp(prefix="polza-postfix-"))
    place.chmod(0o755)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    for name in ("etc", "queue", "data", "mail"):
        (place / name).mkdir()
    shutil.chown(place / "data", "postfix")
    shutil.chown(place / "mail", 65534, 65534)
    (place / "etc" / "main.cf").write_text(MAIN.format(place=place))
    (place / "etc" / "master.cf").write_text(MASTER.format(port=port))
    server = subprocess.Popen(
        [POSTFIX, "-c", place / "etc", "start-fg"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    try:
        _wait_for(port, server)
        yield Postfix(port, place)
    finally:
        subprocess.run([POSTFIX, "-c", place / "etc", "stop"], check=False, capture_output=True, timeout=30)
        server.terminate()
        server.wait(30)
        shutil.rmtree(place, ignore_errors=True)


def _wait_for(port: int, server: "subprocess.Popen[str]") -> None:
    until = time.monotonic() + 30
    while time.monotonic() < until and server.poll() is None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    server.terminate()
    raise AssertionError(server.communicate(timeout=30)[1])


def test_what_it_stores_is_what_we_wrote(alpha: Agency, postfix: Postfix, monkeypatch: pytest.MonkeyPatch) -> None:
    written: dict[str, bytes] = {}
    as_bytes = mime.as_bytes

    def seen(envelope: Envelope) -> bytes:
        written[envelope.message_id] = as_bytes(envelope)
        return written[envelope.message_id]

    monkeypatch.setattr(mime, "as_bytes", seen)
    account = Account.objects.create(
        name="own",
        kind="smtp",
        credentials={},
        options={"host": "127.0.0.1", "port": postfix.port, "security": "none"},
        traffic_classes=["bulk"],
    )
    stage.allot(alpha, account)
    with context.entered(alpha):
        records = stage.signing()
        people = stage.contact_list("p", len(NAMES))
        for person, name in zip(Contact.objects.order_by("pk"), NAMES, strict=True):
            Contact.objects.filter(pk=person.pk).update(first_name=name)
        Sender.objects.update(name="Ольга из Polza")
        html = "<p>{{ first_name }}</p>\n.\n.dot\nFrom here\n" + "ü" * 3000 + "x" * 3000
        campaign = stage.campaign(people, html=html, traffic_class="bulk")
        campaign.steps.update(subject="Привет, {{ first_name }} — " + "очень длинная тема " * 8)
        launch.launch(campaign, now=NOON)

        dispatch.drain(account.pk, clock=lambda: NOON, until=NOON + timedelta(seconds=15))

        assert stage.statuses(campaign) == {"sent": len(NAMES)}
        rows = {str(one.key): one for one in Message.objects.select_related("contact", "sender")}
    for raw in postfix.stored(len(NAMES)):
        assert max(map(len, raw.split(b"\n"))) <= 998
        read = email.message_from_bytes(raw, policy=email.policy.default)
        assert isinstance(read, EmailMessage)
        row = rows[read["Message-ID"][1:].partition("@")[0]]
        assert row.sender is not None
        ours = written[read["Message-ID"]].replace(b"\r\n", b"\n").rstrip(b"\n")
        # Byte for byte, below what it has written above.
        assert raw.rstrip(b"\n").endswith(ours)
        above = email.message_from_bytes(raw[: raw.index(ours)])
        assert set(above.keys()) <= ABOVE
        crlf = raw.replace(b"\n", b"\r\n")
        assert dkimpy.verify(crlf, dnsfunc=lambda name, timeout=5: records[name.decode()])
        assert above["Return-Path"] == f"<{row.sender.address}>"
        assert above["Delivered-To"] == row.contact.email
        assert read["To"].addresses[0].addr_spec == row.contact.email
        assert read["Subject"].startswith(f"Привет, {row.contact.first_name} — очень длинная")
        assert read["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
        assert "unsubscribe%20" in read["List-Unsubscribe"]
        assert len(list(read.iter_parts())) == 2
