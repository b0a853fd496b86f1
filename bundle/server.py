"""Serves a bundle over HTTPS: its files as they stand, and its images by the registry's protocol.

What is not in the record is not served: each path is looked up in a table of recorded files, so
that no path of a request ever reaches the file system.
"""

import json
import re
import socket
import ssl
import sys
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, unquote, urlsplit

from bundle import aptrepo, oci, registry
from bundle.errors import BundleError
from bundle.integrity import Record
from bundle.paths import Paths

# Hosts whose whole path space lies below www/<host>.
MIRRORED: Final = ("pkgs.k8s.io", "download.docker.com")
# Names under which the server also answers, as a stand-in for the real hosts.
STAND_IN: Final = (*MIRRORED, "registry.k8s.io", "barekube.lab")
# Where Docker's registry answers, and how its images are named.
_DOCKER_HOSTS: Final = ("registry-1.docker.io", "index.docker.io")
_CHUNK: Final = 1 << 18
_V2 = re.compile(r"/v2/(?P<name>.+)/(?P<kind>manifests|blobs)/(?P<reference>[^/]+)")
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


@dataclass(frozen=True)
class Answer:
    """What a request gets: a file, or bytes, with its type."""

    file: Path | None = None
    content: bytes = b""
    media_type: str = "application/octet-stream"
    digest: str = ""


@dataclass
class Content:
    """What is served: recorded files of www, blobs, and the names of images."""

    www: dict[str, Path] = field(default_factory=dict)
    blobs: dict[str, Path] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, paths: Paths, record: Record) -> "Content":
        content = cls(
            www={"/ca.crt": paths.bundle / "ca.crt", "/apt.asc": paths.bundle / "apt.asc"},
            names=dict(registry.load_names(paths)),
        )
        content.www |= {f"/{path}": paths.bundle / "apt.asc" for path in aptrepo.KEY_PATHS}
        blobs = f"{registry.BLOBS}/"
        for part in record.parts.values():
            for file, sha in part.files.items():
                if file.startswith("www/"):
                    content.www[file.removeprefix("www")] = paths.bundle / file
                elif file.startswith(blobs):
                    content.blobs[f"sha256:{sha}"] = paths.bundle / file
        return content

    def find(self, target: str, host: str) -> Answer | None:
        """The answer to a request's target, or None. `host` is the Host header."""
        url = urlsplit(target)
        path = unquote(url.path)
        host = host.rsplit(":", 1)[0] if not host.endswith("]") else host
        if path in ("/v2", "/v2/"):
            return Answer(content=b"{}", media_type="application/json")
        if path.startswith("/v2/"):
            space = parse_qs(url.query).get("ns", [host])[0]
            return self._image(path, "docker.io" if space in _DOCKER_HOSTS else space)
        if host in MIRRORED:
            path = f"/{host}{path}"
        file = self.www.get(path)
        return Answer(file) if file else None

    def _image(self, path: str, space: str) -> Answer | None:
        match = _V2.fullmatch(path)
        if match is None:
            return None
        reference = match["reference"]
        if ":" not in reference:
            reference = self.names.get(f"{space}/{match['name']}:{reference}", "")
        file = self.blobs.get(reference)
        if file is None:
            return None
        if match["kind"] == "blobs":
            return Answer(file, digest=reference)
        try:
            document = json.loads(file.read_bytes()) if file.stat().st_size < 1 << 22 else {}
        except ValueError:
            return None
        kind = document.get("mediaType")
        if kind not in (*oci.MANIFESTS, *oci.INDEXES):
            return None
        return Answer(file, media_type=kind, digest=reference)


class Handler(BaseHTTPRequestHandler):
    """Answers GET and HEAD; anything else is refused by the base class."""

    protocol_version = "HTTP/1.1"
    server_version = "barekube-bundle"
    sys_version = ""
    # A client that stays silent frees its thread.
    timeout = 120
    # Header and content are two writes: without this the second one waits for an answer.
    disable_nagle_algorithm = True
    server: "Server"

    def do_GET(self) -> None:
        self._reply(body=True)

    def do_HEAD(self) -> None:
        self._reply(body=False)

    def _reply(self, *, body: bool) -> None:
        found = self.server.content().find(self.path, self.headers.get("Host", ""))
        if found is None:
            # Reading the body of a request nobody should send is not worth it.
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        size = found.file.stat().st_size if found.file else len(found.content)
        start, end = self._range(size)
        if start > end and size:
            self.send_error(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)
            return
        partial = end - start + 1 < size
        self.send_response(HTTPStatus.PARTIAL_CONTENT if partial else HTTPStatus.OK)
        self.send_header("Content-Type", found.media_type)
        self.send_header("Content-Length", str(end - start + 1))
        self.send_header("Accept-Ranges", "bytes")
        if partial:
            self.send_header("Content-Range", f"bytes {start}-{end}/{size}")
        if found.file:
            self.send_header("Last-Modified", self.date_time_string(found.file.stat().st_mtime))
        if found.digest:
            self.send_header("Docker-Content-Digest", found.digest)
        if self.path.startswith("/v2"):
            self.send_header("Docker-Distribution-Api-Version", "registry/2.0")
        self.end_headers()
        if body:
            self._send(found, start, end - start + 1)

    def _range(self, size: int) -> tuple[int, int]:
        """The first and the last byte that are asked for. If-Range is not known: then all."""
        match = _RANGE.fullmatch(self.headers.get("Range", ""))
        if match is None or "If-Range" in self.headers or match[1] == match[2] == "":
            return 0, size - 1
        if match[1] == "":
            return max(0, size - int(match[2])), size - 1
        return int(match[1]), min(int(match[2] or size), size - 1)

    def _send(self, found: Answer, start: int, length: int) -> None:
        if found.file is None:
            self.wfile.write(found.content[start : start + length])
            return
        with found.file.open("rb") as file:
            file.seek(start)
            while length > 0:
                chunk = file.read(min(_CHUNK, length))
                if not chunk:
                    # Shorter than its record: the client must not take it for whole.
                    self.close_connection = True
                    return
                self.wfile.write(chunk)
                length -= len(chunk)

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Only what went wrong is of interest: a node asks for hundreds of files."""
        if int(code) >= HTTPStatus.BAD_REQUEST:
            super().log_request(code, size)

    def log_error(self, format: str, *args: object) -> None:
        """send_error says by this what log_request says with the path."""
        if not format.startswith("code "):
            super().log_error(format, *args)

    def log_message(self, format: str, *args: object) -> None:
        text = (format % args).translate(self._printable)
        print(f"{self.address_string()} {text}", file=sys.stderr, flush=True)

    # No control character of a request reaches the terminal.
    _printable: Final = {code: "?" for code in (*range(32), *range(127, 160))}


class Server(ThreadingHTTPServer):
    """The listening server. It takes up a new build without being restarted."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], paths: Paths, context: ssl.SSLContext) -> None:
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        self._paths = paths
        self._context = context
        self._lock = threading.Lock()
        self._checked = 0.0
        self._stamp = 0
        self._content = Content()
        super().__init__(address, Handler)

    def content(self) -> Content:
        """What is served now; the record is looked at once a second."""
        with self._lock:
            now = time.monotonic()
            if now - self._checked > 1:
                self._checked = now
                stamp = self._paths.manifest.stat().st_mtime_ns
                if stamp != self._stamp:
                    self._content = Content.of(self._paths, Record(self._paths.manifest))
                    self._stamp = stamp
            return self._content

    def get_request(self) -> tuple[socket.socket, tuple[str, int]]:
        connection, address = super().get_request()
        # The handshake is made by the connection's own thread, at its first read: a client that
        # connects and says nothing must not hold up the others.
        wrapped = self._context.wrap_socket(
            connection, server_side=True, do_handshake_on_connect=False
        )
        return wrapped, address

    def handle_error(self, request: object, client_address: tuple[str, int]) -> None:
        """A connection that broke, or a client that does not trust the CA: a line at most."""
        problem = sys.exception()
        if not isinstance(problem, ConnectionError | TimeoutError):
            print(f"{client_address[0]} {problem!r}", file=sys.stderr, flush=True)


def check(paths: Paths) -> None:
    """Refuse a bundle that is not there, not whole, or not what was recorded."""
    record = Record(paths.manifest)
    if not record.parts:
        raise BundleError(f"{paths.bundle} holds no bundle; run python -m bundle build")
    missing = record.check()
    if missing:
        raise BundleError(f"{min(missing)} is missing; run python -m bundle build")


def open_server(paths: Paths, address: str, port: int, context: ssl.SSLContext) -> Server:
    """Bind the server's socket."""
    try:
        return Server((address, port), paths, context)
    except (OSError, OverflowError, ValueError) as problem:
        # OverflowError is of a port beyond 65535, ValueError of an address that no name can be.
        why = problem.strerror if isinstance(problem, OSError) else "there is no such one"
        raise BundleError(
            f"cannot listen on {address} port {port}: {why}; choose with --address and --port"
        ) from None


def names_of(address: str, names: Iterable[str]) -> list[str]:
    """What the server's certificate is valid for."""
    return [address, *names, "localhost", *STAND_IN]
