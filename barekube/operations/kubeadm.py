"""kubeadm init and join of control planes, finished if cut off."""

from collections.abc import Generator

from pyinfra import host
from pyinfra.api import FunctionCommand, Host, State, operation
from pyinfra.api.command import PyinfraCommand

from barekube import (
    encryption,
    kernel,
    kubeadm_config,
    left_by_init,
    nodes,
    remote,
    settings,
    tokens,
)
from barekube import traces as t
from barekube.api import Api
from barekube.cluster import Cluster, Node
from barekube.facts.living import BEFORE
from barekube.facts.machine import Found, Machine
from barekube.operations import change, files, joins
from barekube.operations.joins import CONFIG, DROP_EMPTY, EMPTY, TAKE_CONFIG, connect
from barekube.operations.order import (
    acts_for_the_cluster,
    answering,
    calling,
    changing,
    persistently,
    refuse,
    to_come,
    wait,
)

_LOOKED_AT = (*t.MASTER_FILES, t.ETCD, t.SERVING, kubeadm_config.ENCRYPTION, BEFORE)
# What kubeadm cannot do without, and the stage that installs it.
_FIRST = {
    "containerd.io": "runtime",
    "kubeadm": "kubernetes_packages",
}
# On a machine like the lab's, a kubelet asks for its certificate some seconds after its start.
_SERVING_LIMIT = 180
_API_LIMIT = 300
# The cluster that this run has created.
created: list[str] = []


def look(other: Host) -> Found | None:
    """What kubeadm left on a host; None: not known."""
    if not remote.reach(other):
        return None
    prepared = [kernel.SWAPS, kernel.HOSTS, *map(kernel.proc_path, other.data.sysctls)]
    looked: Found | None = other.get_fact(
        Machine,
        files=[t.CA, t.MACHINE_ID, kubeadm_config.AUDIT_POLICY, *prepared],
        packages=list(_FIRST),
        secret=_LOOKED_AT,
        units=[t.KUBELET],
    )
    return looked


def too_early(cluster: Cluster, looked: Found) -> str | None:
    """A sentence where kubeadm lacks what it needs."""
    lines = {path: file.lines for path, file in looked.files.items()}
    lack = kernel.unprepared(host.data.sysctls, lines, cluster.api_name)
    if lack and not to_come("host"):
        return f"it is not prepared ({lack}); run deploys/host.py first"
    for name, stage in _FIRST.items():
        package = looked.packages.get(name)
        if (package is None or package.status != "installed") and not to_come(stage):
            return f"{name} is not installed; run deploys/{stage}.py first"
    return None


def _traces(other: Host) -> t.Traces | None:
    looked = look(other)
    return None if looked is None else t.traces(looked.files, looked.units)


@operation()
def control_plane(cluster: Cluster) -> Generator[PyinfraCommand]:
    """This host is a control plane of the cluster, which is created if there is none.

    One remote command where nothing differs, and one more for the run's first look at the API.
    """
    yield from answering(_control_plane(cluster))


def _control_plane(cluster: Cluster) -> Generator[PyinfraCommand]:
    looked = look(host)
    if looked is None:
        yield from refuse("kubeadm's files cannot be seen; mend the error above, then run again")
        return
    mine = t.traces(looked.files, looked.units)
    api, trouble = connect(cluster) if _anyone_may_serve(mine) else (None, "no API yet")
    if api and api.moved:
        yield from refuse(api.moved)
        return
    lost = persistently(left_by_init.lost, api) if api else []
    registered = api is not None and persistently(left_by_init.registered, api, host.name)
    decision = _decide(mine, api, trouble, lost, registered)
    if decision.step is t.Step.REFUSE:
        yield from refuse(decision.sentence)
        return
    node = cluster.node(host.name)
    whole = decision.step is t.Step.NOTHING and t.SERVING in mine.there
    if whole and not (api and nodes.asks_serving(api, node)):
        host.noop(f"{host.name} is a control plane of {cluster.name}")
        return
    kubeadm_runs = decision.step not in (t.Step.NOTHING, t.Step.START)
    if kubeadm_runs and (wrong := too_early(cluster, looked)):
        yield from refuse(wrong)
        return
    if decision.step is not t.Step.NOTHING:
        host.log(f"{decision.step.value}{': lacks ' + ', '.join(lost) if lost else ''}")
    unasked = decision.step is t.Step.START and api is None
    if not unasked:
        host.log(f"kubelet's serving certificate of {host.name}: approve")
    if decision.step in (t.Step.INIT, t.Step.FINISH_INIT):
        cut_off = decision.step is t.Step.FINISH_INIT
        yield from _init(cluster, node, mine, looked, cut_off=cut_off)
    elif decision.step is t.Step.JOIN:
        assert api is not None  # noqa: S101 - decide() joins only where the API answers
        yield from joins.join(cluster, node, api, looked)
    elif decision.step is t.Step.REJOIN:
        yield from joins.rejoin(cluster, node, mine, looked)
    elif decision.step is t.Step.START:
        if unasked and BEFORE in looked.files:
            host.log("a change of its static pods was cut off: taken back if no API answers")
        if not mine.kubelet_runs:
            yield changing("systemctl restart kubelet")
        yield FunctionCommand(_await_api, (cluster,), {})
        if unasked:
            # What the API lacks can be seen only now.
            yield from _control_plane(cluster)
            return
    yield FunctionCommand(approve, (cluster,), {})


def _anyone_may_serve(mine: t.Traces) -> bool:
    """Whether looking for an API makes sense: on bare machines it would only take time."""
    return mine.any_master or len(_masters()) > 1


def _masters() -> list[Host]:
    return settings.control_plane_hosts()


def _decide(
    mine: t.Traces, api: Api | None, trouble: str, lost: list[str], registered: bool
) -> t.Decision:
    if registered and not lost and not mine.lacks(t.MASTER_FILES):
        return t.decide(host.name, mine, {}, [], None, registered=True)
    others = {other.name: _traces(other) for other in _masters() if other.name != host.name}
    members = []
    if api is None and not mine.any_master:
        for other in settings.hosts():
            if other.name not in others and other.name != host.name:
                known = _traces(other)
                if known and t.KUBELET_CONF in known.there | known.empty:
                    members.append(other.name)
    answer = None if api else trouble
    return t.decide(host.name, mine, others, members, answer, registered, lost)


def _init(
    cluster: Cluster, node: Node, mine: t.Traces, looked: Found, *, cut_off: bool
) -> Generator[PyinfraCommand]:
    if t.ETCD in mine.there and kubeadm_config.ENCRYPTION not in mine.there:
        yield from refuse(
            f"{kubeadm_config.ENCRYPTION} is gone, without which the Secrets in its etcd cannot be"
            " read; restore it from your backup, then run this again"
        )
        return
    text = None
    if kubeadm_config.ENCRYPTION not in mine.there:
        key = {encryption.name(cluster.encryption_key): encryption.fresh()}
        text = kubeadm_config.encryption_configuration(key)
    first = joins.policy_and_key(cluster, looked, text)
    token = tokens.fresh()
    addresses = [each.address for each in cluster.control_planes]
    config = kubeadm_config.init(cluster, node, token, addresses, cut_off=cut_off)
    steps = [TAKE_CONFIG]
    if cut_off:
        host.log(EMPTY)
        host.log("the cluster's settings: written anew when it answers, and kube-proxy restarts")
        steps.append(DROP_EMPTY)
        if t.ETCD not in mine.there and mine.lacks((*t.KEYS, *t.CONFS)):
            # No etcd has ever run with these keys, and some are lost: nothing depends on them.
            host.log(
                "kubelet: stopped; /etc/kubernetes/pki and /etc/kubernetes/*.conf: moved below"
                " /var/lib/barekube, for no etcd has run with them"
            )
            steps.append(_SET_ASIDE)
    given = config.replace(token, "TOKEN").splitlines()
    files.describe("kubeadm's configuration: in memory, while it runs", given)
    host.log("kubeadm init phase certs all, kubeadm init phase kubeconfig all, kubeadm init")
    yield from first
    # Keys first, and synced: etcd syncs its own files, and must not outlive the keys it ran with.
    steps += [
        f"kubeadm init phase certs all --config {CONFIG} >/dev/null",
        f"kubeadm init phase kubeconfig all --config {CONFIG} >/dev/null",
        "sync",
        f"kubeadm init --config {CONFIG} --skip-token-print",
        "sync",
    ]
    yield changing("; ".join(steps), stdin=config)
    tokens.used_at_init(token)
    if not cut_off:
        created.append(cluster.name)
    yield FunctionCommand(_await_api, (cluster,), {})


_SET_ASIDE = (
    "d=/var/lib/barekube/cut-off-init-$(date +%s); mkdir -p -m 700 $d; systemctl stop kubelet;"
    " for f in /etc/kubernetes/pki /etc/kubernetes/*.conf; do [ ! -e $f ] || mv $f $d/; done"
)


def _await_api(state: State, host: Host, cluster: Cluster) -> bool:
    def lacking() -> str | None:
        return connect(cluster)[1] or None

    if lacking():
        change.cut_off(host)
    why = wait("the API", _API_LIMIT, lacking)
    if why is None:
        return True
    host.log(
        f"the API did not answer in {_API_LIMIT} s ({why}); look at `journalctl -u kubelet`"
        " and `crictl ps -a` on it, then run this again"
    )
    return False


def approve(state: State, host: Host, cluster: Cluster) -> bool:
    api, trouble = connect(cluster)
    if api is None:
        host.log(f"its certificate cannot be approved: {trouble}")
        return False
    return nodes.approve_serving(host, api, cluster.node(host.name), t.SERVING, _SERVING_LIMIT)


@operation()
def tokens_deleted(cluster: Cluster) -> Generator[PyinfraCommand]:
    """The bootstrap tokens of this run are gone from the cluster."""
    if not tokens.any_left() or not acts_for_the_cluster():
        host.noop("no join token is left to delete here")
        return
    yield calling(_forget, cluster)


def _forget(state: State, host: Host, cluster: Cluster) -> bool:
    api, _ = connect(cluster)
    if api:
        tokens.forget(api)
    return True
