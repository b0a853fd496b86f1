"""A living cluster against group_data: what differs, what may be changed, and what may not."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any

import yaml
from cryptography import x509

from barekube.manifests import LOADER
from barekube.text import unified

# On each ConfigMap: what we wanted when we wrote it last, and the digest of what kubeadm made of
# it. kubeadm fills in defaults, so that only these two tell a removed setting and a hand's edit.
ANNOTATION = "barekube/settings"
_RANGE = ("networking", "podSubnet")
# Of kubeadm's ClusterConfiguration, what stands in certificates, addresses and names for ever.
_FIXED = {
    ("clusterName",): "cluster_name",
    ("controlPlaneEndpoint",): "api_name (where it is None, cluster_name) or api_port",
    _RANGE: "IPALLOC_RANGE of the network's manifest",
    ("networking", "serviceSubnet"): "service_network",
    ("networking", "dnsDomain"): "the dnsDomain in cluster_configuration",
}
# All that the stages bring to the nodes, and, as the last three, what kubeadm takes up by itself
# when it next makes a certificate.
_ROLLED_OUT = {
    "apiVersion",
    "kind",
    "kubernetesVersion",
    "apiServer",
    "controllerManager",
    "scheduler",
    "encryptionAlgorithm",
    "certificateValidityPeriod",
    "caCertificateValidityPeriod",
}
# What a kubelet's own file has and the cluster's does not: it differs from node to node.
_OWN = ("containerRuntimeEndpoint", "resolvConf")
Object = dict[str, Any]


@dataclass(frozen=True)
class Document:
    """One of kubeadm's ConfigMaps in kube-system: its name, the key in it, and kubeadm's phase
    that writes it."""

    config_map: str
    key: str
    phase: str


CLUSTER = Document("kubeadm-config", "ClusterConfiguration", "upload-config kubeadm")
KUBELET = Document("kubelet-config", "kubelet", "upload-config kubelet")
PROXY = Document("kube-proxy", "config.conf", "addon kube-proxy")


def fixed(stored: Mapping[str, Any], wanted: Mapping[str, Any], noted: str | None) -> list[str]:
    """A sentence for each setting that differs and cannot change after init, or would change in
    kubeadm's ConfigMap alone. `noted` is our annotation on that."""
    kept = [_kept(path, _at(stored, path), _at(wanted, path)) for path in _FIXED]
    result = [each for each in kept if each]
    old, new = _at(stored, ("kubernetesVersion",)), _at(wanted, ("kubernetesVersion",))
    if old != new:
        result.append(
            f"the cluster runs {old} and group_data says {new}; run deploys/upgrade.py, or set"
            " kubernetes_version back"
        )
    former = json.loads(noted)["wanted"] if noted else {}
    for key in sorted({*former, *wanted} - _ROLLED_OUT - {path[0] for path in _FIXED}):
        # Of a removed one, what it was is known from the note only.
        value = wanted.get(key)
        known = former if noted else _part(stored, {key: value})
        if known.get(key) != value:
            result.append(
                f"{key} of cluster_configuration is not rolled out on a living cluster; set it back"
            )
    return result


def other_range(known: str | None, wanted: str) -> str | None:
    """A sentence if the manifests give pods addresses of another range than a living cluster."""
    return _kept(_RANGE, known, wanted)


def moved(known: str, wanted: str) -> str | None:
    """A sentence if group_data has the API at another name or port than a living cluster."""
    return _kept(("controlPlaneEndpoint",), known, wanted)


def _kept(path: tuple[str, ...], old: object, new: object) -> str | None:
    if old == new:
        return None
    return (
        f"{'.'.join(path)} of the cluster is {old!r} and cannot change after init;"
        f" set {_FIXED[path]} back, from {new!r}"
    )


def range_of(stored: Mapping[str, Any]) -> str | None:
    """The range of pods in a ClusterConfiguration."""
    found: str | None = _at(stored, _RANGE)
    return found


def _at(document: Mapping[str, Any], path: Sequence[str]) -> Any:  # noqa: ANN401
    value: Any = document
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def note(wanted: Mapping[str, Any], stored: str) -> str:
    """The annotation for a ConfigMap that was just written."""
    return json.dumps({"wanted": wanted, "stored": _digest(stored)}, sort_keys=True)


def carried(noted: str | None, before: str, after: str, version: str) -> str | None:
    """The annotation for a ConfigMap that kubeadm's upgrade to `version` has written anew, without
    ours: for what was as noted in `before`; None where it was not."""
    known = json.loads(noted) if noted else {}
    if known.get("stored") != _digest(before):
        return None
    wanted = known["wanted"]
    if "kubernetesVersion" in wanted:
        wanted |= {"kubernetesVersion": f"v{version}"}
    return note(wanted, after)


def adopted(wanted: Mapping[str, Any], stored: str) -> str | None:
    """The annotation for a ConfigMap of which a cut-off upgrade took ours away, where it is as
    wanted; None where it is not."""
    return note(wanted, stored) if _part(_load(stored), wanted) == wanted else None


def difference(
    title: str, wanted: Mapping[str, Any], stored: str, noted: str | None
) -> list[str] | None:
    """The diff of a setting, or None where it is as wanted.

    `stored` is the text in the ConfigMap, `noted` our annotation on it. A hand's edit shows as
    what of `wanted` is different there; where nothing is, some other line was edited.
    """
    known = json.loads(noted) if noted else {}
    if known.get("wanted") == wanted and known.get("stored") == _digest(stored):
        return None
    old = known.get("wanted")
    if known.get("stored") != _digest(stored):
        old = _part(_load(stored), wanted)
    if not noted and old == wanted:
        # As `kubeadm init` left it with what we gave it.
        return []
    diff = unified(title, _yaml(old), _yaml(wanted))
    return list(diff) or [f"{title}: edited by somebody, written anew"]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _load(text: str) -> Any:  # noqa: ANN401
    return yaml.load(text, LOADER)  # noqa: S506 - a safe one


def _yaml(value: Any) -> str:  # noqa: ANN401
    return yaml.safe_dump(value, sort_keys=True)


def _part(stored: Any, wanted: Any) -> Any:  # noqa: ANN401
    """Of `stored`, only what `wanted` speaks of; what kubeadm leaves out as empty is equal."""
    if isinstance(wanted, Mapping):
        there = stored if isinstance(stored, Mapping) else {}
        return {
            key: _part(there[key], value) if key in there else value
            for key, value in wanted.items()
            if key in there or not value
        }
    if isinstance(wanted, list) and isinstance(stored, list) and len(wanted) == len(stored):
        return [_part(old, new) for old, new in zip(stored, wanted, strict=True)]
    return stored


def expected(wanted: Mapping[str, Any], stored: str, noted: str | None) -> Object:
    """What kubeadm will have made of a setting once it is written; for the preview of what
    follows from it. kubeadm may write a value in another way than it was given (5m as 5m0s)."""
    if not difference("", wanted, stored, noted):
        return dict(_load(stored))
    former = json.loads(noted)["wanted"] if noted else {}
    there = _load(stored)
    return {k: v for k, v in there.items() if k in wanted or k not in former} | dict(wanted)


def kubelet_difference(file: str, wanted: Object) -> list[str]:
    """The diff between a node's /var/lib/kubelet/config.yaml and the cluster's settings."""
    old, new = _load(file) or {}, dict(wanted)
    for key in _OWN:
        old.pop(key, None)
        new.pop(key, None)
    if old == new:
        return []
    return list(unified("/var/lib/kubelet/config.yaml", _yaml(old), _yaml(new)))


def newer_than(started: datetime | None, written: str) -> str | None:
    """The first file that was written after the API server's start; `written` has a Unix time and
    a path a line. `started` None: it does not run, and will read all of them."""
    for line in written.splitlines():
        seconds, _, path = line.partition(" ")
        if started and int(seconds) > started.timestamp():
            return path
    return None


def unproven(kept: str, started: Mapping[str, datetime]) -> set[str]:
    """The components that have not been ready with their files since a change that was cut off.

    `kept` has a Unix time and a path a line, `started` the components that are ready. One that
    has not read its audit policy is found by newer_than().
    """
    result = set()
    for line in kept.splitlines():
        seconds, _, path = line.partition(" ")
        name = PurePosixPath(path).name.partition(".")[0]
        component = name if name.startswith("kube-") else "kube-apiserver"
        since = started.get(component)
        if since is None or (component == name and since.timestamp() < int(seconds)):
            result.add(component)
    return result


def certificate_names(pem: str) -> set[str]:
    """The names and addresses in a certificate."""
    certificate = x509.load_pem_x509_certificate(pem.encode())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return {str(each.value) for each in names}


def names_change(pem: str, wanted: Sequence[str]) -> str | None:
    """What changes in the API server's certificate, or None. Names that are in it and not in
    `wanted` (kubeadm's own, and former ones) do no harm and stay until it is renewed."""
    missing = sorted(set(wanted) - certificate_names(pem))
    return f"certificate of the API server: + {', '.join(missing)}" if missing else None


def other_pod(there: str, wanted: str) -> bool:
    """Whether two texts of a static pod's file make different pods."""
    try:
        return bool(_load(there) != _load(wanted))
    except yaml.YAMLError:
        return True
