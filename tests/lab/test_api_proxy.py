"""A worker's proxy to the API, as it is configured, before API servers that are not well."""

import socket
import ssl
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from barekube import api_proxy
from barekube.cluster import Node
from bundle.paths import Paths
from tests.lab.test_bundle import paths, unpack
from tests.unit.test_cluster import HOME

__all__ = ["paths"]

PORT = 16443
MASTERS = tuple(Node(f"cp-{n}", f"127.0.9.{n}", control_plane=True) for n in (1, 2, 3))
THREE = replace(HOME, nodes=MASTERS, api_port=PORT)
# After so long the proxy has seen a change, in seconds: a client that waits 10 has some left.
SEEN = 6.5
# For so long an etcd that is well may elect a leader, or wait for its disk.
STALL = 3.0


class Server(ThreadingHTTPServer):
    """Stands for an API server: `status` answers everything. None: its etcd is away, and it lets
    everybody wait, but says of itself that it is not ready, as late as one does."""

    daemon_threads = True
    # It comes back on the same address within a second.
    allow_reuse_address = True

    def __init__(self, address: str, certificate: Path) -> None:
        super().__init__((address, PORT), _Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        self.socket = context.wrap_socket(
            self.socket, server_side=True, do_handshake_on_connect=False
        )
        self.status: int | None = 200
        self.asked = 0
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        self.shutdown()
        self.server_close()

    def handle_error(self, *_: object) -> None:
        """The proxy's clients leave as they like."""


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        if self.path == "/readyz":
            end = time.monotonic() + 2
            while (status := self.server.status) is None and time.monotonic() < end:
                time.sleep(0.05)
            status = status or 500
        else:
            self.server.asked += 1
            while (status := self.server.status) is None:
                time.sleep(0.05)
        self.send_response(status)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Not into the test's output."""


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    pem = tmp_path / "server.pem"
    key = tmp_path / "key.pem"
    words = "openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=kube-apiserver -days 1"
    subprocess.run([*words.split(), "-keyout", key, "-out", pem], check=True, capture_output=True)
    pem.write_text(key.read_text() + pem.read_text())
    return pem


@pytest.fixture
def servers(paths: Paths, certificate: Path, tmp_path: Path) -> Iterator[dict[str, Server]]:
    """Three, behind the proxy of the bundle's image."""
    root = tmp_path / "root"
    root.mkdir()
    unpack(paths, "haproxy", root)
    configuration, _ = api_proxy.files(THREE)
    (root / "haproxy.cfg").write_text(configuration.content)
    made = {each.name: Server(each.address, certificate) for each in MASTERS}
    proxy = subprocess.Popen(["chroot", root, "haproxy", "-db", "-f", "/haproxy.cfg"])
    try:
        end = time.monotonic() + 10
        while _ask() is None:
            assert time.monotonic() < end and proxy.poll() is None
        yield made
    finally:
        proxy.terminate()
        proxy.wait()
        for each in made.values():
            each.status = 200
            each.stop()


def _ask(seconds: float = 10) -> int | None:
    """The status of a request through the proxy, or None if it failed."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        url = f"https://127.0.0.1:{PORT}/work"
        return int(urllib.request.urlopen(url, timeout=seconds, context=context).status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return None


def _longest_gap(seconds: float) -> float:
    """How long no request got through at most, of such that follow one another."""
    end, last, longest = time.monotonic() + seconds, time.monotonic(), 0.0
    while (now := time.monotonic()) < end:
        if _ask() == 200:
            last = time.monotonic()
        longest = max(longest, time.monotonic() - min(last, now))
        time.sleep(0.05)
    return longest


def _asked(server: Server, times: int = 12) -> int:
    """How many of so many requests came to a server."""
    before = server.asked
    for _ in range(times):
        assert _ask() == 200
    return server.asked - before


def test_each_control_plane_that_is_well_gets_its_share(servers: dict[str, Server]) -> None:
    assert [_asked(each, 12) for each in servers.values()] == [4, 4, 4]


def test_one_that_lets_everybody_wait_is_left_and_who_waits_there_is_let_go(
    servers: dict[str, Server],
) -> None:
    servers["cp-1"].status = None
    assert _longest_gap(2 * SEEN) < SEEN
    assert _asked(servers["cp-1"]) == 0
    servers["cp-1"].status = 200
    time.sleep(SEEN)
    assert _asked(servers["cp-1"]) == 4


def test_nobody_is_let_go_while_all_wait_for_an_election(servers: dict[str, Server]) -> None:
    # One that was never seen to be well is out at its first word.
    time.sleep(SEEN)
    for each in servers.values():
        each.status = None
    with ThreadPoolExecutor() as pool:
        waiting = [pool.submit(_ask) for _ in servers]
        time.sleep(STALL)
        for each in servers.values():
            each.status = 200
        assert [each.result() for each in waiting] == [200, 200, 200]


@pytest.mark.parametrize("status", [403, 500])
def test_one_that_has_just_started_gets_nothing_until_it_is_ready(
    servers: dict[str, Server], status: int
) -> None:
    servers["cp-2"].status = status
    time.sleep(SEEN)
    assert _asked(servers["cp-2"]) == 0


def test_no_request_fails_at_one_that_has_ended(servers: dict[str, Server]) -> None:
    servers["cp-3"].stop()
    assert _asked(servers["cp-1"], 30) > 0


def test_where_none_is_thought_well_all_are_tried_until_one_is(
    servers: dict[str, Server],
) -> None:
    for each in servers.values():
        each.status = 403
    time.sleep(SEEN)
    assert {_ask() for _ in range(6)} == {403}
    with socket.create_connection(("127.0.0.1", PORT), timeout=SEEN) as kept:
        servers["cp-2"].status = 200
        # Whoever was let in meanwhile is not cut off a second time.
        with pytest.raises(TimeoutError):
            kept.recv(1)
    assert {_ask() for _ in range(6)} == {200}


def test_a_server_that_asks_everybody_for_a_name_is_thought_well(
    servers: dict[str, Server],
) -> None:
    servers["cp-1"].status = 401
    time.sleep(SEEN)
    assert 401 in {_ask() for _ in range(6)}
