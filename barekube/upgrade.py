"""Which steps bring a living cluster to another version of Kubernetes, and what speaks against it.

Decided from the cluster and the hosts as they are, so that an upgrade that was cut off is finished.
"""

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import Enum
from pathlib import PurePosixPath
from typing import Any

from packaging.version import Version

from barekube.dpkg import FoundPackage, plan
from barekube.nodes import is_ready
from barekube.traces import MASTER_FILES, SERVING
from barekube.versions import SERVERS

BACKUPS = "/var/lib/barekube"
_MOST_BEHIND = 3  # minors that a kubelet may be older than its API server
_LEAST_DAYS = 7
_LEAST_SHARE, _LEAST_KIB = 0.2, 5_000_000


class Step(Enum):
    """What one host lacks, in this order."""

    KUBEADM = "install kubeadm"
    APPLY = "kubeadm upgrade apply"
    NODE = "kubeadm upgrade node"
    DRAIN = "drain"
    PACKAGES = "install the other packages, restart kubelet, wait for Ready"
    UNCORDON = "uncordon"

    def words(self, version: str) -> str:
        """What is to do, for a person, on the way to `version`."""
        to = "" if self in (Step.DRAIN, Step.UNCORDON) else f" ({version})"
        return f"to do: {self.value}{to}"


@dataclass(frozen=True)
class State:
    """The cluster as its API has it, versions without the v. `version` is kubeadm's record of it,
    `servers` are the API servers by node, `proxy` is that of kube-proxy's DaemonSet; `cordoned`
    are the nodes that a roll of ours cordoned, `troubled` the nodes that are not well, with why;
    `architectures` is Kubernetes' name of each node's CPU."""

    version: str
    kubelets: Mapping[str, str]
    servers: Mapping[str, str]
    proxy: str
    cordoned: frozenset[str] = frozenset()
    troubled: Mapping[str, str] = field(default_factory=dict)
    architectures: Mapping[str, str] = field(default_factory=dict)

    @property
    def oldest_server(self) -> str:
        return min([self.version, *self.servers.values()], key=Version)


@dataclass(frozen=True)
class Remains:
    """Files of a host (path to size), and the images in its static pods' manifests."""

    files: Mapping[str, int]
    images: Sequence[str] = ()

    def behind(self, wanted: str) -> bool:
        """Whether a static pod of Kubernetes' own is not the wanted one, or not there."""
        tags = {_short(image): tag(image) for image in self.images}
        return any(tags.get(name) != wanted for name in SERVERS)


def _short(image: str) -> str:
    return image.rpartition("/")[2].partition(":")[0]


def tag(image: str) -> str:
    """'registry.k8s.io/kube-proxy:v1.37.2' -> '1.37.2'."""
    return image.rpartition(":")[2].partition("@")[0].removeprefix("v")


def steps(
    name: str,
    control_plane: bool,
    found: Mapping[str, FoundPackage],
    exact: Mapping[str, str | None],
    remains: Remains,
    cluster: State,
    wanted: str,
) -> list[Step]:
    """What node `name` lacks. `exact` are its packages as wanted, `found` those that it has.

    First the servers of all control planes, then the kubelets: none may be newer than any server.
    """
    result = []
    runs_old = cluster.kubelets.get(name) != wanted
    others = [version for node, version in cluster.servers.items() if node != name]
    if control_plane and (remains.behind(wanted) or {cluster.version, cluster.proxy} != {wanted}):
        # kubeadm's apply renews the cluster's own settings too, and can be done again.
        first = cluster.version != wanted or wanted not in others
        result.append(Step.APPLY if first else Step.NODE)
    elif runs_old:
        # On a control plane too whose servers are new: it may have been cut off after them.
        result.append(Step.NODE)
    kubeadm = plan({"kubeadm": exact["kubeadm"]}, found)
    if kubeadm.said:
        result.insert(0, Step.KUBEADM)
    rest = plan({key: value for key, value in exact.items() if key != "kubeadm"}, found)
    if runs_old or rest.said:
        result += [Step.DRAIN, Step.PACKAGES]
    if runs_old or rest.said or name in cluster.cordoned:
        result.append(Step.UNCORDON)
    return result


def refusals(cluster: State, wanted: str) -> list[str]:
    """Why the cluster cannot be brought to version `wanted` at all, a sentence each."""
    new = Version(wanted)
    newest = max(
        [cluster.version, *cluster.servers.values(), *cluster.kubelets.values()], key=Version
    )
    if Version(newest) > new:
        return [
            f"the cluster has {newest} and cannot go back to {wanted}; set kubernetes_version to"
            f" {newest} or a later one"
        ]
    old = Version(cluster.oldest_server)
    if (new.major, new.minor) > (old.major, old.minor + 1):
        return [
            f"from {old} to {wanted} skips {old.major}.{old.minor + 1}; set kubernetes_version to a"
            " version of that, and upgrade once more after it"
        ]
    return [
        f"the kubelet of {node} is {version}, more than {_MOST_BEHIND} minors older than {wanted};"
        " upgrade that node first, or remove it"
        for node, version in cluster.kubelets.items()
        if new.minor - Version(version).minor > _MOST_BEHIND
    ]


def servers_left_out(
    old: Mapping[str, str], active: Collection[str], silent: Collection[str]
) -> list[str]:
    """A sentence for each control plane of an `old` version that is not among the `active` hosts
    of an upgrade: it would end half-way, for no kubelet may be newer than an API server. `silent`
    are those that were to take part and do not answer."""
    remedy = "bring it up, or take it out by deploys/remove_node.py if it never comes back"
    return [
        f"{name} is a control plane of {runs} and not in this run, and no kubelet may be newer than"
        f" an API server; {remedy if name in silent else 'run this without --limit and --exclude'}"
        for name, runs in old.items()
        if name not in active
    ]


def unwell(name: str, why: str, *, control_plane: bool) -> str:
    """The sentence for a node, or its control plane, that is not well."""
    leave = "" if control_plane else ", or leave it out by --exclude"
    return f"{name} is not well ({why}); mend it{leave}"


def not_well(cluster: State, left_out: Collection[str]) -> list[str]:
    """Nodes and control planes that have to be well before anything begins; a worker that the
    limit leaves out need not be."""
    return [
        unwell(name, why, control_plane=name in cluster.servers)
        for name, why in cluster.troubled.items()
        if name in cluster.servers or name not in left_out
    ]


def reached(kubelets: Mapping[str, str], wanted: str) -> str:
    """How far an upgrade to version `wanted` is; `kubelets` are those of all nodes."""
    old = sorted(f"{name} ({runs})" for name, runs in kubelets.items() if runs != wanted)
    if not old:
        return f"all {len(kubelets)} nodes run {wanted}"
    return (
        f"{len(kubelets) - len(old)} of {len(kubelets)} nodes run {wanted}; left behind:"
        f" {', '.join(old)}"
    )


def room(path: str, free: int, size: int) -> str | None:
    """A sentence if a disk (KiB) has too little room for images, packages and a backup."""
    if free >= min(size * _LEAST_SHARE, _LEAST_KIB):
        return None
    return (
        f"{free / 1e6:.1f} GB of {size / 1e6:.1f} are free under {path}; make room for new images"
    )


def ending(ends: Mapping[str, datetime], now: datetime) -> str | None:
    """A sentence if a certificate ends within a week; `ends` by file.

    Not for a kubelet's serving certificate, which no upgrade needs: site.py approves its next one.
    """
    needed = [(end, file) for file, end in ends.items() if file != SERVING]
    end, file = min(needed, default=(now + timedelta(365), ""))
    if end - now > timedelta(days=_LEAST_DAYS):
        return None
    return (
        f"{file} ends on {end.astimezone(UTC):%Y-%m-%d}; renew it first (`kubeadm certs renew all`"
        " on a control plane, a kubelet renews its own)"
    )


def etcd_troubles(members: Sequence[str], health: str) -> list[str]:
    """What is wrong with etcd. `members` are the lines of `etcdctl member list`, `health` is the
    JSON of `etcdctl endpoint health --cluster`, which looks for alarms too."""
    result = []
    for line in members:
        identity, _, rest = line.partition(", ")
        if rest.startswith("unstarted"):
            result.append(f"etcd's member {identity} was added and never started; remove it")
    try:
        answers = json.loads(health)
    except ValueError:
        answers = []
    if not members or not answers:
        return [*result, "etcd does not answer; look at `crictl logs` of it"]
    return result + [
        f"etcd at {each['endpoint']} is not healthy ({each.get('error', 'no answer')}); mend it"
        for each in answers
        if not each.get("health")
    ]


_DEPRECATED = re.compile(r"apiserver_requested_deprecated_apis\{(.*)\} 1")


def deprecated(metrics: Iterable[str], wanted: str) -> list[str]:
    """The APIs that were asked for since an API server's start and that version `wanted` has no
    more; `metrics` are the lines of its /metrics."""
    result = {}
    for line in metrics:
        match = _DEPRECATED.match(line)
        labels = dict(re.findall(r'(\w+)="([^"]*)"', match[1])) if match else {}
        removed = labels.get("removed_release")
        if not removed or Version(removed) > Version(wanted):
            continue
        what = "/".join(filter(None, (labels["group"], labels["version"], labels["resource"])))
        result[what] = (
            f"{what} is in use and gone since {removed}; its users (in the audit log:"
            " k8s.io/deprecated) have to change first, then restart kube-apiserver"
        )
    return list(result.values())


def blocked(budgets: Iterable[Any], pods: Iterable[Any], draining: Collection[str]) -> list[str]:
    """The budgets that let go no pod of a node that is to be drained, as the API's objects.

    Those that Rook makes while a storage host is away, or comes back, end with that.
    """
    result = []
    evicted = [
        pod
        for pod in pods
        if pod.spec.node_name in draining
        and pod.status.phase not in ("Succeeded", "Failed")
        and not bound(pod)
    ]
    for budget in budgets:
        owners = budget.metadata.owner_references or []
        if budget.status is None or budget.status.disruptions_allowed:
            continue
        if any(each.kind == "CephCluster" for each in owners):
            continue
        for pod in evicted:
            if pod.metadata.namespace == budget.metadata.namespace and selects(
                budget.spec.selector, pod.metadata.labels or {}
            ):
                space = pod.metadata.namespace
                result.append(
                    f"PodDisruptionBudget {space}/{budget.metadata.name} lets no pod go, and"
                    f" {pod.metadata.name} runs on {pod.spec.node_name}; give it more replicas, or"
                    " loosen the budget"
                )
                break
    return result


def recovers(budget: Any) -> bool:  # noqa: ANN401
    """Whether a budget lets no pod go only as long as one of its pods is not well."""
    status = budget.status
    return status is not None and status.current_healthy < status.expected_pods


def bound(pod: Any) -> bool:  # noqa: ANN401
    """Whether a pod belongs to its node: a DaemonSet's, or a static one."""
    return any(each.kind in ("DaemonSet", "Node") for each in pod.metadata.owner_references or [])


def place(pod: Any) -> str:  # noqa: ANN401
    """The node of a pod that belongs to one; before it is scheduled there a DaemonSet's pod says
    that by its affinity (pkg/controller/daemon/util, ReplaceDaemonSetPodNodeNameNodeAffinity)."""
    if pod.spec.node_name:
        return str(pod.spec.node_name)
    wanted = pod.spec.affinity.node_affinity.required_during_scheduling_ignored_during_execution
    fields = [each for term in wanted.node_selector_terms for each in term.match_fields or []]
    return str(next(each.values[0] for each in fields if each.key == "metadata.name"))


def starting(pods: Iterable[Any]) -> str | None:
    """The first of the pods that belong to a node that is not ready, or None."""
    for pod in pods:
        if bound(pod) and not pod.metadata.deletion_timestamp and not is_ready(pod):
            return f"{pod.metadata.namespace}/{pod.metadata.name} is not ready"
    return None


def selects(selector: Any, labels: Mapping[str, str]) -> bool:  # noqa: ANN401
    """Whether a LabelSelector fits; an empty one of a budget fits all, none at all nothing."""
    if selector is None:
        return False
    fits = {
        "In": lambda key, values: labels.get(key) in values,
        "NotIn": lambda key, values: labels.get(key) not in values,
        "Exists": lambda key, values: key in labels,
        "DoesNotExist": lambda key, values: key not in labels,
    }
    return all(
        labels.get(key) == value for key, value in (selector.match_labels or {}).items()
    ) and all(
        fits[each.operator](each.key, each.values or [])
        for each in selector.match_expressions or []
    )


def backup(time: str, version: str) -> str:
    """The directory of a backup of a node of `version`; the names of later times sort later."""
    return f"{BACKUPS}/backup-{time}-{version}"


_KUBELETS = ("/var/lib/kubelet/config.yaml", "/var/lib/kubelet/kubeadm-flags.env")
_KEPT = (*MASTER_FILES, *_KUBELETS)


def lost(files: Mapping[str, int], version: str) -> dict[str, str]:
    """What a cut-off kubeadm left missing or empty, and the copy of it: {path: copy}.

    kubeadm moves manifests and rewrites keys without syncing them. `version` is that of the
    installed kubelet: an older backup than that is of no use. Keys and certificates go in pairs.
    """
    made = sorted(
        {
            str(PurePosixPath(*PurePosixPath(path).parts[:5]))
            for path in files
            if path.startswith(f"{BACKUPS}/backup-")
        }
    )
    made = [each for each in made if each.endswith(f"-{version}")]
    if not made:
        return {}
    gone = {path for path in _KEPT if not files.get(path) and files.get(made[-1] + path)}
    for path in list(gone):
        pair = {".crt": ".key", ".key": ".crt"}.get(PurePosixPath(path).suffix)
        other = str(PurePosixPath(path).with_suffix(pair)) if pair else path
        if files.get(made[-1] + other):
            gone.add(other)
    return {path: made[-1] + path for path in sorted(gone)}


def batches(names: Sequence[str], size: int, alone: Collection[str] = ()) -> list[list[str]]:
    """The names, `size` at a time; those of `alone` after the others, one at a time."""
    together = [name for name in names if name not in alone]
    return [
        *(together[start : start + size] for start in range(0, len(together), size)),
        *([name] for name in names if name in alone),
    ]
