"""kubeadm init and join of control planes, finished if cut off; and what a worker shares."""

import secrets
from collections.abc import Generator

import yaml
from pyinfra import host, state
from pyinfra.api import FunctionCommand, Host, State, StringCommand, operation
from pyinfra.api.command import PyinfraCommand

from barekube import api as cluster_api
from barekube import (
    containerd,
    encryption,
    kernel,
    kubeadm_config,
    left_by_init,
    nodes,
    remote,
    settings,
    tokens,
)
from barekube import etcd as known_etcd
from barekube import traces as t
from barekube.api import Api, Trouble, found
from barekube.cluster import Cluster, Node
from barekube.facts.machine import Found, Machine
from barekube.operations import change, etcd, files
from barekube.operations.order import (
    acts_for_the_cluster,
    answering,
    changing,
    refuse,
    wait,
)
from barekube.text import TextFile, changes

CONFIG = "/run/barekube/kubeadm.yaml"
_LOOKED_AT = (*t.MASTER_FILES, t.ETCD, t.SERVING, kubeadm_config.ENCRYPTION)
# What kubeadm cannot do without, and the stage that installs it.
_FIRST = {
    "containerd.io": "deploys/runtime.py",
    "kubeadm": "deploys/kubernetes_packages.py",
}
# On a machine like the lab's, a kubelet asks for its certificate some seconds after its start.
_SERVING_LIMIT = 180
_API_LIMIT = 300


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
    """A sentence where kubeadm lacks what it needs. Never in a preview: in a run of the whole site
    earlier stages will have installed it."""
    if not state.is_executing:
        return None
    lines = {path: file.lines for path, file in looked.files.items()}
    if lack := kernel.unprepared(host.data.sysctls, lines, cluster.api_name):
        return f"it is not prepared ({lack}); run deploys/host.py first"
    for name, stage in _FIRST.items():
        package = looked.packages.get(name)
        if package is None or package.status != "installed":
            return f"{name} is not installed; run {stage} first"
    return None


def _traces(other: Host) -> t.Traces | None:
    looked = look(other)
    return None if looked is None else t.traces(looked.files, looked.units)


def connect(cluster: Cluster, **besides: str) -> tuple[Api | None, str]:
    try:
        return cluster_api.connect(cluster, **besides), ""
    except Trouble as trouble:
        return None, str(trouble)


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
    lost = left_by_init.lost(api) if api else []
    registered = api is not None and left_by_init.registered(api, host.name)
    decision = _decide(mine, api, trouble, lost, registered)
    if decision.step is t.Step.REFUSE:
        yield from refuse(decision.sentence)
        return
    if decision.step is t.Step.NOTHING and t.SERVING in mine.there:
        host.noop(f"{host.name} is a control plane of {cluster.name}")
        return
    kubeadm_runs = decision.step not in (t.Step.NOTHING, t.Step.START)
    if kubeadm_runs and (wrong := too_early(cluster, looked)):
        yield from refuse(wrong)
        return
    if decision.step is not t.Step.NOTHING:
        host.log(f"{decision.step.value}{': lacks ' + ', '.join(lost) if lost else ''}")
    node = cluster.node(host.name)
    unasked = decision.step is t.Step.START and api is None
    if not unasked:
        host.log(f"kubelet's serving certificate of {host.name}: approve")
    if decision.step in (t.Step.INIT, t.Step.FINISH_INIT):
        cut_off = decision.step is t.Step.FINISH_INIT
        yield from _init(cluster, node, mine, looked, cut_off=cut_off)
    elif decision.step is t.Step.JOIN:
        assert api is not None  # noqa: S101 - decide() joins only where the API answers
        yield from _join_control_plane(cluster, node, api, looked)
    elif decision.step is t.Step.REJOIN:
        yield from _rejoin(cluster, node, mine, looked)
    elif decision.step is t.Step.START:
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


def _policy_and_key(cluster: Cluster, looked: Found, key: str | None) -> list[StringCommand]:
    """Say, and return as commands, what an API server reads at its start and kubeadm does not
    write; `key`: None: it stays. A preview ends at an operation's first command."""
    differences = changes([kubeadm_config.audit_policy(cluster)], dict(looked.files))
    for difference in differences:
        files.say(difference)
    commands = [files.write(each.file) for each in differences]
    if key is not None:
        path = kubeadm_config.ENCRYPTION
        host.log(f"{path}: {'changed' if path in looked.files else 'new'}, mode 600; never shown")
        commands.append(files.write(TextFile(path, key, mode="600")))
    return commands


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
    first = _policy_and_key(cluster, looked, text)
    token = tokens.fresh()
    addresses = [each.address for each in cluster.control_planes]
    config = kubeadm_config.init(cluster, node, token, addresses, cut_off=cut_off)
    steps = [TAKE_CONFIG]
    if cut_off:
        steps.append(DROP_EMPTY)
        if t.ETCD not in mine.there and mine.lacks((*t.KEYS, *t.CONFS)):
            # No etcd has ever run with these keys, and some are lost: nothing depends on them.
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
    yield FunctionCommand(_await_api, (cluster,), {})


# The file is in memory (/run is a tmpfs), for root only, and gone when the command ends.
TAKE_CONFIG = (
    f'umask 077; mkdir -p /run/barekube; trap "rm -f {CONFIG}" EXIT; cat >{CONFIG}; umask 022'
)
DROP_EMPTY = (
    "find /etc/kubernetes /var/lib/kubelet -maxdepth 3 -path /var/lib/kubelet/pods -prune"
    " -o -type f -size 0 -exec rm -f {} +"
)
_SET_ASIDE = (
    "d=/var/lib/barekube/cut-off-init-$(date +%s); mkdir -p -m 700 $d; systemctl stop kubelet;"
    " for f in /etc/kubernetes/pki /etc/kubernetes/*.conf; do [ ! -e $f ] || mv $f $d/; done"
)


# etcd must not count on a member whose keys and manifest a power cut can still take: what kubeadm
# writes is on the disk a second later, long before the new member gets its vote.
_SYNCING = (
    "while kill -0 $$; do sync -f /etc/kubernetes /var/lib/kubelet || true; sleep 1; done"
    " </dev/null >/dev/null 2>&1 9>&- &"
)
# Without admin.conf, or reset would ask the API server that is half made here. What etcd had may
# be looked at later; only the cluster's own members count.
_UNDO = (
    "rm -f /etc/kubernetes/admin.conf; kubeadm reset phase cleanup-node --cri-socket"
    f" {containerd.SOCKET}; d=/var/lib/barekube/cut-off-join-$(date +%s); mkdir -p -m 700 $d;"
    " [ ! -e /var/lib/etcd ] || find /var/lib/etcd -mindepth 1 -maxdepth 1 -exec mv -t $d {} +;"
    " sync"
)


def _rejoin(
    cluster: Cluster, node: Node, mine: t.Traces, looked: Found
) -> Generator[PyinfraCommand]:
    """Undo what a join left here, its etcd member first, and join again; where only the last step
    is missing, do that."""
    api, trouble = connect(cluster, besides=host.name)
    if api is None:
        yield from refuse(
            f"the join of {node.name} was cut off, and no other control plane answers ({trouble});"
            " bring one up, then run this again"
        )
        return
    own_ca = looked.files.get(t.CA)
    if own_ca and own_ca.size and own_ca.text().strip() != api.ca.strip():
        yield from refuse(t.of_another_cluster(node.name))
        return
    # A kubeadm that outlived a lost SSH session is waited for, and may have ended well.
    yield changing("true")
    if left_by_init.registered(api, node.name):
        return
    member = known_etcd.member_of(etcd.members(api.host) or [], node.address)
    if member and member.healthy and not member.learner and not mine.lacks(t.MASTER_FILES):
        yield FunctionCommand(make_token, (api,), {})
        config = kubeadm_config.join_control_plane(
            cluster, node, tokens.for_joining(api), tokens.ca_hash(api.ca), ""
        )
        mark = "kubeadm join phase control-plane-join mark-control-plane"
        yield changing(
            f"{TAKE_CONFIG}; systemctl restart kubelet; {mark} --config {CONFIG}", config
        )
        return
    yield FunctionCommand(etcd.make_room, (api, node, True), {})
    yield changing(_UNDO)
    # kubeadm refuses to join beside a node of this name that still counts as Ready.
    yield FunctionCommand(delete_node, (api, node.name), {})
    yield from _join_control_plane(cluster, node, api, looked)


def _join_control_plane(
    cluster: Cluster, node: Node, api: Api, looked: Found
) -> Generator[PyinfraCommand]:
    if wrong := other_version(api, cluster):
        yield from refuse(wrong)
        return
    keys = remote.read_secret(api.host, kubeadm_config.ENCRYPTION)
    if keys is None:
        yield from refuse(
            f"{api.host.name} has no {kubeadm_config.ENCRYPTION}, without which Secrets cannot be"
            " read here; restore it, then run this again"
        )
        return
    first = _policy_and_key(cluster, looked, keys)
    yield FunctionCommand(etcd.make_room, (api, node, False), {})
    yield from first
    key = secrets.token_bytes(32).hex()
    yield FunctionCommand(_upload_keys, (cluster, api, key), {})
    yield FunctionCommand(make_token, (api,), {})
    config = kubeadm_config.join_control_plane(
        cluster, node, tokens.for_joining(api), tokens.ca_hash(api.ca), key
    )
    yield changing(f"{TAKE_CONFIG}; {_SYNCING} kubeadm join --config {CONFIG}; sync", stdin=config)


def _upload_keys(state: State, host: Host, cluster: Cluster, api: Api, key: str) -> bool:
    """Have a control plane put its keys, encrypted, where the joining one takes them from."""
    config = kubeadm_config.upload(cluster, cluster.node(api.host.name), key)
    command = changing(
        f"{TAKE_CONFIG}; kubeadm init phase upload-certs --upload-certs"
        f" --skip-certificate-key-print --config {CONFIG}",
        stdin=config,
    )
    done, output = api.host.run_shell_command(
        command,
        print_output=False,
        print_input=False,
        _sudo=remote.sudo(api.host),
        _stdin=config,
    )
    if not done:
        host.log(f"{api.host.name} cannot hand out its keys: {output.stderr}")
    return bool(done)


def make_token(state: State, host: Host, api: Api) -> bool:
    tokens.for_joining(api)
    return True


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


def other_version(api: Api, cluster: Cluster) -> str | None:
    """A sentence if the cluster that is to be joined is of another version than group_data's."""
    config = api.core.read_namespaced_config_map("kubeadm-config", "kube-system").data
    version = yaml.safe_load(config["ClusterConfiguration"])["kubernetesVersion"]
    if version == f"v{cluster.version}":
        return None
    return (
        f"the cluster runs {version} and group_data says v{cluster.version}; run deploys/upgrade.py"
        f" --exclude {host.name} first, or set kubernetes_version back"
    )


def delete_node(state: State, host: Host, api: Api, name: str) -> bool:
    found(api.core.delete_node, name)
    return True


@operation()
def tokens_deleted(cluster: Cluster) -> Generator[PyinfraCommand]:
    """The bootstrap tokens of this run are gone from the cluster."""
    if not tokens.any_left() or not acts_for_the_cluster():
        host.noop("no join token is left to delete here")
        return
    yield FunctionCommand(_forget, (cluster,), {})


def _forget(state: State, host: Host, cluster: Cluster) -> bool:
    api, _ = connect(cluster)
    if api:
        tokens.forget(api)
    return True
