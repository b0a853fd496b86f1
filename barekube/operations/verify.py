"""The proof after a deploy: what is looked at, what is made and tried, and how it is told."""

import time
from collections.abc import Generator, Mapping
from datetime import UTC, datetime
from pathlib import Path

from kubernetes import client as k8s
from pyinfra import host, state
from pyinfra.api import Host, State, StringCommand, operation
from pyinfra.api.command import PyinfraCommand

from barekube import api as cluster_api
from barekube import doors, manifests, nodes, verify, weave
from barekube.api import Api, found
from barekube.cluster import Cluster
from barekube.facts.verify import Answers, LookFact
from barekube.facts.weave import WeaveReport
from barekube.operations import objects
from barekube.operations.order import acts_for_the_cluster, answering, calling, refuse, wait
from barekube.verify import Check, Pods

# A 32-bit board, emulated, takes up to 5 minutes for the images.
_MADE_LIMIT, _GONE_LIMIT = 600, 120
# A new pod's policies and names are known everywhere some seconds after it runs.
_SETTLING = 40
_checks: list[Check] = []
_offsets: dict[str, float] = {}


def tell(checks: list[Check]) -> None:
    _checks.extend(checks)
    for check in checks:
        host.log(check.line)


def lost(name: str) -> set[str]:
    """The nodes whose pods those of node `name` do not reach, by the checks so far."""
    words = "pods on "
    return {
        each.title.removeprefix(words)
        for each in _checks
        if each.host == name and each.good is False and each.title.startswith(words)
    }


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
    result.append(verify.certificates(host.name, look.ends, look.unread, datetime.now(UTC)))
    result.append(verify.room(host.name, look.disks))
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
def made(
    cluster: Cluster, directory: Path, behind: Mapping[str, Path]
) -> Generator[PyinfraCommand]:
    """What tries things runs, of `directory`, and of `behind` for each door that is there; what a
    crash left is removed."""
    if acts_for_the_cluster():
        host.log(f"namespaces {' and '.join(verify.SPACES)}: made for the time of this run")
        yield calling(_make, cluster, directory, behind)
    else:
        host.noop("another host of this run does it")


def _make(
    state: State, host: Host, cluster: Cluster, directory: Path, behind: Mapping[str, Path]
) -> bool:
    api = cluster_api.connect(cluster)
    if not _cleared(api):
        return False
    classes = k8s.NetworkingV1Api(api.client).list_ingress_class().items
    there = [each.metadata.name for each in classes]
    if not smoke_is_online(api):
        there = [each for each in there if each != doors.PUBLIC]
    directories = [directory, *(path for door, path in behind.items() if door in there)]
    documents = [each for path in directories for _, each in manifests.read(path)]
    if not objects.apply(state, host, api, documents):
        return False
    kinds = [each["metadata"]["name"] for each in documents if each["kind"] == "DaemonSet"]
    apps = [each["metadata"] for each in documents if each["kind"] == "Deployment"]

    def lacking() -> str | None:
        said = [objects.unfinished(api, kind, verify.SPACE) for kind in kinds]
        for app in apps:
            live = api.apps.read_namespaced_deployment(app["name"], app["namespace"])
            if not live.status.available_replicas:
                said.append(f"{app['namespace']}/{app['name']} is not available")
        return next((each for each in said if each), None)

    why = wait("what tries things", _MADE_LIMIT, lacking)
    if why:
        host.log(f"not all pods of this run in {_MADE_LIMIT} s: {why}; what needs them fails")
    return True


def smoke_is_online(api: Api) -> bool:
    """Whether the namespace of the application behind the public door is one of those that are
    online: manifests of your own may name others."""
    bindings = k8s.RbacAuthorizationV1Api(api.client).list_namespaced_role_binding(doors.ONLINE)
    return any(each.role_ref.name == doors.space(doors.PUBLIC) for each in bindings.items)


def _cleared(api: Api) -> bool:
    """All that verify makes is gone, that of an earlier run too; False, with a sentence: not."""
    mine = {"label_selector": f"{manifests.STAGE_LABEL}=verify"}
    behind = k8s.NetworkingV1Api(api.client)

    def lacking() -> str | None:
        there = [each for each in verify.SPACES if found(api.core.read_namespace, each)]
        for space in there:
            found(api.core.delete_namespace, space)
        for kind in (
            api.apps.delete_collection_namespaced_deployment,
            api.core.delete_collection_namespaced_service,
            behind.delete_collection_namespaced_ingress,
        ):
            found(kind, doors.ONLINE, **mine)
        return f"namespace {there[0]}" if there else None

    lack = wait("what verify made to go", _GONE_LIMIT, lacking)
    if lack:
        host.log(
            f"what verify makes does not go away in {_GONE_LIMIT} s ({lack}); look at it with"
            " `kubectl get -o yaml`, then run this again"
        )
    return lack is None


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
    others = [each for each in there.values() if "probe" in each.pods]
    for name in sorted(set(there) - {each.node for each in others}):
        tell([Check(f"pods on {name}", host.name, None, "none that is to answer runs there")])
    services = {name: api.core.read_namespaced_service(name, verify.SPACE) for name in _SERVICES}
    asked = verify.tries(
        own,
        others,
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
    kinds: dict[str, dict[str, str]] = {name: {} for name in addresses}
    for pod in api.core.list_namespaced_pod(verify.SPACE).items:
        if nodes.is_ready(pod) and pod.status.pod_ip:
            kinds.setdefault(pod.spec.node_name, {})[pod.metadata.labels["app"]] = pod.status.pod_ip
    return {name: Pods(name, where, kinds[name]) for name, where in addresses.items()}


@operation()
def removed(cluster: Cluster) -> Generator[PyinfraCommand]:
    """The namespace of the pods that tried things is gone."""
    if acts_for_the_cluster():
        yield calling(_remove, cluster)
    else:
        host.noop("another host of this run does it")


def _remove(state: State, host: Host, cluster: Cluster) -> bool:
    return _cleared(cluster_api.connect(cluster))


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
