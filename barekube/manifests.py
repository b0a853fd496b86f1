"""Plain YAML of a directory, read and compared; no templates, nothing filled in."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from barekube.text import unified

MANAGER = "barekube"
STAGE_LABEL = "barekube/stage"
# What is made by a stage and stands in no manifest.
OURS = {"app.kubernetes.io/managed-by": MANAGER}
Object = dict[str, Any]
# What the API server writes by itself; it would drown the difference.
_SERVER_OWN = ("creationTimestamp", "generation", "managedFields", "resourceVersion", "uid")


class BadManifest(Exception):
    """A manifest that is no use; the message names the file and says why."""


def read(directory: Path) -> list[tuple[str, Object]]:
    """(file, object) of every document in the directory's *.yaml, in the order of their names.

    Raises BadManifest if there is none, or one that is not YAML or no object.
    """
    result = []
    for path in sorted(directory.glob("*.yaml")):
        try:
            documents = list(yaml.safe_load_all(path.read_text()))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise BadManifest(f"{path}{_mistake(error)}; correct it") from None
        for document in documents:
            if document is None:
                continue
            if not isinstance(document, dict) or not {"apiVersion", "kind"} <= set(document):
                raise BadManifest(
                    f"{path} holds a document that is no Kubernetes object; correct or remove it"
                )
            metadata = document.get("metadata")
            if not isinstance(metadata, dict) or not metadata.get("name"):
                raise BadManifest(
                    f"{path} holds a {document['kind']} without a name; give it metadata.name"
                )
            result.append((str(path), document))
    if not result:
        raise BadManifest(f"{directory} has no manifest; say where they are in group_data")
    return result


def _mistake(error: yaml.YAMLError | UnicodeDecodeError) -> str:
    """Where a file goes wrong, and how: ', line 3: it is not YAML: could not find ...'."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        return f", line {error.problem_mark.line + 1}: it is not YAML: {error.problem}"
    return f": it is not YAML: {' '.join(str(error).split())}"


# What a stage may take away again, and what it never does: data, or what others hang on.
_PRUNED = (
    ("v1", "ConfigMap"),
    ("v1", "Service"),
    ("v1", "ServiceAccount"),
    ("apps/v1", "DaemonSet"),
    ("apps/v1", "Deployment"),
    ("networking.k8s.io/v1", "Ingress"),
    ("networking.k8s.io/v1", "IngressClass"),
    ("networking.k8s.io/v1", "NetworkPolicy"),
    ("policy/v1", "PodDisruptionBudget"),
    ("rbac.authorization.k8s.io/v1", "ClusterRole"),
    ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding"),
    ("rbac.authorization.k8s.io/v1", "Role"),
    ("rbac.authorization.k8s.io/v1", "RoleBinding"),
)
_KEPT = (
    ("v1", "Namespace"),
    ("v1", "PersistentVolume"),
    ("v1", "PersistentVolumeClaim"),
    ("v1", "Secret"),
    ("apiextensions.k8s.io/v1", "CustomResourceDefinition"),
    ("storage.k8s.io/v1", "StorageClass"),
)
KINDS = (*_PRUNED, *_KEPT)


def stage_of(documents: Sequence[Object]) -> str | None:
    """The stage whose label the manifests carry."""
    labels = (each["metadata"].get("labels", {}) for each in documents)
    return next((each[STAGE_LABEL] for each in labels if STAGE_LABEL in each), None)


def left_over(live: Sequence[Object], documents: Sequence[Object]) -> list[Object]:
    """Of the live objects with a stage's label, those that its manifests do not have any more."""
    wanted = {title(each) for each in documents}
    return [each for each in live if title(each) not in wanted]


def pruned(document: Object) -> bool:
    """Whether `--data prune=true` deletes such an object when it is left over."""
    return (document["apiVersion"], document["kind"]) in _PRUNED


def by_hand(document: Object) -> str:
    """The command that deletes an object."""
    metadata = document["metadata"]
    space = f" -n {metadata['namespace']}" if metadata.get("namespace") else ""
    return f"kubectl delete{space} {document['kind'].lower()} {metadata['name']}"


def secrets_of(document: Object) -> list[str]:
    """The Secrets that a workload's containers get as environment, which they read at their start
    only."""
    spec = document["spec"]["template"]["spec"]
    names = []
    for container in [*spec.get("initContainers", ()), *spec["containers"]]:
        for variable in container.get("env", ()):
            reference = variable.get("valueFrom", {}).get("secretKeyRef")
            if reference:
                names.append(reference["name"])
    return list(dict.fromkeys(names))


def variables(document: Object) -> dict[str, str | None]:
    """What a workload's containers get as environment, by name; None: from somewhere else.

    Raises AttributeError, KeyError or TypeError if it is not written as Kubernetes wants it.
    """
    return {
        variable["name"]: variable.get("value")
        for container in document["spec"]["template"]["spec"]["containers"]
        for variable in container.get("env", ())
    }


def condition(live: Object, kind: str) -> bool:
    """Whether an object's status says so of itself."""
    said = (live.get("status") or {}).get("conditions") or []
    return any(each.get("type") == kind and each.get("status") == "True" for each in said)


def title(document: Object) -> str:
    """'DaemonSet kube-system/weave-net'."""
    metadata = document["metadata"]
    space = metadata.get("namespace")
    return f"{document['kind']} {space + '/' if space else ''}{metadata['name']}"


def shown(document: Object) -> str:
    """The YAML of an object as the API has it, without what the server writes by itself."""
    copy = {key: value for key, value in document.items() if key != "status"}
    metadata = dict(copy.get("metadata", {}))
    for key in _SERVER_OWN:
        metadata.pop(key, None)
    annotations = {
        key: value
        for key, value in metadata.get("annotations", {}).items()
        if key != "deprecated.daemonset.template.generation"
    }
    metadata.pop("annotations", None)
    if annotations:
        metadata["annotations"] = annotations
    copy["metadata"] = metadata
    if copy.get("kind") == "Secret":
        for field in ("data", "stringData"):
            if field in copy:
                copy[field] = {key: "(secret)" for key in copy[field]}
    return yaml.safe_dump(copy, sort_keys=True)


def difference(live: Object | None, wanted: Object) -> Sequence[str]:
    """The unified diff of the live object and what the API server would store."""
    old = shown(live) if live else ""
    return unified(title(wanted), old, shown(wanted))
