"""The lab's machines are whole, bare, each its own, and cut off from everything else."""

import base64
import json
import os
import socket
import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509

from lab.hosts import GATEWAY, load
from lab.paths import NAMESPACE
from tests.lab.conftest import Run
from tests.lab.recorder import LAB, run_lab, ssh

# A spare, to which no stage has been applied when this runs.
BARE = "cp-2"
NAMES = ("cp-1", "worker-1", "worker-2")
BOOT = "cat /proc/sys/kernel/random/boot_id"
# Listens on every address until its input ends; and: answers once that one listens.
LISTEN = "import socket, sys; s = socket.create_server(('', 8080)); sys.stdin.read()"
CONNECT = """
import socket, time
while True:
    try:
        socket.create_connection(("10.77.0.1", 8080), timeout=1).close()
        break
    except OSError:
        time.sleep(0.1)
"""


def test_a_machine_has_nothing_that_a_stage_must_install() -> None:
    run_lab("up", BARE, seconds=300)
    asked = "python3 iptables conntrack nft chronyc socat ethtool containerd kubelet"
    there = ssh(BARE, f"for p in {asked}; do command -v $p; done; true")
    assert there == ""
    assert ssh(BARE, "cat /etc/apt/sources.list; ls /etc/apt/sources.list.d") == ""


def test_every_machine_has_an_identity_of_its_own(site: Run) -> None:
    asked = "cat /etc/machine-id; cat /sys/class/net/vec0/address; cat /etc/hostname"
    asked += "; cat /etc/ssh/ssh_host_ed25519_key.pub; sha256sum </var/lib/systemd/random-seed"
    told = [ssh(name, asked).splitlines() for name in NAMES]
    for each in zip(*told, strict=True):
        assert len(set(each)) == len(NAMES), each


def _reaches(name: str, address: str, port: int) -> bool:
    test = f"timeout 4 bash -c 'exec 3<>/dev/tcp/{address}/{port}' 2>/dev/null && echo yes || echo"
    return ssh(name, test).strip() == "yes"


def test_a_machine_reaches_its_neighbours_and_the_bundle_and_nothing_else(site: Run) -> None:
    assert _reaches("worker-1", "10.77.0.22", 22)
    assert _reaches("worker-1", "10.77.0.1", 443)
    # What listens on this machine's end of the wire is not for the guests.
    with socket.create_server(("10.77.255.1", 0)) as listening:
        port = listening.getsockname()[1]
        socket.create_connection(("10.77.255.1", port), timeout=4).close()
        assert not _reaches("worker-1", "10.77.255.1", port)
    # Nor what listens on the gateway, on any other port than the bundle's.
    inside = ["ip", "netns", "exec", NAMESPACE]
    with subprocess.Popen([*inside, sys.executable, "-c", LISTEN], stdin=subprocess.PIPE) as other:
        subprocess.run([*inside, sys.executable, "-c", CONNECT], check=True, timeout=20)
        for address in (GATEWAY, "10.77.255.2"):
            assert not _reaches("worker-1", address, 8080)
        other.communicate(timeout=10)


def test_power_off_loses_what_was_not_synced_and_keeps_the_disk(site: Run) -> None:
    run_lab("up", BARE, seconds=300)
    before = ssh(BARE, BOOT)
    ssh(BARE, "echo kept >/root/kept && sync; echo lost >/root/lost")
    run_lab("power-off", BARE, seconds=60)
    shown = subprocess.run([*LAB, "status"], capture_output=True, text=True, check=True).stdout
    (line,) = (line for line in shown.splitlines() if line.startswith(f"{BARE} "))
    assert line.split()[-1] == "off"
    run_lab("power-on", BARE, seconds=200)
    assert ssh(BARE, "cat /root/kept") == "kept\n"
    assert ssh(BARE, "cat /root/lost 2>/dev/null || true") != "lost\n"
    assert ssh(BARE, BOOT) != before
    # What ext4 says where a file system was not unmounted.
    assert "recovery complete" in ssh(BARE, "dmesg | grep EXT4-fs")


def test_up_leaves_a_host_alone_that_runs(site: Run) -> None:
    before = {name: ssh(name, BOOT) for name in NAMES}
    run_lab("up", seconds=300)
    assert {name: ssh(name, BOOT) for name in NAMES} == before


def test_the_kubeconfig_is_for_its_owner_only_and_for_a_day(kubectl: list[str]) -> None:
    file = Path(kubectl[2])
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert file.stat().st_uid == os.geteuid()
    (user,) = json.loads(file.read_text())["users"]
    pem = base64.b64decode(user["user"]["client-certificate-data"])
    ends = x509.load_pem_x509_certificate(pem).not_valid_after_utc
    lasts = ends - datetime.fromtimestamp(file.stat().st_mtime, UTC)
    assert timedelta(hours=23) < lasts <= timedelta(hours=24)


def test_an_unknown_host_is_a_sentence_and_status_1() -> None:
    done = subprocess.run([*LAB, "power-off", "metal-9"], capture_output=True, text=True)
    assert done.returncode == 1
    known = ", ".join(host.name for host in load().hosts)
    assert done.stderr == f"lab: the lab has no host metal-9; it has {known}\n"
