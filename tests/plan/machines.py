"""Machines of pyinfra's @fake connector, as data: what they answer to the batch facts.

A fact's answer may hold more than was asked for, so one answer describes a whole machine.
"""

import base64
import functools
import hashlib
import json
import re
import runpy
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from barekube import containerd, hosts_file, kernel, kubeadm_config, traces, versions
from barekube.cluster import Cluster, Node
from barekube.operations import packages
from barekube.settings import Source

REPOSITORY = Path(__file__).resolve().parents[2]
MANIFESTS = REPOSITORY / "tests/plan/manifests"
DEFAULTS: Mapping[str, Any] = runpy.run_path(str(REPOSITORY / "group_data/all.py"))
ALL = [("cp-1", "192.0.2.11", True), ("w-1", "192.0.2.21", False), ("w-2", "192.0.2.22", False)]
MACHINE_ID = "0123456789abcdef0123456789abcdef"
# Of no use to anybody: no key of these tests signs anything.
CA = "-----BEGIN CERTIFICATE-----\nnot a certificate\n-----END CERTIFICATE-----\n"
RELEASE = {
    "PRETTY_NAME": "Debian GNU/Linux 12 (bookworm)",
    "ID": "debian",
    "VERSION_ID": "12",
    "VERSION_CODENAME": "bookworm",
}
_FACT = "echo '#release'"
_CHECKUP = 'echo "uid='
REACH, SYNC, DISKS = "use Socket", "fdatasync", "wipefs"
_SETTINGS = "KUBEADM_INIT_DRYRUN_DIR"
_REFUSED = re.compile(r"(^|\W)false\W*$")
_WEAVE = "/dev/tcp/127.0.0.1/6784"
_SYNCED = [*["notrunc 900"] * 20, *["notrunc,fdatasync 3000"] * 100, "end"]
_OFFERED = ("kubeadm", "kubectl", "kubelet")
# What kubeadm needs, of any version.
INSTALLED = {each: ("1.0", "hold") for each in ("containerd.io", "kubeadm")}
BOOT, _LATER = 1_780_000_000, "Thu 2026-11-05 10:00:00.000000 UTC"


@dataclass
class Machine:
    """What is on one machine."""

    files: dict[str, str] = field(default_factory=dict)
    packages: dict[str, tuple[str, str]] = field(default_factory=dict)
    units: dict[str, tuple[str, str, str]] = field(default_factory=dict)
    modules: list[str] = field(default_factory=list)
    secret: list[str] = field(default_factory=list)
    mode: dict[str, str] = field(default_factory=dict)
    table: list[str] = field(default_factory=list)
    table_wanted: list[str] = field(default_factory=list)

    def answer(self) -> list[str]:
        """As barekube.facts.machine.Machine's command prints it."""
        lines = ["#release", *(f'{key}="{value}"' for key, value in RELEASE.items()), "#stat"]
        for path, text in self.files.items():
            mode = self.mode.get(path, "644")
            lines.append(f"{mode} root:root {len(text.encode())} {BOOT}.000000000 {path}")
        lines += [f"600 root:root 1000 {BOOT}.000000000 {path}" for path in self.secret]
        lines.append("#lines")
        for path, text in self.files.items():
            lines += [f"{path}\0{line}" for line in text.splitlines()]
        lines.append("#packages")
        lines += [
            f"{name} {version} {want} installed" for name, (version, want) in self.packages.items()
        ]
        lines.append("#units")
        for name, (load, active, enabled) in self.units.items():
            since = _LATER if active == "active" else ""
            lines += [
                f"Id={name}",
                f"LoadState={load}",
                f"ActiveState={active}",
                f"UnitFileState={enabled}",
                f"ActiveEnterTimestamp={since}",
                "",
            ]
        lines += ["#modules", *(f"/{module}.ko" for module in self.modules)]
        return [*lines, "#table", *self.table, "#wanted", *self.table_wanted, "#end"]


def checkup(name: str, address: str, ca: str, packages_there: Mapping[str, str]) -> list[str]:
    """As barekube.facts.preflight.CheckupFact's command prints it, of a machine that is well."""
    values = {
        "uid": "0",
        "machine": "x86_64",
        "kernel": "6.1.0-40-amd64",
        "userland": "amd64",
        "distribution": "debian",
        "release": "12",
        "codename": "bookworm",
        "memory": "4000000",
        "cpus": "2",
        "cgroup": "cgroup2fs",
        "controllers": "cpuset cpu io memory hugetlb pids",
        "machine_id": hashlib.md5(name.encode()).hexdigest(),
        "addresses": address,
        "ca": ca,
        "server": "api.barekube:6443" if ca else "",
        "room": "/var:30000000:/",
        "routes": "eth0:000200C0:00FFFFFF",
        **{f"package.{package}": f"hold {version}" for package, version in packages_there.items()},
        "ours": "/etc/apt/sources.list.d/barekube-containerd.sources" if packages_there else "",
        "node_ip": address if ca else "",
        "pods": "10.244.0.0/16" if ca and name.startswith("cp-") else "",
        "clock": str(time.time()),
    }
    return [*(f"{key}={value}" for key, value in values.items()), "end"]


def cluster() -> Cluster:
    """What the converged machines are a cluster of."""
    return Cluster(
        name="barekube",
        version=DEFAULTS["kubernetes_version"],
        api_name="api.barekube",
        api_port=6443,
        service_network=DEFAULTS["service_network"],
        pod_network="10.244.0.0/16",
        nodes=tuple(Node(f"@fake/{name}", address, master) for name, address, master in ALL),
        audit_rules=DEFAULTS["audit_rules"],
    )


@functools.cache
def _settings() -> list[str]:
    """As SettingsFact's command prints it where nothing differs."""
    pods = {f"kube-{name}.yaml": f"{name}\n" for name in ("apiserver", "scheduler")}
    parts = {f"wanted/{file}": text for file, text in pods.items()}
    parts |= {f"/etc/kubernetes/manifests/{file}": text for file, text in pods.items()}
    parts[kubeadm_config.AUDIT_POLICY] = kubeadm_config.audit_policy(cluster()).content
    parts["/etc/kubernetes/pki/apiserver.crt"] = _certificate()
    lines = [line for path, text in parts.items() for line in (f"== {path}", *text.splitlines())]
    return [
        *lines,
        "== written",
        f"{BOOT} {kubeadm_config.AUDIT_POLICY}",
        "== keys",
        "key1",
        "== end",
    ]


def _certificate() -> str:
    """One for the names that the API server is to have, which nobody trusts."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kube-apiserver")])
    now = datetime.now(UTC)
    names = [x509.DNSName("api.barekube"), x509.DNSName("localhost")]
    ips = [x509.IPAddress(IPv4Address(each)) for each in ("192.0.2.11", "127.0.0.1")]
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(1))
    builder = builder.add_extension(x509.SubjectAlternativeName([*names, *ips]), critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()


def bare(
    name: str,
    address: str,
    said: Mapping[str, str] | None = None,
    answers: Mapping[str, list[str]] | None = None,
) -> tuple[str, dict[str, object]]:
    """A host as its distribution's installer leaves it; `said` and `answers` are what preflight's
    facts find different on it: values by key, and whole answers by a word of the command."""
    machine = Machine(
        files={
            "/etc/hosts": "127.0.0.1 localhost\n",
            "/etc/machine-id": f"{MACHINE_ID}\n",
            "/proc/swaps": "Filename Type Size Used Priority\n",
        },
        units={
            "containerd.service": ("not-found", "inactive", ""),
            "kubelet.service": ("not-found", "inactive", ""),
            "swap.target": ("loaded", "active", "static"),
        },
    )
    known = [
        line
        for line in checkup(name, address, "", {})
        if line.partition("=")[0] not in (said or {})
    ]
    responses: dict[Any, Any] = {
        _FACT: machine.answer(),
        _CHECKUP: [*(f"{key}={value}" for key, value in (said or {}).items()), *known],
        REACH: ["end"],
        SYNC: _SYNCED,
        _REFUSED: {"success": False},
    }
    responses |= answers or {}
    return f"@fake/{name}", {"address": address, "fake_responses": responses}


def address(name: str) -> str:
    """The address of one of ALL."""
    return next(where for each, where, _ in ALL if each == name)


@functools.cache
def _kubelet() -> str:
    return kubeadm_config.dump(kubeadm_config.kubelet_configuration(cluster()))


def joined(name: str) -> Machine:
    """What is on a machine to which all stages were applied."""
    master = dict((each, is_master) for each, _, is_master in ALL)[name]
    nodes = [(f"@fake/{each}", where, is_master) for each, where, is_master in ALL]
    sysctls = DEFAULTS["sysctls"]
    machine = Machine(
        files={
            "/etc/hosts": hosts_file.with_nodes("127.0.0.1 localhost\n", nodes, "api.barekube"),
            "/etc/machine-id": f"{MACHINE_ID}\n",
            "/proc/swaps": "Filename Type Size Used Priority\n",
            kernel.MODULES_FILE: kernel.modules_text(DEFAULTS["modules"]),
            kernel.SYSCTL_FILE: kernel.sysctl_text(sysctls),
            traces.CA: CA,
            traces.KUBELET_FLAGS: f'KUBELET_KUBEADM_ARGS="--node-ip={address(name)}"\n',
        },
        units={
            "containerd.service": ("loaded", "active", "enabled"),
            "kubelet.service": ("loaded", "active", "enabled"),
            "swap.target": ("masked", "inactive", "masked"),
        },
        modules=list(DEFAULTS["modules"]),
        secret=[traces.SERVING],
    )
    machine.files["/var/lib/kubelet/config.yaml"] = _kubelet()
    machine.files |= {kernel.proc_path(key): f"{value}\n" for key, value in sysctls.items()}
    machine.files |= {
        file.path: file.content for file in containerd.files(None, packages.BUNDLE_CA)
    }
    for source in ("kubernetes", "containerd"):
        _trust(machine, source)
    exact = versions.kubernetes_debs(DEFAULTS["kubernetes_version"])
    exact |= versions.written_out({"containerd.io": versions.CONTAINERD_DEB}, RELEASE)
    machine.packages = {each: ("1.0", "install") for each in DEFAULTS["host_packages"]}
    machine.packages |= {each: (str(version), "hold") for each, version in exact.items()}
    kept = traces.MASTER_FILES if master else traces.NODE_FILES
    machine.secret += [path for path in kept if path not in machine.files]
    if master:
        machine.secret += [traces.ETCD, kubeadm_config.ENCRYPTION]
    return machine


def converged(name: str, address: str) -> tuple[str, dict[str, object]]:
    """A host to which all stages were applied."""
    machine = joined(name)
    ca = hashlib.sha256(CA.encode()).hexdigest()
    there = {each: machine.packages[each][0] for each in ("containerd.io", "kubelet")}
    answers: dict[Any, Any] = {
        _FACT: machine.answer(),
        _CHECKUP: checkup(name, address, ca, there),
        _WEAVE: weave_report(name),
        _SETTINGS: _settings(),
        **_upgradable(),
        _REFUSED: {"success": False},
    }
    return f"@fake/{name}", {"address": address, "fake_responses": answers}


RUNTIME = str(versions.written_out({"r": versions.CONTAINERD_DEB}, RELEASE)["r"])


def with_runtime(host: tuple[str, dict[str, Any]], version: str) -> tuple[str, dict[str, Any]]:
    """A converged host that has another containerd, and whose source has the wanted one."""
    answers = {
        asked: [str(line).replace(RUNTIME, version) for line in said]
        if isinstance(said, list)
        else said
        for asked, said in host[1]["fake_responses"].items()
    }
    answers["apt-cache"].insert(0, f"containerd.io={RUNTIME}")
    return host[0], {**host[1], "fake_responses": answers}


def _upgradable() -> dict[Any, Any]:
    """As the facts of an upgrade and of maintenance answer where all is well."""
    names = ("apiserver", "controller-manager", "scheduler")
    images = [f"image registry.k8s.io/kube-{each}:v{versions.KUBERNETES}" for each in names]
    return {
        "-path /etc/kubernetes/tmp": [*images, "end"],
        "sed -n '/BEGIN CERT": ["disk /var 20000000 40000000 /", f"clock {time.time()}", "end"],
        "apt-cache": [
            *(f"{each}={v}" for v in ("1.37.2-1.1", "1.37.3-1.1") for each in _OFFERED),
            "end",
        ],
        "etcdctl member list": [
            "1, started, cp-1, https://cp-1:2380, https://cp-1:2379, false",
            "health",
            '[{"endpoint": "https://cp-1", "health": true}]',
            "end",
        ],
        "vmlinuz": ["running 6.1.0-40-amd64", f"booted {BOOT}", "upgrade openssl", "end"],
    }


def weave_report(name: str, way: str = "fastdp", encrypted: bool = True) -> list[str]:
    """As the Weave of a host answers, with what our code looks at."""
    connections = [
        {
            "Address": f"{address}:6783",
            "State": "established",
            "Info": "",
            "Attrs": {"name": way, "encrypted": encrypted},
        }
        for each, address, _ in ALL
        if each != name
    ]
    report = json.dumps({"Router": {"Connections": connections}})
    return ["HTTP/1.0 200 OK", "Content-Type: application/json", "", report]


def _trust(machine: Machine, source: str) -> None:
    key = f"/etc/apt/keyrings/barekube-{source}.asc"
    uri, suite, components, key_url, fingerprint = package_sources()[source]
    values = {"minor": versions.kubernetes_minor(), "distribution": "debian"}
    written = Source(
        source,
        uri.format(**values),
        suite.format(codename="bookworm"),
        components,
        key_url,
        fingerprint,
    )
    machine.files[packages.source_path(source)] = packages.render(written, key)
    machine.files[key] = _key(source)[0]


def package_sources() -> dict[str, tuple[str, str, str, str, str]]:
    """Those of group_data, with keys that these tests know."""
    rows = DEFAULTS["package_sources"]
    return {name: (*row[:4], _key(name)[1]) for name, row in rows.items()}


def _key(name: str) -> tuple[str, str]:
    """The text and fingerprint of a public key packet that holds no real key."""
    body = b"\x04" + name.encode()
    packet = bytes([0x80 | 6 << 2, len(body)]) + body
    framed = b"\x99" + len(body).to_bytes(2, "big") + body
    text = (
        "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n"
        f"{base64.b64encode(packet).decode()}\n-----END PGP PUBLIC KEY BLOCK-----\n"
    )
    return text, hashlib.sha1(framed).hexdigest().upper()
