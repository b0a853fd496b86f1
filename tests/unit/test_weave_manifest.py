"""What is asked of the pod network's manifest, field by field."""

from pathlib import Path
from typing import Any

import pytest
import yaml

DOCUMENTS = list(yaml.safe_load_all(Path("manifests/weave/weave.yaml").read_text()))
POD: dict[str, Any] = next(
    each["spec"]["template"]["spec"] for each in DOCUMENTS if each["kind"] == "DaemonSet"
)
INIT, WEAVE, NPC = CONTAINERS = [*POD["initContainers"], *POD["containers"]]


def _set(container: dict[str, Any]) -> dict[str, Any]:
    """Its environment: values, or where they come from."""
    return {each["name"]: each.get("value", each.get("valueFrom")) for each in container["env"]}


def test_its_images_have_exact_tags_of_one_release() -> None:
    images = {each["name"]: each["image"] for each in CONTAINERS}
    assert images == {
        "weave-init": "docker.io/rajchaudhuri/weave-kube:2.9.0",
        "weave": "docker.io/rajchaudhuri/weave-kube:2.9.0",
        "weave-npc": "docker.io/rajchaudhuri/weave-npc:2.9.0",
    }
    assert _set(INIT)["WEAVE_VERSION"] == "2.9.0"


def test_it_writes_its_rules_where_kube_proxy_does_and_guesses_nothing() -> None:
    assert _set(WEAVE)["IPTABLES_BACKEND"] == _set(NPC)["IPTABLES_BACKEND"] == "nft"


def test_its_password_is_in_the_secret_and_it_does_not_start_without_one() -> None:
    # Not `optional`, which would start it without encryption.
    reference = {"secretKeyRef": {"name": "weave-password", "key": "password"}}
    assert _set(WEAVE)["WEAVE_PASSWORD"] == reference
    assert [each["kind"] for each in DOCUMENTS if each["kind"] == "Secret"] == []


def test_what_it_says_of_itself_is_said_on_loopback_only() -> None:
    assert _set(WEAVE)["WEAVE_METRICS_ADDR"] == "127.0.0.1:6782"
    # launch.sh's own default is loopback for HTTP, and no status for others.
    assert not {"WEAVE_HTTP_ADDR", "WEAVE_STATUS_ADDR"} & set(_set(WEAVE))
    assert "--metrics-addr=127.0.0.1:6781" in _set(NPC)["EXTRA_ARGS"].split()
    assert POD["hostNetwork"]
    assert [each.get("ports") for each in CONTAINERS] == [None] * 3


@pytest.mark.parametrize("container", [WEAVE, NPC], ids=lambda each: each["name"])
@pytest.mark.parametrize("probe", ["readinessProbe", "livenessProbe"])
def test_each_container_is_probed_on_loopback(container: dict[str, Any], probe: str) -> None:
    where = {"weave": ("/status", 6784), "weave-npc": ("/metrics", 6781)}[container["name"]]
    get = container[probe]["httpGet"]
    assert (get["host"], get["path"], get["port"]) == ("127.0.0.1", *where)


@pytest.mark.parametrize("container", CONTAINERS, ids=lambda each: each["name"])
def test_each_container_asks_for_what_it_needs_and_has_an_end(container: dict[str, Any]) -> None:
    resources = container["resources"]
    assert set(resources["requests"]) == {"cpu", "memory"}
    assert set(resources["limits"]) == {"memory"}


def test_it_runs_on_every_node_before_anything_else_and_is_rolled_node_by_node() -> None:
    assert POD["tolerations"] == [{"operator": "Exists"}]
    assert POD["priorityClassName"] == "system-node-critical"
    (spec,) = (each["spec"] for each in DOCUMENTS if each["kind"] == "DaemonSet")
    assert spec["updateStrategy"] == {"type": "RollingUpdate"}
