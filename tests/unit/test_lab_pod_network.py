"""Which pod network the lab has, by what the bundle has images of."""

from pathlib import Path

import pytest

from lab import pod_network
from lab.errors import LabError
from lab.pod_network import OWN, WEAVE

LAB = "barekube.lab/network:1"


@pytest.fixture
def present(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, object]]:
    """The images that the bundle has: name -> platforms."""
    found: dict[str, dict[str, object]] = {
        LAB: dict.fromkeys(("linux/amd64", "linux/arm/v7")),
        **{name: {"linux/amd64": None} for name in pod_network.images(WEAVE)},
    }
    monkeypatch.setattr(pod_network, "STATE", tmp_path)
    monkeypatch.setattr(pod_network, "_CHOICE", tmp_path / "pod-network")
    monkeypatch.setattr(pod_network, "_present", lambda: found)
    return found


def test_it_is_weave_where_the_bundle_has_it_for_every_host(present: object) -> None:
    pod_network.choose([])
    assert pod_network.manifests() == WEAVE


def test_a_lab_with_a_host_that_has_no_weave_has_a_network_of_its_own(
    present: object, capsys: pytest.CaptureFixture[str]
) -> None:
    pod_network.choose(["arm"])
    assert pod_network.manifests() == OWN
    assert "the bundle has no images of Weave for all hosts" in capsys.readouterr().out


def test_images_of_weave_that_were_added_for_a_board_alone_are_none_for_the_other_hosts(
    present: dict[str, dict[str, object]],
) -> None:
    for name in pod_network.images(WEAVE):
        present[name] = {"linux/arm/v7": None}
    pod_network.choose([])
    assert pod_network.manifests() == OWN


def test_a_host_that_cannot_take_part_in_the_network_that_there_is_is_refused(
    present: object,
) -> None:
    pod_network.choose([])
    with pytest.raises(LabError, match=r"has no docker.io/rajchaudhuri/weave-kube:2.9.0 for arm, "):
        pod_network.choose(["arm"])
