"""kubeadm join of a worker, finished if it was cut off, and its own way to the API."""

from collections.abc import Generator

from pyinfra import host
from pyinfra.api import FunctionCommand, Host, State, StringCommand, operation
from pyinfra.api.command import PyinfraCommand

from barekube import api_proxy, hosts_file, kubeadm_config, nodes, remote, tokens
from barekube import traces as t
from barekube.cluster import Cluster
from barekube.facts.machine import Machine
from barekube.kernel import HOSTS
from barekube.operations import files, joins, kubeadm
from barekube.operations.order import (
    answering,
    changing,
    exclusively,
    refuse,
    to_come,
    wait,
    without_api,
)
from barekube.text import TextFile, changes

_PROXY_LIMIT = 180


@operation()
def worker(cluster: Cluster) -> Generator[PyinfraCommand]:
    """This host is a worker of the cluster. One remote command where nothing differs."""
    yield from answering(_worker(cluster))


def _worker(cluster: Cluster) -> Generator[PyinfraCommand]:
    looked = kubeadm.look(host)
    if looked is None:
        yield from refuse("kubeadm's files cannot be seen; mend the error above, then run again")
        return
    mine = t.traces(looked.files, looked.units)
    api, trouble = joins.connect(cluster)
    if api is None:
        if to_come("control_plane") and not mine.any_node:
            host.log(f"kubeadm join: once {cluster.endpoint} answers (now: {trouble})")
            yield StringCommand("false")
            return
        yield from without_api(trouble)
        return
    if api.moved:
        yield from refuse(api.moved)
        return
    node = nodes.lookup(api, host.name)
    own_ca = looked.files.get(t.CA)
    identity = looked.files.get(t.MACHINE_ID)
    machine = identity.text().strip() if identity else ""
    decision = t.decide_worker(
        host.name,
        mine,
        ca_differs=bool(own_ca and own_ca.size and own_ca.text().strip() != api.ca.strip()),
        registered=node is not None,
        same_machine=node is not None and node.status.node_info.machine_id == machine,
    )
    if decision.step is t.Step.REFUSE:
        yield from refuse(decision.sentence)
        return
    known = nodes.address(node) if node and decision.step is not t.Step.JOIN else ""
    if wrong := t.other_address(host.name, known, cluster.node(host.name).address):
        yield from refuse(wrong)
        return
    whole = decision.step is t.Step.NOTHING and t.SERVING in mine.there
    if whole and not nodes.asks_serving(api, cluster.node(host.name)):
        host.noop(f"{host.name} is a worker of {cluster.name}")
        return
    begins = decision.step is t.Step.JOIN
    early = kubeadm.too_early(cluster, looked) if begins else None
    if begins and (wrong := early or joins.other_version(api, cluster)):
        yield from refuse(wrong)
        return
    if decision.step is not t.Step.NOTHING:
        host.log(f"{decision.step.value}: {cluster.name}, {cluster.endpoint}")
    if begins and node is not None:
        host.log(f"Node {host.name}: deleted, for kubeadm joins beside none of its name")
    if begins and mine.any_node:
        host.log(f"kubelet: stopped; {joins.EMPTY}")
    host.log(f"kubelet's serving certificate of {host.name}: approve")
    if begins:
        yield FunctionCommand(joins.make_token, (api,), {})
        if node is not None:
            # kubeadm refuses to join beside a node of this name that still counts as Ready.
            yield FunctionCommand(joins.delete_node, (api, host.name), {})
        config = kubeadm_config.join(
            cluster,
            cluster.node(host.name),
            tokens.for_joining(api),
            tokens.ca_hash(api.ca),
            cut_off=mine.any_node,
        )
        clean = f"systemctl stop kubelet; {joins.DROP_EMPTY}; " if mine.any_node else ""
        join = f"kubeadm join --config {joins.CONFIG}; sync"
        yield changing(f"{joins.TAKE_CONFIG}; {clean}{join}", config)
    elif decision.step is t.Step.START:
        yield changing("systemctl restart kubelet")
    yield FunctionCommand(kubeadm.approve, (cluster,), {})


@operation()
def proxied(cluster: Cluster) -> Generator[PyinfraCommand]:
    """This worker reaches several control planes by a proxy of its own, and one without. One round
    trip where nothing differs."""
    yield from exclusively(_proxied(cluster))


def _proxied(cluster: Cluster) -> Generator[PyinfraCommand]:
    ours = [api_proxy.CONFIGURATION, api_proxy.MANIFEST]
    found = host.get_fact(Machine, files=[*ours, HOSTS])
    if found is None:
        yield from refuse("its files cannot be read; mend the error above, then run again")
        return
    wanted = api_proxy.files(cluster)
    differing = changes(wanted, {path: found.files[path] for path in ours if path in found.files})
    going = [] if wanted else files.removal(ours, found.files)
    old = found.files[HOSTS].text() if HOSTS in found.files else ""
    way = _way(cluster, old, several=bool(wanted))
    turned = changes(way, {HOSTS: found.files[HOSTS]} if way else {})
    for change in [*differing, *turned]:
        files.say(change)
    if not differing and not going and not turned:
        host.noop(f"its way to {len(cluster.control_planes)} control planes is as wanted")
        return
    if differing:
        yield changing(api_proxy.PULL)
    anew = any(change.file.path == api_proxy.MANIFEST for change in differing)
    for change in differing:
        yield files.write(change.file, "" if anew else api_proxy.RESTART)
    if wanted:
        yield FunctionCommand(_await_proxy, (cluster,), {})
    for change in turned:
        # kubelet keeps the connection that it has, wherever that leads.
        yield files.write(change.file, "systemctl try-restart kubelet")
    yield from going


def _way(cluster: Cluster, old: str, *, several: bool) -> list[TextFile]:
    """/etc/hosts, where host.py has written the API's name into it; `several` control planes."""
    named = hosts_file.api_name(old) == cluster.api_name
    if not named or not (several or hosts_file.proxied(old)):
        return []
    return [TextFile(HOSTS, hosts_file.of(cluster, old, proxied=several))]


def _await_proxy(state: State, host: Host, cluster: Cluster) -> bool:
    script = api_proxy.listens(cluster.api_port)

    def lacking() -> str | None:
        if remote.lines(host, script) is None:
            return f"nothing listens on 127.0.0.1:{cluster.api_port}"
        return None

    why = wait("its proxy to the API", _PROXY_LIMIT, lacking)
    if why is None:
        return True
    host.log(
        f"{why} after {_PROXY_LIMIT} s; look at `crictl ps -a` and `journalctl -u kubelet` on it,"
        " then run this again"
    )
    return False
