"""A living cluster brought to another version of Kubernetes, host by host."""

from collections.abc import Collection, Generator
from datetime import UTC, datetime

from pyinfra import host, state
from pyinfra.api import FunctionCommand, Host, State, operation
from pyinfra.api.command import PyinfraCommand

from barekube import api as cluster_api
from barekube import containerd, kubeadm_config, living, settings, upgrade, versions
from barekube.api import Api
from barekube.cluster import Cluster
from barekube.etcd import IN_CONTAINER
from barekube.facts.upgrade import ETCDCTL, RemainsFact
from barekube.operations import packages, roll, units
from barekube.operations.joins import CONFIG, TAKE_CONFIG
from barekube.operations.living import as_stored, wanted_of
from barekube.operations.order import (
    acts_for_the_cluster,
    answering,
    changing,
    persistently,
    refuse,
    syncing,
    wait,
)
from barekube.operations.upgradable import (
    ask,
    found_packages,
    lacking,
    looked,
    now,
    unready,
)
from barekube.upgrade import Step

_SERVERS_LIMIT, _WELL_LIMIT = 300, 300
_DOCUMENTS = (living.CLUSTER, living.KUBELET, living.PROXY)
_SERVERS = (Step.KUBEADM, Step.APPLY, Step.NODE)
# kubeadm renames its new manifests without syncing them. A newer etcd makes its data its own within
# seconds of that, and no older one starts on them: its manifest has to be on the disk before.
_SYNCING = syncing("/etc/kubernetes/manifests/*.yaml", 0.5)


@operation()
def mended(cluster: Cluster) -> Generator[PyinfraCommand]:
    """What a cut-off upgrade lost of this host's files is put back, from its backup; its node, of
    which the power may be back just now, is given time to get well.

    Two round trips.
    """
    remains, found = host.get_fact(RemainsFact), found_packages()
    if remains is None or found is None:
        yield from refuse("its files cannot be seen; mend the error above, then run again")
        return
    kubelet = found.packages.get("kubelet")
    version = kubelet.version.partition("-")[0] if kubelet else ""
    lost = upgrade.lost(remains.files, version)
    if lost:
        yield from _put_back(lost)
    else:
        looked[state.is_executing, host.name] = found, remains
        host.noop("nothing was lost here")
    if state.is_executing and kubelet:

        def unwell() -> str | None:
            return ask(cluster_api.connect(cluster)).troubled.get(host.name)

        # What is not well by then is named by the next operation, with all else.
        wait("its node", _WELL_LIMIT, unwell)


def _put_back(lost: dict[str, str]) -> Generator[PyinfraCommand]:
    for path, copy in lost.items():
        host.log(f"{path}: put back from {copy}")
    # kubelet takes every file beside the manifests for a pod.
    new = "/etc/kubernetes/.barekube-new"
    puts = [f"cp -a {copy} {new}; sync {new}; mv {new} {path}" for path, copy in lost.items()]
    yield changing("; ".join([*puts, "sync", "systemctl restart kubelet"]))


@operation()
def backed_up(cluster: Cluster) -> Generator[PyinfraCommand]:
    """Before the first change: a verified snapshot of etcd, once, and on every host the keys and
    settings that kubeadm writes anew. Backups are kept."""
    yield from answering(_backed_up(cluster))


def _backed_up(cluster: Cluster) -> Generator[PyinfraCommand]:
    if not lacking(cluster, (Step.APPLY, Step.NODE)):
        host.noop("kubeadm has nothing to change here")
        return
    if sentence := roll.halted():
        yield from refuse(sentence)
        return
    found = found_packages()
    kubelet = found.packages.get("kubelet") if found else None
    if kubelet is None:
        yield from refuse("its packages cannot be read; mend the error above, then run again")
        return
    masters = [each for each in settings.control_plane_hosts() if each in state.active_hosts]
    snapshot = bool(masters) and masters[0].name == host.name
    version = kubelet.version.partition("-")[0]
    target = upgrade.backup(f"{datetime.now(UTC):%Y-%m-%dT%H-%M-%S}", version)
    shown = target if state.is_executing else upgrade.backup("TIME", version)
    host.log(f"{shown}: {'a snapshot of etcd, ' if snapshot else ''}keys, manifests, settings")
    yield changing(_BACKUP.format(target=target, snapshot=_SNAPSHOT if snapshot else ""))
    if state.is_executing and snapshot:
        _snapshots.append(f"{target}/etcd.db on {host.name}")


# Where this run has put etcd's snapshot.
_snapshots: list[str] = []
# Named at the end only: what has the name of a backup is whole, and was looked at.
_BACKUP = (
    "umask 077; n={target}.new; rm -rf ${{n%/*}}/backup-*.new; mkdir -p $n; {snapshot}"
    "cd /; cp -a --parents $(ls -d etc/kubernetes/pki etc/kubernetes/*.conf etc/kubernetes/*.yaml"
    " etc/kubernetes/manifests var/lib/kubelet/config.yaml var/lib/kubelet/kubeadm-flags.env"
    " 2>/dev/null) $n/; chmod 700 $n; sync; mv $n {target}; sync"
)
# etcd's own directory is what its container can write to. The snapshot ends with a digest of
# itself; etcdutl walks through its whole tree.
_SNAPSHOT = (
    f"s=/var/lib/etcd/barekube.snapshot; rm -f $s $s.part; {ETCDCTL} snapshot save $s >/dev/null;"
    f" {IN_CONTAINER} etcdutl snapshot status $s >/dev/null;"
    ' mv $s $n/etcd.db; [ "$(head -c -32 $n/etcd.db | sha256sum | cut -c1-64)" ='
    " \"$(tail -c 32 $n/etcd.db | od -An -tx1 | tr -d ' \\n')\" ]; "
)


@operation()
def servers(cluster: Cluster) -> Generator[PyinfraCommand]:
    """etcd and the servers of this control plane are of the cluster's wanted version.

    kubeadm pulls all images before it changes anything.
    """
    yield from answering(_servers(cluster))


def _servers(cluster: Cluster) -> Generator[PyinfraCommand]:
    steps = lacking(cluster, _SERVERS)
    if not steps:
        if steps is None:
            yield from refuse("it cannot be examined; mend the error above, then run again")
        elif cluster.node(host.name).control_plane and (noted := _left_unnoted(cluster)):
            host.log("the cluster's settings are noted anew: an upgrade was cut off before that")
            yield FunctionCommand(_annotate, (cluster, noted), {})
        else:
            host.noop(f"its servers are {cluster.version}")
        return
    if sentence := roll.halted():
        yield from refuse(sentence)
        return
    _say(cluster, steps)
    if state.is_executing and (troubles := roll.etcd_troubles()):
        yield from refuse(troubles[0])
        return
    yield from _kubeadm(cluster, steps, now(cluster))
    if Step.APPLY in steps or Step.NODE in steps:
        yield FunctionCommand(_await_servers, (cluster,), {})


def _say(cluster: Cluster, steps: list[Step]) -> None:
    for step in steps:
        host.log(step.words(cluster.version))


def _kubeadm(cluster: Cluster, steps: list[Step], seen: upgrade.State) -> Generator[PyinfraCommand]:
    if Step.KUBEADM in steps:
        exact = versions.kubernetes_debs(cluster.version)["kubeadm"]
        yield from packages.installed._inner(wanted={"kubeadm": exact}, source="kubernetes")
    step = next((each for each in (Step.APPLY, Step.NODE) if each in steps), None)
    if step is None:
        return
    before = persistently(lambda: _stored(cluster_api.connect(cluster)))
    config = kubeadm_config.upgrade(cluster, seen.architectures.values())
    command = f"{step.value} --config {CONFIG}{' --yes' if step is Step.APPLY else ''}"
    master = cluster.node(host.name).control_plane
    beside = f"{_SYNCING} " if master else ""
    if state.is_executing:
        host.log(f"{step.value}: begun; it takes a minute or more")
    yield changing(f"{TAKE_CONFIG}; {beside}{command}; sync", stdin=config)
    if master:
        yield FunctionCommand(_annotate, (cluster, before), {})


_Stored = dict[living.Document, tuple[str, str | None]]


def _left_unnoted(cluster: Cluster) -> _Stored | None:
    """What kubeadm's ConfigMaps say, where it has written them and the run was cut off before our
    notes were back on them; None where nothing of that is to be done."""
    there = persistently(lambda: _stored(cluster_api.connect(cluster)))
    wanted = wanted_of(cluster)
    lost = [each for each, (_, noted) in there.items() if noted is None]
    return there if any(living.adopted(wanted[each], there[each][0]) for each in lost) else None


def _stored(api: Api) -> _Stored:
    return {document: as_stored(api, document) for document in _DOCUMENTS}


def _annotate(state: State, host: Host, cluster: Cluster, before: _Stored) -> bool:
    """Note anew what kubeadm made of our settings: it writes its ConfigMaps without our notes.

    Where one had none before, an upgrade was cut off here: they are judged by what they say.
    """
    cut_off = None in [noted for _, noted in before.values()]
    wanted = wanted_of(cluster)

    def unnoted() -> str | None:
        api = cluster_api.connect(cluster)
        for document, (after, _) in _stored(api).items():
            old, noted = before[document]
            note = living.carried(noted, old, after, cluster.version)
            if note is None and cut_off:
                note = living.adopted(wanted[document], after)
            if note:
                patch = {"metadata": {"annotations": {living.ANNOTATION: note}}}
                api.core.patch_namespaced_config_map(document.config_map, "kube-system", patch)
        return None

    # What could not be noted, control_plane.py writes once more.
    wait("the API", _SERVERS_LIMIT, unnoted)
    return True


def _await_servers(state: State, host: Host, cluster: Cluster) -> bool:
    def old() -> str | None:
        seen = ask(cluster_api.connect(cluster))
        runs = seen.servers.get(host.name, "gone")
        if runs != cluster.version:
            return f"its API server is {runs}"
        return seen.troubled.get(host.name)

    why = wait("its control plane", _SERVERS_LIMIT, old)
    if why is None:
        return True
    host.log(f"{why} after {_SERVERS_LIMIT} s; look at `crictl ps -a` on it, then run this again")
    return False


@operation()
def node(cluster: Cluster, beside: Collection[str]) -> Generator[PyinfraCommand]:
    """This host's node runs the wanted kubelet and containerd; drained meanwhile, together with
    those `beside` it, and while all others are well."""
    yield from answering(_node(cluster, beside))


def _node(cluster: Cluster, beside: Collection[str]) -> Generator[PyinfraCommand]:
    master = cluster.node(host.name).control_plane
    steps = lacking(cluster, tuple(each for each in Step if not master or each not in _SERVERS))
    if not steps:
        if steps is None:
            yield from refuse("it cannot be examined; mend the error above, then run again")
        host.noop(f"its node is {cluster.version}")
        return
    if sentence := roll.halted():
        yield from refuse(sentence)
        return
    seen = now(cluster)
    old = {name: each for name, each in seen.servers.items() if each != cluster.version}
    if old and state.is_executing:
        yield from refuse(
            f"{', '.join(old)} has to be upgraded first: no kubelet may be newer than an API"
            " server; run this without --limit"
        )
        return
    away = Step.DRAIN in steps and state.is_executing
    if away and (why := _others_unwell(cluster, {host.name, *beside})):
        yield from refuse(f"left as it is: {why}")
        return
    if away and (left := sorted(seen.cordoned - {host.name, *beside})):
        yield FunctionCommand(_others_back, (cluster, left), {})
    _say(cluster, steps)
    yield from _kubeadm(cluster, steps, seen)
    if Step.DRAIN in steps:
        yield from roll.drained(cluster, lambda: _install(cluster), cluster.version)
    else:
        # It may have been cut off between its last package and this.
        yield changing(_CLEAN)
        yield from roll.back(cluster)


def _others_unwell(cluster: Cluster, beside: Collection[str]) -> str | None:
    """What keeps this host's node from going away now, in a sentence: one that is not `beside` it
    went away since the run looked at them, and is not back in time."""
    masters = {each.name for each in cluster.control_planes}
    needed = {each.name for each in state.active_hosts}.union(masters).difference(beside)

    def unwell() -> str | None:
        there = cluster_api.connect(cluster).core.list_node().items
        for name, why in unready(there).items():
            if name in needed:
                return upgrade.unwell(name, why, control_plane=name in masters)
        return None

    return wait("the other nodes", _WELL_LIMIT, unwell)


def _others_back(state: State, host: Host, cluster: Cluster, names: Collection[str]) -> bool:
    """Let back nodes, which are well, that a run which was cut off left cordoned: the pods that go
    now need their room, and their own turn drains them anew."""
    for name in names:
        if roll.uncordoned(cluster_api.connect(cluster), name):
            host.log(f"{name}: uncordoned, for a run that was cut off had left it so")
    return True


def _install(cluster: Cluster) -> Generator[PyinfraCommand]:
    debs = versions.kubernetes_debs(cluster.version)
    yield from packages.installed._inner(wanted=debs, source="kubernetes")
    runtime = {"containerd.io": versions.CONTAINERD_DEB}
    yield from packages.installed._inner(wanted=runtime, source="containerd", drained=True)
    yield from units.configured._inner(
        unit="containerd.service",
        files=containerd.files(host.data.bundle_url, packages.BUNDLE_CA),
    )
    yield changing(f"systemctl daemon-reload; systemctl restart kubelet; {_CLEAN}")


@operation()
def told(cluster: Cluster) -> Generator[PyinfraCommand]:
    """How far the cluster is. No remote command."""
    yield from answering(_told(cluster))


def _told(cluster: Cluster) -> Generator[PyinfraCommand]:
    if state.is_executing and acts_for_the_cluster():
        host.log(upgrade.reached(now(cluster).kubelets, cluster.version))
        for snapshot in _snapshots:
            host.log(f"etcd as it was before is kept: {snapshot}")
    host.noop("told")
    return
    yield


# kubeadm's copies of what it replaced, etcd's whole directory among them; ours are verified.
_CLEAN = "rm -rf /etc/kubernetes/tmp; sync"
