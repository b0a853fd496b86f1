"""What an upgrade finds before its first change: which steps lack, and what speaks against it."""

from collections.abc import Collection, Generator, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import yaml
from gevent.lock import RLock
from kubernetes import client as k8s
from pyinfra import host, state
from pyinfra.api import operation
from pyinfra.api.command import PyinfraCommand

from barekube import api as cluster_api
from barekube import api_proxy, drain, nodes, parts, remote, settings, upgrade, verify, versions
from barekube.api import Api, Trouble
from barekube.cluster import Cluster
from barekube.dpkg import plan
from barekube.facts.machine import Found, Machine
from barekube.facts.preflight import Sources
from barekube.facts.upgrade import Offered, RemainsFact
from barekube.facts.verify import LookFact
from barekube.operations import packages, roll
from barekube.operations.order import (
    acts_for_the_cluster,
    answering,
    persistently,
    refuse,
    refuse_what_is_asked,
    wait,
    without_api,
)
from barekube.upgrade import Step

# What the first operation saw, while preparing and while executing, by host.
_lacking: dict[tuple[bool, str], list[Step]] = {}
_findings: dict[tuple[bool, str], list[str]] = {}
_states: dict[bool, upgrade.State] = {}
# Seen by a host's first operation, used by its second.
looked: dict[tuple[bool, str], tuple[Found, upgrade.Remains]] = {}
_lock = RLock()
# How long a workload may take to be well again after a power cut.
_WELL_LIMIT = 180
# How long a node may take that was well a moment ago, in seconds.
_SETTLED_LIMIT = 60


def _exact() -> dict[str, str | None]:
    return versions.kubernetes_debs(host.data.kubernetes_version) | {
        "containerd.io": versions.CONTAINERD_DEB
    }


def found_packages() -> Found | None:
    """The packages of Kubernetes and the runtime that this host has."""
    found: Found | None = host.get_fact(Machine, packages=list(_exact()))
    return found


@operation()
def examined(cluster: Cluster) -> Generator[PyinfraCommand]:
    """What this host lacks, and what of it speaks against an upgrade, is known."""
    yield from answering(_examined(cluster))


def _examined(cluster: Cluster) -> Generator[PyinfraCommand]:
    key = (state.is_executing, host.name)
    try:
        api = cluster_api.connect(cluster)
    except Trouble as trouble:
        yield from without_api(str(trouble))
        return
    if host.name not in _state(api).kubelets:
        yield from refuse(
            f"{host.name} is not in the cluster; leave it out by --exclude {host.name}, and let it"
            " join by deploys/site.py; if that sends you here, run deploys/reset.py on it before"
        )
        return
    steps = _steps(cluster, _state(api))
    if steps is None:
        yield from refuse("it cannot be examined; mend the error above, then run again")
        return
    _lacking[key] = steps
    arch = _state(api).architectures[host.name]
    out_of_reach = upgrade.refusals(_state(api), cluster.version)
    _findings[key] = _own_findings(cluster, arch) if steps and not out_of_reach else []
    host.noop(f"{len(steps)} steps lack to {cluster.version}")


def _state(api: Api) -> upgrade.State:
    """The cluster as it was at the run's beginning."""
    with _lock:
        if state.is_executing not in _states:
            _states[state.is_executing] = _settled(api)
        return _states[state.is_executing]


def _settled(api: Api) -> upgrade.State:
    """The cluster, once what a machine whose power is back has on it was seen to run: until its
    kubelet has spoken, the API says of it what was true before the cut."""
    active = {each.name for each in state.active_hosts}
    seen: list[upgrade.State] = []

    def troubled() -> str | None:
        seen[:] = [ask(api)]
        return next((why for name, why in seen[0].troubled.items() if name in active), None)

    if state.is_executing:
        wait("the nodes", _SETTLED_LIMIT, troubled)
    return seen[0] if seen else ask(api)


def ask(api: Api) -> upgrade.State:
    """The cluster as it is now."""
    config = api.core.read_namespaced_config_map("kubeadm-config", "kube-system").data
    proxy = api.apps.read_namespaced_daemon_set("kube-proxy", "kube-system")
    there = api.core.list_node().items
    pods = api.core.list_namespaced_pod("kube-system").items
    troubled = unready(there)
    for pod in pods:
        if why := upgrade.starting([pod]):
            troubled.setdefault(upgrade.place(pod), why)
    return upgrade.State(
        version=yaml.safe_load(config["ClusterConfiguration"])["kubernetesVersion"].lstrip("v"),
        kubelets={
            each.metadata.name: each.status.node_info.kubelet_version.lstrip("v") for each in there
        },
        servers={
            pod.spec.node_name: upgrade.tag(pod.spec.containers[0].image)
            for pod in pods
            if (pod.metadata.labels or {}).get("component") == "kube-apiserver"
        },
        proxy=upgrade.tag(proxy.spec.template.spec.containers[0].image),
        cordoned=frozenset(each.metadata.name for each in there if roll.has_mark(each)),
        troubled=troubled,
        architectures={each.metadata.name: each.status.node_info.architecture for each in there},
    )


def unready(there: Iterable[k8s.V1Node]) -> dict[str, str]:
    """Which of the API's nodes are not Ready, and why."""
    return {
        each.metadata.name: nodes.why_not_ready(each) or "it is not Ready"
        for each in there
        if not nodes.is_ready(each)
    }


def now(cluster: Cluster) -> upgrade.State:
    """The same in the middle of an upgrade: a newer kubelet starts the API server of its machine
    anew, at any moment of the steps that follow."""
    return persistently(lambda: ask(cluster_api.connect(cluster)))


def _steps(cluster: Cluster, seen: upgrade.State) -> list[Step] | None:
    known = looked.pop((state.is_executing, host.name), None)
    found, remains = known or (found_packages(), host.get_fact(RemainsFact))
    if found is None or remains is None:
        return None
    return upgrade.steps(
        host.name,
        cluster.node(host.name).control_plane,
        found.packages,
        versions.written_out(_exact(), found.release),
        remains,
        seen,
        cluster.version,
    )


def _own_findings(cluster: Cluster, arch: str) -> list[str]:
    look, found = host.get_fact(LookFact), found_packages()
    if look is None or found is None:
        return ["it cannot be examined; mend the error above, then run again"]
    now = datetime.now(UTC)
    result = [upgrade.room(path, *kib) for path, kib in look.disks.items()]
    result += [upgrade.ending(look.ends, now), *map(verify.unread, look.unread)]
    result += _packages("kubernetes", versions.kubernetes_debs(cluster.version), found, arch)
    result += _packages("containerd", {"containerd.io": versions.CONTAINERD_DEB}, found, arch)
    result += _images(cluster, arch)
    if cluster.node(host.name).control_plane:
        result += roll.etcd_troubles()
    return [each for each in result if each]


def _packages(
    name: str, wanted: Mapping[str, str | None], found: Found, arch: str
) -> Iterator[str]:
    """The sentence for what the host needs next and the source `name` of group_data has not."""
    install = plan(versions.written_out(wanted, found.release), found.packages).install
    if not install:
        return
    source = settings.source(name, found.release)
    text = packages.render(source, packages.key_path_of(source.name))
    offered = host.get_fact(Offered, source=text, packages=install)
    if offered is None or (missing := sorted(set(install) - offered)):
        named = " ".join(install if offered is None else missing)
        yield f"{source.uri} does not offer {named}; {_remedy(arch)}"


def _remedy(arch: str) -> str:
    if not host.data.bundle_url:
        return "mend group_data's source"
    return parts.remedy(arch, host.data.kubernetes_version)


def _images(cluster: Cluster, arch: str) -> list[str]:
    """The images that the host needs next and its bundle has not for it."""
    bundle = host.data.bundle_url
    if not bundle:
        return []
    node = cluster.node(host.name)
    needed = parts.images(
        cluster.version, api_proxy.images(cluster, node.name), control_plane=node.control_plane
    )
    indexes = parts.indexes(bundle, needed)
    ca = Path(host.data.bundle_ca).read_text()
    got = host.get_fact(Sources, urls=[], texts=[*indexes], ca=ca)
    if got is None:
        return ["its bundle cannot be asked for images; mend the error above, then run again"]
    return parts.lacking(indexes, arch, got.texts)


@operation()
def passed(cluster: Cluster) -> Generator[PyinfraCommand]:
    """Nothing speaks against the upgrade; if something does, all stop before the first change."""
    yield from answering(_passed(cluster))


def _passed(cluster: Cluster) -> Generator[PyinfraCommand]:
    phase = state.is_executing
    active = [each.name for each in settings.hosts() if each in state.active_hosts]
    lacking = [name for name in active if _lacking.get((phase, name))]
    if not lacking:
        host.noop(f"every host of this run has {cluster.version}")
        return
    if wrong := upgrade.refusals(_state(cluster_api.connect(cluster)), cluster.version):
        yield from refuse_what_is_asked(*wrong)
        return
    found = {name: _findings.get((phase, name), []) for name in active}
    if acts_for_the_cluster():
        found[host.name] = [*found[host.name], *_cluster_findings(cluster, active, lacking)]
    others = sorted(name for name, sentences in found.items() if sentences)
    if found[host.name]:
        yield from refuse(*found[host.name])
    elif others or _silent(active):
        named = ", ".join([*others, *_silent(active)])
        yield from refuse(f"nothing is changed here while {named} has problems")
    else:
        host.noop("nothing speaks against it")


def _silent(active: Collection[str]) -> list[str]:
    """The hosts that were to take part and do not."""
    return [
        each.name
        for each in settings.hosts()
        if state.is_host_in_limit(each) and each.name not in active
    ]


def _cluster_findings(cluster: Cluster, active: list[str], lacking: list[str]) -> list[str]:
    api = cluster_api.connect(cluster)
    seen = _state(api)
    old = {name: runs for name, runs in seen.servers.items() if runs != cluster.version}
    lost = _silent(active)
    silent = [
        f"{name} is not in this run; bring it up, or leave it out by --exclude {name}"
        for name in lost
        if name not in old
    ]
    silent += upgrade.servers_left_out(old, active, lost)
    drained = [name for name in lacking if Step.DRAIN in _lacking[state.is_executing, name]]
    return [
        *silent,
        *upgrade.not_well(seen, set(seen.kubelets) - set(active)),
        *([] if seen.proxy == cluster.version else _proxy_elsewhere(cluster, seen, active)),
        *(
            upgrade.deprecated(_metrics(cluster), cluster.version)
            if seen.version != cluster.version
            else []
        ),
        *_blocked(cluster, drained),
    ]


def _proxy_elsewhere(cluster: Cluster, seen: upgrade.State, active: Collection[str]) -> list[str]:
    """What lacks for nodes that this run leaves out and that take from a bundle: kube-proxy is one
    DaemonSet, so they change with the others, and no node is drained while one cannot."""
    proxy = versions.without_tag(versions.IMAGES["kube-proxy"])
    bundles: dict[tuple[str, str], dict[str, str]] = {}
    for other in settings.hosts():
        if other.name in seen.architectures and other.name not in active and other.data.bundle_url:
            of_it = bundles.setdefault((other.data.bundle_url, other.data.bundle_ca), {})
            of_it[other.name] = seen.architectures[other.name]
    result = []
    for (url, ca), of_it in bundles.items():
        indexes, catalogue = parts.indexes(url, [f"{proxy}:v{cluster.version}"]), f"{url}/v2/"
        trusted = Path(ca).read_text()
        got = host.get_fact(Sources, urls=[catalogue], texts=[*indexes], ca=trusted)
        if got is None or catalogue in got.silent:
            host.log(
                f"warning: {url} is not reached from here, so whether it has kube-proxy"
                f" {cluster.version} for {', '.join(of_it)} is not known"
            )
            continue
        for name, arch in of_it.items():
            result += [
                f"{name}, which this run leaves out, gets kube-proxy with the others: {sentence}"
                for sentence in parts.lacking(indexes, arch, got.texts)
            ]
    return result


def _blocked(cluster: Cluster, drained: Collection[str]) -> list[str]:
    """What would block a drain: budgets, and pods that nothing starts again elsewhere.

    Pods of which the power is back just now are given time to get well.
    """
    said: list[str] = []

    def recovering() -> str | None:
        api = cluster_api.connect(cluster)
        budgets = k8s.PolicyV1Api(api.client).list_pod_disruption_budget_for_all_namespaces().items
        pods = api.core.list_pod_for_all_namespaces().items
        said[:] = upgrade.blocked(budgets, pods, drained)
        if why := drain.alone([p for p in drain.leaving(pods) if p.spec.node_name in drained]):
            said.append(why)
        soon = upgrade.blocked(filter(upgrade.recovers, budgets), pods, drained)
        return soon[0] if soon and state.is_executing else None

    wait("the workload", _WELL_LIMIT, recovering)
    return said


def _metrics(cluster: Cluster) -> Iterable[str]:
    """The lines of /metrics of every control plane's API server: each counts its own requests."""
    for other in settings.control_plane_hosts():
        if remote.reach(other):
            answer = Api(other, cluster).client.call_api("/metrics", "GET", _preload_content=False)
            yield from answer.data.decode().splitlines()


def lacking(cluster: Cluster, only: tuple[Step, ...]) -> list[Step] | None:
    """What the host lacks by now, of `only`; asked again where there was something."""
    steps: list[Step] | None = _lacking.get((state.is_executing, host.name), [])
    if steps and state.is_executing:
        steps = _steps(cluster, now(cluster))
    return None if steps is None else [each for each in steps if each in only]
