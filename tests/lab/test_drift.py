"""Every kind of drift at once: what the preview lists is what the run does, by the recorder."""

import json
import re
import subprocess
import time

from tests.lab.conftest import Deploy, Run
from tests.lab.recorder import host_state, objects, ssh

SCHEDULER = "/etc/kubernetes/manifests/kube-scheduler.yaml"
ROLE = "ClusterRole traefik-internal"
EXTRA = "ConfigMap kube-system/left-over"
DRIFT = {
    ("cp-1", f"file {SCHEDULER}"),
    ("worker-1", "file /etc/containerd/config.toml"),
    ("worker-1", "file /etc/sysctl.d/90-barekube.conf"),
    ("worker-1", "unit containerd"),
    ("worker-2", "unit kubelet"),
    ("cluster", ROLE),
    ("cluster", EXTRA),
}


def _break_all(kubectl: list[str]) -> None:
    flag = "- --bind-address=127.0.0.1"
    # Not by sed -i: kubelet would take its scratch file for one more static pod.
    edited = f"sed 's/^\\( *\\){flag}$/&\\n\\1- --v=1/' {SCHEDULER}"
    ssh(
        "cp-1",
        f"umask 077; {edited} >/etc/kubernetes/by-hand; mv /etc/kubernetes/by-hand {SCHEDULER}",
    )
    ssh("worker-1", "echo '# by hand' >>/etc/containerd/config.toml")
    ssh("worker-1", "rm /etc/sysctl.d/90-barekube.conf")
    verb = [{"op": "add", "path": "/rules/0/verbs/-", "value": "deletecollection"}]
    patch = ["patch", "clusterrole", "traefik-internal", "--type=json", "-p", json.dumps(verb)]
    subprocess.run([*kubectl, *patch], check=True)
    extra = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": "left-over",
            "namespace": "kube-system",
            "labels": {
                "app.kubernetes.io/managed-by": "barekube",
                "barekube/stage": "network",
            },
        },
    }
    subprocess.run([*kubectl, "create", "-f", "-"], input=json.dumps(extra), text=True, check=True)
    # Until the other scheduler runs, so that the run does not meet it half started.
    pod = ["-n", "kube-system", "get", "pod", "kube-scheduler-cp-1", "-o", "json"]
    end = time.monotonic() + 90
    while True:
        done = subprocess.run([*kubectl, *pod], capture_output=True, text=True, check=False)
        now = json.loads(done.stdout or "{}")
        started = now.get("status", {}).get("containerStatuses", [{}])
        if '"--v=1"' in done.stdout and started[0].get("ready"):
            break
        assert time.monotonic() < end, "kubelet did not take the changed static pod"
        time.sleep(1)
    ssh("worker-2", "systemctl stop kubelet")


def _listed(preview: Run) -> set[tuple[str, str]]:
    """(host, thing) of each line of a preview that says a change; waits are none."""
    result = set()
    for host, words in re.findall(r"^ *\[([\w-]+)\] +(.+)$", preview.text, re.MULTILINE):
        if path := re.match(r"(/\S+): ", words):
            result.add((host, f"file {path[1]}"))
        elif unit := re.match(r"(\S+)\.service: (?:start|restart|enable)\b", words):
            result.add((host, f"unit {unit[1]}"))
        elif words.startswith("start kubelet"):
            result.add((host, "unit kubelet"))
        elif item := re.match(r"([A-Z]\w+ \S+): (?:changed|new|deleted|made)\b", words):
            result.add(("cluster", item[1]))
        elif item := re.match(r"([\w. ]+): (?:\S+ -> |load$|off$|install )", words):
            result.add((host, item[1]))
    return result


def _things(host: str, before: set[str], after: set[str]) -> set[tuple[str, str]]:
    """(host, thing) of what the recorder saw change. A folder's time is that of its files."""
    result = set()
    for line in before ^ after:
        kind, *words = line.split()
        if kind != "dir":
            result.add((host, f"{kind} {words[3] if kind == 'file' else words[0]}"))
    return result


def test_every_kind_of_drift_is_listed_as_the_run_then_mends_it(
    deploy: Deploy, kubectl: list[str], names: list[str]
) -> None:
    _break_all(kubectl)
    hosts_before = {name: host_state(name) for name in names}
    objects_before = objects(kubectl)

    preview = deploy("deploys/drift.py", "--dry", "--data", "prune=true")
    assert preview.status == 3, preview.text[-4000:]
    assert _listed(preview) == DRIFT, preview.text

    run = deploy("deploys/site.py", "-y", "--data", "prune=true")
    assert run.status == 0, run.text[-6000:]
    done = set()
    for name in names:
        done |= _things(name, hosts_before[name], host_state(name))
    now = objects(kubectl)
    done |= {
        ("cluster", each)
        for each in objects_before.keys() | now.keys()
        # A node's taints are those of a kubelet that was silent.
        if not each.startswith("Node ") and objects_before.get(each) != now.get(each)
    }
    assert {(host, thing.replace(" /traefik", " traefik")) for host, thing in done} == DRIFT

    again = deploy("deploys/drift.py", "--dry", "--json")
    assert again.status == 0, again.text[-4000:]
    assert again.would_change() == {}
