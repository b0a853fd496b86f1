"""A new password of the pod network, while all nodes run with the old one. Run by name, on the lab.

.venv/bin/python -m pytest tests/drills/test_password.py
"""

import base64
import hashlib
import json
import re
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from lab import pod_network
from tests.lab.conftest import Deploy
from tests.lab.recorder import objects

pytestmark = pytest.mark.skipif(
    pod_network.manifests() != pod_network.WEAVE,
    reason="needs Weave: its images are not in the bundle",
)
# Weave looks for a lost peer in growing steps.
_CONNECTED_LIMIT = 180


def _password(kubectl: list[str]) -> str:
    get = [
        "-n",
        "kube-system",
        "get",
        "secret",
        "weave-password",
        "-o",
        "jsonpath={.data.password}",
    ]
    shown = subprocess.run([*kubectl, *get], capture_output=True, text=True, check=True).stdout
    return base64.b64decode(shown).decode()


def _digest(password: str) -> str:
    return hashlib.sha256(password.encode()).hexdigest()


def _pods(kubectl: list[str]) -> list[dict[str, Any]]:
    """Weave's; none where the API does not answer."""
    get = ["-n", "kube-system", "get", "pods", "-l", "app.kubernetes.io/name=weave-net"]
    words = [*kubectl, *get, "-o", "json", "--request-timeout=10s"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    result: list[dict[str, Any]] = json.loads(done.stdout or "{}").get("items", [])
    return result


def _uids(kubectl: list[str]) -> dict[str, str]:
    return {pod["spec"]["nodeName"]: pod["metadata"]["uid"] for pod in _pods(kubectl)}


def _ready(pod: dict[str, Any]) -> bool:
    said = pod["status"].get("conditions", [])
    return any(each["type"] == "Ready" and each["status"] == "True" for each in said)


@contextmanager
def _watched(kubectl: list[str], names: list[str]) -> Iterator[list[frozenset[str]]]:
    """The nodes that have no Ready pod of Weave's, looked at again and again."""
    seen: list[frozenset[str]] = []
    done = threading.Event()

    def work() -> None:
        while not done.wait(0.3):
            if pods := _pods(kubectl):
                ready = {pod["spec"].get("nodeName") for pod in pods if _ready(pod)}
                seen.append(frozenset(names) - ready)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield seen
    finally:
        done.set()
        thread.join()


def _encrypted(deploy: Deploy) -> set[str]:
    """The hosts that Weave connects with every other one by its encrypted fast datapath."""
    look = deploy("deploys/verify.py", "-y", "--data", "look=true")
    ok = r"\[([\w-]+)\] +ok: fast datapath, to every node, encrypted"
    return set(re.findall(ok, look.text))


def test_a_new_password_is_rolled_out_node_by_node_and_shown_nowhere(
    deploy: Deploy, kubectl: list[str], names: list[str]
) -> None:
    old, pods_before = _password(kubectl), _uids(kubectl)
    assert set(pods_before) == set(names)
    with _watched(kubectl, names) as seen:
        renewed = ("--data", "password=weave-password")
        run = deploy("deploys/network.py", "-y", "-vvv", "--diff", *renewed)
    assert run.status == 0, run.text[-6000:]
    assert "Secret kube-system/weave-password: a new password" in run.text

    new = _password(kubectl)
    assert _digest(new) != _digest(old)
    for value in (old, new):
        # By any(): a failure is not to print it either.
        coded = base64.b64encode(value.encode()).decode()
        assert not any(each in run.text for each in (value, coded)), "a password was printed"

    pods = _uids(kubectl)
    assert set(pods) == set(names)
    assert [name for name in names if pods[name] == pods_before[name]] == []
    assert max(map(len, seen)) == 1, [sorted(each) for each in seen if len(each) > 1]
    # Else the watch was too slow to say anything.
    assert frozenset().union(*seen) == set(names)

    end = time.monotonic() + _CONNECTED_LIMIT
    while (connected := _encrypted(deploy)) != set(names):
        assert time.monotonic() < end, f"not encrypted to every node: {set(names) - connected}"

    objects_before = objects(kubectl)
    again = deploy("deploys/network.py", "-y")
    assert again.status == 0, again.text[-3000:]
    assert objects(kubectl) == objects_before
    assert _uids(kubectl) == pods
    assert _digest(_password(kubectl)) == _digest(new)
