"""Asks for pixels as fast as they are answered, over connections that stay open: `visitor PORT HOST CONNECTIONS`.

It hears the paths, one a line, then "go"; it says how many seconds that took and how many were answered well.
"""

import asyncio
import sys
import time

BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"


async def visit(port: int, host: str, paths: list[str]) -> int:
    """Ask for one after the other; return how many were pictures."""
    answered = 0
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for path in paths:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {BROWSER}\r\n\r\n".encode())
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
    port, host, count = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    paths = []
    print("ready", flush=True)
    while (line := sys.stdin.readline().strip()) != "go":
        paths.append(line)
    began = time.monotonic()
    answered = await asyncio.gather(*(visit(port, host, paths[number::count]) for number in range(count)))
    print(f"{time.monotonic() - began} {sum(answered)}", flush=True)


if __name__ == "__main__":
    asyncio.run(main())
