import sys
from pathlib import Path

import pytest

from lab import server_process
from lab.server_process import ServerStartError, server_command, start_server

# Listens as the server does and is ready at the second request; with the argument "stays" it ignores SIGTERM.
STAND_IN = """
import signal, sys
from http.server import BaseHTTPRequestHandler, HTTPServer

class Handler(BaseHTTPRequestHandler):
    asked = 0

    def do_GET(self):
        Handler.asked += 1
        self.send_response(503 if Handler.asked == 1 else 200)
        self.end_headers()

if "stays" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
server = HTTPServer(("127.0.0.1", 0), Handler)
print(f"running on http://127.0.0.1:{server.server_port} (stand-in)", flush=True)
server.serve_forever()
"""


def test_a_server_is_ready_inside_and_stopped_after(tmp_path: Path) -> None:
    with start_server([sys.executable, "-c", STAND_IN], tmp_path / "log") as server:
        assert server.url.startswith("http://127.0.0.1:")
        assert server.log.read_text().count("GET /health/ready") == 2
        assert server.process.poll() is None
    assert server.process.poll() is not None


def test_a_server_that_ignores_sigterm_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_process, "_STOP_SECONDS", 0.2)
    with start_server([sys.executable, "-c", STAND_IN, "stays"], tmp_path / "log") as server:
        pass
    assert server.process.poll() == -9


def test_a_server_that_ends_is_told_with_its_log(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "print('no base'); raise SystemExit(3)"]
    with (
        pytest.raises(ServerStartError, match=r"exit code 3:\nno base"),
        start_server(command, tmp_path / "log"),
    ):
        pass


def test_a_server_that_never_listens_is_told(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import time; time.sleep(600)"]
    with (
        pytest.raises(ServerStartError, match="not ready after 0 s"),
        start_server(command, tmp_path / "log", seconds=0.0),
    ):
        pass


def test_the_command_line_is_of_this_interpreter() -> None:
    assert server_command("--port", 0) == [sys.executable, "-m", "server", "--port", "0"]
