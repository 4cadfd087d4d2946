import asyncio
import threading
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, Self, TypeVar

from providers.sandbox import HOST, RESEND_KEY, SENDGRID_KEY, SMTP_PASSWORD, SMTP_USERNAME, control
from providers.sandbox.control import Control
from providers.sandbox.faults import PROVIDERS, Fault, Script, parse
from providers.sandbox.http import HttpProtocol, Request, Response
from providers.sandbox.posting import Poster
from providers.sandbox.resend import Resend
from providers.sandbox.sendgrid import SendGrid
from providers.sandbox.smtp import SmtpProtocol
from providers.sandbox.tally import Tally

_Value = TypeVar("_Value")


class Sandbox:
    """All three providers in one thread of this process, on loopback.

    A port of 0 takes a free one. `resend_keys` and `sendgrid_keys`: key → what its account is called in the
    counts; `smtp_users`: user → (password, name of the account). Raises ValueError for a host other than
    loopback.
    """

    def __init__(
        self,
        *,
        faults: Iterable[Fault | str] = (),
        http_port: int = 0,
        smtp_port: int = 0,
        host: str = HOST,
        resend_keys: Mapping[str, str] | None = None,
        sendgrid_keys: Mapping[str, str] | None = None,
        smtp_users: Mapping[str, tuple[str, str]] | None = None,
    ) -> None:
        if host != HOST:
            raise ValueError(f"the sandbox takes any mail from anybody, so it listens on {HOST} only, not on {host}")
        self.ports = {"http": http_port, "smtp": smtp_port}
        self._scripts = {provider: Script() for provider in PROVIDERS}
        self._tally = Tally()
        self._poster = Poster()
        self._resend = Resend(self._scripts["resend"], self._tally, resend_keys or {RESEND_KEY: "resend"}, self._poster)
        self._sendgrid = SendGrid(
            self._scripts["sendgrid"], self._tally, sendgrid_keys or {SENDGRID_KEY: "sendgrid"}, self._poster
        )
        self._control = Control(self._scripts, self._tally, self._poster)
        self._users = {"": ("", "smtp"), **(smtp_users or {SMTP_USERNAME: (SMTP_PASSWORD, "smtp")})}
        self._connections: set[asyncio.Transport] = set()
        self._servers: list[asyncio.Server] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        for fault in faults:
            self.script(fault)

    @property
    def urls(self) -> dict[str, str]:
        """Where to point an account's `api_url`, and where the sandbox itself answers."""
        base = f"http://{HOST}:{self.ports['http']}"
        return {
            "resend": f"{base}/",
            "sendgrid": f"{base}/v3/",
            "smtp": f"smtp://{HOST}:{self.ports['smtp']}",
            "control": f"{base}{control.PREFIX}",
        }

    def start(self) -> Self:
        """Listen; returns when both ports answer. Raises OSError if one is taken."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="sandbox", daemon=True)
        self._thread.start()
        try:
            asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Cut all connections and end the thread; harmless twice."""
        self._poster.stop()
        loop, self._loop = self._loop, None
        if loop is None or self._thread is None:
            return
        asyncio.run_coroutine_threadsafe(self._close(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        self._thread.join(10)
        loop.close()

    def script(self, fault: Fault | str) -> None:
        """Switch a fault on from now on; text as in `resend=down`."""
        wanted = parse(fault) if isinstance(fault, str) else fault
        self._in_loop(lambda: self._scripts[wanted.provider].set(wanted))

    def heal(self, provider: str | None = None) -> None:
        """Switch the faults of one provider off, or of all."""
        for name in [provider] if provider else PROVIDERS:
            self._in_loop(self._scripts[name].clear)

    def snapshot(self, *, detail: bool = False) -> dict[str, Any]:
        """The counts, see Tally.snapshot."""
        return self._in_loop(lambda: self._tally.snapshot(detail=detail))

    def messages(self, recipient: str = "") -> list[dict[str, Any]]:
        """The latest mails, see Tally.messages."""
        return self._in_loop(lambda: self._tally.messages(recipient))

    def listen(self, **hooks: str) -> None:
        """Tell what becomes of mails: post events of them to these addresses, such as
        resend="http://localhost:8000/webhooks/…/", and bring what comes back by mail, replies too, to
        inbound="smtp://127.0.0.1:2525"; none ends it."""
        self._in_loop(lambda: self._poster.listen(hooks))

    def events(self) -> dict[str, Any]:
        """What became of mails, see Poster.snapshot."""
        return self._in_loop(self._poster.snapshot)

    def replay(self) -> None:
        """Post and bring what was lost."""
        self._in_loop(self._poster.replay)

    def reset(self) -> None:
        """Forget all mails, keys, faults and listeners."""
        self.heal()
        self.listen()
        self._in_loop(self._poster.reset)
        self._in_loop(self._tally.reset)
        self._in_loop(self._resend.reset)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _in_loop(self, work: Callable[[], _Value]) -> _Value:
        """Run in the sandbox's thread, the only one that touches its state once it has started."""
        if self._loop is None:
            return work()

        async def run() -> _Value:
            return work()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(30)

    async def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        http = await loop.create_server(
            lambda: HttpProtocol(self._route, self._connections), HOST, self.ports["http"], backlog=512
        )
        self._servers.append(http)
        smtp = await loop.create_server(
            lambda: SmtpProtocol(self._scripts["smtp"], self._tally, self._users, self._connections, self._poster),
            HOST,
            self.ports["smtp"],
            backlog=512,
        )
        self._servers.append(smtp)
        self.ports = {"http": _port(http), "smtp": _port(smtp)}

    async def _close(self) -> None:
        for server in self._servers:
            server.close()
        for transport in list(self._connections):
            transport.abort()
        # Let the transports say goodbye to their protocols before the loop goes away.
        await asyncio.sleep(0)
        self._servers.clear()

    def _route(self, request: Request) -> Response:
        if request.path.startswith(control.PREFIX):
            return self._control.handle(request)
        if request.path.startswith("/v3/"):
            return self._sendgrid.handle(request)
        return self._resend.handle(request)


def _port(server: asyncio.Server) -> int:
    return int(server.sockets[0].getsockname()[1])
