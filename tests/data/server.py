"""A small HTTP server on loopback whose paths misbehave in the ways that real ones do."""

import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PAGE = b"<!DOCTYPE html><html><title>Just a moment...</title></html>"


@contextmanager
def serve(content: bytes, pause: float = 0.05):
    """Serves `content` at /right; /short, /page, /403, /drop, /drop-once and /slow in its way. Yields (url, hits)."""
    hits: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args):
            pass

        def answer(self, body: bytes, length: int | None = None, status: int = 200):
            self.send_response(status)
            self.send_header("Content-Length", str(len(body) if length is None else length))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self):
            kind = self.path.split("/")[1].split("?")[0]
            hits.append(kind)
            if kind == "right":
                self.answer(content)
            elif kind == "short":
                self.answer(content[:-100])
            elif kind == "page":
                self.answer(PAGE)
            elif kind == "403":
                self.answer(PAGE, status=403)
            elif kind == "drop" or (kind == "drop-once" and hits.count(kind) == 1):
                self.answer(content[: len(content) // 2], length=len(content))
                self.close_connection = True
            elif kind == "drop-once":
                self.answer(content)
            elif kind == "slow":
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                step = len(content) // 8 + 1
                for start in range(0, len(content), step):
                    self.wfile.write(content[start : start + step])
                    self.wfile.flush()
                    time.sleep(pause)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", hits
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
