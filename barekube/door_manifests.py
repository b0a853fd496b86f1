"""What the doors' manifests say: who wants a host's ports, what is online, what keeps it apart.

They are the user's own plain YAML, so that what would open the DMZ is looked for and refused.
"""

import ipaddress
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from barekube.doors import PUBLIC, space
from barekube.manifests import BadManifest, Object, title


@contextmanager
def _read(document: Object) -> Iterator[None]:
    """What is written as Kubernetes does not want it, the API would name; we look first."""
    try:
        yield
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        raise BadManifest(
            f"{title(document)} is not written as Kubernetes wants it; correct its manifest"
        ) from None


def claimed_twice(documents: Sequence[Object], nodes: Mapping[str, Mapping[str, str]]) -> list[str]:
    """A sentence for each node (name to labels) that two DaemonSets with a port of its want.

    Raises BadManifest.
    """
    holders: dict[tuple[str, int], list[str]] = {}
    for document in documents:
        if document["kind"] != "DaemonSet":
            continue
        with _read(document):
            spec = document["spec"]["template"]["spec"]
            wanted = spec.get("nodeSelector", {}).items()
            ports = {
                port["hostPort"]
                for container in spec["containers"]
                for port in container.get("ports", ())
                if "hostPort" in port
            }
        for node, labels in nodes.items():
            if wanted <= labels.items():
                for port in ports:
                    holders.setdefault((node, port), []).append(document["metadata"]["namespace"])
    return [
        f"{node} would carry {' and '.join(spaces)}, which both want its port {port}; correct their"
        " nodeSelector"
        for (node, port), spaces in sorted(holders.items())
        if len(spaces) > 1
    ]


def online(documents: Sequence[Object]) -> set[str]:
    """The namespaces that are online: those in which the public door is bound to a role."""
    return {
        document["metadata"]["namespace"]
        for document in documents
        if document["kind"] == "RoleBinding" and _binds(document)
    }


def _binds(document: Object) -> bool:
    """Whether a binding is one of the public door's pods."""
    account, groups = f"system:serviceaccount:{space(PUBLIC)}:", "system:serviceaccounts"
    everybody = (groups, f"{groups}:{space(PUBLIC)}", "system:authenticated")
    return any(
        subject.get("namespace") == space(PUBLIC)
        or subject["name"] in everybody
        or subject["name"].startswith(account)
        for subject in document.get("subjects") or ()
    )


def dmz(documents: Sequence[Object], pods: str, api_port: int) -> list[str]:
    """A sentence for each way in which the public door's lists of what is online differ, and for
    each in which it could do or reach more than it is to.

    The list is that of the RoleBindings; `pods` is the range of pod addresses, which the door's
    way to the API has to leave out. Raises BadManifest.
    """
    listed: set[str] = set()
    served: set[str] = set()
    policies: dict[str, list[Object]] = {}
    roles: dict[str, Any] = {}
    problems = []
    for document in documents:
        with _read(document):
            kind, metadata = document["kind"], document["metadata"]
            if kind == "RoleBinding":
                listed |= online([document])
            elif kind == "ClusterRole" and "aggregationRule" not in document:
                roles[metadata["name"]] = document.get("rules") or ()
            elif kind == "DaemonSet" and metadata["namespace"] == space(PUBLIC):
                arguments = document["spec"]["template"]["spec"]["containers"][0]["args"]
                served |= _served(arguments)
                problems += _switched_on(arguments)
            elif kind == "NetworkPolicy":
                policies.setdefault(metadata["namespace"], []).append(document)
    for document in documents:
        with _read(document):
            if document["kind"] in ("RoleBinding", "ClusterRoleBinding") and _binds(document):
                problems += _bound(document, roles)
    reached: set[str] = set()
    for policy in policies.get(space(PUBLIC), ()):
        with _read(policy):
            reached |= _reached(policy)
            problems += _ways_out(policy, pods)
    problems += _kept_in(policies.get(space(PUBLIC), ()), api_port)
    for what, names in (("namespaces that it serves", served), ("policy's egress", reached)):
        if names != listed:
            problems.append(
                f"the public door's {what} ({', '.join(sorted(names)) or 'none'}) are not the"
                f" namespaces that have a RoleBinding ({', '.join(sorted(listed)) or 'none'});"
                " name the same in namespaces.yaml and public.yaml"
            )
    problems += [
        f"namespace {name} is online and has no NetworkPolicy of its own; repeat that of online,"
        " in namespaces.yaml, with its name"
        for name in sorted(listed - set(policies))
    ]
    return problems


def _served(arguments: Sequence[str]) -> set[str]:
    prefix = "--providers.kubernetesingress.namespaces="
    return {
        name
        for each in arguments
        if each.startswith(prefix)
        for name in each.removeprefix(prefix).split(",")
    }


def _switched_on(arguments: Sequence[str]) -> list[str]:
    said = [each.lower() for each in arguments]
    if any(each.startswith("--api") and not each.endswith("=false") for each in said):
        return ["the public door's arguments switch its API on; take that out"]
    return []


# What its provider reads of the whole cluster, because it does not start without.
_CLUSTER_WIDE = {"nodes", "ingressclasses"}
_READING = {"get", "list", "watch"}


def _bound(binding: Object, roles: Mapping[str, Any]) -> list[str]:
    """What is wrong with a binding of the public door's; `roles` are the rules of those that the
    manifests have."""
    role, name = binding["roleRef"]["name"], binding["metadata"]["name"]
    if binding["kind"] == "RoleBinding":
        if role == space(PUBLIC):
            return []
        return [f"RoleBinding {name} to {role}; what is online is bound to {space(PUBLIC)}"]
    if role in roles and all(
        set(rule.get("resources", ())) <= _CLUSTER_WIDE and set(rule["verbs"]) <= _READING
        for rule in roles[role]
    ):
        return []
    return [
        f"ClusterRoleBinding {name} ({role}) gives the public door more of the whole cluster than"
        f" {' and '.join(sorted(_CLUSTER_WIDE))}, as every namespace's Secrets; bind by namespace"
    ]


_NAME = "kubernetes.io/metadata.name"
_DNS = {
    "namespaceSelector": {"matchLabels": {_NAME: "kube-system"}},
    "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
}
# What stands for peers that are chosen by anything but the names of their namespaces.
_ANY = "any other"


def _reached(policy: Object) -> set[str]:
    """The namespaces to whose pods a policy of the door's lets it, DNS left out."""
    result: set[str] = set()
    for rule in policy["spec"].get("egress") or ():
        everybody: list[Object] = [{}]
        ports = [port.get("port") for port in rule.get("ports") or ()]
        for peer in rule.get("to") or everybody:
            if "ipBlock" not in peer and not (peer == _DNS and set(ports) == {53}):
                result |= _named(peer)
    return result


def _named(peer: Mapping[str, Any]) -> set[str]:
    if "namespaceSelector" not in peer:
        return {space(PUBLIC) if "podSelector" in peer else _ANY}
    selector = peer["namespaceSelector"]
    labels, expressions = selector.get("matchLabels", {}), selector.get("matchExpressions", ())
    known = set(labels) <= {_NAME} and all(
        each["key"] == _NAME and each["operator"] == "In" for each in expressions
    )
    names = {*labels.values(), *(name for each in expressions for name in each.get("values", ()))}
    return names if known and names else {_ANY}


def _blocks(policy: Object) -> Iterator[tuple[Mapping[str, Any], Any]]:
    """Each ipBlock of a policy's egress, with the ports of its rule."""
    for rule in policy["spec"].get("egress") or ():
        for peer in rule.get("to") or ():
            if "ipBlock" in peer:
                yield peer["ipBlock"], rule.get("ports") or ()


def _ways_out(policy: Object, pods: str) -> list[str]:
    inside = ipaddress.IPv4Network(pods)
    for block, _ in _blocks(policy):
        wide = ipaddress.ip_network(block["cidr"], strict=False)
        left_out = [ipaddress.ip_network(each, strict=False) for each in block.get("except") or ()]
        spared = [each for each in left_out if isinstance(each, ipaddress.IPv4Network)]
        if wide.overlaps(inside) and not any(map(inside.subnet_of, spared)):
            return [
                "the public door's policy lets it reach pods by an ipBlock; name"
                f" {pods} in its except (IPALLOC_RANGE of the network's manifest)"
            ]
    return []


def _kept_in(policies: Sequence[Object], api_port: int) -> list[str]:
    """Whether policies hold the door's pods at all, and leave them the API."""
    result = []
    whole = [each["spec"] for each in policies if not each["spec"].get("podSelector")]
    if not any("Egress" in (each.get("policyTypes") or ()) for each in whole):
        result.append(
            "no policy says what the public door's pods may reach; give public.yaml one with"
            " `podSelector: {}` and `policyTypes: [Egress]`"
        )
    open_to = [ports for each in policies for _, ports in _blocks(each)]
    if not any(not ports or api_port in [port.get("port") for port in ports] for ports in open_to):
        result.append(
            f"the public door's policy keeps it from the API, whose port is {api_port} (api_port);"
            f" write `- {{protocol: TCP, port: {api_port}}}` below its ipBlock in public.yaml"
        )
    return result
