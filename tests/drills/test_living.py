"""A living cluster follows group_data, one operator at a time. Run by name, on the lab."""

import base64
import json
import re
import secrets
import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime

from tests.lab.conftest import PYINFRA, Deploy, Run
from tests.lab.recorder import host_state, objects, repository_root, ssh

STAGES = ("deploys/control_plane.py", "deploys/workers.py")
# Another one each time: a name stays in the certificate until that is renewed.
NAME = f"k8s-{secrets.token_hex(3)}.example.org"
_API = {
    "apiServer": {
        "extraArgs": [{"name": "event-ttl", "value": "2h0m0s"}],
        "certSANs": [NAME],
    }
}
CHANGED = (
    "--data",
    f"cluster_configuration={json.dumps(_API)}",
    "--data",
    'kubelet_configuration={"maxPods": 77}',
    "--data",
    'kube_proxy_configuration={"nodePortAddresses": ["primary"]}',
)
# What kubelet and its pods write by themselves when they are started anew.
_BY_ITSELF = re.compile(r"^(unit kubelet|dir )")


def _files(before: set[str], after: set[str]) -> set[str]:
    """The paths, or other things, in which two records differ."""
    lines = {line for line in before ^ after if not _BY_ITSELF.match(line)}
    return {word for line in lines for word in line.split() if word.startswith("/")}


def _pods(kubectl: list[str], node: str) -> str:
    words = ["get", "node", node, "-o", "jsonpath={.status.capacity.pods}"]
    return subprocess.run([*kubectl, *words], capture_output=True, text=True, check=True).stdout


def test_settings_are_previewed_then_rolled_out_and_back_and_nothing_else_changes(
    deploy: Deploy, kubectl: list[str], names: list[str]
) -> None:
    before = {name: host_state(name) for name in names}
    objects_before = objects(kubectl)
    preview = deploy(*STAGES, "--dry", "--diff", *CHANGED)
    assert preview.status == 0, preview.text[-3000:]
    for wanted in (
        "ConfigMap kube-system/kubeadm-config",
        "+    value: 2h0m0s",
        "+    - --event-ttl=2h0m0s",
        f"certificate of the API server: + {NAME}",
        "+maxPods: 77",
        "+nodePortAddresses:",
    ):
        assert wanted in preview.text, wanted
    for name in names:
        told = rf"\[{name}\] +/var/lib/kubelet/config.yaml"
        assert re.search(told, preview.text), name
    assert {name: host_state(name) for name in names} == before
    assert objects(kubectl) == objects_before

    run = deploy(*STAGES, "-y", *CHANGED)
    assert run.status == 0, run.text[-6000:]
    after = {name: host_state(name) for name in names}
    kubelet = "/var/lib/kubelet/config.yaml"
    for name in names:
        wanted_files = {kubelet}
        if name == "cp-1":
            wanted_files |= {
                "/etc/kubernetes/manifests/kube-apiserver.yaml",
                "/etc/kubernetes/pki/apiserver.crt",
                "/etc/kubernetes/pki/apiserver.key",
            }
        assert _files(before[name], after[name]) == wanted_files
        assert _pods(kubectl, name) == "77"
    now = objects(kubectl)
    changed = {
        each
        for each in objects_before.keys() | now.keys()
        if objects_before.get(each) != now.get(each)
    }
    assert {each.partition(" ")[2] for each in changed if not each.startswith("Node")} == {
        "kube-system/kubeadm-config",
        "kube-system/kubelet-config",
        "kube-system/kube-proxy",
    }
    server = "kube-system get pod kube-apiserver-cp-1 -o jsonpath={.spec.containers[0].command}"
    command = subprocess.run([*kubectl, "-n", *server.split()], capture_output=True, text=True)
    assert "--event-ttl=2h0m0s" in command.stdout
    assert deploy(*STAGES, "--dry", "--json", *CHANGED).would_change() == {}

    back = deploy(*STAGES, "-y")
    assert back.status == 0, back.text[-6000:]
    assert deploy("deploys/site.py", "--dry", "--json").would_change() == {}
    assert _pods(kubectl, "worker-1") == "110"


def test_what_cannot_change_after_init_is_refused_by_name(deploy: Deploy, site: Run) -> None:
    run = deploy("deploys/control_plane.py", "-y", "--data", "service_network=10.112.0.0/12")
    assert run.status == 1
    assert (
        "networking.serviceSubnet of the cluster is '10.96.0.0/12' and cannot change after init;"
        " set service_network back, from '10.112.0.0/12'"
    ) in run.text


def test_a_changed_audit_rule_is_in_force_when_the_run_ends(
    deploy: Deploy, kubectl: list[str]
) -> None:
    rules = '[{"level": "Metadata", "verbs": ["delete"]}]'
    started = "crictl inspect $(crictl ps -q --name '^kube-apiserver$') | grep startedAt"
    before = ssh("cp-1", started)
    run = deploy("deploys/control_plane.py", "-y", "--data", f"audit_rules={rules}")
    assert run.status == 0, run.text[-4000:]
    assert "/etc/kubernetes/audit-policy.yaml" in run.text
    assert ssh("cp-1", started) != before
    back = deploy("deploys/control_plane.py", "-y")
    assert back.status == 0, back.text[-4000:]


_TYPO = json.dumps({"apiServer": {"extraArgs": [{"name": "even-ttl", "value": "2h0m0s"}]}})
UNKNOWN_FLAG = ("--data", f"cluster_configuration={_TYPO}")
_SERVER = "/etc/kubernetes/manifests/kube-apiserver.yaml"


def _until(what: Callable[[], bool], seconds: int) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end
        time.sleep(2)


def _answers(kubectl: list[str]) -> bool:
    ask = [*kubectl, "--request-timeout=5s", "get", "--raw", "/readyz"]
    return subprocess.run(ask, capture_output=True).returncode == 0


def test_a_flag_that_the_api_server_does_not_know_is_taken_back_with_its_name(
    deploy: Deploy, kubectl: list[str]
) -> None:
    before = ssh("cp-1", f"cat {_SERVER}")
    run = deploy("deploys/control_plane.py", "-y", *UNKNOWN_FLAG)
    try:
        assert run.status == 1
        assert "unknown flag: --even-ttl" in run.text, run.text[-4000:]
        assert "its files are as before" in run.text
        _until(lambda: _answers(kubectl), 180)
        assert ssh("cp-1", f"cat {_SERVER}") == before
        assert ssh("cp-1", "ls -d /var/lib/barekube/before-change 2>/dev/null || true") == ""
    finally:
        corrected = deploy("deploys/control_plane.py", "-y")
    assert corrected.status == 0, corrected.text[-4000:]
    assert ssh("cp-1", f"cat {_SERVER}") == before
    assert deploy("deploys/site.py", "--dry", "--json").would_change() == {}


def test_a_run_that_is_killed_after_it_wrote_such_a_flag_is_mended_by_the_next(
    deploy: Deploy, kubectl: list[str]
) -> None:
    before = ssh("cp-1", f"cat {_SERVER}")
    run = subprocess.Popen(
        [*PYINFRA, "deploys/control_plane.py", "-y", *UNKNOWN_FLAG],
        cwd=repository_root(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _until(lambda: "even-ttl" in ssh("cp-1", f"cat {_SERVER}"), 400)
    finally:
        run.kill()
        run.wait()
        # The server that runs ends some seconds after its file has changed.
        _until(lambda: not _answers(kubectl), 120)
        mended = deploy("deploys/control_plane.py", "-y")
    assert mended.status == 0, mended.text[-4000:]
    assert f"a change of {_SERVER} was cut off; taken back" in mended.text
    assert ssh("cp-1", f"cat {_SERVER}") == before
    assert deploy("deploys/site.py", "--dry", "--json").would_change() == {}


def test_a_value_that_kubeadm_writes_in_another_way_restarts_the_kubelets_once(
    deploy: Deploy,
) -> None:
    data = ("--data", 'kubelet_configuration={"evictionPressureTransitionPeriod": "5m"}')
    run = deploy(*STAGES, "-y", *data)
    try:
        assert run.status == 0, run.text[-4000:]
        told = ssh("worker-1", "grep evictionPressure /var/lib/kubelet/config.yaml")
        assert told == "evictionPressureTransitionPeriod: 5m0s\n"
        assert deploy(*STAGES, "--dry", "--json", *data).would_change() == {}
    finally:
        back = deploy(*STAGES, "-y")
    assert back.status == 0, back.text[-4000:]


def test_a_second_operator_is_told_whose_run_changes_the_cluster(
    deploy: Deploy, kubectl: list[str]
) -> None:
    now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    lease = {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": "barekube", "namespace": "kube-system"},
        "spec": {"holderIdentity": "you@there", "leaseDurationSeconds": 300, "renewTime": now},
    }
    apply = [*kubectl, "apply", "--server-side", "--force-conflicts", "-f", "-"]
    subprocess.run(apply, input=json.dumps(lease), text=True, check=True)
    try:
        idle = deploy("deploys/network.py", "-y")
        assert idle.status == 0, idle.text[-3000:]
        ssh("worker-1", "systemctl stop kubelet")
        run = deploy("deploys/workers.py", "-y")
        assert run.status == 1
        assert "you@there changes this cluster now; wait for that run to end" in run.text
        assert ssh("worker-1", "systemctl is-active kubelet || true") == "inactive\n"
        # So is one who only touches a host.
        ssh("worker-1", "echo '# by hand' >>/etc/containerd/config.toml")
        run = deploy("deploys/runtime.py", "-y", "--limit", "worker-1")
        assert run.status == 1
        assert "you@there changes this cluster now; wait for that run to end" in run.text
        assert "# by hand" in ssh("worker-1", "cat /etc/containerd/config.toml")
    finally:
        drop = ["-n", "kube-system", "delete", "lease", "barekube"]
        subprocess.run([*kubectl, *drop], check=True)
        mended = deploy("deploys/runtime.py", "deploys/workers.py", "-y")
    assert mended.status == 0, mended.text[-3000:]


def test_what_the_manifests_have_no_more_is_named_and_goes_only_when_asked_for(
    deploy: Deploy, kubectl: list[str]
) -> None:
    for kind in ("configmap", "secret generic"):
        words = ["-n", "kube-system", "create", *kind.split(), "left-over"]
        subprocess.run([*kubectl, *words], check=True)
        label = ["-n", "kube-system", "label", kind.split()[0], "left-over"]
        subprocess.run([*kubectl, *label, "barekube/stage=network"], check=True)
    named = deploy("deploys/network.py", "-y")
    kept = (
        "Secret kube-system/left-over: left over; by hand: kubectl delete -n kube-system secret"
        " left-over"
    )
    assert "ConfigMap kube-system/left-over: left over; --data prune=true deletes it" in named.text
    assert kept in named.text
    pruned = deploy("deploys/network.py", "-y", "--data", "prune=true")
    assert pruned.status == 0, pruned.text[-3000:]
    assert kept in pruned.text
    get = ["-n", "kube-system", "get", "configmap,secret", "-o", "name"]
    left = subprocess.run([*kubectl, *get], capture_output=True, text=True, check=True).stdout
    assert "configmap/left-over" not in left
    assert "secret/left-over" in left
    subprocess.run([*kubectl, "-n", "kube-system", "delete", "secret", "left-over"], check=True)


def test_another_key_encrypts_all_secrets_and_the_old_one_is_forgotten(
    deploy: Deploy, kubectl: list[str]
) -> None:
    show = "sed -n 's/^ *-* *name: *//p' /etc/kubernetes/encryption.yaml"
    (old,) = ssh("cp-1", show).split()
    number = int(old.removeprefix("key")) + 1
    create = ["create", "secret", "generic", "rotated", "--from-literal=word=kept"]
    subprocess.run([*kubectl, *create], check=True)
    data = ("--data", f"encryption_key={number}")
    try:
        shown = deploy("deploys/control_plane.py", "--dry", *data)
        assert f"key of the Secrets in etcd: {old} -> key{number}" in shown.text
        assert ssh("cp-1", show).split() == [old]
        done = deploy("deploys/control_plane.py", "-y", *data)
        assert done.status == 0, done.text[-4000:]
        assert ssh("cp-1", show).split() == [f"key{number}"]
        again = deploy("deploys/control_plane.py", "--dry", "--json", *data)
        assert again.would_change() == {}
        # A restarted server has no Secret in memory: what it shows was read by the new key.
        get = [*kubectl, "get", "secrets", "-A", "-o", "json"]
        everything = json.loads(subprocess.run(get, capture_output=True, check=True).stdout)
        mine = [e for e in everything["items"] if e["metadata"]["name"] == "rotated"]
        assert base64.b64decode(mine[0]["data"]["word"]) == b"kept"
    finally:
        subprocess.run([*kubectl, "delete", "secret", "rotated"], check=False)
        assert deploy("deploys/control_plane.py", "-y").status == 0
