"""The batch facts' shell, run here, and what is made of its output."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from pyinfra.api import FactProcessError

from barekube.facts.machine import Found, Machine
from barekube.facts.preflight import CheckupFact, SyncTimes, Unreached


def _ask(**wanted: Any) -> Found:  # noqa: ANN401
    fact = Machine()
    command = fact.command(**wanted).get_raw_value()
    out = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True).stdout
    return fact.process(out.splitlines())


def test_files_are_read_whole_whatever_is_in_them(tmp_path: Path) -> None:
    odd = tmp_path / "with space: and colon"
    odd.write_text("#end\n\n  #stat\nlast without line end")
    empty = tmp_path / "empty"
    empty.write_text("")
    found = _ask(files=[str(odd), str(empty), str(tmp_path / "absent")])
    assert set(found.files) == {str(odd), str(empty)}
    assert found.files[str(odd)].text() == "#end\n\n  #stat\nlast without line end"
    assert found.files[str(empty)].text() == ""


def test_a_secret_files_content_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("hidden\n")
    file.chmod(0o600)
    found = _ask(secret=[str(file)]).files[str(file)]
    assert (found.mode, found.size, found.lines) == ("600", 7, None)


def test_packages_are_told_apart_from_absent_ones() -> None:
    found = _ask(packages=["dpkg", "surely-no-such-package"])
    assert found.packages["dpkg"].status == "installed"
    assert "surely-no-such-package" not in found.packages


def test_an_answer_that_was_cut_off_is_not_known() -> None:
    with pytest.raises(FactProcessError):
        Machine().process(["#release", "ID=debian"])


def test_a_units_time_is_in_seconds_of_unix_time() -> None:
    answer = [
        "#units",
        "Id=a.service",
        "LoadState=loaded",
        "ActiveState=active",
        "UnitFileState=enabled",
        "ActiveEnterTimestamp=Mon 2026-11-23 11:53:40.250000 UTC",
        "#end",
    ]
    assert Machine().process(answer).units["a.service"].since == 1795434820.25


def test_a_checkup_of_this_machine_says_what_it_is() -> None:
    fact = CheckupFact()
    out = subprocess.run(
        ["sh", "-c", fact.command().get_raw_value()], capture_output=True, text=True, check=True
    ).stdout
    found = fact.process(out.splitlines())
    uname = subprocess.run(["uname", "-m"], capture_output=True, text=True, check=True).stdout
    assert found.machine == uname.strip()
    assert found.distribution == "debian"
    assert found.room["/var"] > 0
    assert abs(found.offset) < 5


@pytest.mark.parametrize(
    ("installed", "enabled", "said"),
    [(True, "yes", ("ufw",)), (True, "no", ()), (False, "yes", ())],
    ids=["it runs", "it was disabled", "its package was removed"],
)
def test_ufw_is_a_firewall_where_it_is_there_and_enabled(
    tmp_path: Path, installed: bool, enabled: str, said: tuple[str, ...]
) -> None:
    (tmp_path / "ufw.conf").write_text(f"# as Debian has it\nENABLED={enabled}\nLOGLEVEL=low\n")
    if installed:
        (tmp_path / "ufw").touch(0o755)
    command = CheckupFact().command().get_raw_value()
    command = command.replace("/etc/ufw", str(tmp_path)).replace("/usr/sbin", str(tmp_path))
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
    found = CheckupFact().process(done.stdout.splitlines()).firewalls
    assert tuple(each for each in found if each == "ufw") == said


# A machine that has no way to others, and a firewall with a word of its own for each port.
_WALL = """
ip link set lo up
ip address add 192.0.2.1/32 dev lo
nft -f - <<'END'
table inet wall {
  chain input {
    type filter hook input priority 0
    tcp dport 2 reject
    tcp dport 3 reject with icmpx type admin-prohibited
    tcp dport 4 drop
  }
}
END
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, for a network of its own")
def test_a_closed_port_is_reached_and_one_that_a_firewall_answers_for_is_not() -> None:
    good = ["tcp:192.0.2.1:1", "udp:192.0.2.1:1", "mtu:192.0.2.1:1:1463"]
    bad = [*(f"tcp:192.0.2.1:{port}" for port in (2, 3, 4)), "tcp:198.51.100.1:1"]
    bad.append("udp:198.51.100.1:1")
    command = Unreached().command([*good, *bad]).get_raw_value()
    done = subprocess.run(
        ["unshare", "-n", "sh", "-ec", _WALL + command], capture_output=True, text=True, check=True
    )
    assert Unreached().process(done.stdout.splitlines()) == bad


def test_a_node_says_what_kubeadm_gave_it(tmp_path: Path) -> None:
    manifest = tmp_path / "etc/kubernetes/manifests/kube-controller-manager.yaml"
    flags = tmp_path / "var/lib/kubelet/kubeadm-flags.env"
    for file in (manifest, flags):
        file.parent.mkdir(parents=True)
    manifest.write_text("    - --client-ca-file=/x\n    - --cluster-cidr=10.32.0.0/12\n")
    flags.write_text('KUBELET_KUBEADM_ARGS="--hostname-override=a --node-ip=192.0.2.11"\n')
    command = CheckupFact().command().get_raw_value()
    for path in ("/etc/kubernetes", "/var/lib/kubelet"):
        command = command.replace(path, f"{tmp_path}{path}")

    def said() -> tuple[str, str]:
        done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
        found = CheckupFact().process(done.stdout.splitlines())
        return found.node_ip, found.pods

    assert said() == ("", "")
    (tmp_path / "etc/kubernetes/kubelet.conf").touch()
    assert said() == ("192.0.2.11", "10.32.0.0/12")
    manifest.unlink()
    assert said() == ("192.0.2.11", "")


@pytest.mark.parametrize("own", [False, True], ids=["with /var/lib", "a disk of its own"])
def test_the_disk_of_etcd_is_measured_and_nothing_is_left_there(tmp_path: Path, own: bool) -> None:
    lib, log = tmp_path / "lib", tmp_path / "log"
    (lib / "etcd" if own else lib).mkdir(parents=True)
    spy = tmp_path / "bin/mktemp"
    spy.parent.mkdir()
    spy.write_text(f'#!/bin/sh\necho "$2" >{log}\nexec /usr/bin/mktemp "$@"\n')
    spy.chmod(0o755)
    command = SyncTimes().command().get_raw_value().replace("/var/lib", str(lib))
    path = f"{spy.parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["sh", "-c", command], env={"PATH": path}, capture_output=True, text=True, check=True
    )
    assert len(SyncTimes().process(done.stdout.splitlines())) == 100
    assert log.read_text() == f"{lib / 'etcd' if own else lib}\n"
    assert [path for path in lib.rglob("*") if path.is_file()] == []
