"""Kubernetes objects of a directory of manifests: compared, applied, rolled out."""

import secrets
import time
from collections.abc import Generator, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import yaml
from kubernetes import client as k8s
from kubernetes.client.exceptions import ApiException
from kubernetes.dynamic.exceptions import ResourceNotFoundError
from pyinfra import host, state
from pyinfra.api import FunctionCommand, Host, State, StringCommand, operation
from pyinfra.api.command import PyinfraCommand

from barekube import api as cluster_api
from barekube import living, manifests, nodes, objects
from barekube.api import Api, Trouble, found, phrase
from barekube.cluster import Cluster
from barekube.operations.order import (
    answering,
    leads,
    refuse,
    to_come,
    wait,
    waited_for,
    without_api,
)

_ROLLOUT_LIMIT = 900
# What a machine that is being started may take to be Ready.
_HELD_LIMIT = 120
_HOLDS = "is not Ready and holds the others' turn"
_SLOW_LIMIT = 180

# {object: how it goes} of what a run finds left over.
left_over: dict[str, str] = {}


def applied(cluster: Cluster, directories: Sequence[Path]) -> Generator[PyinfraCommand]:
    """The manifests of `directories` are what the API has.

    Compared by a server-side dry run; no remote command where nothing differs.
    """
    try:
        documents = [each for directory in directories for each in manifests.read(directory)]
    except manifests.BadManifest as error:
        yield from refuse(str(error))
        return
    where = " and ".join(map(str, directories))
    yield from brought(cluster, documents, where, whole=documents)


def brought(
    cluster: Cluster,
    documents: Sequence[tuple[str, manifests.Object]],
    where: str,
    whole: Sequence[tuple[str, manifests.Object]] = (),
) -> Generator[PyinfraCommand]:
    """These objects are what the API has. `whole` is all that carries their stage's label; what
    else does is left over."""
    try:
        api = cluster_api.connect(cluster)
    except Trouble as trouble:
        if to_come("control_plane"):
            for file, document in documents:
                _say_unchecked(file, document)
            yield StringCommand("false")
            return
        yield from without_api(str(trouble))
        return
    stage = manifests.stage_of([document for _, document in whole])
    mine = objects.labelled(api, stage) if stage else []
    todo, troubles = objects.compared(api, documents, mine, executing=state.is_executing)
    if troubles:
        yield from refuse(*troubles)
        return
    going = _say_left_over(manifests.left_over(mine, [document for _, document in whole]))
    if not todo and not going:
        host.noop(f"{len(documents)} objects are as in {where}")
        return
    for document, diff in todo:
        if diff is None:
            _say_unchecked(where, document)
            continue
        host.log(f"{manifests.title(document)}: {'changed' if diff else 'new'}")
        if state.config.DIFF:
            for line in diff:
                host.log(f"  {line}")
    yield FunctionCommand(apply, (api, [document for document, _ in todo]), {})
    if going:
        yield FunctionCommand(_prune, (api, going), {})


def _say_unchecked(where: str, document: manifests.Object) -> None:
    host.log(f"{manifests.title(document)}: from {where}, not checked by the API")


def _say_left_over(documents: Sequence[manifests.Object]) -> list[manifests.Object]:
    """Name what the manifests have no more; what of it is to be deleted."""
    going = []
    for document in documents:
        title = manifests.title(document)
        prunable = manifests.pruned(document)
        if prunable and host.data.get("prune"):
            host.log(f"{title}: deleted, for it is in the manifests no more")
            going.append(document)
            continue
        by_hand = f"by hand: {manifests.by_hand(document)}"
        remedy = "--data prune=true deletes it" if prunable else by_hand
        host.log(f"{title}: left over; {remedy}")
        # pyinfra asks an operation twice, before a run and in it.
        left_over[title] = remedy
    return going


def _prune(state: State, host: Host, api: Api, documents: list[manifests.Object]) -> bool:
    for document in documents:
        metadata = document["metadata"]
        kind = api.dynamic.resources.get(api_version=document["apiVersion"], kind=document["kind"])
        kind.delete(name=metadata["name"], namespace=metadata.get("namespace"))
    return True


def apply(state: State, host: Host, api: Api, documents: list[manifests.Object]) -> bool:
    """Send the objects, in their order; False, with the reason said, at the first refused one."""
    for document in documents:
        title = manifests.title(document)
        try:
            lacking = wait(title, _SLOW_LIMIT, partial(_sent, api, document))
        except _Refused as refused:
            host.log(f"{title}: the API refuses it: {refused}; correct its manifest")
            return False
        if lacking:
            host.log(f"{title}: not applied in {_SLOW_LIMIT} s: {lacking}; run this again")
            return False
    return True


class _Refused(Exception):
    """The API's reason."""


def _sent(api: Api, document: manifests.Object) -> str | None:
    """Send an object. A phrase: the server is too busy now, and it is to be sent again."""
    began = time.monotonic()
    try:
        kind = api.dynamic.resources.get(api_version=document["apiVersion"], kind=document["kind"])
        objects.sent(kind, document, dry_run=False)
    except ResourceNotFoundError:
        raise _Refused("it has no such kind") from None
    except ApiException as error:
        # What a server says that is too busy is no refusal.
        if error.status in (429, 500, 503, 504):
            return phrase(error)
        raise _Refused(objects.reason(error)) from None
    if document["kind"] == "CustomResourceDefinition":
        # Each makes the server put its whole description together anew: a slow one gets as long
        # to rest as it worked.
        time.sleep(min(time.monotonic() - began, 5))
    return None


def other_range(cluster: Cluster) -> str | None:
    """A sentence if the pod network's manifests have another range of pods than the one that the
    cluster was made with."""
    try:
        api = cluster_api.connect(cluster)
    except Trouble:
        return None  # What follows says so.
    there = api.core.read_namespaced_config_map(living.CLUSTER.config_map, "kube-system").data
    known = living.range_of(yaml.safe_load(there[living.CLUSTER.key]))
    return living.other_range(known, cluster.pod_network)


@operation()
def password(
    cluster: Cluster, secret: str, key: str, used_by: str, directories: Sequence[Path]
) -> Generator[PyinfraCommand]:
    """Secret kube-system/`secret` holds a password that was made once, here, and is never shown.

    `used_by` is the DaemonSet that runs with it: where that is there and the Secret is not, a new
    one would split it. `--data password=<secret>` makes a new one. None is made where the API
    refuses the manifests of `directories`, which come next, or their range of pods is another one.
    No remote command.
    """
    yield from answering(_password(cluster, secret, key, used_by, directories))


def _password(
    cluster: Cluster, name: str, key: str, used_by: str, directories: Sequence[Path]
) -> Generator[PyinfraCommand]:
    if not leads():
        return
    try:
        api = cluster_api.connect(cluster)
    except Trouble as trouble:
        if not to_come("control_plane"):
            yield from without_api(str(trouble))
            return
        host.log(f"Secret kube-system/{name}: made, if it is not there once the API answers")
        yield StringCommand("false")
        return
    there = found(api.core.read_namespaced_secret, name, "kube-system")
    if there is not None and not (there.data or {}).get(key):
        yield from refuse(
            f"Secret kube-system/{name} has no {key}; delete it, then run this again with --data"
            f" password={name}"
        )
        return
    renew = host.data.get("password") == name
    if there is not None and not renew:
        host.noop(f"its password is kept in Secret kube-system/{name}")
        return
    if not renew and found(api.apps.read_namespaced_daemon_set, used_by, "kube-system"):
        yield from refuse(
            f"Secret kube-system/{name} is gone, and {used_by} runs with what was in it; restore"
            f" it, or make a new one with --data password={name} (pods do not reach each other"
            " until the last node has it)"
        )
        return
    if wrong := other_range(cluster):
        yield from refuse(wrong)
        return
    documents = [each for directory in directories for each in manifests.read(directory)]
    _, troubles = objects.compared(api, documents, [], executing=state.is_executing)
    if troubles:
        yield from refuse(*troubles)
        return
    new = f"a new password, with which DaemonSet kube-system/{used_by} restarts, node by node"
    host.log(f"Secret kube-system/{name}: {new if there else 'made'}")
    yield FunctionCommand(_save_password, (api, name, key), {})


def _save_password(state: State, host: Host, api: Api, name: str, key: str) -> bool:
    body = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": "kube-system", "labels": manifests.OURS},
        "stringData": {key: secrets.token_urlsafe(32)},
    }
    kind = api.dynamic.resources.get(api_version="v1", kind="Secret")
    objects.sent(kind, body, dry_run=False)
    return True


@operation()
def rolled_out(cluster: Cluster, directories: Sequence[Path]) -> Generator[PyinfraCommand]:
    """The DaemonSets of `directories` run as they are wanted, on every node, with the Secrets that
    there are; a Secret that is newer than a pod rolls them, node by node. No remote command."""
    yield from answering(_rolled_out(cluster, directories))


def _rolled_out(cluster: Cluster, directories: Sequence[Path]) -> Generator[PyinfraCommand]:
    if not leads():
        return
    try:
        documents = [each for directory in directories for _, each in manifests.read(directory)]
    except manifests.BadManifest as error:
        yield from refuse(str(error))
        return
    wanted = [each for each in documents if each["kind"] == "DaemonSet"]
    try:
        api = cluster_api.connect(cluster)
    except Trouble as trouble:
        if not to_come("control_plane"):
            yield from without_api(str(trouble))
        return
    there = []
    for document in wanted:
        name, space = document["metadata"]["name"], document["metadata"]["namespace"]
        title = manifests.title(document)
        live = found(api.apps.read_namespaced_daemon_set, name, space)
        if live is None:
            # A preview before the first run.
            continue
        newer = _newer_secrets(api, live, space)
        if newer:
            host.log(f"{title}: restart, node by node ({', '.join(newer)} newer than its pods)")
        there.append((title, name, space, newer))
    for title, name, space, newer in there:
        if newer:
            yield FunctionCommand(restart, (api, name, space), {})
        if lacking := unfinished(api, name, space):
            limit = f"{_ROLLOUT_LIMIT} s at most: {lacking}"
            given = (cluster, title, name, space)
            yield from waited_for(f"{title}, {limit}", await_rollout, *given)
    host.noop(f"{len(wanted)} DaemonSets run as they are wanted")


def _newer_secrets(api: Api, live: k8s.V1DaemonSet, space: str) -> list[str]:
    """The Secrets that are newer than a pod that was started with them. On a machine that is not
    Ready no pod becomes younger, so that those say nothing."""
    wanted = manifests.secrets_of(live.spec.template.spec)
    if not wanted:
        return []
    running, _ = _pods(api, live, space)
    oldest = min((pod.metadata.creation_timestamp for pod in running), default=None)
    result = []
    for name in wanted:
        secret = found(api.core.read_namespaced_secret, name, space)
        if secret is None or oldest is None:
            continue
        written = max(each.time for each in secret.metadata.managed_fields)
        if written > oldest:
            result.append(f"Secret {name}")
    return result


def _pods(api: Api, live: k8s.V1DaemonSet, space: str) -> tuple[list[k8s.V1Pod], list[k8s.V1Pod]]:
    """Its pods, and apart from them those on nodes that are not Ready."""
    labels = ",".join(f"{key}={value}" for key, value in live.spec.selector.match_labels.items())
    pods = api.core.list_namespaced_pod(space, label_selector=labels).items
    dead = {each.metadata.name for each in api.core.list_node().items if not nodes.is_ready(each)}
    here = [pod for pod in pods if pod.spec.node_name not in dead]
    return here, [pod for pod in pods if pod.spec.node_name in dead]


def restart(state: State, host: Host, api: Api, name: str, space: str) -> bool:
    """As `kubectl rollout restart` does it; the annotation is not ours to take away again."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    annotations = {"kubectl.kubernetes.io/restartedAt": now}
    patch = {"spec": {"template": {"metadata": {"annotations": annotations}}}}
    api.apps.patch_namespaced_daemon_set(name, space, patch, field_manager="barekube-restart")
    return True


def unfinished(api: Api, name: str, space: str) -> str | None:
    """What a DaemonSet lacks until its pods run as wanted, those on nodes that are not Ready left
    out: a dead machine keeps no stage waiting."""
    return _rollout(api, name, space)[0]


def replacing(api: Api, name: str, space: str) -> str | None:
    """The same, but nothing where only a machine that is not Ready holds the rollout: no pod is
    replaced meanwhile."""
    lacking, held = _rollout(api, name, space)
    return None if held else lacking


def _rollout(api: Api, name: str, space: str) -> tuple[str | None, bool]:
    """What a DaemonSet lacks, and whether that is only for machines that are not Ready."""
    live = api.apps.read_namespaced_daemon_set(name, space)
    status = live.status
    if (status.observed_generation or 0) < live.metadata.generation:
        return "its controller has not seen the change yet", False
    wanted = status.desired_number_scheduled
    updated, runs = status.updated_number_scheduled or 0, status.number_available or 0
    if updated >= wanted and runs >= wanted:
        return None, False
    running, dead = _pods(api, live, space)
    away = sorted(pod.spec.node_name for pod in dead)
    wanted -= len(away)
    if updated >= wanted and runs >= wanted:
        return None, False
    why = next((trouble for pod in [*running, *dead] if (trouble := nodes.pod_trouble(pod))), "")
    held = bool(away) and updated < wanted
    if held:
        # They count among the pods that the DaemonSet allows to be away, often all of them.
        why = f"{', '.join(away)} {_HOLDS}"
    said = f"{updated} of {wanted} pods are up to date, {runs} ready{why and f' ({why})'}"
    return said, held and runs >= wanted


def await_rollout(
    state: State, host: Host, cluster: Cluster, title: str, name: str, space: str
) -> bool:
    began = time.monotonic()
    held = ""

    def look() -> str | None:
        nonlocal held
        lacking = unfinished(cluster_api.connect(cluster), name, space)
        if lacking and _HOLDS in lacking and time.monotonic() - began > _HELD_LIMIT:
            # Waiting longer brings no dead machine back.
            held = lacking
            return None
        return lacking

    lacking = wait(title, _ROLLOUT_LIMIT, look) or held or None
    if lacking is None:
        return True
    remedy = f"look at `kubectl -n {space} get pods -o wide`"
    if _HOLDS in lacking:
        remedy = "give it power, or let it leave with deploys/remove_node.py"
    host.log(f"{title} is not rolled out: {lacking}; {remedy}, then run this again")
    return False
