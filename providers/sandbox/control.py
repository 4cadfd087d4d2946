"""/_sandbox/: what tests and people ask the sandbox itself."""

from collections.abc import Mapping
from typing import Any

from providers.sandbox import faults
from providers.sandbox.http import Request, Response
from providers.sandbox.posting import Poster
from providers.sandbox.tally import Tally

PREFIX = "/_sandbox/"


class Control:
    """GET counts[?detail=1], messages[?recipient=], events and faults; POST faults (["resend=down"]), reset, replay and
    webhooks ({"resend": "http://localhost:8000/webhooks/…/", "inbound": "smtp://127.0.0.1:2525"}).
    """

    def __init__(self, scripts: Mapping[str, faults.Script], tally: Tally, poster: Poster) -> None:
        self._scripts = scripts
        self._tally = tally
        self._poster = poster

    def handle(self, request: Request) -> Response:
        """The answer to any request below the prefix."""
        match request.method, request.path.removeprefix(PREFIX).strip("/"):
            case "GET", "counts":
                return Response(200, self._tally.snapshot(detail=bool(request.query.get("detail"))))
            case "GET", "messages":
                return Response(200, self._tally.messages(request.query.get("recipient", "")))
            case "GET", "events":
                return Response(200, self._poster.snapshot())
            case "POST", "replay":
                self._poster.replay()
                return Response(200, self._poster.snapshot())
            case "POST", "webhooks":
                return self._listen(request)
            case "GET", "faults":
                return Response(200, self._faults())
            case "POST", "faults":
                return self._set_faults(request)
            case "POST", "reset":
                self._tally.reset()
                self._poster.reset()
                return Response(200, self._tally.snapshot())
        return Response(404, {"message": "here are counts, messages, events, faults, webhooks, replay and reset"})

    def _listen(self, request: Request) -> Response:
        """What is posted replaces all listeners."""
        try:
            wanted: Any = request.json()
            if not isinstance(wanted, dict):
                raise ValueError("post an object such as {'resend': 'http://localhost:8000/webhooks/…/'}")
            self._poster.listen({str(name): str(url) for name, url in wanted.items()})
        except ValueError as error:
            return Response(400, {"message": str(error)})
        return Response(200, self._poster.hooks)

    def _set_faults(self, request: Request) -> Response:
        """What is posted replaces all faults, so an empty list makes everything well."""
        try:
            wanted: Any = request.json()
            if not isinstance(wanted, list):
                raise faults.FaultError("post a list such as ['resend=down', 'smtp=slow:0.5']")
            parsed = [faults.parse(str(one)) for one in wanted]
        except ValueError as error:
            return Response(400, {"message": str(error)})
        for script in self._scripts.values():
            script.clear()
        for fault in parsed:
            self._scripts[fault.provider].set(fault)
        return Response(200, self._faults())

    def _faults(self) -> list[str]:
        return [str(fault) for script in self._scripts.values() for fault in script.active.values()]
