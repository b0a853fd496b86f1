"""What each stage's preview lists on bare machines is what the stage then does; run by name.

    .venv/bin/python -m pytest tests/drills/test_previews.py -s

The recorder judges, both ways. What nobody lists one by one is explained by what is listed: files
of a package that is installed, what kubeadm and kubelet keep, what the API server makes by itself.
"""

import re
from collections.abc import Iterable

import pytest

from barekube import summary
from lab.paths import KUBECONFIG
from tests.lab.conftest import Deploy, Run
from tests.lab.recorder import host_state, objects, run_lab, ssh

# All that change something on a site without storage.
STAGES = [each for each in summary.STAGES if each not in ("preflight", "storage")]
NAMES = ["cp-1", "worker-1", "worker-2"]
Things = set[tuple[str, str]]

# Kinds that the recorder looks at.
_KINDS = re.compile(
    r"(Node|DaemonSet|Deployment|ConfigMap|Secret|ClusterRole|ClusterRoleBinding|Role|RoleBinding"
    r"|ServiceAccount|Namespace|Service) "
)
# What Debian's packages make when they are set up, and no package owns.
_SET_UP = re.compile(
    r"(file|link) /etc/(alternatives/|ld\.so\.cache|systemd/system/\S+\.(wants|requires)/|rc.\.d/"
    r"|systemd/system/\w+\.service$|(passwd|group|g?shadow|sub[ug]id)-?$|ssl/certs/"
    r"|ca-certificates\.conf|apparmor\.d/|init\.d/|default/|logrotate\.d/|chrony/|networks$"
    r"|localtime$|timezone$)"
)
# What kubeadm and kubelet keep; who joins or begins a cluster says so in one line.
_OF_KUBEADM = re.compile(
    r"(file|link) /(etc/kubernetes/(pki/|manifests/|\w[\w-]*\.conf$)|var/lib/kubelet/)"
    r"|unit kubelet$"
)
# Of kube-proxy's and the pod network's pods, on the hosts themselves.
_OF_PODS = re.compile(r"table table (ip6?|inet) |file /etc/cni/|sysctl net/|file /opt/cni/")
# What the API server and its controllers make in any namespace, and in their own.
_BY_ITSELF = re.compile(
    r"(ServiceAccount \S+/default|ConfigMap \S+/kube-root-ca\.crt|Node /\S+)$"
    r"|Namespace /(default|kube-\S+)$"
    r"|ClusterRole(Binding)? /(system:|(cluster-admin|admin|edit|view)$)"
)


def _listed(preview: Run) -> Things:
    """(host or "cluster", thing) of each line that says a change, as `_done` would call it."""
    result: Things = set()
    for host, words in re.findall(r"^ *\[([\w-]+)\] +(.+)$", preview.text, re.MULTILINE):
        if path := re.match(r"(/\S+): (?!removed)", words):
            result.add((host, f"file {path[1]}"))
        elif unit := re.match(r"(\w+)\.service: (?:start|restart)\b", words):
            result.add((host, f"unit {unit[1]}"))
        elif unit := re.match(r"(\S+\.service): enable", words):
            wants = "/etc/systemd/system/sysinit.target.wants"
            result.add((host, f"link {wants}/{unit[1]}"))
        elif words.startswith("swap.target: masked"):
            result.add((host, "link /etc/systemd/system/swap.target"))
        elif table := re.match(r"(table inet \w+): loaded", words):
            result.add((host, f"table {table[1]}"))
        elif package := re.match(r"([a-z0-9.+-]+): install ", words):
            result.add((host, f"package {package[1]}"))
        elif parameter := re.match(r"([a-z][\w.]+): \S+ -> ", words):
            result.add((host, f"sysctl {parameter[1].replace('.', '/')}"))
        elif re.match(r"kubeadm (init|join):", words):
            result.add((host, "file /var/lib/kubelet/config.yaml"))
        elif words.startswith("label "):
            result.add(("cluster", f"Node /{host}"))
        elif (item := re.match(r"([A-Z]\w+ \S+): (?!left over)", words)) and _KINDS.match(item[1]):
            kind, name = item[1].split()
            result.add(("cluster", f"{kind} {name if '/' in name else '/' + name}"))
    return result


def _things(lines: Iterable[str]) -> set[str]:
    result = set()
    for line in lines:
        kind, *words = line.split()
        if kind == "file":
            result.add(f"file {words[3]}")
        elif kind == "sysctl":
            result.add(f"sysctl {words[0].partition(':')[0]}")
        elif kind == "table":
            result.add(f"table {' '.join(words)}")
        elif kind in ("link", "package", "unit"):
            result.add(f"{kind} {words[0]}")
    return result


def _unowned(host: str, things: set[str]) -> set[str]:
    """Without the files and links that belong to a package of the host."""
    paths = sorted(each.split()[1] for each in things if each.startswith(("file /", "link /")))
    owned = ssh(host, f"dpkg-query -S {' '.join(paths)} 2>/dev/null || true") if paths else ""
    of_packages = {line.partition(": ")[2] for line in owned.splitlines()}
    return {each for each in things if each.split()[1] not in of_packages}


def _explained(host: str, thing: str, listed: Things) -> bool:
    """Whether something on a host that nobody listed follows from what is listed."""
    packages = any(of == host and each.startswith("package ") for of, each in listed)
    if packages and (thing.startswith(("package ", "unit ")) or _SET_UP.match(thing)):
        return True
    kubeadm = (host, "file /var/lib/kubelet/config.yaml") in listed
    if kubeadm and (_OF_KUBEADM.match(thing) or _OF_PODS.match(thing)):
        return True
    # A module brings its parameters.
    modules = (host, "file /etc/modules-load.d/barekube.conf") in listed
    if modules and thing.startswith("sysctl net/bridge/"):
        return True
    return any(of == "cluster" for of, _ in listed) and bool(_OF_PODS.match(thing))


@pytest.fixture(scope="module")
def bare() -> None:
    for words in (["down"], ["up"]):
        run_lab(*words, seconds=4000)


def _objects() -> dict[str, str]:
    """None before there is a cluster."""
    if "admin" not in ssh("cp-1", "ls /etc/kubernetes 2>/dev/null || true"):
        return {}
    run_lab("kubeconfig", seconds=60)
    return objects(["/root/.cache/barekube/bin/kubectl", "--kubeconfig", str(KUBECONFIG)])


@pytest.mark.parametrize("stage", STAGES)
def test_what_a_preview_on_bare_machines_lists_is_what_the_stage_does(
    bare: None, deploy: Deploy, stage: str
) -> None:
    before = {name: host_state(name) for name in NAMES}
    objects_before = _objects()
    preview = deploy(f"deploys/{stage}.py", "--dry", "--diff")
    assert preview.status == 0, preview.text[-4000:]
    assert {name: host_state(name) for name in NAMES} == before
    assert _objects() == objects_before
    listed = _listed(preview)
    assert listed
    assert "warning: " not in preview.text

    run = deploy(f"deploys/{stage}.py", "-y")
    assert run.status == 0, run.text[-6000:]
    done: Things = set()
    for name in NAMES:
        things = _things(before[name] ^ host_state(name))
        kept = {each for each in things if (name, each) in listed}
        done |= {(name, each) for each in kept | _unowned(name, things - kept)}
    now = _objects()
    changed = {
        each
        for each in objects_before.keys() | now.keys()
        if objects_before.get(each) != now.get(each)
    }
    done |= {("cluster", each) for each in changed}

    recorded = {(of, each) for of, each in listed if not _unrecorded(each)}
    assert recorded - done == set(), "listed, and not done"
    more = {
        (of, each)
        for of, each in done - listed
        if (of == "cluster" and not _by_the_cluster(stage, each, now.get(each, "")))
        or (of != "cluster" and not _explained(of, each, listed))
    }
    assert more == set(), "done, and not listed"


def _unrecorded(thing: str) -> bool:
    """What the recorder does not look at."""
    return bool(re.match(r"sysctl (?!net/ipv4/(ip_f|conf/all/rp)|net/bridge|vm/ov|ke|fs/i)", thing))


def _by_the_cluster(stage: str, thing: str, now: str) -> bool:
    """Whether an object that nobody listed is none of ours."""
    if '"app.kubernetes.io/managed-by": "barekube"' in now:
        return False
    # kubeadm's own come with the one line that says that it begins a cluster.
    if stage == "control_plane" and re.search(r" /?(kube|default/)", thing):
        return True
    # Weave keeps its peers in one.
    peers = "ConfigMap kube-system/weave-net"
    return bool(_BY_ITSELF.match(thing)) or (stage == "network" and thing == peers)
