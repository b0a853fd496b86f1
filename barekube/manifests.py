"""Plain YAML of a directory, read and compared; no templates, nothing filled in."""

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import yaml
from kubernetes import client as k8s

from barekube.text import unified

MANAGER = "barekube"
STAGE_LABEL = "barekube/stage"
# What is made by a stage and stands in no manifest.
OURS = {"app.kubernetes.io/managed-by": MANAGER}
Object = dict[str, Any]
# What the API server writes by itself; it would drown the difference.
_SERVER_OWN = ("creationTimestamp", "generation", "managedFields", "resourceVersion", "uid")
_UNSHOWN_ANNOTATIONS = (
    "deprecated.daemonset.template.generation",
    # Repeats the whole object, a Secret's values too.
    "kubectl.kubernetes.io/last-applied-configuration",
)
_SECRET = ("data", "stringData")
# A run reads its manifests several times; libyaml does so five times as fast.
LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class BadManifest(Exception):
    """A manifest that is no use; the message names the file and says why."""


def read(directory: Path) -> list[tuple[str, Object]]:
    """(file, object) of every document in the directory's *.yaml, in the order of their names;
    hidden files, as editors leave them, are passed over.

    Raises BadManifest if there is none, or one that is not YAML or no object.
    """
    result = []
    for path in sorted(directory.glob("[!.]*.y*ml")):
        if path.suffix == ".yml":
            raise BadManifest(f"{path} is not read; end its name with .yaml, or move it away")
        if path.suffix != ".yaml":
            continue
        try:
            documents = list(yaml.load_all(path.read_text(), LOADER))
        except OSError as error:
            raise BadManifest(
                f"{path} cannot be read ({error.strerror}); bring it back or remove it"
            ) from None
        except (yaml.YAMLError, ValueError) as error:
            raise BadManifest(f"{path}{_mistake(error)}; correct it") from None
        for document in documents:
            if document is None:
                continue
            if not isinstance(document, dict) or not all(
                document.get(key) and isinstance(document[key], str)
                for key in ("apiVersion", "kind")
            ):
                raise BadManifest(
                    f"{path} holds a document that is no Kubernetes object; correct or remove it"
                )
            metadata = document.get("metadata")
            if not isinstance(metadata, dict) or not metadata.get("name"):
                raise BadManifest(
                    f"{path} holds a {document['kind']} without a name; give it metadata.name"
                )
            if fault := _fault(document):
                raise BadManifest(f"{path}: {title(document)}: {fault}")
            result.append((str(path), document))
    if not result:
        raise BadManifest(f"{directory} has no manifest; say where they are in group_data")
    return result


def _fault(document: Object) -> str | None:
    """Why an object is no use, where the API would not say it, or would quote a Secret's value."""
    metadata = document["metadata"]
    for key in ("name", "namespace"):
        if not isinstance(metadata.get(key, ""), str):
            return f"metadata.{key} is no text; correct it"
    for key in ("labels", "annotations"):
        if not isinstance(metadata.get(key, {}), dict):
            return f"metadata.{key} is no mapping; fill it or take it out"
    kind = document["kind"]
    known = (document["apiVersion"], kind) in KINDS and kind not in CLUSTER_WIDE
    if known and not metadata.get("namespace"):
        return NO_NAMESPACE
    for key in _SECRET if kind == "Secret" else ():
        values = document.get(key, {})
        if not isinstance(values, dict) or not all(isinstance(v, str) for v in values.values()):
            return f"{key} is no mapping of names to texts; put its values in quotes"
    return None


def _mistake(error: yaml.YAMLError | ValueError) -> str:
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
# Those of them that belong to no namespace.
CLUSTER_WIDE = (
    "ClusterRole",
    "ClusterRoleBinding",
    "CustomResourceDefinition",
    "IngressClass",
    "Namespace",
    "PersistentVolume",
    "StorageClass",
)
NO_NAMESPACE = "it is in no namespace; give it metadata.namespace"


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


def secrets_of(pod: k8s.V1PodSpec) -> list[str]:
    """The Secrets that a pod's containers get as environment, which they read at their start
    only."""
    names = []
    for container in [*(pod.init_containers or ()), *pod.containers]:
        for variable in container.env or ():
            reference = variable.value_from and variable.value_from.secret_key_ref
            if reference:
                names.append(reference.name)
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


def images(document: Object) -> tuple[str, ...]:
    """What a workload's containers run, each once. Raises as `variables` does."""
    pod = document["spec"]["template"]["spec"]
    containers = [*pod.get("initContainers", ()), *pod["containers"]]
    return tuple(dict.fromkeys(each["image"] for each in containers if each.get("image")))


def condition(live: Object, kind: str) -> bool:
    """Whether an object's status says so of itself."""
    said = (live.get("status") or {}).get("conditions") or []
    return any(each.get("type") == kind and each.get("status") == "True" for each in said)


def title(document: Object) -> str:
    """'DaemonSet kube-system/weave-net'."""
    metadata = document["metadata"]
    space = f"{metadata['namespace']}/" if metadata.get("namespace") else ""
    return f"{document['kind']} {space}{metadata['name']}"


def shown(document: Object, before: Object | None = None) -> str:
    """The YAML of an object as the API has it, without what the server writes by itself.

    A Secret's values are not in it, only which of them differ from those that it has `before`.
    """
    copy = {key: value for key, value in document.items() if key != "status"}
    metadata = dict(copy.get("metadata", {}))
    for key in _SERVER_OWN:
        metadata.pop(key, None)
    annotations = {
        key: value
        for key, value in metadata.get("annotations", {}).items()
        if key not in _UNSHOWN_ANNOTATIONS
    }
    metadata.pop("annotations", None)
    if annotations:
        metadata["annotations"] = annotations
    copy["metadata"] = metadata
    if copy.get("kind") == "Secret":
        new = _values(copy)
        old = _values(before) if before else {}
        for key in _SECRET:
            copy.pop(key, None)
        if new:
            copy["data"] = {
                key: "(another secret)" if old.get(key, value) != value else "(secret)"
                for key, value in new.items()
            }
    return yaml.safe_dump(copy, sort_keys=True)


def _values(secret: Object) -> dict[str, bytes]:
    """A Secret's values; what is given as text goes before what is given in base64."""
    data, texts = ((secret.get(key) or {}).items() for key in _SECRET)
    coded = {key: base64.b64decode(value or "") for key, value in data}
    return coded | {key: value.encode() for key, value in texts}


def difference(live: Object | None, wanted: Object) -> Sequence[str]:
    """The unified diff of the live object and what the API server would store."""
    old = shown(live) if live else ""
    return unified(title(wanted), old, shown(wanted, live))
