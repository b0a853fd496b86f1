"""Networks and hosts that must have no address in common."""

from dataclasses import replace

import pytest

from barekube.cluster import Cluster, Node, contradiction, overlap

HOME = Cluster(
    name="home",
    version="1.37.2",
    api_name="api.home",
    api_port=6443,
    service_network="10.96.0.0/12",
    pod_network="10.32.0.0/12",
    nodes=(Node("cp-1", "192.0.2.11", control_plane=True),),
)


@pytest.mark.parametrize(
    ("cluster", "sentence"),
    [
        (HOME, None),
        (
            replace(HOME, service_network="10.40.0.0/16"),
            "the network of pods (10.32.0.0/12, IPALLOC_RANGE of the network's manifest) and that"
            " of services (10.40.0.0/16, service_network of group_data) overlap; change one of"
            " them",
        ),
        (
            replace(HOME, pod_network="192.0.0.0/16"),
            "cp-1: its address 192.0.2.11 is in the network of pods (192.0.0.0/16); choose another"
            " network for pods",
        ),
        (
            replace(HOME, service_network="192.0.2.0/24"),
            "cp-1: its address 192.0.2.11 is in the network of services (192.0.2.0/24); choose"
            " another network for services",
        ),
        (
            replace(HOME, nodes=(*HOME.nodes, Node("w-1", "192.0.2.11", control_plane=False))),
            "cp-1 and w-1 have the same address 192.0.2.11; correct the inventory",
        ),
    ],
    ids=["apart", "pods and services", "pods and hosts", "services and hosts", "two hosts"],
)
def test_networks_and_hosts_have_no_address_in_common(
    cluster: Cluster, sentence: str | None
) -> None:
    assert overlap(cluster) == sentence


@pytest.mark.parametrize(("port", "masters", "refused"), [(443, 3, True), (443, 1, False)])
def test_a_port_that_only_root_may_have_is_none_for_the_proxies_of_workers(
    port: int, masters: int, refused: bool
) -> None:
    named = tuple(Node(f"cp-{n}", f"192.0.2.1{n}", control_plane=True) for n in range(masters))
    wrong = contradiction(replace(HOME, nodes=named, api_port=port))
    assert bool(wrong and "api_port is 443" in wrong) is refused
