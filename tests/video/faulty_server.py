"""A small HTTP server of a folder that knows ranges, and fails as it is told."""

import contextlib
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class FaultyServer(ThreadingHTTPServer):
    """Attributes: `faults`, of the next answers to GET: "503", "cut", "short", "silent" or "" for a good one; `asked`,
    the methods and names that were asked for."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder, self.faults, self.asked = folder, [], []
        self.address = f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: FaultyServer

    def log_message(self, *_) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        name = self.path.lstrip("/")
        self.server.asked.append((self.command, name))
        file = self.server.folder / name
        fault = self.server.faults.pop(0) if body and self.server.faults else ""
        if fault == "silent":
            time.sleep(2)
        if fault == "503":
            self.send_error(503, "Slow Down")
            return
        if not file.is_file():
            self.send_error(404)
            return
        data, size = file.read_bytes(), file.stat().st_size
        start, end = 0, size
        if asked := self.headers.get("Range"):
            first, _, last = asked.removeprefix("bytes=").partition("-")
            start, end = int(first), min(int(last) + 1 if last else size, size)
        data = data[start:end]
        if fault == "short":
            data = data[: len(data) // 2]
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", f'"{file.stat().st_mtime_ns}"')
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{size}")
        self.end_headers()
        if body:
            with contextlib.suppress(OSError):
                self.wfile.write(data[: len(data) // 2] if fault == "cut" else data)
        self.close_connection = fault == "cut"


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[FaultyServer]:
    """A server of the folder, in a thread."""
    with FaultyServer(folder) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
