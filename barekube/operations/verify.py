"""The proof after a deploy: what is looked at, what is made and tried, and how it is told."""

import time
from collections.abc import Generator
from datetime import UTC, datetime
from pathlib import Path

from pyinfra import host, state
from pyinfra.api import FunctionCommand, Host, State, StringCommand, operation
from pyinfra.api.command import PyinfraCommand

from barekube import api as cluster_api
from barekube import manifests, nodes, verify, weave
from barekube.api import Api, found
from barekube.cluster import Cluster
from barekube.facts.verify import Answers, LookFact
from barekube.facts.weave import WeaveReport
from barekube.operations import objects
from barekube.operations.order import acts_for_the_cluster, answering, refuse, wait
from barekube.verify import Check, Pods

_MADE_LIMIT, _GONE_LIMIT = 300, 120
# A new pod's policies and names are known everywhere some seconds after it runs.
_SETTLING = 40
_checks: list[Check] = []
_offsets: dict[str, float] = {}


def tell(checks: list[Check]) -> None:
    _checks.extend(checks)
    for check in checks:
        host.log(check.line)


@operation()
def looked(cluster: Cluster) -> Generator[PyinfraCommand]:
    """What can be checked without making anything. Two round trips."""
    if state.is_executing:
        yield from answering(_looked(cluster))
    host.noop("looked")


def _looked(cluster: Cluster) -> Generator[PyinfraCommand]:
    api = cluster_api.connect(cluster)
    node = nodes.lookup(api, host.name)
    ready = node is not None and nodes.is_ready(node)
    why = "Ready" if ready else nodes.why_not_ready(node) if node else "it is not in the cluster"
    result = [Check("node", host.name, ready, why)]
    began = time.monotonic()
    look = host.get_fact(LookFact)
    took = time.monotonic() - began
    if look is None:
        yield from refuse("it cannot be looked at; mend the error above, then run again")
        return
    _offsets[host.name] = look.offset
    result.append(verify.certificates(host.name, look.ends, datetime.now(UTC)))
    result.append(verify.room(host.name, look.free, look.size))
    result.append(_datapath(cluster, api))
    tell([Check(c.title, c.host, c.good, c.words, took, c.group) for c in result])


def _datapath(cluster: Cluster, api: Api) -> Check:
    title, group = "fast datapath", verify.WEAVE_GROUP
    if not cluster.weave:
        return Check(title, host.name, None, "the pod network is not Weave's", group=group)
    faults = weave.broken(host.get_fact(WeaveReport), host.name, nodes.others(api, host.name))
    words = "; ".join(each.removeprefix("warning: ") for each in faults)
    return Check(title, host.name, not faults, words or "to every node, encrypted", group=group)


@operation()
def made(cluster: Cluster, directory: Path) -> Generator[PyinfraCommand]:
    """The pods that try things run, in a namespace of their own; what a crash left is removed."""
    if acts_for_the_cluster():
        host.log(f"namespace {verify.SPACE}: made for the time of this run")
        yield FunctionCommand(_make, (cluster, directory), {})
    else:
        host.noop("another host of this run does it")


def _make(state: State, host: Host, cluster: Cluster, directory: Path) -> bool:
    api = cluster_api.connect(cluster)
    if not _clear(api):
        host.log(
            f"namespace {verify.SPACE} of an earlier run does not go away; look at `kubectl get"
            f" namespace {verify.SPACE} -o yaml`, then run this again"
        )
        return False
    documents = [document for _, document in manifests.read(directory)]
    if not objects.apply(state, host, api, documents):
        return False
    kinds = [each["metadata"]["name"] for each in documents if each["kind"] == "DaemonSet"]
    # A node that is not Ready has its own check; its pods are not waited for.
    away = sum(not nodes.is_ready(node) for node in api.core.list_node().items)

    def lacking() -> str | None:
        said = [objects.unfinished(api, kind, verify.SPACE, away) for kind in kinds]
        return next((each for each in said if each), None)

    why = wait(f"namespace {verify.SPACE}", _MADE_LIMIT, lacking)
    if why:
        host.log(f"not all pods of {verify.SPACE} run in {_MADE_LIMIT} s: {why}; their nodes fail")
    return True


def _clear(api: Api) -> bool:
    found(api.core.delete_namespace, verify.SPACE)

    def lacking() -> str | None:
        return "it is there" if found(api.core.read_namespace, verify.SPACE) else None

    return wait(f"namespace {verify.SPACE} to go", _GONE_LIMIT, lacking) is None


@operation()
def tried(cluster: Cluster) -> Generator[PyinfraCommand]:
    """Every way that pods and hosts reach each other by was tried from this host."""
    if state.is_executing:
        yield from answering(_tried(cluster))
    host.noop("tried")


def _tried(cluster: Cluster) -> Generator[PyinfraCommand]:
    api = cluster_api.connect(cluster)
    there = _pods(api)
    own = there.pop(host.name, None)
    if own is None or len(own.pods) < 3:
        tell([Check("pods", host.name, False, f"those of {verify.SPACE} do not run here")])
        return
    services = {name: api.core.read_namespaced_service(name, verify.SPACE) for name in _SERVICES}
    asked = verify.tries(
        own,
        [each for each in there.values() if "probe" in each.pods],
        services["local"].spec.cluster_ip,
        services["node-port"].spec.ports[0].node_port,
    )
    if not cluster.weave:
        skipped = [each for each in asked if each.group]
        asked = [each for each in asked if not each.group]
        words = "the pod network is not Weave's"
        tell([Check(e.title, host.name, None, words, group=e.group) for e in skipped])
    dns = api.core.list_namespaced_pod("kube-system", label_selector="k8s-app=kube-dns").items
    resolvers = [pod.spec.node_name for pod in dns]
    end = time.monotonic() + _SETTLING
    while True:
        answers = host.get_fact(Answers, tries=asked)
        if answers is None:
            yield from refuse("it cannot try anything; mend the error above, then run again")
            return
        checks = verify.judge(host.name, asked, answers, resolvers)
        if all(check.good for check in checks) or time.monotonic() > end:
            break
        time.sleep(2)
    tell(checks)


_SERVICES = ("local", "node-port")


def _pods(api: Api) -> dict[str, Pods]:
    addresses = {node.metadata.name: nodes.address(node) for node in api.core.list_node().items}
    kinds: dict[str, dict[str, str]] = {}
    for pod in api.core.list_namespaced_pod(verify.SPACE).items:
        ready = any(c.type == "Ready" and c.status == "True" for c in pod.status.conditions or [])
        if ready and pod.status.pod_ip:
            kinds.setdefault(pod.spec.node_name, {})[pod.metadata.labels["app"]] = pod.status.pod_ip
    return {name: Pods(name, addresses[name], pods) for name, pods in kinds.items()}


@operation()
def removed(cluster: Cluster) -> Generator[PyinfraCommand]:
    """The namespace of the pods that tried things is gone."""
    if acts_for_the_cluster():
        yield FunctionCommand(_remove, (cluster,), {})
    else:
        host.noop("another host of this run does it")


def _remove(state: State, host: Host, cluster: Cluster) -> bool:
    return _clear(cluster_api.connect(cluster))


@operation()
def told() -> Generator[StringCommand]:
    """The table of all checks; a host on which one failed fails."""
    if not state.is_executing:
        host.noop("told at the end of a run")
        return
    clocks = verify.clocks(_offsets)
    for check in clocks:
        if check.host == host.name:
            host.log(check.line)
    everything = [*_checks, *clocks]
    if acts_for_the_cluster():
        for line in verify.table(everything):
            host.log(line)
    failed = [each.title for each in everything if each.host == host.name and each.good is False]
    if failed:
        yield from refuse(f"{', '.join(failed)}: see above for what was found")
    else:
        host.noop("nothing failed here")
