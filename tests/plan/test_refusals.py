"""What preflight refuses, through the real command line: a sentence, status 1, nothing changed."""

import shutil
from base64 import b64encode
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from barekube import doors
from tests.plan import machines
from tests.plan.conftest import Pyinfra, Result

_ONE_MASTER = "control_plane = [machines.bare('cp-1', '192.0.2.11')]\n"
_WORKER = "workers = [machines.bare('w-1', '192.0.2.21', {said!r}, {answers!r})]\n"
_OF_BARE_ONES = "its sources are tried once host.py has installed CA certificates: it has none"
_APT = "https://pkgs.k8s.io/core:/stable:/v1.37/deb/InRelease"
_REGISTRY = "https://registry.k8s.io/v2/"
_KEY = b64encode(machines._key("another")[0].encode()).decode()


def _run(
    pyinfra: Pyinfra,
    folder: Path,
    inventory: str,
    group_data: str = "",
    stage: str = "deploys/preflight.py",
    *options: str,
    api: bool = False,
) -> Result:
    (folder / "inventory.py").write_text(f"from tests.plan import machines\n{inventory}")
    shutil.copytree("tests/plan/group_data", folder / "group_data")
    with (folder / "group_data/all.py").open("a") as file:
        file.write(group_data)
    yes = [] if "--dry" in options else ["-y"]
    return pyinfra(str(folder / "inventory.py"), stage, *yes, "--debug", *options, api=api)


def _said(done: Result, host: str) -> list[str]:
    """What was said of a host, without what pyinfra says by itself and we of each bare one."""
    lines = [line.partition(f"[@fake/{host}]")[2].strip() for line in done.stderr.splitlines()]
    pyinfras = (
        "Connected",
        "No changes",
        "Skipped",
        "Ready",
        "Error: executed",
        "Loaded fact",
        "noop: ",
    )
    return [line for line in lines if line and not line.startswith((*pyinfras, _OF_BARE_ONES))]


@pytest.mark.parametrize(
    ("said", "answers", "sentence"),
    [
        pytest.param(
            {},
            {machines.REACH: ["tcp:192.0.2.11:6443", "end"]},
            "it does not reach @fake/cp-1 (192.0.2.11) on TCP 6443; open that between the"
            " inventory's hosts, or run deploys/host.py on @fake/cp-1 first if it has a firewall",
            id="a port that is closed",
        ),
        pytest.param(
            {},
            {machines.REACH: ["mtu:192.0.2.11:6785:1463", "end"]},
            "packets of 1463 bytes do not pass from it to @fake/cp-1 (192.0.2.11); set the MTU of"
            " every card and switch between them to 1500, or lower WEAVE_MTU",
            id="an MTU that is too small",
        ),
        pytest.param(
            {"room": "/var:5000000:/ /var/lib/kubelet:5000000:/"},
            {},
            "it has 5.1 GB free under /var and a node needs 20; make room, or mount a larger disk"
            " there",
            id="no room",
        ),
        pytest.param(
            {"package.containerd.io": "hold 1.7.1"},
            {},
            "containerd.io 1.7.1 is held by somebody; run `apt-mark unhold containerd.io` on it if"
            " barekube may replace it",
            id="a held containerd",
        ),
        pytest.param(
            {"package.docker.io": "install 20.10"},
            {},
            "docker.io brought a containerd that is not ours to configure; run `apt-get remove"
            " docker.io` on it, or take another machine",
            id="a foreign containerd",
        ),
        pytest.param(
            {"swap": "zramswap.service "},
            {},
            "zramswap.service brings swap back at every boot; run `systemctl disable --now"
            " zramswap.service` on it",
            id="swap that comes back",
        ),
        *(
            pytest.param(
                {"firewalls": unit},
                {},
                f"{unit} is active and would drop what nodes say to each other, or their rules"
                f" with its own; run `{remedy}` on it",
                id=unit,
            )
            for unit, remedy in [
                ("ufw", "ufw disable"),
                ("firewalld.service", "systemctl disable --now firewalld.service"),
                ("nftables.service", "systemctl disable --now nftables.service"),
            ]
        ),
        *(
            pytest.param(
                {"trusts": "1"},
                # Whoever does not ask for it gets no answer at all.
                {url: [f"silent {url}", "end"]},
                f"{url} does not answer; mend its network, or group_data's source",
                id=f"{what} that does not answer",
            )
            for what, url in [("an apt repository", _APT), ("an image registry", _REGISTRY)]
        ),
        pytest.param(
            {"routes": "eth1:0000F40A:0000FFFF"},
            {},
            "its route to 10.244.0.0/16 (eth1) overlaps the network of pods, 10.244.0.0/16; choose"
            " another one",
            id="a network of pods that is somebody else's",
        ),
        pytest.param(
            {"machine": "riscv64"},
            {},
            "there are no packages for its CPU riscv64, only for x86_64, aarch64, armv7l; take"
            " another machine",
            id="an unknown architecture",
        ),
    ],
)
def test_one_host_that_would_fail_later_stops_all_before_anything_is_changed(
    pyinfra: Pyinfra,
    tmp_path: Path,
    said: dict[str, str],
    answers: dict[str, list[str]],
    sentence: str,
) -> None:
    inventory = _ONE_MASTER + _WORKER.format(said=said, answers=answers)
    done = _run(pyinfra, tmp_path, inventory, stage="deploys/site.py")
    assert _said(done, "w-1") == [sentence]
    assert _said(done, "cp-1") == ["nothing is changed here while @fake/w-1 has problems"]
    assert done.status == 1
    assert done.changing_commands == []
    assert "Traceback" not in done.stderr


def test_a_host_outside_the_limit_that_does_not_answer_is_a_warning_to_a_new_one(
    pyinfra: Pyinfra, tmp_path: Path
) -> None:
    tried = [*(f"tcp:192.0.2.11:{port}" for port in (10250, 6443, 2379, 2380)), "mtu:192.0.2.11"]
    answers = {machines.REACH: ["tcp:192.0.2.11:6443", "end"]}
    inventory = _ONE_MASTER + _WORKER.format(said={}, answers=answers)
    done = _run(pyinfra, tmp_path, inventory, "", "deploys/preflight.py", "--limit", "workers")
    assert _said(done, "w-1") == [
        "warning, since that host is not in this run and may be down: it does not reach @fake/cp-1"
        " (192.0.2.11) on TCP 6443; open that between the inventory's hosts, or run"
        " deploys/host.py on @fake/cp-1 first if it has a firewall"
    ]
    assert [each for each in tried if each not in done.stderr] == []
    assert done.status == 0


def test_a_source_that_does_not_answer_is_said_beside_what_else_is_wrong(
    pyinfra: Pyinfra, tmp_path: Path
) -> None:
    said = {"trusts": "1", "memory": "512000"}
    worker = _WORKER.format(said=said, answers={_APT: [f"silent {_APT}", "end"]})
    done = _run(pyinfra, tmp_path, _ONE_MASTER + worker)
    assert _said(done, "w-1") == [
        "it has 500 MB of memory and a worker needs 900; add some",
        f"{_APT} does not answer; mend its network, or group_data's source",
    ]
    assert done.status == 1


def test_sources_of_an_unknown_system_are_not_guessed(pyinfra: Pyinfra, tmp_path: Path) -> None:
    said = {"trusts": "1", "release": "11"}
    done = _run(pyinfra, tmp_path, _ONE_MASTER + _WORKER.format(said=said, answers={}))
    assert _said(done, "w-1") == [
        "debian 11 is not supported; install Debian 12 and 13, Ubuntu 22.04 to 26.04, Raspberry Pi"
        " OS 12 and 13"
    ]
    assert "download-file" not in done.stderr


def test_a_machine_without_ca_certificates_says_when_its_sources_are_tried(
    pyinfra: Pyinfra, tmp_path: Path
) -> None:
    done = _run(pyinfra, tmp_path, _ONE_MASTER)
    assert f"[@fake/cp-1] {_OF_BARE_ONES}\n" in done.stderr
    assert done.status == 0


def test_an_apt_key_that_is_not_the_wanted_one_is_found_before_anything_is_changed(
    pyinfra: Pyinfra, tmp_path: Path
) -> None:
    key = f"text https://download.docker.com/linux/debian/gpg {_KEY}"
    answers = {"download-file": [key, "end"]}
    worker = _WORKER.format(said={"trusts": "1"}, answers=answers)
    done = _run(pyinfra, tmp_path, _ONE_MASTER + worker)
    wanted = machines._key("containerd")[1]
    assert _said(done, "w-1")[0] == (
        f"the key at https://download.docker.com/linux/debian/gpg is not {wanted}; compare it with"
        " what its publisher says, then correct group_data"
    )
    assert done.status == 1
    assert done.changing_commands == []


def test_an_even_number_of_control_planes_is_refused_for_a_new_cluster(
    pyinfra: Pyinfra, tmp_path: Path
) -> None:
    hosts = "machines.bare('cp-1', '192.0.2.11'), machines.bare('cp-2', '192.0.2.12')"
    done = _run(pyinfra, tmp_path, f"control_plane = [{hosts}]\n")
    assert _said(done, "cp-1") == [
        "a new cluster of 2 control planes survives the loss of no more of them than one of 1;"
        " name 1 or 3 in the inventory"
    ]
    assert done.status == 1
    assert done.changing_commands == []


def test_hosts_of_the_command_line_have_no_control_plane(pyinfra: Pyinfra) -> None:
    done = pyinfra("@fake/a,@fake/b", "deploys/preflight.py", "-y", "--debug")
    assert (
        "--> no host of this run's inventory is a control plane; name a file whose control_plane"
        " has one, as `pyinfra inventory.py ...`\n--> Summary:\n"
    ) in done.stderr
    assert done.status == 1
    assert done.changing_commands == []
    assert "Traceback" not in done.stderr


def test_a_slow_etcd_disk_is_a_warning_and_no_more(pyinfra: Pyinfra, tmp_path: Path) -> None:
    slow = {"fdatasync": [*["notrunc 900"] * 20, *["notrunc,fdatasync 40900"] * 100, "end"]}
    master = f"control_plane = [machines.bare('cp-1', '192.0.2.11', {{}}, {slow!r})]\n"
    done = _run(pyinfra, tmp_path, master)
    assert _said(done, "cp-1")[0] == (
        "warning: its disk takes 40 ms to sync a small write (p99), and etcd wants 10; expect slow"
        " answers of the API, or give /var/lib/etcd an SSD"
    )
    assert done.status == 0


@pytest.mark.parametrize(
    ("group_data", "sentence"),
    [
        (
            "service_network = '10.244.0.0/20'",
            "the network of pods (10.244.0.0/16, IPALLOC_RANGE of the network's manifest) and that"
            " of services (10.244.0.0/20, service_network of group_data) overlap; change one of"
            " them",
        ),
        (
            "service_network = '192.0.2.0/24'",
            "@fake/cp-1: its address 192.0.2.11 is in the network of services (192.0.2.0/24);"
            " choose another network for services",
        ),
        (
            "cluster_configuration = {'networking': {'podSubnet': '10.0.0.0/8'}}",
            "group_data: cluster_configuration has networking.podSubnet ('10.0.0.0/8'), which"
            " comes from IPALLOC_RANGE of the network's manifest; take it out there",
        ),
        (
            "cluster_configuration = {'controllerManager': {'extraArgs': [{'name': 'v', 'value':"
            " '2'}, {'name': 'cluster-cidr', 'value': '10.0.0.0/8'}]}}",
            "group_data: cluster_configuration has controllerManager.extraArgs cluster-cidr"
            " ('10.0.0.0/8'), which comes from IPALLOC_RANGE of the network's manifest; take it"
            " out there",
        ),
        (
            "cluster_configuration = {'apiServer': {'extraArgs': [{'name':"
            " 'service-cluster-ip-range', 'value': '10.0.0.0/16'}]}}",
            "group_data: cluster_configuration has apiServer.extraArgs service-cluster-ip-range"
            " ('10.0.0.0/16'), which comes from service_network; take it out there",
        ),
        (
            "kube_proxy_configuration = {'clusterCIDR': '10.0.0.0/8'}",
            "group_data: kube_proxy_configuration has clusterCIDR '10.0.0.0/8' and pods get"
            " addresses of 10.244.0.0/16 (IPALLOC_RANGE of the network's manifest); take it out",
        ),
    ],
)
def test_networks_that_contradict_each_other_end_the_run_before_it_changes_anything(
    pyinfra: Pyinfra, tmp_path: Path, group_data: str, sentence: str
) -> None:
    done = _run(pyinfra, tmp_path, _ONE_MASTER, group_data=f"{group_data}\n")
    assert f"--> {sentence}\n--> Summary:\n" in done.stderr
    assert done.status == 1
    assert done.changing_commands == []
    assert "Traceback" not in done.stderr


_DEAF = """
from types import SimpleNamespace
from unittest.mock import MagicMock
from paramiko import ChannelException
from pyinfra.connectors.fake import FakeConnector

FakeConnector.client = MagicMock()
FakeConnector.client.get_transport().open_channel.side_effect = ChannelException(1, "prohibited")
"""


def test_an_ssh_server_that_forwards_nothing_is_found_where_the_api_is_to_be(
    pyinfra: Pyinfra, tmp_path: Path
) -> None:
    worker = _WORKER.format(said={}, answers={})
    done = _run(pyinfra, tmp_path, _DEAF + _ONE_MASTER + worker)
    assert _said(done, "cp-1") == [
        "its SSH server forwards no port, by which the API is reached; set AllowTcpForwarding yes"
        " (or local) in its sshd_config"
    ]
    assert _said(done, "w-1") == ["nothing is changed here while @fake/cp-1 has problems"]
    assert done.status == 1
    assert done.changing_commands == []


@pytest.mark.parametrize(
    ("stage", "preview"),
    [
        *((stage, way) for stage in ("workers", "network", "ingress") for way in ([], ["--dry"])),
        # Its run would change the machine before.
        ("site", ["--dry"]),
    ],
)
def test_what_needs_an_api_before_there_is_one_is_told_what_comes_first(
    pyinfra: Pyinfra, tmp_path: Path, stage: str, preview: list[str]
) -> None:
    inventory = _ONE_MASTER + _WORKER.format(said={}, answers={})
    words = ["--limit", "workers", *preview]
    done = _run(pyinfra, tmp_path, inventory, "", f"deploys/{stage}.py", *words)
    assert [each for each in _said(done, "w-1") if "no control plane" in each] == [
        "no control plane answers (@fake/cp-1 has no /etc/kubernetes/admin.conf); run"
        " deploys/control_plane.py first"
    ]
    assert done.status == 1
    assert done.changing_commands == []
    assert "Traceback" not in done.stderr


_NOT_PREPARED = (
    "it is not prepared (net.ipv4.ip_forward: not there yet -> 1); run deploys/host.py first"
)
_NO_RUNTIME = "containerd.io is not installed; run deploys/runtime.py first"
_NO_KUBEADM = "kubeadm is not installed; run deploys/kubernetes_packages.py first"
_NO_TRUST = "ca-certificates is not installed; run deploys/host.py first"


@pytest.mark.parametrize(
    ("prepared", "there", "sentence"),
    [
        (False, ["containerd.io", "kubeadm"], _NOT_PREPARED),
        (True, [], _NO_RUNTIME),
        (True, ["containerd.io"], _NO_KUBEADM),
    ],
)
@pytest.mark.parametrize("preview", [[], ["--dry"]])
@pytest.mark.parametrize(
    ("stage", "host", "api"), [("control_plane", "cp-1", False), ("workers", "w-1", True)]
)
def test_a_stage_that_comes_too_early_says_what_comes_first_and_changes_nothing(
    pyinfra: Pyinfra,
    tmp_path: Path,
    stage: str,
    host: str,
    api: bool,
    prepared: bool,
    there: list[str],
    sentence: str,
    preview: list[str],
) -> None:
    files = {"/etc/machine-id": f"{machines.MACHINE_ID}\n"}
    if prepared:
        whole = machines.joined(host).files
        files |= {path: whole[path] for path in whole if path.startswith(("/proc", "/etc/hosts"))}
    machine = machines.Machine(
        files=files, packages={name: machines.INSTALLED[name] for name in there}
    )
    answers = {machines._FACT: machine.answer()}
    inventory = (
        f"control_plane = [machines.bare('cp-1', '192.0.2.11', {{}}, {answers!r})]\n"
        + _WORKER.format(said={}, answers=answers)
    )
    words = ("--limit", f"@fake/{host}", *preview)
    done = _run(pyinfra, tmp_path, inventory, "", f"deploys/{stage}.py", *words, api=api)
    assert _said(done, host) == [sentence]
    assert done.status == 1
    assert done.changing_commands == []
    assert "Traceback" not in done.stderr


_MAX_PODS = ["--data", 'kubelet_configuration={"maxPods": 77}']


@pytest.mark.parametrize(
    ("words", "refused"),
    [
        (["deploys/workers.py", "-y"], True),
        (["deploys/workers.py", "--dry"], True),
        (["deploys/site.py", "--dry", "--limit", "workers"], True),
        (["deploys/control_plane.py", "deploys/workers.py", "--dry"], False),
        (["deploys/site.py", "--dry"], False),
    ],
)
def test_kubelets_get_settings_that_the_cluster_has_or_gets_in_the_same_run(
    pyinfra: Pyinfra, words: list[str], refused: bool
) -> None:
    done = pyinfra("tests/plan/inventory_converged.py", *words, *_MAX_PODS, api=True)
    sentence = (
        "the cluster has not got group_data's settings of kubelets yet; run"
        " deploys/control_plane.py first"
    )
    new = ["/var/lib/kubelet/config.yaml", "kubelet: restart (its settings changed)"]
    assert _said(done, "w-1") == ([sentence] if refused else new)
    assert done.status == (1 if refused else 0)


@pytest.mark.parametrize("stage", ["runtime", "kubernetes_packages"])
def test_no_source_is_asked_before_its_host_can_trust_it(
    pyinfra: Pyinfra, tmp_path: Path, stage: str
) -> None:
    done = _run(pyinfra, tmp_path, _ONE_MASTER, "", f"deploys/{stage}.py")
    assert _said(done, "cp-1") == [_NO_TRUST]
    assert done.status == 1
    assert done.changing_commands == []


def test_a_fact_that_fails_on_the_last_host_ends_the_run_without_a_traceback(
    pyinfra: Pyinfra, tmp_path: Path
) -> None:
    broken = {machines._CHECKUP: {"success": False, "stderr": "sh: fork: no memory"}}
    master = f"control_plane = [machines.bare('cp-1', '192.0.2.11', {{}}, {broken!r})]\n"
    done = _run(pyinfra, tmp_path, master)
    assert _said(done, "cp-1") == [
        "sh: fork: no memory",
        "Error: could not load fact: barekube.facts.preflight.CheckupFact",
    ]
    assert done.summary[0] == "failed:        1: @fake/cp-1"
    assert done.status == 1
    assert done.changing_commands == []
    for noise in ("Traceback", "Greenlet", "No hosts remaining", "pyinfra error"):
        assert noise not in done.stderr


def _manifests(folder: Path, **files: str) -> str:
    """group_data with manifests of its own: those of these tests, and these."""
    shutil.copytree(machines.MANIFESTS, folder / "manifests")
    for name, text in files.items():
        (folder / "manifests" / f"{name}.yaml").write_text(text)
    return f"network_manifests = {str(folder / 'manifests')!r}\n"


def test_a_manifest_that_is_not_yaml_ends_the_run_of_every_stage_with_its_line(
    pyinfra: Pyinfra, tmp_path: Path
) -> None:
    group_data = _manifests(tmp_path, policy="kind: NetworkPolicy\nmetadata: {name: [\n")
    done = _run(pyinfra, tmp_path, _ONE_MASTER, group_data, "deploys/host.py")
    assert (
        f"--> {tmp_path}/manifests/policy.yaml, line 3: it is not YAML: did not find"
        " expected node content; correct it\n--> Summary:\n"
    ) in done.stderr
    assert done.summary[0] == "nothing was changed: the run ended before its first step"
    assert done.status == 1
    assert "simulating" not in done.stderr
    assert "Traceback" not in done.stderr


_RANGE = (
    "networking.podSubnet of the cluster is '10.244.0.0/16' and cannot change after init; set"
    " IPALLOC_RANGE of the network's manifest back, from '10.240.0.0/16'"
)
_MOVED = (
    "the cluster knows @fake/{} by its address {}, which cannot change while it is a node; set"
    " `address` back, from {}, or take it out with deploys/remove_node.py --data node=@fake/{}"
    " and run deploys/site.py then"
)
# What the next host says, in the run, of what that one was to do.
_LEFT = "@fake/cp-1 failed, so that this is not done; mend it, or --exclude it"
_OTHERS = "nothing is changed here while {} has problems"


def _converged(*addresses: str) -> str:
    """A cluster of one control plane and two workers, by their addresses in the inventory."""
    hosts = zip(("cp-1", "w-1", "w-2"), addresses, ("11", "21", "22"), strict=True)
    first, *others = (
        f"(lambda name, more: (name, {{**more, 'address': '{address}'}}))"
        f"(*machines.converged('{name}', '192.0.2.{last}'))"
        for name, address, last in hosts
    )
    return f"control_plane = [{first}]\nworkers = [{', '.join(others)}]\n"


_AS_THEY_ARE = _converged("192.0.2.11", "192.0.2.21", "192.0.2.22")


@pytest.mark.parametrize("options", [[], ["--dry"]], ids=["run", "preview"])
@pytest.mark.parametrize(
    ("stage", "said"),
    [
        ("site", [_RANGE, _OTHERS.format("@fake/cp-1"), _OTHERS.format("@fake/cp-1")]),
        ("control_plane", [_RANGE, "", ""]),
        ("network", [_RANGE, "", ""]),
    ],
)
def test_another_range_of_pods_is_refused_by_name_and_by_no_host_applied(
    pyinfra: Pyinfra, tmp_path: Path, stage: str, said: list[str], options: list[str]
) -> None:
    group_data = _manifests(tmp_path)
    manifest = tmp_path / "manifests/network.yaml"
    manifest.write_text(manifest.read_text().replace("10.244.0.0/16", "10.240.0.0/16"))
    (tmp_path / "inventory.py").write_text(f"from tests.plan import machines\n{_AS_THEY_ARE}")
    shutil.copytree("tests/plan/group_data", tmp_path / "group_data")
    with (tmp_path / "group_data/all.py").open("a") as file:
        file.write(group_data)
    words = [str(tmp_path / "inventory.py"), f"deploys/{stage}.py", "--debug"]
    # The stand-in of the API would fail the host that applies anything.
    done = pyinfra(*words, *(options or ["-y"]), api=True)
    for host, sentence in zip(("cp-1", "w-1", "w-2"), said, strict=True):
        assert [*(each for each in _said(done, host) if each != _LEFT), ""][0] == sentence
    assert done.status == 1
    assert done.changing_commands == []
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("stage", "host", "options"),
    [
        ("site", "cp-1", []),
        ("site", "w-1", []),
        ("control_plane", "cp-1", []),
        ("workers", "w-1", ["--limit", "workers"]),
    ],
)
def test_a_node_that_its_cluster_knows_by_another_address_is_refused_by_name(
    pyinfra: Pyinfra, tmp_path: Path, stage: str, host: str, options: list[str]
) -> None:
    known, wanted = machines.address(host), "192.0.2.31"
    inventory = _AS_THEY_ARE.replace(f"'address': '{known}'", f"'address': '{wanted}'")
    done = _run(pyinfra, tmp_path, inventory, "", f"deploys/{stage}.py", *options, api=True)
    assert _MOVED.format(host, known, wanted, host) in _said(done, host)
    assert done.status == 1
    assert done.changing_commands == []
    assert "Traceback" not in done.stderr


_MAP = "apiVersion: v1\nkind: {kind}\nmetadata: {{name: {name}, namespace: default}}\n{rest}"


def test_what_the_api_refuses_is_named_and_nothing_of_the_stage_is_applied(
    pyinfra: Pyinfra, tmp_path: Path
) -> None:
    reason = "Invalid value: 70000: must be 1 to 65535"
    group_data = _manifests(
        tmp_path,
        a_good=_MAP.format(kind="ConfigMap", name="good", rest=""),
        b_bad=_MAP.format(kind="ConfigMap", name="bad", rest=f"data: {{refuse: {reason!r}}}\n"),
        c_strange=_MAP.format(kind="Unknown", name="strange", rest=""),
        d_nowhere="apiVersion: example.org/v1\nkind: Widget\nmetadata: {name: nowhere}\n",
    )
    inventory = (
        "control_plane = [machines.converged('cp-1', '192.0.2.11')]\n"
        "workers = [machines.converged('w-1', '192.0.2.21')]\n"
    )
    done = _run(pyinfra, tmp_path, inventory, group_data, "deploys/network.py", api=True)
    # The stand-in ends the run of a host with an error if anything is applied.
    assert _said(done, "cp-1") == [
        f"{tmp_path}/manifests/b_bad.yaml: ConfigMap default/bad: the API refuses it: {reason};"
        " correct the manifest",
        f"{tmp_path}/manifests/c_strange.yaml: Unknown default/strange: the API has no such kind;"
        " correct the manifest",
        f"{tmp_path}/manifests/d_nowhere.yaml: Widget nowhere: it is in no namespace; give it"
        " metadata.namespace",
    ]
    assert done.status == 1
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("options", "left"),
    [
        (["--dry"], ["as wanted:     2: @fake/w-1, @fake/w-2"]),
        ([], ["unchanged:     1: @fake/w-2", f"not well:      1: @fake/w-1: {_LEFT}"]),
    ],
    ids=["preview", "run"],
)
def test_nobody_goes_on_past_what_the_control_plane_was_refused(
    pyinfra: Pyinfra, tmp_path: Path, options: list[str], left: list[str]
) -> None:
    group_data = _manifests(tmp_path, a_new=_MAP.format(kind="ConfigMap", name="new", rest=""))
    group_data += "service_network = '10.112.0.0/12'\n"
    stages = ["deploys/control_plane.py", "deploys/network.py"]
    # The stand-in would fail the host that applies anything.
    done = _run(pyinfra, tmp_path, _AS_THEY_ARE, group_data, *stages, *options, api=True)
    assert _said(done, "cp-1")[0].startswith("networking.serviceSubnet of the cluster is")
    assert [line for line in done.summary if "@fake/w-" in line] == left
    assert done.status == 1


def test_preflight_judges_the_doors_manifests_and_certificates_beside_the_hosts(
    pyinfra: Pyinfra, tmp_path: Path
) -> None:
    """The public door's policy leaves out Weave's range, and the pods' here is another one."""
    worker = _WORKER.format(said={"cgroup": "tmpfs"}, answers={})
    group_data = (
        'door_certificates = {"public": ("/nowhere/a.pem", "/nowhere/a.key"),'
        ' "internal": ("/carried/by", "/nobody")}\n'
    )
    done = _run(pyinfra, tmp_path, f"{_ONE_MASTER}{worker}edge = ['@fake/w-1']\n", group_data)
    assert _said(done, "cp-1") == [
        "the public door's policy lets it reach pods by an ipBlock; name 10.244.0.0/16 in its"
        " except (IPALLOC_RANGE of the network's manifest)",
        "group_data: door_certificates, public, /nowhere/a.pem: No such file or directory;"
        " correct the path",
    ]
    assert _said(done, "w-1")[0].startswith("it runs cgroup v1")
    assert done.status == 1


def test_a_certificate_that_has_ended_keeps_no_machine_from_being_mended(
    pyinfra: Pyinfra, tmp_path: Path
) -> None:
    files = [str(tmp_path / "a.pem"), str(tmp_path / "a.key")]
    made = doors.certificate(["a.example"], datetime.now(UTC) - timedelta(days=400))
    for path, content in zip(files, made, strict=True):
        Path(path).write_bytes(content)
    worker = _WORKER.format(said={}, answers={})
    group_data = f'door_certificates = {{"internal": {tuple(files)}}}\n'
    done = _run(pyinfra, tmp_path, f"{_ONE_MASTER}{worker}", group_data)
    assert _said(done, "cp-1") == [
        "warning, for ingress.py will not take it: group_data: door_certificates, internal,"
        f" {files[0]}: its last day is {datetime.now(UTC) - timedelta(days=3):%Y-%m-%d}; give it"
        " another one"
    ]
    assert _said(done, "w-1") == []
    assert done.status == 0


@pytest.mark.parametrize("options", [["--dry"], ["-y"]])
@pytest.mark.parametrize(
    ("stage", "data", "known", "wanted"),
    [
        ("site", "api_port=7443", "api.barekube:6443", "api.barekube:7443"),
        ("host", "api_name=k8s.home", "api.barekube", "k8s.home"),
        ("control_plane", "cluster_name=home", "api.barekube:6443", "api.home:6443"),
        ("workers", "api_name=k8s.home", "api.barekube:6443", "k8s.home:6443"),
    ],
)
def test_a_living_cluster_keeps_the_name_and_port_of_its_api(
    pyinfra: Pyinfra, stage: str, data: str, known: str, wanted: str, options: list[str]
) -> None:
    converged = "tests/plan/inventory_converged.py"
    words = [f"deploys/{stage}.py", "--debug", "--data", data, *options]
    done = pyinfra(converged, *words, api=True)
    host = "w-1" if stage == "workers" else "cp-1"
    assert _said(done, host) == [
        f"controlPlaneEndpoint of the cluster is {known!r} and cannot change after init; set"
        f" api_name (where it is None, cluster_name) or api_port back, from {wanted!r}"
    ]
    assert done.status == 1
    assert done.changing_commands == []
    assert "API:" not in done.stderr


_NULL = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: kube-system, labels: }\n"
_NO_SPEC = "apiVersion: apps/v1\nkind: DaemonSet\nmetadata: {name: a, namespace: x}\n"
_NOWHERE = (
    "apiVersion: apps/v1\nkind: DaemonSet\nmetadata: {name: a}\n"
    "spec: {template: {spec: {containers: [{ports: [{hostPort: 80}]}]}}}\n"
)


@pytest.mark.parametrize("options", [["--dry"], ["-y"]])
@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param(
            _NULL,
            "{file}: ConfigMap kube-system/a: metadata.labels is no mapping; fill it or take it"
            " out",
            id="no labels",
        ),
        pytest.param(
            _NOWHERE,
            "{file}: DaemonSet a: it is in no namespace; give it metadata.namespace",
            id="no namespace",
        ),
        pytest.param(
            _NO_SPEC,
            "DaemonSet x/a is not written as Kubernetes wants it; correct its manifest",
            id="no spec",
        ),
    ],
)
def test_a_manifest_of_the_doors_that_is_no_use_stops_no_host_with_a_traceback(
    pyinfra: Pyinfra, tmp_path: Path, text: str, reason: str, options: list[str]
) -> None:
    shutil.copytree("manifests/traefik", tmp_path / "doors")
    (tmp_path / "doors/own.yaml").write_text(text)
    data = ["--data", f"ingress_manifests={tmp_path / 'doors'}"]
    converged = "tests/plan/inventory_converged.py"
    done = pyinfra(converged, "deploys/ingress.py", *options, *data, api=True)
    assert set(_said(done, "cp-1")) == {reason.format(file=tmp_path / "doors/own.yaml")}
    assert done.status == 1
    assert "Traceback" not in done.stderr


def test_doors_that_are_refused_are_applied_by_no_other_host(
    pyinfra: Pyinfra, tmp_path: Path
) -> None:
    shutil.copytree("manifests/traefik", tmp_path / "doors")
    (tmp_path / "doors/own.yaml").write_text(_NO_SPEC)
    data = ["--data", f"ingress_manifests={tmp_path / 'doors'}"]
    converged = "tests/plan/inventory_converged.py"
    done = pyinfra(converged, "deploys/ingress.py", "-y", *data, api=True)
    # The stand-in would fail the host that applies anything.
    assert done.summary[:3] == [
        "unchanged:     1: @fake/w-2",
        "failed:        1: @fake/cp-1 (at 'Apply the doors')",
        f"not well:      1: @fake/w-1: {_LEFT}",
    ]
