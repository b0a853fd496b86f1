"""A living cluster follows group_data: shown as diffs, then done node by node, each until well."""

from collections.abc import Generator
from itertools import takewhile
from pathlib import PurePosixPath

import yaml
from gevent.lock import RLock
from kubernetes.client.exceptions import ApiException
from pyinfra import host, state
from pyinfra.api import FunctionCommand, Host, State, operation
from pyinfra.api.command import PyinfraCommand

from barekube import api as cluster_api
from barekube import encryption, kubeadm_config, living, nodes, settings
from barekube.api import Api, Trouble
from barekube.cluster import Cluster
from barekube.facts.living import KEPT, KEYS, WANTED, WRITTEN, SettingsFact
from barekube.facts.machine import Machine
from barekube.operations import change as kept
from barekube.operations import encryption as rotation
from barekube.operations import files, kubeadm, objects, roll, static_pods
from barekube.operations.joins import CONFIG, TAKE_CONFIG
from barekube.operations.order import (
    acts_for_the_cluster,
    answering,
    changing,
    led_by,
    refuse,
    to_come,
    wait,
)
from barekube.text import Change, FoundFile, TextFile, changes
from barekube.traces import other_address

KUBELET_FILE = "/var/lib/kubelet/config.yaml"
_MANIFESTS = "/etc/kubernetes/manifests"
_CERTIFICATE = "/etc/kubernetes/pki/apiserver.crt"
_SETTLED_LIMIT = 300
_one_at_a_time = RLock()
# The host whose kubelet is being restarted, and stays here if it does not come back.
_begun: list[str] = []


def _say(lines: list[str]) -> None:
    """A diff's title always, the rest of it if --diff was asked for."""
    for number, line in enumerate(lines if state.config.DIFF else lines[:1]):
        if number != 1:
            host.log(f"  {line}" if number else line.removeprefix("--- "))


def _api(cluster: Cluster) -> Api | None:
    """None where there is no API: the stage has said so before, or a preview precedes it."""
    try:
        return cluster_api.connect(cluster)
    except Trouble as trouble:
        host.noop(f"settings are compared once the API answers (now: {trouble})")
        return None


@operation()
def cluster_settings(cluster: Cluster) -> Generator[PyinfraCommand]:
    """kubeadm's, kubelets' and kube-proxy's settings in the cluster are group_data's.

    Done once, by the first control plane of the run; what cannot change is refused on each. No
    remote command where nothing differs.
    """
    yield from answering(_cluster_settings(cluster))


def _cluster_settings(cluster: Cluster) -> Generator[PyinfraCommand]:
    masters = settings.control_plane_hosts()
    acting = [each for each in masters if each in state.active_hosts]
    if host.name not in [each.name for each in acting]:
        away = [each.name for each in masters if state.is_host_in_limit(each)]
        if away and not acting and acts_for_the_cluster():
            host.log(f"{', '.join(away)}: not reached; nothing is created or changed in its place")
        host.noop("another control plane does it")
        return
    # What is refused here, none of the others goes on past.
    led_by(acting[0])
    api = _api(cluster)
    if api is None:
        return
    wanted = wanted_of(cluster)
    there = as_stored(api, living.CLUSTER)
    if wrong := _fixed(api, cluster, wanted[living.CLUSTER], *there):
        yield from refuse(*wrong)
        return
    if acting[0].name != host.name:
        host.noop("another control plane does it")
        return
    # {document: whether it is written anew}; what this run's own init has made is only noted.
    todo: dict[living.Document, bool] = {}
    said = []
    for document, values in wanted.items():
        stored, noted = there if document is living.CLUSTER else as_stored(api, document)
        title = f"ConfigMap kube-system/{document.config_map}"
        diff = living.difference(title, values, stored, noted)
        if diff is None:
            continue
        todo[document] = bool(noted) or not kubeadm.created
        if todo[document]:
            said.append(diff or [f"{title}: written anew, for it is not noted what made it"])
    if not todo:
        host.noop("the cluster's settings are group_data's")
        return
    if said and (why := roll.halted(among=masters)):
        yield from refuse(why)
        return
    for lines in said:
        _say(lines)
    if todo.get(living.PROXY):
        host.log("DaemonSet kube-system/kube-proxy: restart, node by node (its settings changed)")
    config = kubeadm_config.phase(cluster, cluster.node(host.name))
    for document, anew in todo.items():
        command = f"kubeadm init phase {document.phase} --config {CONFIG} >/dev/null"
        if anew:
            yield changing(f"{TAKE_CONFIG}; {command}", stdin=config)
        yield FunctionCommand(_note, (cluster, document, wanted[document], anew), {})


def wanted_of(cluster: Cluster) -> dict[living.Document, living.Object]:
    """What each of kubeadm's ConfigMaps is to say."""
    addresses = [node.address for node in cluster.control_planes]
    return {
        living.CLUSTER: kubeadm_config.cluster_configuration(cluster, addresses),
        living.KUBELET: kubeadm_config.kubelet_configuration(cluster),
        living.PROXY: kubeadm_config.proxy_configuration(cluster),
    }


def _fixed(
    api: Api, cluster: Cluster, wanted: living.Object, stored: str, noted: str | None
) -> list[str]:
    """A sentence for each thing that group_data or the inventory would change and nothing can."""
    result = living.fixed(yaml.safe_load(stored), wanted, noted)
    node = nodes.lookup(api, host.name)
    known = nodes.address(node) if node else ""
    if moved := other_address(host.name, known, cluster.node(host.name).address):
        result.append(moved)
    return result


def as_stored(api: Api, document: living.Document) -> tuple[str, str | None]:
    """What one of kubeadm's ConfigMaps says, and our annotation on it."""
    there = api.core.read_namespaced_config_map(document.config_map, "kube-system")
    return there.data[document.key], (there.metadata.annotations or {}).get(living.ANNOTATION)


def _note(
    state: State,
    host: Host,
    cluster: Cluster,
    document: living.Document,
    wanted: living.Object,
    anew: bool,
) -> bool:
    """Keep what was wanted and what kubeadm made of it; kube-proxy reads its own `anew`."""
    api = cluster_api.connect(cluster)
    stored, _ = as_stored(api, document)
    patch = {"metadata": {"annotations": {living.ANNOTATION: living.note(wanted, stored)}}}
    api.core.patch_namespaced_config_map(document.config_map, "kube-system", patch)
    if document is not living.PROXY or not anew:
        return True
    objects.restart(state, host, api, "kube-proxy", "kube-system")
    return objects.await_rollout(
        state, host, cluster, "DaemonSet kube-system/kube-proxy", "kube-proxy", "kube-system"
    )


@operation()
def control_plane(cluster: Cluster) -> Generator[PyinfraCommand]:
    """This control plane's static pods, audit rules and certificate are as group_data wants them.

    One round trip where nothing differs; a change is done when its pods are Ready again.
    """
    yield from answering(_control_plane(cluster))


def _control_plane(cluster: Cluster) -> Generator[PyinfraCommand]:
    api = _api(cluster)
    if api is None:
        return
    config = kubeadm_config.phase(cluster, cluster.node(host.name))
    texts = host.get_fact(SettingsFact, config=config)
    if texts is None:
        yield from refuse("its settings cannot be read; mend the error above, then run again")
        return
    audit = kubeadm_config.audit_policy(cluster)
    pods = [
        TextFile(f"{_MANIFESTS}/{PurePosixPath(path).name}", text, mode="600")
        for path, text in texts.items()
        if path.startswith(WANTED)
    ]
    there: dict[str, FoundFile] = {path: files.Text(text) for path, text in texts.items()}
    differing = changes([audit, *pods], there)
    names = kubeadm_config.cluster_configuration(
        cluster, [node.address for node in cluster.control_planes]
    )["apiServer"]["certSANs"]
    renamed = living.names_change(texts.get(_CERTIFICATE, ""), names)
    before = static_pods.running(api, host.name)
    server = before.get("kube-apiserver")
    newer = living.newer_than(server.started if server else None, texts.get(WRITTEN, ""))
    wanted = encryption.name(cluster.encryption_key)
    keys = texts.get(KEYS, "").split()
    rotates = _rotates(keys, wanted)
    cut_off = texts.get(KEPT, "")
    if not (differing or renamed or newer or cut_off or rotates):
        host.noop("its static pods are as group_data wants them")
        return
    if wrong := roll.halted(among=settings.control_plane_hosts()):
        yield from refuse(wrong)
        return
    if audit in [change.file for change in differing]:
        newer = audit.path
    # Kubelet replaces no container for a comment, and none is waited for.
    pods = [
        change.file
        for change in differing
        if change.file != audit
        and living.other_pod(texts.get(change.file.path, ""), change.file.content)
    ]
    touched = {PurePosixPath(file.path).stem for file in pods}
    touched |= living.unproven(cut_off, {name: each.started for name, each in before.items()})
    # It reads these files at its start only, and is given the time to end its requests.
    restarts = bool(newer) and "kube-apiserver" not in touched
    for change in differing:
        files.say(change)
    if renamed:
        host.log(renamed)
    if restarts:
        host.log(f"kube-apiserver: restart ({newer} newer than its start)")
    if cut_off:
        host.log("a change was cut off: done once its pods are ready with their files")
    if rotates:
        host.log(
            f"key of the Secrets in etcd: {', '.join(keys)} -> {wanted}, on all control planes,"
            " whose API servers restart one by one"
        )
    yield from _write(cluster, renamed, differing, [audit, *pods])
    if restarts:
        yield changing(rotation.RESTART)
        touched.add("kube-apiserver")
    if touched or renamed:
        yield FunctionCommand(static_pods.await_new, (cluster, before, sorted(touched)), {})
    if touched or cut_off:
        yield changing(kept.FORGET)
    if rotates:
        yield FunctionCommand(rotation.rotated, (cluster, wanted), {})


def _rotates(keys: list[str], wanted: str) -> bool:
    """Whether this control plane has all of them take up the key `wanted`: in a run the first
    that has another one, which a preview finds by looking at those before it."""
    if keys == [wanted] or state.is_executing:
        return keys != [wanted]
    before = takewhile(lambda each: each.name != host.name, settings.control_plane_hosts())
    return all(rotation.names(each) == [wanted] for each in before if each in state.active_hosts)


def _write(
    cluster: Cluster, renamed: str | None, differing: list[Change], risky: list[TextFile]
) -> Generator[PyinfraCommand]:
    """A new certificate if it is `renamed`, then the files, what was there kept before."""
    if renamed:
        pair = kubeadm_config.phase(cluster, cluster.node(host.name), certificates=_NEW_PAIR)
        yield changing(f"{TAKE_CONFIG}; {_RENEW}", stdin=pair)
    written = [change.file for change in differing]
    if taken := [file for file in written if file in risky]:
        yield kept.keep(taken)
    for file in written:
        yield files.write(file)


# Made beside the old pair with the cluster's own CA, then moved: a cut leaves a whole pair.
_NEW_PAIR = "/etc/kubernetes/.new-pki"
_RENEW = (
    f"rm -rf {_NEW_PAIR}; mkdir -m 700 {_NEW_PAIR}; cp /etc/kubernetes/pki/ca.* {_NEW_PAIR};"
    f" kubeadm init phase certs apiserver --config {CONFIG} >/dev/null; cd {_NEW_PAIR};"
    f" sync *; mv apiserver.key apiserver.crt /etc/kubernetes/pki/; sync; rm -r {_NEW_PAIR}"
)


@operation()
def kubelet(cluster: Cluster) -> Generator[PyinfraCommand]:
    """This host's kubelet runs with the cluster's settings; one host at a time, each until Ready.

    One round trip where nothing differs.
    """
    yield from answering(_kubelet(cluster))


def _kubelet(cluster: Cluster) -> Generator[PyinfraCommand]:
    api = _api(cluster)
    if api is None:
        return
    looked = host.get_fact(Machine, files=[KUBELET_FILE])
    if looked is None or KUBELET_FILE not in looked.files:
        if looked is None or state.is_executing:
            stage = cluster.node(host.name).stage
            yield from refuse(f"{KUBELET_FILE} cannot be read; run deploys/{stage}.py first")
        return
    wanted = kubeadm_config.kubelet_configuration(cluster)
    stored, noted = as_stored(api, living.KUBELET)
    if living.difference("", wanted, stored, noted) and not to_come("control_plane"):
        yield from refuse(
            "the cluster has not got group_data's settings of kubelets yet; run"
            " deploys/control_plane.py first"
        )
        return
    coming = living.expected(wanted, stored, noted)
    diff = living.kubelet_difference(looked.files[KUBELET_FILE].text(), coming)
    if not diff:
        host.noop("its kubelet runs with the cluster's settings")
        return
    _say(diff)
    host.log("kubelet: restart (its settings changed)")
    with _one_at_a_time:
        # One that never answered in this run was not lost by these settings.
        if wrong := roll.halted(_begun, among=state.activated_hosts):
            yield from refuse(wrong)
            return
        before = _renewed(api, host.name)
        if state.is_executing:
            _begun.append(host.name)
        yield changing(
            f"kubeadm upgrade node phase kubelet-config; sync {KUBELET_FILE};"
            " systemctl restart kubelet;"
            # kubeadm's copy of the file as it was; what it was comes from group_data.
            " rm -rf /etc/kubernetes/tmp/kubeadm-kubelet-config*;"
            " rmdir /etc/kubernetes/tmp 2>/dev/null || true"
        )
        yield FunctionCommand(_await_kubelet, (cluster, before), {})
        _begun.remove(host.name)


def _renewed(api: Api, name: str) -> object:
    try:
        lease = cluster_api.coordination(api).read_namespaced_lease(name, "kube-node-lease")
    except ApiException:
        return None
    return lease.spec.renew_time


def _await_kubelet(state: State, host: Host, cluster: Cluster, before: object) -> bool:
    def lacking() -> str | None:
        api = cluster_api.connect(cluster)
        node = nodes.lookup(api, host.name)
        if node is None or not nodes.is_ready(node):
            return nodes.why_not_ready(node) if node else "its node is gone"
        return None if _renewed(api, host.name) != before else "its kubelet is silent"

    why = wait("Ready", _SETTLED_LIMIT, lacking)
    if why is None:
        return True
    host.log(
        f"not Ready {_SETTLED_LIMIT} s after its kubelet's restart: {why}; correct group_data and"
        " run this again, or look at `journalctl -u kubelet` on it"
    )
    return False
