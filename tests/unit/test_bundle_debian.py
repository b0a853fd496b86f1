"""Where Debian's packages come from, and how the repositories made of them are laid out."""

import importlib.util
from pathlib import Path

import pytest

from bundle import aptrepo, debian
from bundle.debian import Source
from bundle.errors import BundleError

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
DEB822 = """\
Types: deb
# a comment between two fields
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: /etc/apt/keyrings/mirror.gpg

Types: deb deb-src
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main

Types: deb
Enabled: no
URIs: http://off.example/debian
Suites: bookworm
Components: main

Types: deb-src
URIs: http://sources.example/debian
Suites: bookworm
Components: main
"""
ONE_LINE = """\
# deb http://comment.example/debian trixie main
deb [arch=amd64 signed-by=/etc/apt/keyrings/mirror.gpg] http://mirror.example/debian trixie main
deb http://mirror.example/debian-security trixie-security main contrib
deb-src http://sources.example/debian trixie main
deb http://other.example/tool stable other
"""


def machine(tmp_path: Path, name: str, text: str) -> list[Source]:
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / name).write_text(text)
    return debian.machine_sources(tmp_path)


def test_the_machines_mirror_is_read_in_the_newer_format(tmp_path: Path) -> None:
    assert machine(tmp_path, "sources.list.d/debian.sources", DEB822) == [
        Source(
            "http://mirror.example/debian",
            ("bookworm", "bookworm-updates"),
            "/etc/apt/keyrings/mirror.gpg",
        ),
        Source("http://mirror.example/debian-security", ("bookworm-security",), KEYRING),
    ]


def test_the_machines_mirror_is_read_in_the_older_format(tmp_path: Path) -> None:
    assert machine(tmp_path, "sources.list", ONE_LINE) == [
        Source("http://mirror.example/debian", ("trixie",), "/etc/apt/keyrings/mirror.gpg"),
        Source("http://mirror.example/debian-security", ("trixie-security",), KEYRING),
    ]


def test_another_release_is_asked_for_at_the_same_mirror_with_its_updates(tmp_path: Path) -> None:
    found = machine(tmp_path, "sources.list.d/debian.sources", DEB822)
    suites = [source.suites for source in debian.sources_for("trixie", found)]
    assert suites == [("trixie", "trixie-updates"), ("trixie-security",)]


def test_a_source_of_another_distribution_is_left_out() -> None:
    sources = [
        Source("http://mirror.example/debian", ("bookworm",), KEYRING),
        Source("http://other.example/tool", ("nodistro",), KEYRING),
    ]
    assert debian.sources_for("bookworm", sources) == sources[:1]


def test_a_machine_without_a_debian_mirror_is_refused() -> None:
    with pytest.raises(BundleError, match=r"^no Debian 12 or 13 mirror"):
        debian.sources_for("trixie", [Source("http://u.example/ubuntu", ("noble",), KEYRING)])


def test_aptitude_of_its_own_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    sources = [Source("http://mirror.example/debian", ("trixie", "trixie-updates"), KEYRING)]
    text = debian.render(sources, "amd64")
    assert machine(tmp_path, "sources.list.d/own.sources", text) == sources


def test_apt_for_the_bundle_writes_nothing_outside_its_own_directory(tmp_path: Path) -> None:
    lines = debian.configuration(tmp_path, "arm64").splitlines()
    directories = [line.split('"')[1] for line in lines if line.startswith("Dir::")]
    assert len(directories) >= 6
    assert {d for d in directories if not d.startswith(str(tmp_path))} == {"/dev/null"}
    assert 'APT::Architecture "arm64";' in lines


def test_the_bundle_has_every_package_that_the_host_stage_installs() -> None:
    path = Path(__file__).parents[2] / "group_data/all.py"
    spec = importlib.util.spec_from_file_location("all", path)
    assert spec and spec.loader
    data = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(data)
    assert set(data.host_packages) <= set(debian.HOST_PACKAGES)


def test_an_epoch_is_not_part_of_a_file_name_in_the_pool() -> None:
    assert aptrepo.pool_name("iproute2_1%3a6.1.0-3_amd64.deb") == "iproute2_6.1.0-3_amd64.deb"
    assert aptrepo.pool_name("socat_1.7.4.4-2_amd64.deb") == "socat_1.7.4.4-2_amd64.deb"


def test_repositories_lie_where_upstream_has_them() -> None:
    places = [
        aptrepo.kubernetes_repository(),
        aptrepo.docker_repository("trixie"),
        aptrepo.debian_repository("bookworm"),
    ]
    assert [f"{r.path}/{r.release}/{r.index('amd64')}" for r in places] == [
        "pkgs.k8s.io/core:/stable:/v1.37/deb/./Packages",
        "download.docker.com/linux/debian/dists/trixie/stable/binary-amd64/Packages",
        "debian/dists/bookworm/main/binary-amd64/Packages",
    ]
    # Publishing one suite must not remove another one's packages.
    owned = [
        d for codename in debian.RELEASES for d in aptrepo.debian_repository(codename).directories
    ]
    assert len(set(owned)) == len(owned)


def test_a_suite_that_the_mirror_is_late_with_is_left_out_but_never_the_releases_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    late = {"bookworm-security"}
    listed = tmp_path / "debian.sources"

    def update(what: str, env: object) -> None:
        if any(f"Suites: {suite}\n" in listed.read_text() for suite in late):
            raise BundleError(f"{what} failed: E: late")

    monkeypatch.setattr(debian, "_update", update)
    for suite, kept in (("bookworm", True), ("bookworm-security", False)):
        source = Source("http://mirror", (suite,), "/key")
        assert debian._in_step(source, "bookworm", listed, "armhf") is kept
    assert "bookworm-security's index for armhf at http://mirror" in capsys.readouterr().out
    late.add("bookworm")
    with pytest.raises(BundleError, match="reading bookworm's index for armhf"):
        debian._in_step(Source("http://mirror", ("bookworm",), "/key"), "bookworm", listed, "armhf")
