"""The real page and its real server; only Weave, and the servers of the other nodes, are stood in.

All on loopback: Weave at 127.0.0.1:6784, as on a node, and node N at 127.0.0.N:6786.
"""

import json
import re
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import unquote_plus, urlsplit

import pytest
import yaml

from tests.page.reading import Dom
from tests.page.reports import FIRST, Network

MANIFESTS = Path(__file__).parents[2] / "manifests/network-page"
PORT = 6786
_TEMPLATE = re.compile(r"{{json \.([\w.]+)}}")
_ADDRESSES = "{{range .Router.Connections}}{{.Address}} {{end}}"


def files() -> dict[str, tuple[str, int]]:
    """Path below the server's root -> (content, mode), as the DaemonSet mounts them."""
    documents = [d for path in MANIFESTS.glob("*.yaml") for d in yaml.safe_load_all(path.open())]
    data = {d["metadata"]["name"]: d["data"] for d in documents if d["kind"] == "ConfigMap"}
    (pod,) = (d["spec"]["template"]["spec"] for d in documents if d["kind"] == "DaemonSet")
    found: dict[str, tuple[str, int]] = {}
    for source in pod["volumes"][0]["projected"]["sources"]:
        content = data[source["configMap"]["name"]]
        items = source["configMap"].get("items") or [{"key": k, "path": k} for k in content]
        found |= {i["path"]: (content[i["key"]], i.get("mode", 0o644)) for i in items}
    return found


class StandIns:
    """Weave beside our server, and everything on the other nodes."""

    def __init__(self) -> None:
        self.network = Network({})
        # How often Weave still answers.
        self.answers = 1_000_000

    def answer(self, node: str, request: BaseHTTPRequestHandler) -> tuple[int, str]:
        url = urlsplit(request.path)
        if node == "127.0.0.1":
            return self._weave(url.path, unquote_plus(url.query), request.headers)
        report = self.network.reports.get(node)
        if (url.path, url.query) != ("/cgi-bin/report", "own"):
            return 404, ""
        return (200, json.dumps(report)) if report else (502, "Weave does not answer")

    def _weave(self, path: str, query: str, headers: Any) -> tuple[int, str]:  # noqa: ANN401
        self.answers -= 1
        report = self.network.reports.get(FIRST)
        if self.answers < 0 or not report:
            return 500, ""
        if (path, query) == ("/status", ""):
            return 200, "        Version: 2.9.0\n"
        assert path == "/report"
        if not query:
            # Without this header Weave wants a template.
            assert headers["Accept"] == "application/json"
            return 200, json.dumps(report, indent=4)
        template = query.removeprefix("format=")
        if template == _ADDRESSES:
            return 200, "".join(f"{c['Address']} " for c in report["Router"]["Connections"])

        def value(match: "re.Match[str]") -> str:
            found: Any = report
            for name in match[1].split("."):
                found = found[name]
            return json.dumps(found)

        return 200, _TEMPLATE.sub(value, template)


def _serve(stand_ins: StandIns, address: str, port: int) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, text = stand_ins.answer(address, self)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer((address, port), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    return server


class Page:
    """The page's address, and a browser to look at it with."""

    def __init__(self, stand_ins: StandIns, profile: Path) -> None:
        self.stand_ins = stand_ins
        self.url = f"http://{FIRST}:{PORT}/"
        self._profile = profile

    def look(self, seconds: int = 3) -> Dom:
        """What a browser shows that many (virtual) seconds after it opened the page."""
        done = subprocess.run(
            [
                "chromium",
                "--headless",
                # This may be root's browser, which has no sandbox; it sees only our own page.
                "--no-sandbox",
                "--disable-gpu",
                "--no-proxy-server",
                "--disable-background-networking",
                f"--user-data-dir={self._profile}",
                f"--virtual-time-budget={seconds * 1000}",
                "--dump-dom",
                self.url,
            ],
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        return Dom(done.stdout)

    def get(self, path: str, method: str = "GET") -> tuple[int, str]:
        request = urllib.request.Request(f"{self.url}cgi-bin/{path}", method=method)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=20) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    root = tmp_path_factory.mktemp("www")
    for name, (content, mode) in files().items():
        path = root / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(content)
        path.chmod(mode)
    # The names by which the scripts call busybox, and nothing else.
    names = tmp_path_factory.mktemp("bin")
    for name in ("timeout", "wget"):
        (names / name).symlink_to("/bin/busybox")
    stand_ins = StandIns()
    servers = [_serve(stand_ins, "127.0.0.1", 6784)]
    servers += [_serve(stand_ins, f"127.0.0.{n}", PORT) for n in (12, 13)]
    process = subprocess.Popen(
        ["/bin/busybox", "httpd", "-f", "-p", f"{FIRST}:{PORT}", "-h", root],
        env={"PATH": str(names), "HOST_IP": FIRST},
    )
    page = Page(stand_ins, tmp_path_factory.mktemp("profile"))
    for _ in range(50):
        try:
            page.get("status")
            break
        except urllib.error.URLError:
            time.sleep(0.1)
    yield page
    process.kill()
    process.wait()
    for server in servers:
        server.shutdown()


@pytest.fixture
def page(running: Page) -> Page:
    """A page of three nodes that are well; a test breaks what it wants."""
    running.stand_ins.network = Network({FIRST: "cp-1", "127.0.0.12": "w-1", "127.0.0.13": "w-2"})
    running.stand_ins.answers = 1_000_000
    return running
