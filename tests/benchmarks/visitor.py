"""Asks over connections that stay open: `visitor PORT HOST CONNECTIONS RATE`, as fast as it is answered where the rate
is 0, else so many times a second at most.

It hears the requests, one a line as JSON (method, path, headers, body), then "go"; it says how many seconds that took
and how many were answered well.
"""

import asyncio
import json
import sys
import time

BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"


def written(host: str, line: str) -> bytes:
    """The request of a line as it goes over the wire."""
    method, path, headers, body = json.loads(line)
    sent = body.encode()
    if sent:
        headers |= {"Content-Type": "application/json", "Content-Length": len(sent)}
    head = "".join(f"{name}: {value}\r\n" for name, value in {"Host": host, "User-Agent": BROWSER, **headers}.items())
    return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + sent


async def visit(port: int, requests: list[bytes], times: list[float]) -> int:
    """Ask for one after the other, none before its time; return how many were answered well."""
    answered = 0
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for request, at in zip(requests, times, strict=True):
        if (early := at - time.monotonic()) > 0:
            await asyncio.sleep(early)
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.partition(b"content-length:")[2].split(b"\r\n", 1)[0])
        await reader.readexactly(length)
        answered += head.startswith(b"http/1.1 200")
        if b"connection: close" in head:
            writer.close()
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.close()
    return answered


async def main() -> None:
    port, host, count, rate = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
    requests = []
    print("ready", flush=True)
    while (line := sys.stdin.readline().strip()) != "go":
        requests.append(written(host, line))
    began = time.monotonic()
    times = [began + number / rate if rate else began for number in range(len(requests))]
    answered = await asyncio.gather(
        *(visit(port, requests[number::count], times[number::count]) for number in range(count))
    )
    print(f"{time.monotonic() - began} {sum(answered)}", flush=True)


if __name__ == "__main__":
    asyncio.run(main())
