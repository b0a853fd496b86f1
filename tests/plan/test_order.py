"""The order of a whole site: pyinfra interleaves what hosts do not share."""

from tests.plan.conftest import Pyinfra


def _order(pyinfra: Pyinfra, inventory: str) -> list[str]:
    done = pyinfra(f"tests/plan/{inventory}.py", "deploys/site.py", "--dry", "--json")
    return [_short(operation["name"]) for operation in done.plan]


def _short(name: str) -> str:
    """Without the stage's file, which pyinfra puts before the names of what is included."""
    return name.rpartition(" | ")[2]


def test_workers_join_after_init_and_each_stage_waits_for_the_one_before(pyinfra: Pyinfra) -> None:
    order = _order(pyinfra, "inventory_bare")
    milestones = [
        "Judge what was found",
        "Preflight is passed",
        "Install what a node needs of its distribution",
        "Every host is prepared",
        "Configure and run containerd",
        "Every host has its runtime",
        "Install Kubernetes 1.37.2",
        "Every host has its Kubernetes packages",
        "Control plane on @fake/cp-1",
        "The control plane is up",
        "Join the workers",
        "Every worker has joined",
        "The pod network has a password",
        "Apply the pod network of tests/plan/manifests",
        "The pod network is applied",
        "Wait for the nodes to be Ready",
        "Every node is Ready",
        "The pod network is rolled out",
        "Every pair of nodes was looked at",
    ]
    assert [name for name in order if name in milestones] == milestones


def test_control_planes_come_one_after_the_other(pyinfra: Pyinfra) -> None:
    order = _order(pyinfra, "inventory_three")
    milestones = [
        "Control plane on @fake/cp-1",
        "@fake/cp-1 is done",
        "Control plane on @fake/cp-2",
        "@fake/cp-2 is done",
        "Join the workers",
    ]
    assert [name for name in order if name in milestones] == milestones


def test_a_preview_of_bare_machines_says_what_every_stage_will_do(pyinfra: Pyinfra) -> None:
    done = pyinfra("tests/plan/inventory_bare.py", "deploys/site.py", "--dry", "--json")
    changes = {_short(each["name"]): each["hosts_with_change"] for each in done.plan}
    everyone = ["@fake/cp-1", "@fake/w-1", "@fake/w-2"]
    assert {name: hosts for name, hosts in changes.items() if hosts} == {
        "Install what a node needs of its distribution": everyone,
        "Load kernel modules, set kernel parameters, switch swap off, name nodes in /etc/hosts": (
            everyone
        ),
        "Install containerd": everyone,
        "Configure and run containerd": everyone,
        "Install Kubernetes 1.37.2": everyone,
        "Control plane on @fake/cp-1": ["@fake/cp-1"],
        "Join the workers": ["@fake/w-1", "@fake/w-2"],
        "Keep the pod network's password in the cluster": ["@fake/cp-1"],
        "Apply the pod network of tests/plan/manifests": ["@fake/cp-1"],
        "Wait for the nodes to be Ready": everyone,
        "Labels and taints of the workers": ["@fake/w-1", "@fake/w-2"],
        "Apply the doors": ["@fake/cp-1"],
        "Keep the doors' certificates and the pages' login": ["@fake/cp-1"],
    }


def test_only_a_host_of_edge_gets_a_firewall_unasked(pyinfra: Pyinfra) -> None:
    inventory = ["tests/plan/inventory_edge.py", "deploys/host.py", "--dry", "--json"]
    rules = "Admit only what nodes speak among themselves"
    for words, hosts in (
        ([], ["@fake/w-2"]),
        (["--data", "firewall=true"], ["@fake/cp-1", "@fake/w-1", "@fake/w-2"]),
    ):
        plan = pyinfra(*inventory, *words).plan
        assert {each["name"]: each["hosts_with_change"] for each in plan}[rules] == hosts
