"""Whether the sources of a host have what its CPU needs."""

import json
import subprocess
import threading
from base64 import b64encode
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

import pytest
from pyinfra.api import Host
from pyinfra.context import ctx_host

from barekube import parts, versions
from barekube.facts.preflight import Sources
from barekube.operations import packages, preflight
from group_data import all as defaults
from tests.unit.harness import FakeHost
from tests.unit.test_preflight import WELL, WORKER

BUNDLE = "https://192.0.2.9:8443"
LISTS = (
    f"{BUNDLE}/debian/dists/bookworm/main/binary-arm64/Packages",
    f"{BUNDLE}/download.docker.com/linux/debian/dists/bookworm/stable/binary-arm64/Packages",
)
IMAGES = (
    f"{BUNDLE}/v2/kube-proxy/manifests/v{versions.KUBERNETES}?ns=registry.k8s.io",
    f"{BUNDLE}/v2/pause/manifests/{versions.PAUSE}?ns=registry.k8s.io",
    f"{BUNDLE}/v2/rajchaudhuri/weave-kube/manifests/2.9.0?ns=docker.io",
    f"{BUNDLE}/v2/rajchaudhuri/weave-npc/manifests/2.9.0?ns=docker.io",
)
BOARD = replace(WELL, machine="aarch64", userland="arm64")


class Asked(FakeHost):
    """Keeps what it was asked to download."""

    urls: tuple[str, ...] = ()

    def get_fact(self, cls: Any, **arguments: Any) -> Any:  # noqa: ANN401
        self.urls += (*arguments.get("urls", ()), *arguments.get("texts", ()))
        return super().get_fact(cls, **arguments)


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr(packages, "is_key", lambda fingerprint, text: True)
    (tmp_path / "ca").write_text("ca")
    return {
        "bundle_url": BUNDLE,
        "bundle_ca": str(tmp_path / "ca"),
        "bundle_key": "0A",
        "package_sources": defaults.package_sources,
        "network_manifests": "manifests/weave",
        "kubernetes_version": versions.KUBERNETES,
    }


def _index(*architectures: str) -> str:
    """What a bundle says of an image, as the fact prints it."""
    platforms = [{"platform": {"os": "linux", "architecture": each}} for each in architectures]
    return b64encode(json.dumps({"manifests": platforms}).encode()).decode()


def _said(
    silent: list[str], data: dict[str, Any], indexes: dict[str, str] | None = None
) -> tuple[list[str], tuple[str, ...]]:
    """What is found, and what was asked for; `indexes`: of images that are not for all CPUs."""
    texts = dict.fromkeys(IMAGES, _index("amd64", "arm64")) | (indexes or {})
    texts = {url: text for url, text in texts.items() if url not in silent}
    lines = [*(f"text {url} {text}" for url, text in texts.items())]
    answers: dict[str, list[str] | None] = {
        "Sources": [*lines, *(f"silent {url}" for url in silent), "end"]
    }
    host = Asked("pi-1", answers, data)
    with ctx_host.use(host):
        wanted = replace(WORKER, version=data["kubernetes_version"])
        return preflight._sources(cast(Host, host), BOARD, wanted), host.urls


def test_a_bundle_is_asked_for_the_images_of_a_node(data: dict[str, Any]) -> None:
    problems, asked = _said([], data)
    assert problems == []
    assert {url for url in asked if "/manifests/" in url} == set(IMAGES)
    _, asked = _said([], {**data, "bundle_url": None})
    assert not any("/manifests/" in url for url in asked)


def test_an_image_that_a_bundle_has_not_for_the_cpu_is_named_with_what_brings_it(
    data: dict[str, Any],
) -> None:
    proxy, pause, _, npc = IMAGES
    odd = {pause: b64encode(b"<html>").decode(), npc: _index("amd64", "arm")}
    there = "on the machine that the bundle is on"
    assert _said([proxy], data, odd)[0] == [
        f"the bundle has no image registry.k8s.io/pause:{versions.PAUSE} for arm64; run"
        f" `python -m bundle build --arch arm64` {there}",
        f"the bundle has no image registry.k8s.io/kube-proxy:v{versions.KUBERNETES} for arm64; run"
        f" `python -m bundle build --arch arm64` {there}",
        "the bundle has no image docker.io/rajchaudhuri/weave-npc:2.9.0 for arm64; add it from an"
        f" archive by `python -m bundle add FILE` {there}",
    ]


@pytest.mark.parametrize(
    ("image", "leads_to"),
    [
        ("docker.io/library/busybox:1.37.0", "library/busybox/manifests/1.37.0?ns=docker.io"),
        # As whoever pins an image in a manifest writes it.
        ("quay.io/a/b:1@sha256:0a", "a/b/manifests/sha256:0a?ns=quay.io"),
        ("quay.io/a/b@sha256:0a", "a/b/manifests/sha256:0a?ns=quay.io"),
    ],
)
def test_where_a_bundle_tells_of_an_image(image: str, leads_to: str) -> None:
    assert parts.index(BUNDLE, image) == f"{BUNDLE}/v2/{leads_to}"


def test_a_control_plane_needs_the_images_of_its_servers_too() -> None:
    worker = parts.images("1.36.3", (), control_plane=False)
    assert worker == [
        f"registry.k8s.io/pause:{versions.PAUSE}",
        "registry.k8s.io/kube-proxy:v1.36.3",
    ]
    assert set(parts.images("1.36.3", (), control_plane=True)) - set(worker) == {
        f"registry.k8s.io/kube-{name}:v1.36.3"
        for name in ("apiserver", "controller-manager", "scheduler")
    }


def test_a_bundle_is_asked_for_the_lists_of_the_hosts_own_architecture(
    data: dict[str, Any],
) -> None:
    problems, asked = _said([], data)
    assert problems == []
    assert set(LISTS) <= set(asked)


def test_a_bundle_without_the_architecture_is_named_with_the_command_that_builds_it(
    data: dict[str, Any],
) -> None:
    command = "run `python -m bundle build --arch arm64` on the machine that the bundle is on"
    assert _said(list(LISTS), data)[0] == [
        f"the bundle has no debian packages of bookworm for arm64; {command}",
        f"the bundle has no containerd packages of bookworm for arm64; {command}",
    ]


@pytest.mark.parametrize(
    ("version", "by"),
    [
        (versions.FORMER["kubernetes"], ""),
        ("1.38.0", ", by a barekube that has 1.38.0 in barekube/versions.py"),
    ],
)
def test_a_minor_that_a_bundle_has_not_is_no_matter_of_the_network(
    data: dict[str, Any], version: str, by: str
) -> None:
    minor = versions.kubernetes_minor(version)
    lacks = f"{BUNDLE}/pkgs.k8s.io/core:/stable:/{minor}/deb/InRelease"
    more = "" if by else f" --kubernetes {version}"
    assert _said([lacks], {**data, "kubernetes_version": version})[0] == [
        f"the bundle has no Kubernetes {minor}; run `python -m bundle build --arch arm64{more}` on"
        f" the machine that the bundle is on{by}"
    ]
    # Without any source it is the network.
    assert len(_said([lacks, f"{BUNDLE}/v2/"], {**data, "kubernetes_version": version})[0]) == 2


def test_a_bundle_that_does_not_answer_at_all_is_not_called_incomplete(
    data: dict[str, Any],
) -> None:
    dead = f"{BUNDLE}/v2/"
    assert _said([dead, *LISTS], data)[0] == [
        f"{dead} does not answer; mend its network, or group_data's source"
    ]


def test_upstream_is_not_asked_for_a_list(data: dict[str, Any]) -> None:
    _, asked = _said([], {**data, "bundle_url": None})
    assert not any("binary-" in url for url in asked)


def test_one_run_of_apts_downloader_tells_what_answers_and_brings_the_keys(
    tmp_path: Path,
) -> None:
    (tmp_path / "Release").write_text("")
    (tmp_path / "it's a key").write_text("a\nkey\n")
    (tmp_path / "binary").write_bytes(b"\x99\x01")
    (tmp_path / "empty").write_text("")
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever).start()
        there = f"http://127.0.0.1:{server.server_port}"
        urls = [f"{there}/Release", f"{there}/nowhere", "http://127.0.0.2:1/Release"]
        key, lost = f"{there}/it's%20a%20key", f"{there}/lost"
        # As an image's index is asked for.
        binary, empty = f"{there}/binary?ns=docker.io", f"{there}/empty"
        command = Sources().command(urls, [key, lost, binary, empty]).get_raw_value()
        done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
        server.shutdown()
    assert Sources().process(done.stdout.splitlines()) == (
        [*urls[1:], lost],
        {key: "a\nkey\n", binary: "\ufffd\x01", empty: ""},
    )


def test_a_key_that_is_not_there_is_not_called_another_one(data: dict[str, Any]) -> None:
    key = f"{BUNDLE}/apt.asc"
    assert _said([key], data)[0] == [
        f"{key} does not answer; mend its network, or group_data's source"
    ]


@pytest.mark.parametrize("text", ["", "\ufffd\x01", "<html>", "\u00e4"])
def test_what_is_no_key_is_none(text: str) -> None:
    assert not packages.is_key("0A", text)
