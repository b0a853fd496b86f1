"""A guest's disk: what makes a machine itself is on it, or it is said that it is not."""

import os
import subprocess
from pathlib import Path

import pytest

from lab import disks
from lab.errors import LabError
from lab.hosts import Host, load

HOST = load().host("worker-2")
SEED = "/var/lib/systemd/random-seed"


@pytest.fixture
def image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small file system with the directories of a Debian."""
    key = tmp_path / "id_ed25519"
    key.with_suffix(".pub").write_text("ssh-ed25519 the lab's key\n")
    monkeypatch.setattr(disks, "KEY", key)
    monkeypatch.setattr(disks, "KNOWN_HOSTS", tmp_path / "known_hosts")
    # debugfs and mkfs are not where a user's programs are.
    monkeypatch.setenv("PATH", f"{os.environ['PATH']}:/usr/sbin:/sbin")
    root = tmp_path / "root"
    for folder in ("etc/systemd/network", "etc/ssh", "home/admin", "root", "var/lib/systemd"):
        (root / folder).mkdir(parents=True)
    image = tmp_path / "a.root"
    subprocess.run(["mkfs.ext4", "-q", "-d", root, image, "8M"], check=True)
    return image


def _identify(host: Host, image: Path, work: Path) -> None:
    work.mkdir()
    disks._identify(host, image, work)


def _read(image: Path, path: str) -> bytes:
    return subprocess.run(["debugfs", "-R", f"cat {path}", image], capture_output=True).stdout


def test_a_disk_carries_the_identity_of_its_machine(image: Path, tmp_path: Path) -> None:
    _identify(HOST, image, tmp_path / "work")
    assert _read(image, "/etc/hostname") == b"worker-2\n"
    assert _read(image, "/root/.ssh/authorized_keys") == b"ssh-ed25519 the lab's key\n"
    assert b"Address=10.78.0.22/24\n" in _read(image, "/etc/systemd/network/20-outer.network")
    kind, key, *_ = _read(image, "/etc/ssh/ssh_host_ed25519_key.pub").decode().split()
    assert (tmp_path / "known_hosts").read_text() == f"10.77.0.22 {kind} {key}\n"


def test_machines_that_start_from_one_image_draw_random_numbers_of_their_own(
    image: Path, tmp_path: Path
) -> None:
    seen: dict[str, set[bytes]] = {SEED: set(), "/etc/machine-id": set()}
    for name in ("worker-1", "worker-2"):
        _identify(load().host(name), image, tmp_path / name)
        for path, contents in seen.items():
            contents.add(_read(image, path))
    assert {path: len(contents) for path, contents in seen.items()} == dict.fromkeys(seen, 2)
    assert {len(seed) for seed in seen[SEED]} == {512}


def test_a_full_disk_is_named_with_the_file_that_is_not_on_it(image: Path, tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(os.urandom(8 << 20))
    fill = f"write {tmp_path}/large /large\n"
    subprocess.run(["debugfs", "-w", "-f", "-", image], input=fill.encode(), capture_output=True)
    with pytest.raises(LabError) as caught:
        _identify(HOST, image, tmp_path / "work")
    assert str(caught.value) == (
        f"/etc/hostname was not written to worker-2's disk; is {tmp_path} full?"
    )
