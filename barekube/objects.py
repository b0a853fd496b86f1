"""Objects as the API has them, and as it would store ours: a server-side dry run says it.

Asked side by side, for most of the time is spent on the way.
"""

import json
from collections.abc import Sequence
from typing import Any

from gevent.pool import Pool
from kubernetes.client.exceptions import ApiException
from kubernetes.dynamic.exceptions import (
    DynamicApiError,
    ForbiddenError,
    NotFoundError,
    ResourceNotFoundError,
)

from barekube import manifests
from barekube.api import AT_ONCE, Api

_CANNOT_SAY: tuple[type[Exception], ...] = (
    ResourceNotFoundError,
    DynamicApiError,
    ApiException,
)
Answer = tuple[manifests.Object | None, manifests.Object]


def labelled(api: Api, stage: str) -> list[manifests.Object]:
    """All objects of the kinds that stages make, with the label of one stage."""

    def ask(row: tuple[str, str]) -> list[manifests.Object]:
        version, kind = row
        resource = api.dynamic.resources.get(api_version=version, kind=kind)
        items = resource.get(label_selector=f"{manifests.STAGE_LABEL}={stage}").to_dict()["items"]
        return [{"apiVersion": version, "kind": kind} | each for each in items]

    # What kinds there are is asked once, before many ask at once.
    first, *rest = manifests.KINDS
    return [*ask(first), *(each for found in Pool(AT_ONCE).map(ask, rest) for each in found)]


def compared(
    api: Api,
    documents: Sequence[tuple[str, manifests.Object]],
    known: Sequence[manifests.Object],
    *,
    executing: bool,
) -> tuple[list[tuple[manifests.Object, list[str] | None]], list[str]]:
    """(what is to be sent, its difference) and why something cannot be. None: the API cannot say,
    for the namespace comes with it, or, in a preview, with what an earlier step would apply.

    `documents` are (file, object); `known` are objects as the API has them now.
    """
    there = {manifests.title(each): each for each in known}
    spaces = {each["metadata"]["name"] for _, each in documents if each["kind"] == "Namespace"}

    def ask(row: tuple[str, manifests.Object]) -> Answer | Exception | str:
        document = row[1]
        try:
            kind = _kind(api, document)
            if kind.namespaced and not document["metadata"].get("namespace"):
                return manifests.NO_NAMESPACE
            before = there.get(manifests.title(document)) or _live(kind, document)
            try:
                return before, sent(kind, document, dry_run=True)
            except NotFoundError as error:
                return _elsewhere(kind, document) or error
        except _CANNOT_SAY as error:
            return error

    todo: list[tuple[manifests.Object, list[str] | None]] = []
    troubles = []
    answers = Pool(AT_ONCE).map(ask, documents)
    for (file, document), answer in zip(documents, answers, strict=True):
        if isinstance(answer, str):
            troubles.append(f"{file}: {manifests.title(document)}: {answer}")
            continue
        if not isinstance(answer, Exception):
            before, after = answer
            diff = list(manifests.difference(before, after))
            if before is None or diff:
                todo.append((document, diff if before else []))
            continue
        space = document["metadata"].get("namespace")
        comes = not executing or (space in spaces and isinstance(answer, NotFoundError))
        if comes and isinstance(answer, ResourceNotFoundError | NotFoundError):
            todo.append((document, None))
        else:
            troubles.append(f"{file}: {manifests.title(document)}: {_trouble(answer, space)}")
    return todo, troubles


def _elsewhere(kind: Any, document: manifests.Object) -> Exception | None:  # noqa: ANN401
    """Why the API refuses an object whose namespace is not there, by a dry run in another one.

    What that namespace itself has or forbids (an object of that name, quotas) says nothing.
    """
    trial = {**document, "metadata": {**document["metadata"], "namespace": "default"}}
    if _live(kind, trial) is not None:
        return None
    try:
        sent(kind, trial, dry_run=True)
    except (ForbiddenError, NotFoundError):
        return None
    except _CANNOT_SAY as error:
        return error
    return None


def _trouble(error: Exception, space: str | None) -> str:
    if isinstance(error, ResourceNotFoundError):
        return "the API has no such kind; correct the manifest"
    if isinstance(error, NotFoundError):
        return f"there is no namespace {space}; correct the manifest"
    return f"the API refuses it: {reason(error)}; correct the manifest"


def live(api: Api, document: manifests.Object) -> manifests.Object | None:
    """An object as the API has it now."""
    try:
        return _live(_kind(api, document), document)
    except ResourceNotFoundError:
        return None


def _kind(api: Api, document: manifests.Object) -> Any:  # noqa: ANN401
    return api.dynamic.resources.get(api_version=document["apiVersion"], kind=document["kind"])


def _live(kind: Any, document: manifests.Object) -> manifests.Object | None:  # noqa: ANN401
    metadata = document["metadata"]
    try:
        answer = kind.get(name=metadata["name"], namespace=metadata.get("namespace"))
    except NotFoundError:
        return None
    result: manifests.Object = answer.to_dict()
    return result


def sent(kind: Any, document: manifests.Object, *, dry_run: bool) -> manifests.Object:  # noqa: ANN401
    """Server-side apply of one object; what the API stores, or would."""
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


def reason(error: Any) -> str:  # noqa: ANN401
    """What the API says of a request that it refuses."""
    try:
        return str(json.loads(error.body)["message"])
    except (ValueError, KeyError, TypeError):
        return str(error.reason)
