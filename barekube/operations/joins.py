"""Joins: what workers and control planes share, and how a control plane joins, again if cut off."""

import secrets
from collections.abc import Generator, Sequence

import yaml
from pyinfra import host
from pyinfra.api import FunctionCommand, Host, State, StringCommand
from pyinfra.api.command import PyinfraCommand

from barekube import api as cluster_api
from barekube import containerd, kubeadm_config, left_by_init, remote, tokens
from barekube import etcd as known_etcd
from barekube import traces as t
from barekube.api import Api, Trouble, found
from barekube.cluster import Cluster, Node
from barekube.facts.machine import Found
from barekube.operations import etcd, files
from barekube.operations.order import changing, persistently, refuse, syncing
from barekube.text import TextFile, changes

CONFIG = "/run/barekube/kubeadm.yaml"
# The file is in memory (/run is a tmpfs), for root only, and gone when the command ends.
TAKE_CONFIG = (
    f'umask 077; mkdir -p /run/barekube; trap "rm -f {CONFIG}" EXIT; cat >{CONFIG}; umask 022'
)
# Said of DROP_EMPTY.
EMPTY = "what is empty below /etc/kubernetes and /var/lib/kubelet: removed"
DROP_EMPTY = (
    "find /etc/kubernetes /var/lib/kubelet -maxdepth 3 -path /var/lib/kubelet/pods -prune"
    " -o -type f -size 0 -exec rm -f {} +"
)


def connect(cluster: Cluster, **besides: str) -> tuple[Api | None, str]:
    try:
        return cluster_api.connect(cluster, **besides), ""
    except Trouble as trouble:
        return None, str(trouble)


def make_token(state: State, host: Host, api: Api) -> bool:
    tokens.for_joining(api)
    return True


def delete_node(state: State, host: Host, api: Api, name: str) -> bool:
    found(api.core.delete_node, name)
    return True


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


def policy_and_key(cluster: Cluster, looked: Found, key: str | None) -> list[StringCommand]:
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


# etcd must not count on a member whose keys and manifest a power cut can still take: what kubeadm
# writes is on the disk a second later, long before the new member gets its vote.
_SYNCING = syncing("-f /etc/kubernetes /var/lib/kubelet", 1)
# Without admin.conf, or reset would ask the API server that is half made here. What etcd had may
# be looked at later; only the cluster's own members count.
_UNDO = (
    "rm -f /etc/kubernetes/admin.conf; kubeadm reset phase cleanup-node --cri-socket"
    f" {containerd.SOCKET}; d=/var/lib/barekube/cut-off-join-$(date +%s); mkdir -p -m 700 $d;"
    " [ ! -e /var/lib/etcd ] || find -H /var/lib/etcd -mindepth 1 -maxdepth 1 -exec mv -t $d {} +;"
    " sync"
)


def rejoin(
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
    undone = _undone(cluster, node, mine, api)
    # Where that is not known now, what is done waits until it is.
    if _lacks_its_mark(node, mine, etcd.asked(api.host) or []):
        host.log("its last step: kubeadm join phase control-plane-join mark-control-plane")
        if (yield from undone):
            return
    else:
        host.log(
            "what that join left is undone, unless it ends well meanwhile: its member of etcd"
            " removed, kubeadm reset phase cleanup-node, what is in /var/lib/etcd moved below"
            " /var/lib/barekube"
        )
        host.log(f"Node {node.name}: deleted, if it is there")
    yield from join(cluster, node, api, looked, undone)


def _lacks_its_mark(node: Node, mine: t.Traces, members: Sequence[known_etcd.Member]) -> bool:
    """Whether a join lacks its last step only."""
    member = known_etcd.member_of(members, node.address)
    whole = member is not None and member.healthy and not member.learner
    return whole and not mine.lacks(t.MASTER_FILES)


def _undone(
    cluster: Cluster, node: Node, mine: t.Traces, api: Api
) -> Generator[PyinfraCommand, None, bool]:
    """Undo what a join left here. True: it has ended, and nothing is left to do."""
    # A kubeadm that outlived a lost SSH session is waited for, and may have ended well.
    yield changing("true")
    if persistently(left_by_init.registered, api, node.name):
        return True
    members = etcd.awaited(api.host)
    if members is None:
        yield from refuse(
            f"{api.host.name} cannot ask etcd whether {node.name} is a member of it; look at its"
            " etcd there (`crictl ps -a`), then run this again"
        )
        return True
    if _lacks_its_mark(node, mine, members):
        yield FunctionCommand(make_token, (api,), {})
        config = kubeadm_config.join_control_plane(
            cluster, node, tokens.for_joining(api), tokens.ca_hash(api.ca), ""
        )
        mark = "kubeadm join phase control-plane-join mark-control-plane"
        yield changing(
            f"{TAKE_CONFIG}; systemctl restart kubelet; {mark} --config {CONFIG}", config
        )
        return True
    yield FunctionCommand(etcd.make_room, (api, node, True), {})
    yield changing(_UNDO)
    # kubeadm refuses to join beside a node of this name that still counts as Ready.
    yield FunctionCommand(delete_node, (api, node.name), {})
    return False


def join(
    cluster: Cluster,
    node: Node,
    api: Api,
    looked: Found,
    undone: Generator[PyinfraCommand, None, bool] | None = None,
) -> Generator[PyinfraCommand]:
    """Join a control plane, after what is `undone` of an earlier join."""
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
    first = policy_and_key(cluster, looked, keys)
    host.log(f"on {api.host.name}: kubeadm init phase upload-certs, by which this host gets keys")
    if undone and (yield from undone):
        return
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
