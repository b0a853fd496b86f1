"""What preflight finds, as whole sentences; distributions from their recorded os-release."""

from dataclasses import replace

import pytest

from barekube.preflight import Checkup, Wanted, architecture, between, findings

WELL = Checkup(
    root=True,
    machine="x86_64",
    userland="amd64",
    kernel="6.1.0-40-amd64",
    distribution="debian",
    release="12",
    codename="bookworm",
    memory_mb=4000,
    cpus=4,
    cgroup="cgroup2fs",
    controllers=("cpuset", "cpu", "io", "memory", "pids"),
    machine_id="0" * 32,
    addresses=("192.0.2.11", "10.0.0.1"),
    ca="",
    trusts=True,
    packages={},
    foreign=(),
    offset=0.0,
)
MASTER = Wanted("metal-1", "192.0.2.11", control_plane=True)
WORKER = Wanted("metal-1", "192.0.2.11", control_plane=False)


def test_a_machine_that_is_well_has_no_finding() -> None:
    assert findings(WELL, MASTER) == []


# (ID, VERSION_ID, uname -m, dpkg's architecture, uname -r) as recorded on such systems.
@pytest.mark.parametrize(
    "recorded",
    [
        ("debian", "12", "x86_64", "amd64", "6.1.0-40-amd64"),
        ("debian", "13", "aarch64", "arm64", "6.12.48+deb13-arm64"),
        ("ubuntu", "22.04", "x86_64", "amd64", "5.15.0-157-generic"),
        ("ubuntu", "24.04", "x86_64", "amd64", "6.8.0-85-generic"),
        ("ubuntu", "26.04", "aarch64", "arm64", "7.0.0-14-generic"),
        ("raspbian", "12", "armv7l", "armhf", "6.12.47+rpt-rpi-v7"),
        ("debian", "12", "aarch64", "arm64", "6.12.47+rpt-rpi-v8"),
        ("raspbian", "13", "aarch64", "armhf", "6.12.47+rpt-rpi-v8"),
    ],
    ids=lambda recorded: " ".join(recorded[:3]),
)
def test_a_supported_system_may_be_a_worker(recorded: tuple[str, str, str, str, str]) -> None:
    distribution, release, machine, userland, kernel = recorded
    host = replace(
        WELL,
        distribution=distribution,
        release=release,
        machine=machine,
        userland=userland,
        kernel=kernel,
    )
    assert findings(host, WORKER) == []


def test_a_32_bit_system_on_a_64_bit_cpu_counts_as_32_bit() -> None:
    host = replace(WELL, machine="aarch64", userland="armhf")
    assert architecture(host) == "arm"
    assert findings(host, MASTER) == ["etcd does not support 32-bit ARM; make it a worker"]


@pytest.mark.parametrize(
    ("host", "sentence"),
    [
        (
            replace(WELL, machine="armv6l", userland="armhf"),
            "there are no packages for its CPU armv6l, only for x86_64, aarch64, armv7l",
        ),
        (
            replace(WELL, release="11"),
            "debian 11 is not supported; install Debian 12 and 13, Ubuntu 22.04 to 26.04,"
            " Raspberry Pi OS 12 and 13",
        ),
        (
            replace(WELL, kernel="5.10.0-36-amd64"),
            "kernel 5.10.0-36-amd64 is older than 5.15; boot a newer one",
        ),
        (
            replace(WELL, cgroup="tmpfs", controllers=()),
            "it runs cgroup v1; boot with systemd.unified_cgroup_hierarchy=1",
        ),
        (
            replace(WELL, controllers=("cpuset", "cpu", "io", "pids")),
            "cgroup v2 lacks memory; boot with cgroup_enable=memory",
        ),
        (
            replace(WELL, memory_mb=1024),
            "it has 1024 MB of memory and a control plane needs 1700; add some",
        ),
        (
            replace(WELL, cpus=1),
            "it has 1 CPU and a control plane needs 2; take another machine, or name NumCPU in"
            " group_data's ignored_preflight",
        ),
        (
            replace(WELL, addresses=("10.0.0.1",)),
            "address 192.0.2.11 is not its own (10.0.0.1); correct `address` in the inventory",
        ),
        (
            replace(WELL, machine_id=""),
            "/etc/machine-id is missing or empty; run systemd-machine-id-setup on it",
        ),
        (
            replace(WELL, root=False),
            "commands do not run as root; set _sudo for it in the inventory, or ssh_user root",
        ),
        (
            replace(WELL, foreign=("/etc/rancher/k3s",)),
            "/etc/rancher/k3s is of another Kubernetes; remove that first",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_would_fail_later_is_said(host: Checkup, sentence: str) -> None:
    assert findings(host, MASTER) == [sentence]


def test_all_that_is_wrong_is_said_at_once() -> None:
    assert len(findings(replace(WELL, cpus=1, memory_mb=512, kernel="4.19.0"), MASTER)) == 3


def test_one_machine_id_on_two_hosts_is_found() -> None:
    twins = {"a": WELL, "b": WELL}
    assert between(twins, ["a"]) == {
        "a": [],
        "b": [
            "it has the machine-id of a; remove /etc/machine-id on it and run"
            " systemd-machine-id-setup"
        ],
    }


def test_a_clock_that_is_off_is_found_against_the_others() -> None:
    hosts = {
        name: replace(WELL, machine_id=name, offset=offset)
        for name, offset in (("a", 500.0), ("b", 500.2), ("c", 440.0))
    }
    assert between(hosts, ["a"])["c"] == ["its clock is 60 s behind the others'; set it"]


LEFTOVER = (
    "it is left over from another cluster (its /etc/kubernetes/pki/ca.crt is not this cluster's);"
    " run `kubeadm reset -f` on it and remove /etc/kubernetes"
)


@pytest.mark.parametrize(
    ("master", "worker", "found"),
    [
        pytest.param("one", "one", [], id="of this cluster"),
        pytest.param("one", "two", [LEFTOVER], id="of another"),
        pytest.param("", "two", [LEFTOVER], id="no cluster here yet"),
        pytest.param("one", "", [], id="not joined yet"),
    ],
)
def test_a_worker_of_another_cluster_is_found(master: str, worker: str, found: list[str]) -> None:
    hosts = {
        "cp": replace(WELL, machine_id="1", ca=master),
        "w": replace(WELL, machine_id="2", ca=worker),
    }
    assert between(hosts, ["cp"])["w"] == found


def test_without_the_control_plane_a_worker_is_not_judged() -> None:
    assert between({"w": replace(WELL, ca="two")}, ["cp"]) == {"w": []}
