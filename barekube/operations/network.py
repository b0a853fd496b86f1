"""The pod network: its manifests applied, and all nodes Ready by it."""

import json
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

from kubernetes.client.exceptions import ApiException
from kubernetes.dynamic.exceptions import DynamicApiError, NotFoundError, ResourceNotFoundError
from pyinfra import host, state
from pyinfra.api import FunctionCommand, Host, State, StringCommand, operation
from pyinfra.api.command import PyinfraCommand

from barekube import api as cluster_api
from barekube import manifests, nodes, settings
from barekube.api import API_ERRORS, Api, Trouble
from barekube.operations.order import acts_for_the_cluster, answering, refuse, without_api

_READY_LIMIT = 300


@operation()
def applied(cluster: settings.Cluster, directory: Path) -> Generator[PyinfraCommand]:
    """The manifests of `directory` are what the API has; done once, by the first host that can.

    Compared by a server-side dry run; no remote command where nothing differs.
    """
    yield from answering(_applied(cluster, directory))


def _applied(cluster: settings.Cluster, directory: Path) -> Generator[PyinfraCommand]:
    if not acts_for_the_cluster():
        host.noop("another host of this run does it")
        return
    try:
        documents = manifests.read(directory)
    except manifests.BadManifest as error:
        yield from refuse(str(error))
        return
    try:
        api = cluster_api.connect(cluster)
    except Trouble as trouble:
        if not state.is_executing:
            for file, document in documents:
                host.log(f"{manifests.title(document)}: from {file}, not checked by the API")
            yield StringCommand("false")
            return
        yield from without_api(str(trouble))
        return
    todo, troubles = _compare(api, documents)
    if troubles:
        for sentence in troubles[:-1]:
            host.log(sentence)
        yield from refuse(troubles[-1])
        return
    if not todo:
        host.noop(f"{len(documents)} objects are as in {directory}")
        return
    for document, diff in todo:
        host.log(f"{manifests.title(document)}: {'changed' if diff else 'new'}")
        if state.config.DIFF:
            for line in diff:
                host.log(f"  {line}")
    yield FunctionCommand(_apply, (api, [document for document, _ in todo]), {})


def _compare(
    api: Api, documents: list[tuple[str, manifests.Object]]
) -> tuple[list[tuple[manifests.Object, list[str]]], list[str]]:
    todo: list[tuple[manifests.Object, list[str]]] = []
    troubles = []
    for file, document in documents:
        what = f"{file}: {manifests.title(document)}"
        try:
            kind = api.dynamic.resources.get(
                api_version=document["apiVersion"], kind=document["kind"]
            )
            live = _live(kind, document)
            after = _send(kind, document, dry_run=True)
        except ResourceNotFoundError:
            troubles.append(f"{what}: the API has no such kind; correct the manifest")
            continue
        except (DynamicApiError, ApiException) as error:
            troubles.append(f"{what}: the API refuses it: {_reason(error)}; correct the manifest")
            continue
        diff = list(manifests.difference(live, after))
        if live is None:
            todo.append((document, []))
        elif diff:
            todo.append((document, diff))
    return todo, troubles


def _live(kind: Any, document: manifests.Object) -> manifests.Object | None:  # noqa: ANN401
    metadata = document["metadata"]
    try:
        answer = kind.get(name=metadata["name"], namespace=metadata.get("namespace"))
    except NotFoundError:
        return None
    result: manifests.Object = answer.to_dict()
    return result


def _send(kind: Any, document: manifests.Object, *, dry_run: bool) -> manifests.Object:  # noqa: ANN401
    options = {"dry_run": "All"} if dry_run else {}
    answer = kind.server_side_apply(
        body=document,
        namespace=document["metadata"].get("namespace"),
        field_manager=manifests.MANAGER,
        force_conflicts=True,
        **options,
    )
    result: manifests.Object = answer.to_dict()
    return result


def _reason(error: Any) -> str:  # noqa: ANN401
    try:
        return str(json.loads(error.body)["message"])
    except (ValueError, KeyError, TypeError):
        return str(error.reason)


def _apply(state: State, host: Host, api: Api, documents: list[manifests.Object]) -> bool:
    for document in documents:
        kind = api.dynamic.resources.get(api_version=document["apiVersion"], kind=document["kind"])
        try:
            _send(kind, document, dry_run=False)
        except (DynamicApiError, ApiException) as error:
            host.log(f"{manifests.title(document)}: the API refuses it: {_reason(error)}")
            return False
    return True


@operation()
def ready(cluster: settings.Cluster) -> Generator[PyinfraCommand]:
    """This host's node is Ready. No remote command."""
    yield from answering(_ready(cluster))


def _ready(cluster: settings.Cluster) -> Generator[PyinfraCommand]:
    try:
        api = cluster_api.connect(cluster)
    except Trouble as trouble:
        if not state.is_executing:
            host.log(f"waits for {host.name} to be Ready, once {cluster.endpoint} answers")
            yield StringCommand("false")
            return
        yield from without_api(str(trouble))
        return
    node = nodes.lookup(api, host.name)
    if node is None and state.is_executing:
        yield from refuse(f"{host.name} is not in the cluster; run deploys/workers.py first")
        return
    if node is not None and nodes.is_ready(node):
        host.noop(f"node {host.name} is Ready")
        return
    host.log(f"waits for {host.name} to be Ready, {_READY_LIMIT} s at most")
    yield FunctionCommand(_await_ready, (cluster,), {})


def _await_ready(state: State, host: Host, cluster: settings.Cluster) -> bool:
    began = said = time.monotonic()
    lacking = ""
    while (waited := time.monotonic() - began) < _READY_LIMIT:
        try:
            node = nodes.lookup(cluster_api.connect(cluster), host.name)
        except API_ERRORS as error:
            node, lacking = None, cluster_api.phrase(error)
        if node is not None:
            if nodes.is_ready(node):
                return True
            lacking = nodes.why_not_ready(node)
        if time.monotonic() - said > 15:
            said = time.monotonic()
            host.log(f"waiting for Ready, {waited:.0f} s of {_READY_LIMIT} s: {lacking}")
        time.sleep(1)
    host.log(
        f"not Ready in {_READY_LIMIT} s: {lacking}; look at `kubectl describe node {host.name}`"
        f" and `kubectl -n kube-system get pods -o wide`, then run this again"
    )
    return False
