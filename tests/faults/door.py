"""The door before the store: a request can be held there, and the store can be stopped behind it."""

import contextlib
import re
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO
from urllib.parse import unquote

from trailer_ml.demo.services import LOOPBACK, run_seaweedfs
from trailer_ml.settings import StoreSettings

LIMIT_S = 600.0
"""For anything that is waited for: a fault is noticed after 75 s, on a slow machine among others."""


def wait_until(is_so: Callable[[], object], what: str, limit_s: float = LIMIT_S) -> None:
    deadline = time.monotonic() + limit_s
    while not is_so():
        assert time.monotonic() < deadline, f"not after {limit_s:.0f} s: {what}"
        time.sleep(0.2)


class Held:
    """A request that waits at the door; where it came from, and then which worker that is."""

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.by_port = 0
        self.worker = ""
        self.is_there = threading.Event()
        self.may_go = threading.Event()
        self.is_lost = False

    def let_go(self) -> None:
        self.may_go.set()

    def lose(self) -> None:
        """It never arrives."""
        self.is_lost = True
        self.may_go.set()


class Door:
    """A way to a server at which one request at a time can be held; as a proxy it is asked for whole addresses."""

    def __init__(self, to_port: int) -> None:
        self._to_port = to_port
        self._listener = socket.create_server((LOOPBACK, 0))
        self.port = self._listener.getsockname()[1]
        self._awaited: Held | None = None
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def hold(self, pattern: str) -> Held:
        """The next request that looks so, such as `PUT /trailers/index/`, waits until it is let go or lost."""
        with self._lock:
            assert self._awaited is None
            self._awaited = Held(pattern)
            return self._awaited

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError), socket.create_connection((LOOPBACK, self._to_port)) as server:
            threading.Thread(target=pour, args=(server, client), daemon=True).start()
            with client.makefile("rb") as requests:
                while (head := read_head(requests)) and self._let_pass(head, client):
                    server.sendall(re.sub(rb"^(\S+) http://[^/ ]+", rb"\1 ", head))
                    length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
                    left = int(length[1]) if length else 0
                    while left and (part := requests.read1(min(left, 65536))):  # type: ignore[attr-defined]
                        server.sendall(part)
                        left -= len(part)

    def _let_pass(self, head: bytes, client: socket.socket) -> bool:
        line = unquote(head.partition(b"\r\n")[0].decode("latin-1"))
        with self._lock:
            held = self._awaited
            if held is None or not re.search(held.pattern, line):
                return True
            self._awaited = None
        held.by_port = client.getpeername()[1]
        held.is_there.set()
        held.may_go.wait()
        return not held.is_lost


def read_head(requests: IO[bytes]) -> bytes:
    lines = []
    while line := requests.readline():
        lines.append(line)
        if line == b"\r\n":
            return b"".join(lines)
    return b""


def pour(source: socket.socket, into: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while part := source.recv(65536):
            into.sendall(part)
    with contextlib.suppress(OSError):
        into.shutdown(socket.SHUT_RDWR)


class StoppableStore:
    """SeaweedFS on one port, with the same data whenever it is started."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stack = contextlib.ExitStack()
        self.settings: StoreSettings = self._stack.enter_context(run_seaweedfs(folder))
        self.port = int(str(self.settings.endpoint_url).rpartition(":")[2])

    def start(self) -> None:
        again = self._stack.enter_context(run_seaweedfs(self._folder, port=self.port))
        assert again == self.settings, "its port was taken meanwhile"

    def stop(self) -> None:
        self._stack.close()
