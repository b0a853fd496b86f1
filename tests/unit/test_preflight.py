"""What preflight finds, as whole sentences; distributions from their recorded os-release."""

from dataclasses import replace
from ipaddress import IPv4Network

import pytest

from barekube import rook
from barekube.peers import between, targets, unreached
from barekube.preflight import (
    Checkup,
    Wanted,
    architecture,
    findings,
    narrow,
    slow_disk,
    without_ceph,
)

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
    held=frozenset(),
    ours=False,
    room={"/var": 21_000},
    routes={IPv4Network("0.0.0.0/0"): "eth0", IPv4Network("192.0.2.0/24"): "eth0"},
    firewalls=(),
    swap_units=(),
    foreign=(),
    offset=0.0,
)
NETWORKS = {"pods": "10.32.0.0/12", "services": "10.96.0.0/12"}
MASTER = Wanted("metal-1", "192.0.2.11", control_plane=True, networks=NETWORKS)
WORKER = Wanted("metal-1", "192.0.2.11", control_plane=False, networks=NETWORKS)


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
    assert findings(host, replace(WORKER, bundle=userland == "armhf")) == []


def test_a_32_bit_system_on_a_64_bit_cpu_counts_as_32_bit() -> None:
    host = replace(WELL, machine="aarch64", userland="armhf")
    assert architecture(host) == "arm"
    assert findings(host, MASTER) == ["etcd does not support 32-bit ARM; make it a worker"]


@pytest.mark.parametrize(
    ("machine", "userland", "cores", "advised"),
    [
        pytest.param("aarch64", "armhf", (), True, id="a 64-bit kernel below a 32-bit system"),
        pytest.param("armv7l", "armhf", ("0xd03",), True, id="a 32-bit kernel on a Cortex-A53"),
        pytest.param("armv7l", "armhf", ("0xc07",), False, id="a Cortex-A7"),
        pytest.param("armv7l", "armhf", ("0xd01",), False, id="a Cortex-A32"),
        pytest.param("aarch64", "arm64", ("0xd03",), False, id="a 64-bit system"),
        pytest.param("x86_64", "amd64", (), False, id="another CPU"),
    ],
)
def test_a_64_bit_cpu_with_a_32_bit_system_is_told_of_a_64_bit_one(
    machine: str, userland: str, cores: tuple[str, ...], advised: bool
) -> None:
    host = replace(WELL, machine=machine, userland=userland, cores=cores)
    advice = "it runs a 32-bit system on a 64-bit CPU and is taken as 32-bit ARM; a 64-bit system"
    assert (narrow(host) or "").startswith(advice) is advised


def test_what_upstream_has_not_for_a_cpu_is_named_with_the_command_that_builds_it() -> None:
    board = replace(WELL, machine="armv7l", userland="armhf", memory_mb=940)
    assert findings(board, WORKER) == [
        "upstream has no kubelet, kubeadm, kubectl, kubernetes-cni, cri-tools, containerd.io,"
        " registry.k8s.io/kube-proxy, registry.k8s.io/pause,"
        " registry.k8s.io/e2e-test-images/agnhost for arm; run `python -m bundle build --arch arm`,"
        " serve it, and set bundle_url, bundle_ca and bundle_key for a group with this host"
    ]
    assert findings(board, replace(WORKER, bundle=True)) == []
    assert findings(replace(WELL, machine="aarch64", userland="arm64"), MASTER) == []


def test_a_system_that_no_bundle_has_packages_of_is_told_of_one_that_it_has() -> None:
    noble = replace(WELL, distribution="ubuntu", release="24.04", codename="noble")
    board = replace(noble, machine="armv7l", userland="armhf")
    bundled = replace(WORKER, bundle=True)
    first = "a bundle has no packages of ubuntu 24.04; install Debian 12 or 13"
    assert findings(noble, WORKER) == []
    assert findings(noble, bundled) == [f"{first}, or set no bundle_url for it"]
    assert findings(board, bundled) == [first]
    assert "for arm; install Debian 12 or 13 (a bundle has no other), run `python" in "".join(
        findings(board, WORKER)
    )


@pytest.mark.parametrize(
    ("host", "sentence"),
    [
        (
            replace(WELL, machine="armv6l", userland="armhf"),
            "there are no packages for its CPU armv6l, only for x86_64, aarch64, armv7l; take"
            " another machine",
        ),
        (
            # A 32-bit system below a 64-bit kernel: not its CPU is what is wrong.
            replace(WELL, userland="i386"),
            "there are no packages for a system of i386, only of amd64, arm64, armhf; install one"
            " of these if its CPU (x86_64) can run it, else take another machine",
        ),
        (
            replace(WELL, machine="aarch64", userland="armel"),
            "there are no packages for a system of armel, only of amd64, arm64, armhf; install one"
            " of these if its CPU (aarch64) can run it, else take another machine",
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
        (
            replace(WELL, packages={"containerd": "1.6.20", "docker.io": "20.10.24"}),
            "containerd and docker.io brought a containerd that is not ours to configure; run"
            " `apt-get remove containerd docker.io` on it, or take another machine",
        ),
        (
            replace(WELL, packages={"containerd.io": "1.7.1"}, held=frozenset({"containerd.io"})),
            "containerd.io 1.7.1 is held by somebody; run `apt-mark unhold containerd.io` on it if"
            " barekube may replace it",
        ),
        (
            replace(WELL, firewalls=("ufw",)),
            "ufw is active and would drop what nodes say to each other, or their rules with its"
            " own; run `ufw disable` on it",
        ),
        (
            replace(WELL, firewalls=("nftables.service",)),
            "nftables.service is active and would drop what nodes say to each other, or their"
            " rules with its own; run `systemctl disable --now nftables.service` on it",
        ),
        (
            replace(WELL, firewalls=("nftables.service",), ca="one"),
            "nftables.service is active and would drop what nodes say to each other, or their"
            " rules with its own; run `systemctl disable nftables.service` on it (--now would drop"
            " the rules of its pods too), then deploys/maintain.py --data reboot=true on it",
        ),
        (
            replace(WELL, foreign=("/etc/systemd/system/containerd.service",)),
            "/etc/systemd/system/containerd.service is of a containerd that is not ours to"
            " configure; stop and remove that first, or take another machine",
        ),
        (
            replace(WELL, swap_units=("dphys-swapfile.service",)),
            "dphys-swapfile.service brings swap back at every boot; run `systemctl disable --now"
            " dphys-swapfile.service` on it",
        ),
        (
            replace(WELL, room={"/var": 19_999}),
            "it has 19.9 GB free under /var and a node needs 20; make room, or mount a larger disk"
            " there",
        ),
        (
            replace(WELL, room={"/var": 21_000, "/var/lib/etcd": 12}),
            "it has 0.0 GB free under /var/lib/etcd and a node needs 2; make room, or mount a"
            " larger disk there",
        ),
        (
            replace(WELL, room={}),
            "it has 0.0 GB free under /var and a node needs 20; make room, or mount a larger disk"
            " there",
        ),
        (
            replace(WELL, routes={IPv4Network("10.40.0.0/16"): "eth1"}),
            "its route to 10.40.0.0/16 (eth1) overlaps the network of pods, 10.32.0.0/12; choose"
            " another one",
        ),
        (
            # OpenVPN's redirect-gateway def1.
            replace(
                WELL,
                routes={IPv4Network("0.0.0.0/1"): "tun0", IPv4Network("128.0.0.0/1"): "tun0"},
            ),
            "its route to 0.0.0.0/1 (tun0) is a half of all addresses, those of pods too; let what"
            " made it (a VPN) set a default route instead",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_would_fail_later_is_said(host: Checkup, sentence: str) -> None:
    assert findings(host, MASTER) == [sentence]


@pytest.mark.parametrize(
    ("machine", "userland", "said"),
    [
        ("x86_64", "amd64", None),
        ("aarch64", "arm64", None),
        ("aarch64", "armhf", "arm"),
        ("armv7l", "armhf", "arm"),
        # Its CPU is one of Ceph's; that there are no packages for it at all is said anyway.
        ("x86_64", "i386", None),
    ],
)
def test_a_storage_host_of_32_bits_is_told_that_there_is_no_ceph_for_it(
    machine: str, userland: str, said: str | None
) -> None:
    sentence = without_ceph(replace(WELL, machine=machine, userland=userland))
    assert sentence == (said and rook.without_ceph(said))


def test_all_that_is_wrong_is_said_at_once() -> None:
    assert len(findings(replace(WELL, cpus=1, memory_mb=512, kernel="4.19.0"), MASTER)) == 3


def test_a_node_is_not_asked_for_the_room_and_routes_that_it_takes_itself() -> None:
    routes = {IPv4Network("10.40.0.0/16"): "weave"}
    node = replace(WELL, ca="one", room={"/var": 9_000}, routes=routes)
    assert findings(node, MASTER) == []


def test_a_containerd_of_ours_is_replaced_though_it_is_held() -> None:
    held = frozenset({"containerd.io"})
    own = ("/etc/systemd/system/containerd.service",)
    packages = {"containerd.io": "1.7.1"}
    host = replace(WELL, packages=packages, held=held, foreign=own, ours=True)
    assert findings(host, MASTER) == []


def test_what_a_package_and_a_route_are_is_read_from_the_hosts_own_words() -> None:
    values = {
        "package.containerd": "deinstall 1.6.20",
        "package.containerd.io": "hold 2.4.2",
        "routes": "eth0:000200C0:00FFFFFF weave:0000200A:0000F0FF",
        "room": "/var:20000000:/ /var/lib/kubelet:20000000:/ /var/lib/etcd:4000:/var/lib/etcd",
    }
    host = Checkup.parse(values, (), 0.0)
    assert host.packages == {"containerd.io": "2.4.2"}
    assert host.held == {"containerd.io"}
    assert host.room == {"/var": 20_480, "/var/lib/etcd": 4}
    assert host.routes == {
        IPv4Network("192.0.2.0/24"): "eth0",
        IPv4Network("10.32.0.0/12"): "weave",
    }


@pytest.mark.parametrize(
    ("count", "found"),
    [
        (1, []),
        (3, []),
        (
            2,
            [
                "a new cluster of 2 control planes survives the loss of no more of them than one"
                " of 1; name 1 or 3 in the inventory"
            ],
        ),
    ],
)
def test_a_new_cluster_of_an_even_number_of_control_planes_is_refused(
    count: int, found: list[str]
) -> None:
    names = [f"cp-{number}" for number in range(count)]
    hosts = {name: replace(WELL, machine_id=name) for name in names}
    assert between(hosts, names)["cp-0"] == found


def test_a_living_cluster_may_have_two_control_planes_for_a_while() -> None:
    hosts = {name: replace(WELL, machine_id=name, ca="one") for name in ("a", "b")}
    assert between(hosts, ["a", "b"]) == {"a": [], "b": []}


def test_a_new_host_tries_every_port_of_its_peers_and_the_size_of_packets() -> None:
    peers = {"192.0.2.11": (True, True), "192.0.2.22": (False, False)}
    assert targets(False, peers, 6443, weave=True, packet=1387) == [
        "tcp:192.0.2.11:10250",
        "tcp:192.0.2.11:6443",
        "tcp:192.0.2.11:2379",
        "tcp:192.0.2.11:2380",
        "tcp:192.0.2.11:6783",
        "mtu:192.0.2.11:6785:1387",
        "tcp:192.0.2.22:10250",
        "tcp:192.0.2.22:6783",
        "udp:192.0.2.22:6783",
        "udp:192.0.2.22:6784",
        "mtu:192.0.2.22:6785:1387",
    ]


def test_a_node_tries_new_hosts_only() -> None:
    peers = {"192.0.2.11": (True, True), "192.0.2.22": (False, False)}
    tried = targets(True, peers, 6443, weave=False, packet=1463)
    assert {each.split(":")[1] for each in tried} == {"192.0.2.22"}


def test_a_pair_is_named_by_what_does_not_pass() -> None:
    silent = ["udp:192.0.2.22:6784", "tcp:192.0.2.22:6783", "mtu:192.0.2.22:6785:1463"]
    silent += ["mtu:192.0.2.23:6785:1387"]
    assert unreached(silent, {"192.0.2.22": "w-2", "192.0.2.23": "w-3", "192.0.2.24": "w-4"}) == [
        "it does not reach w-2 (192.0.2.22) on UDP 6784, TCP 6783; open that between the"
        " inventory's hosts, or run deploys/host.py on w-2 first if it has a firewall",
        "packets of 1387 bytes do not pass from it to w-3 (192.0.2.23); set the MTU of every card"
        " and switch between them to 1500, or lower WEAVE_MTU",
    ]


@pytest.mark.parametrize(("slow", "warned"), [(1, False), (2, True)])
def test_a_disk_is_slow_if_more_than_one_write_of_a_hundred_is(slow: int, warned: bool) -> None:
    said = slow_disk([2.0] * (100 - slow) + [35.4] * slow)
    assert (said is not None) == warned
    if said:
        assert said.startswith("warning: its disk takes 35 ms to sync a small write (p99)")


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
