"""The server: what is asked for is looked up among recorded files, over HTTPS."""

import http.client
import json
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bundle import oci, registry, server, trust
from bundle.errors import BundleError
from bundle.integrity import Part, Record, sha256
from bundle.paths import Paths
from bundle.server import Content

DEB = "www/pkgs.k8s.io/core:/stable:/v1.37/deb/amd64/kubelet_1.37.2-1.1_amd64.deb"
PAUSE = "registry.k8s.io/pause:3.10.2"
LAYER = b"the layer of pause"


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> Paths:
    """A bundle of one package and one image, and files beside it that are nobody's business."""
    top = tmp_path_factory.mktemp("bundle")
    made = Paths(top / "cache", top / "bundle")
    made.make()
    trust.ensure_ca(made)
    (made.bundle / "apt.asc").write_text("the key")
    (made.www / "unrecorded").write_text("left over")
    deb = made.bundle / DEB
    deb.parent.mkdir(parents=True)
    deb.write_bytes(bytes(range(256)) * 4096)
    record = Record(made.manifest)
    record.put("apt", Part("key", {DEB: sha256(deb)}))
    layer = registry.put_bytes(made, LAYER)
    config = registry.put_bytes(made, b"{}")
    manifest = oci.encode({"mediaType": oci.MANIFEST, "layers": [layer]})
    described = oci.descriptor(oci.MANIFEST, registry.put_bytes(made, manifest), len(manifest))
    part = registry.image_part("key", PAUSE, "linux/amd64", described, [layer, config])
    record.put("image", part)
    registry.publish(made, record)
    return made


@pytest.fixture(scope="module")
def content(paths: Paths) -> Content:
    return Content.of(paths, Record(paths.manifest))


@pytest.fixture(scope="module")
def port(paths: Paths) -> Iterator[int]:
    context = trust.server_context(paths, server.names_of("127.0.0.1", []))
    listening = server.open_server(paths, "127.0.0.1", 0, context)
    thread = threading.Thread(target=listening.serve_forever, daemon=True)
    thread.start()
    yield int(listening.server_address[1])
    listening.shutdown()
    listening.server_close()


@pytest.fixture
def client(paths: Paths, port: int) -> http.client.HTTPSConnection:
    trusted = ssl.create_default_context(cafile=str(paths.bundle / "ca.crt"))
    return http.client.HTTPSConnection("127.0.0.1", port, context=trusted, timeout=10)


def path_of(content: Content, target: str, host: str = "10.77.0.1:8443") -> str | None:
    found = content.find(target, host)
    return str(found.file) if found else None


@pytest.mark.parametrize(
    ("target", "host"),
    [
        ("/" + DEB.removeprefix("www/"), "10.77.0.1:8443"),
        ("/" + DEB.removeprefix("www/").replace(":", "%3a"), "10.77.0.1"),
        ("/core:/stable:/v1.37/deb/amd64/kubelet_1.37.2-1.1_amd64.deb", "pkgs.k8s.io"),
        ("/core%3A/stable%3A/v1.37/deb/amd64/kubelet_1.37.2-1.1_amd64.deb", "pkgs.k8s.io:443"),
    ],
)
def test_a_package_is_found_under_the_bundles_name_and_under_the_real_host(
    content: Content, paths: Paths, target: str, host: str
) -> None:
    assert path_of(content, target, host) == str(paths.bundle / DEB)


@pytest.mark.parametrize(
    "target",
    [
        "/../private/ca.key",
        "/private/ca.key",
        "/%2e%2e/private/ca.key",
        "/debian/../../private/ca.key",
        "//private/ca.key",
        "/manifest.json",
        "/registry/images.json",
        "/unrecorded",
        "/",
        "",
        "/v2/pause/blobs/../../../private/ca.key",
        "/v2/pause/manifests/sha256:" + "0" * 64,
        "/v2/pause/blobs/sha256:..",
        "/v2/_catalog",
        "*",
    ],
)
def test_what_is_not_recorded_is_not_found(content: Content, target: str) -> None:
    for host in ("10.77.0.1:8443", "pkgs.k8s.io", "", "[::1]:8443", "../private"):
        assert content.find(target, host) is None


@pytest.mark.parametrize("path", ["apt.asc", "pkgs.k8s.io/core:/stable:/v1.37/deb/Release.key"])
def test_the_key_is_served_also_where_upstream_has_its_own(
    content: Content, paths: Paths, path: str
) -> None:
    assert path_of(content, f"/{path}") == str(paths.bundle / "apt.asc")


@pytest.mark.parametrize(
    ("target", "host"),
    [
        ("/v2/pause/manifests/3.10.2?ns=registry.k8s.io", "10.77.0.1:8443"),
        ("/v2/pause/manifests/3.10.2", "registry.k8s.io"),
    ],
)
def test_an_image_is_pulled_by_tag_then_by_digest(content: Content, target: str, host: str) -> None:
    index = content.find(target, host)
    assert index and index.file and index.media_type == oci.INDEX
    (entry,) = json.loads(index.file.read_bytes())["manifests"]
    manifest = content.find(f"/v2/pause/manifests/{entry['digest']}", host)
    assert manifest and manifest.file and manifest.media_type == oci.MANIFEST
    assert manifest.digest == entry["digest"]
    (layer,) = json.loads(manifest.file.read_bytes())["layers"]
    blob = content.find(f"/v2/pause/blobs/{layer}", host)
    assert blob and blob.file and blob.file.read_bytes() == LAYER


def test_an_image_of_another_registry_is_not_mistaken_for_it(content: Content) -> None:
    assert content.find("/v2/pause/manifests/3.10.2?ns=docker.io", "10.77.0.1") is None
    assert content.find("/v2/pause/manifests/3.10.2", "10.77.0.1:8443") is None


def test_a_layer_or_a_configuration_is_no_manifest(content: Content) -> None:
    for blob in (LAYER, b"{}"):
        digest = oci.digest_of(blob)
        assert content.find(f"/v2/pause/blobs/{digest}", "registry.k8s.io")
        assert content.find(f"/v2/pause/manifests/{digest}", "registry.k8s.io") is None


def test_a_whole_file_arrives_without_a_word_and_the_connection_stays(
    client: http.client.HTTPSConnection, paths: Paths, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        client.request("GET", "/" + DEB.removeprefix("www/"))
        response = client.getresponse()
        assert response.status == 200
        assert response.read() == (paths.bundle / DEB).read_bytes()
        assert not response.will_close
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("wanted", "start", "end"),
    [
        ("bytes=100-199", 100, 199),
        ("bytes=1048000-", 1048000, 1048575),
        ("bytes=-5", 1048571, 1048575),
    ],
)
def test_a_download_that_was_cut_off_is_continued(
    client: http.client.HTTPSConnection, paths: Paths, wanted: str, start: int, end: int
) -> None:
    client.request("GET", "/" + DEB.removeprefix("www/"), headers={"Range": wanted})
    response = client.getresponse()
    assert response.status == 206
    assert response.headers["Content-Range"] == f"bytes {start}-{end}/1048576"
    assert response.read() == (paths.bundle / DEB).read_bytes()[start : end + 1]


def test_a_range_beyond_the_end_is_refused(client: http.client.HTTPSConnection) -> None:
    client.request("GET", "/" + DEB.removeprefix("www/"), headers={"Range": "bytes=2000000-"})
    assert client.getresponse().status == 416


def test_a_head_has_the_digest_and_no_body(client: http.client.HTTPSConnection) -> None:
    client.request("HEAD", "/v2/pause/manifests/3.10.2?ns=registry.k8s.io")
    response = client.getresponse()
    assert response.status == 200
    assert response.headers["Docker-Content-Digest"].startswith("sha256:")
    assert int(response.headers["Content-Length"]) > 100
    assert response.read() == b""


@pytest.mark.parametrize(
    ("method", "status"), [("GET", 404), ("HEAD", 404), ("POST", 501), ("PUT", 501)]
)
def test_what_cannot_be_answered_is_refused_with_a_line(
    client: http.client.HTTPSConnection,
    capsys: pytest.CaptureFixture[str],
    method: str,
    status: int,
) -> None:
    client.request(method, "/v2/pause/blobs/%1b[2Jx")
    assert client.getresponse().status == status
    assert capsys.readouterr().err.splitlines() == [
        f'127.0.0.1 "{method} /v2/pause/blobs/%1b[2Jx HTTP/1.1" {status} -'
    ]


def test_a_client_that_does_not_know_the_ca_refuses_the_server(port: int) -> None:
    stranger = http.client.HTTPSConnection("127.0.0.1", port, timeout=10)
    with pytest.raises(ssl.SSLCertVerificationError):
        stranger.request("GET", "/ca.crt")


def test_a_silent_client_does_not_hold_up_the_others(
    client: http.client.HTTPSConnection, port: int
) -> None:
    silent = http.client.HTTPConnection("127.0.0.1", port)
    silent.connect()
    client.request("GET", "/ca.crt")
    assert client.getresponse().status == 200
    silent.close()


def test_a_new_build_is_served_without_a_restart(
    client: http.client.HTTPSConnection, paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.request("GET", "/new")
    assert client.getresponse().status == 404
    record = Record(paths.manifest)
    (paths.www / "new").write_text("new")
    record.put("new", Part("key", {"www/new": sha256(paths.www / "new")}))
    later = time.monotonic() + 2
    monkeypatch.setattr("time.monotonic", lambda: later)
    client.request("GET", "/new")
    assert client.getresponse().read() == b"new"


def test_a_changed_byte_stops_the_server_from_starting(tmp_path: Path) -> None:
    paths = Paths(tmp_path / "cache", tmp_path / "bundle")
    paths.make()
    with pytest.raises(BundleError, match="holds no bundle; run python -m bundle build"):
        server.check(paths)
    (paths.www / "a.deb").write_text("a")
    Record(paths.manifest).put("apt", Part("key", {"www/a.deb": sha256(paths.www / "a.deb")}))
    server.check(paths)
    (paths.www / "a.deb").write_text("b")
    with pytest.raises(BundleError, match=r"a\.deb: its sha256 is not the recorded one"):
        server.check(paths)
    (paths.www / "a.deb").unlink()
    with pytest.raises(BundleError, match=r"a\.deb is missing; run python -m bundle build"):
        server.check(paths)


def test_an_address_that_is_not_this_machines_is_refused(paths: Paths) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with pytest.raises(BundleError, match=r"^cannot listen on 192\.0\.2\.1 port 8443: "):
        server.open_server(paths, "192.0.2.1", 8443, context)


def test_a_port_beyond_the_last_one_is_refused(paths: Paths) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with pytest.raises(BundleError) as refusal:
        server.open_server(paths, "127.0.0.1", 99999, context)
    assert str(refusal.value) == (
        "cannot listen on 127.0.0.1 port 99999: there is no such one; "
        "choose with --address and --port"
    )


def test_a_name_that_no_certificate_can_have_is_refused(paths: Paths) -> None:
    with pytest.raises(BundleError) as refusal:
        trust.server_context(paths, server.names_of("127.0.0.1", ["bücher.example"]))
    assert str(refusal.value) == ("'bücher.example' is no name of a server; write it as DNS has it")


def test_keys_are_for_their_owner_only(paths: Paths, port: int) -> None:
    modes = {path.name: path.stat().st_mode & 0o777 for path in paths.private.iterdir()}
    assert modes == {"ca.key": 0o600}
    assert paths.private.stat().st_mode & 0o777 == 0o700
