"""What the doors' manifests say: the DMZ holds, and what would open it is refused by name."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from barekube import door_manifests, doors, manifests

PODS = "10.32.0.0/12"
BOTH = ("manifests/traefik", "manifests/traefik/public")


def _documents(*directories: str) -> list[dict[str, Any]]:
    return [
        copy.deepcopy(document)
        for directory in directories
        for _, document in manifests.read(Path(directory))
    ]


def _one(documents: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    return next(each for each in documents if each["kind"] == kind)


def test_the_doors_as_they_stand_are_apart() -> None:
    documents = _documents(*BOTH)
    labels = {"w-1": {doors.LABEL: "internal"}, "w-2": {doors.LABEL: "public"}, "cp-1": {}}
    assert door_manifests.claimed_twice(documents, labels) == []
    assert door_manifests.dmz(documents, PODS, 6443) == []
    assert door_manifests.online(documents) == {"online"}


def test_a_host_that_two_doors_want_is_named() -> None:
    documents = _documents(*BOTH)
    internal = _one(documents, "DaemonSet")
    del internal["spec"]["template"]["spec"]["nodeSelector"]
    assert door_manifests.claimed_twice(documents, {"w-2": {doors.LABEL: "public"}}) == [
        f"w-2 would carry traefik-internal and traefik-public, which both want its port {port};"
        " correct their nodeSelector"
        for port in (80, 443)
    ]


@pytest.mark.parametrize("spec", [None, {}, {"template": {"spec": {"containers": None}}}])
def test_a_door_that_is_not_written_as_kubernetes_wants_it_is_named(spec: object) -> None:
    documents = _documents("manifests/traefik/public")
    _one(documents, "DaemonSet")["spec"] = spec
    words = "DaemonSet traefik-public/traefik is not written as Kubernetes wants it"
    with pytest.raises(manifests.BadManifest, match=words):
        door_manifests.claimed_twice(documents, {})
    with pytest.raises(manifests.BadManifest, match=words):
        door_manifests.dmz(documents, PODS, 6443)


Documents = list[dict[str, Any]]


def _the(documents: Documents, title: str) -> dict[str, Any]:
    return next(each for each in documents if manifests.title(each) == title)


def _egress(documents: Documents) -> list[dict[str, Any]]:
    egress: list[dict[str, Any]] = _the(documents, POLICY)["spec"]["egress"]
    return egress


def _arguments(documents: Documents) -> list[str]:
    pod = _the(documents, "DaemonSet traefik-public/traefik")["spec"]["template"]["spec"]
    arguments: list[str] = pod["containers"][0]["args"]
    return arguments


def _serves_another(documents: Documents) -> None:
    place = next(i for i, each in enumerate(_arguments(documents)) if "ingress.namespaces" in each)
    _arguments(documents)[place] += ",shop"


def _another_is_bound(documents: Documents) -> None:
    other = copy.deepcopy(_the(documents, "RoleBinding online/traefik-public"))
    other["metadata"]["namespace"] = "shop"
    documents.append(other)


def _has_an_api(documents: Documents) -> None:
    _arguments(documents).append("--API=true")


def _peer(**peer: Any) -> Callable[[Documents], None]:  # noqa: ANN401
    return lambda documents: _egress(documents).append({"to": [peer]})


def _goes_everywhere(documents: Documents) -> None:
    _egress(documents).append({"ports": [{"port": 80}]})


def _a_second_policy_that_comes_first(documents: Documents) -> None:
    wide = copy.deepcopy(_the(documents, POLICY))
    wide["metadata"]["name"] = "wide"
    wide["spec"]["egress"] = [{"to": [_namespace("shop")]}]
    documents.insert(0, wide)


def _dns_on_every_port(documents: Documents) -> None:
    del _egress(documents)[1]["ports"]


def _pods_are_not_left_out(documents: Documents) -> None:
    _egress(documents)[2]["to"][0]["ipBlock"]["except"] = ["10.64.0.0/12"]


def _no_policy_holds_it(documents: Documents) -> None:
    _the(documents, POLICY)["spec"]["podSelector"] = {"matchLabels": {"a": "b"}}


def _online_has_no_policy(documents: Documents) -> None:
    documents.remove(_the(documents, "NetworkPolicy online/online"))


def _bound_to(role: str) -> Callable[[Documents], None]:
    def change(documents: Documents) -> None:
        _the(documents, f"ClusterRoleBinding {WIDE}")["roleRef"]["name"] = role

    return change


def _is_a_subject_of_the_other_door(documents: Documents) -> None:
    subjects = _the(documents, "ClusterRoleBinding traefik-internal")["subjects"]
    subjects.append({"kind": "ServiceAccount", "name": "traefik", "namespace": "traefik-public"})


def _its_role_reads_secrets(documents: Documents) -> None:
    _the(documents, f"ClusterRole {WIDE}")["rules"][0]["resources"].append("secrets")


def _its_role_writes(documents: Documents) -> None:
    _the(documents, f"ClusterRole {WIDE}")["rules"][0]["verbs"].append("patch")


def _bound_to_another_role_in_online(documents: Documents) -> None:
    _the(documents, "RoleBinding online/traefik-public")["roleRef"]["name"] = "admin"


def _namespace(name: str) -> dict[str, Any]:
    return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}


POLICY, WIDE = "NetworkPolicy traefik-public/traefik", "traefik-public-cluster"
_NAMES = "kubernetes.io/metadata.name"


def _list(what: str, names: str, bound: str = "online") -> str:
    return (
        f"the public door's {what} ({names}) are not the namespaces that have a RoleBinding"
        f" ({bound}); name the same in namespaces.yaml and public.yaml"
    )


def _egress_is(names: str) -> list[str]:
    return [_list("policy's egress", names)]


def _too_wide(role: str, name: str = WIDE) -> list[str]:
    return [
        f"ClusterRoleBinding {name} ({role}) gives the public door more of the whole cluster than"
        " ingressclasses and nodes, as every namespace's Secrets; bind by namespace"
    ]


_BY_OPERATOR = {"key": _NAMES, "operator": "NotIn", "values": ["online"]}
_BY_LABEL = {"key": "online", "operator": "In", "values": ["online"]}


@pytest.mark.parametrize(
    ("change", "problems"),
    [
        (_serves_another, [_list("namespaces that it serves", "online, shop")]),
        (
            _another_is_bound,
            [
                _list("namespaces that it serves", "online", "online, shop"),
                _list("policy's egress", "online", "online, shop"),
                "namespace shop is online and has no NetworkPolicy of its own; repeat that of"
                " online, in namespaces.yaml, with its name",
            ],
        ),
        (_has_an_api, ["the public door's arguments switch its API on; take that out"]),
        (_goes_everywhere, _egress_is("any other, online")),
        (_peer(), _egress_is("any other, online")),
        (_peer(namespaceSelector={}), _egress_is("any other, online")),
        (_peer(podSelector={}), _egress_is("online, traefik-public")),
        (_peer(**_namespace("shop")), _egress_is("online, shop")),
        (
            _peer(namespaceSelector={"matchLabels": {"team": "shop"}}),
            _egress_is("any other, online"),
        ),
        (
            _peer(namespaceSelector={"matchExpressions": [_BY_OPERATOR]}),
            _egress_is("any other, online"),
        ),
        (
            _peer(namespaceSelector={"matchExpressions": [_BY_LABEL]}),
            _egress_is("any other, online"),
        ),
        (_a_second_policy_that_comes_first, _egress_is("online, shop")),
        (_dns_on_every_port, _egress_is("kube-system, online")),
        (
            _pods_are_not_left_out,
            [
                "the public door's policy lets it reach pods by an ipBlock; name 10.32.0.0/12 in"
                " its except (IPALLOC_RANGE of the network's manifest)"
            ],
        ),
        (
            _no_policy_holds_it,
            [
                "no policy says what the public door's pods may reach; give public.yaml one with"
                " `podSelector: {}` and `policyTypes: [Egress]`"
            ],
        ),
        (
            _online_has_no_policy,
            [
                "namespace online is online and has no NetworkPolicy of its own; repeat that of"
                " online, in namespaces.yaml, with its name"
            ],
        ),
        (_bound_to("traefik-public"), _too_wide("traefik-public")),
        (_bound_to("traefik-internal"), _too_wide("traefik-internal")),
        (_bound_to("cluster-admin"), _too_wide("cluster-admin")),
        (_is_a_subject_of_the_other_door, _too_wide("traefik-internal", "traefik-internal")),
        (_its_role_reads_secrets, _too_wide(WIDE)),
        (_its_role_writes, _too_wide(WIDE)),
        (
            _bound_to_another_role_in_online,
            ["RoleBinding traefik-public to admin; what is online is bound to traefik-public"],
        ),
    ],
)
def test_what_would_open_the_dmz_is_refused_by_name(
    change: Callable[[Documents], None], problems: list[str]
) -> None:
    documents = _documents(*BOTH)
    change(documents)
    assert door_manifests.dmz(documents, PODS, 6443) == problems


def test_a_port_of_the_api_that_the_policy_does_not_let_through_is_named_with_its_line() -> None:
    documents = _documents(*BOTH)
    assert door_manifests.dmz(documents, PODS, 8443) == [
        "the public door's policy keeps it from the API, whose port is 8443 (api_port); write"
        " `- {protocol: TCP, port: 8443}` below its ipBlock in public.yaml"
    ]
    _egress(documents)[2]["ports"][0]["port"] = 8443
    assert door_manifests.dmz(documents, PODS, 8443) == []


def test_an_address_outside_the_pods_may_be_reached() -> None:
    documents = _documents(*BOTH)
    _egress(documents).append({"to": [{"ipBlock": {"cidr": "192.0.2.0/24"}}]})
    assert door_manifests.dmz(documents, PODS, 6443) == []


DOORS = {
    door: _the(_documents(*BOTH), f"DaemonSet traefik-{door}/traefik")
    for door in ("internal", "public")
}


@pytest.mark.parametrize("door", DOORS)
def test_a_doors_pod_is_nobody_in_particular_and_has_no_more_than_it_needs(door: str) -> None:
    pod = DOORS[door]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert {key: pod["securityContext"][key] for key in ("runAsNonRoot", "seccompProfile")} == {
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers"} & set(pod)
    assert [next(iter(set(volume) - {"name"})) for volume in pod["volumes"]] == ["projected"]
    assert pod["nodeSelector"] == {doors.LABEL: door}
    ports = {each["containerPort"]: each.get("hostPort") for each in container["ports"]}
    assert ports == {8000: 80, 8443: 443, 8080: None}
    assert set(container["resources"]["requests"]) == {"cpu", "memory"}
    assert "memory" in container["resources"]["limits"]
    for probe in ("readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"] == {"path": "/ping", "port": "traefik"}


@pytest.mark.parametrize("door", DOORS)
def test_a_door_drains_before_it_ends_and_its_pods_fight_for_no_port(door: str) -> None:
    spec = DOORS[door]["spec"]
    assert spec["updateStrategy"] == {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0},
    }
    pod = spec["template"]["spec"]
    arguments = dict(each.split("=", 1) for each in pod["containers"][0]["args"])
    for point in ("web", "websecure"):
        lifecycle = f"--entrypoints.{point}.transport.lifecycle."
        times = [arguments[f"{lifecycle}{each}"] for each in _GRACE]
        assert all(int(each.removesuffix("s")) > 0 for each in times)
        assert (
            sum(int(each.removesuffix("s")) for each in times)
            < (pod["terminationGracePeriodSeconds"])
        )


_GRACE = ("requestacceptgracetimeout", "gracetimeout")


@pytest.mark.parametrize("door", DOORS)
def test_a_door_believes_no_header_about_its_client(door: str) -> None:
    (container,) = DOORS[door]["spec"]["template"]["spec"]["containers"]
    arguments = container["args"]
    assert not [each for each in arguments if "forwardedheaders" in each.lower()]
    for point in ("web", "websecure"):
        assert f"--entrypoints.{point}.http.underscoreheadersstrategy=delete" in arguments


def test_only_the_public_doors_pods_bear_the_taint_of_its_hosts() -> None:
    assert "tolerations" not in DOORS["internal"]["spec"]["template"]["spec"]
    assert DOORS["public"]["spec"]["template"]["spec"]["tolerations"] == [
        {"key": doors.TAINT["key"], "operator": "Exists", "effect": doors.TAINT["effect"]}
    ]


def test_the_roles_of_the_doors_are_no_wider_than_their_provider_needs() -> None:
    read = ["get", "list", "watch"]
    services = (["services", "secrets"], ["endpointslices"], ["ingresses"])
    wanted = {
        "traefik-internal": (
            ["services", "secrets", "nodes"],
            ["endpointslices"],
            ["ingresses", "ingressclasses"],
        ),
        "traefik-public": services,
        "traefik-public-cluster": (["nodes"], ["ingressclasses"]),
    }
    roles = [each for each in _documents(*BOTH) if each["kind"] == "ClusterRole"]
    found = {
        role["metadata"]["name"]: tuple(rule["resources"] for rule in role["rules"])
        for role in roles
    }
    assert found == wanted
    assert all(rule["verbs"] == read for role in roles for rule in role["rules"])


def test_only_the_internal_class_is_the_default() -> None:
    classes = [each for each in _documents(*BOTH) if each["kind"] == "IngressClass"]
    key = "ingressclass.kubernetes.io/is-default-class"
    found = {
        each["metadata"]["name"]: each["metadata"].get("annotations", {}).get(key)
        for each in classes
    }
    assert found == {"internal": "true", "public": None}


def test_the_pages_outrank_an_ingress_that_takes_their_name() -> None:
    """Traefik's own rank of a router is the length of its rule."""
    door = yaml.safe_load(
        _the(_documents(*BOTH), "ConfigMap traefik-internal/traefik")["data"]["door.yaml"]
    )
    pages = _documents("manifests/network-page")
    annotations = _the(pages, "Ingress network-page/network-page")["metadata"]["annotations"]
    ranks = [
        door["http"]["routers"]["dashboard"]["priority"],
        int(annotations["traefik.ingress.kubernetes.io/router.priority"]),
    ]
    # What a 32-bit Traefik takes at most.
    assert all(100_000 < rank <= 2**31 - 1 - 1000 for rank in ranks)
