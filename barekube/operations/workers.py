"""kubeadm join of a worker; finished if it was cut off."""

from collections.abc import Generator

from pyinfra import host
from pyinfra.api import FunctionCommand, StringCommand, operation
from pyinfra.api.command import PyinfraCommand

from barekube import kubeadm_config, nodes, tokens
from barekube import traces as t
from barekube.cluster import Cluster
from barekube.operations import joins, kubeadm
from barekube.operations.order import answering, changing, refuse, to_come, without_api


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
    if decision.step is t.Step.NOTHING and t.SERVING in mine.there:
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
