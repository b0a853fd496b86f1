"""A node is emptied before something is done to it, and takes pods again afterwards.

Pods go by the eviction API, which heeds budgets. Those of DaemonSets and static pods stay.
"""

import time
from collections.abc import Sequence
from datetime import datetime

from kubernetes import client as k8s
from kubernetes.client.exceptions import ApiException
from pyinfra.api import Host

from barekube.api import Api, found
from barekube.nodes import is_ready, nowhere, pod_trouble
from barekube.upgrade import recovers, selects

_PATIENCE = 120
# In seconds: client-go asks for a watch that broke again after less than that (reflector.go: 30 s
# at most, and up to as much again by chance).
_WATCHES_BACK = 60
_MIRROR = "kubernetes.io/config.mirror"


def leaving(pods: Sequence[k8s.V1Pod]) -> list[k8s.V1Pod]:
    """Of a node's pods those that have to go: no DaemonSet's, no static ones, none that ended."""
    return [
        pod
        for pod in pods
        if pod.status.phase not in ("Succeeded", "Failed")
        and _MIRROR not in (pod.metadata.annotations or {})
        and not any(
            each.kind == "DaemonSet" and each.controller
            for each in pod.metadata.owner_references or []
        )
    ]


def alone(pods: Sequence[k8s.V1Pod]) -> str | None:
    """A sentence for pods that nothing would start again elsewhere, or None."""
    mine = [_name(pod) for pod in pods if not pod.metadata.owner_references]
    if not mine:
        return None
    return (
        f"{', '.join(mine)} would be lost, for nothing starts it again elsewhere; delete it, or run"
        " it by a Deployment, then run this again"
    )


def holding(
    pod: k8s.V1Pod, budgets: Sequence[k8s.V1PodDisruptionBudget]
) -> list[k8s.V1PodDisruptionBudget]:
    """The budgets that hold a pod."""
    return [
        budget
        for budget in budgets
        if budget.metadata.namespace == pod.metadata.namespace
        and not budget.status.disruptions_allowed
        and selects(budget.spec.selector, pod.metadata.labels or {})
    ]


def held(
    pod: k8s.V1Pod,
    budgets: Sequence[k8s.V1PodDisruptionBudget],
    beside: Sequence[k8s.V1Pod],
    seconds: int,
) -> str:
    """The sentence for a pod that budgets hold; `beside` are the pods of its namespace, of which
    one that does not get on is the cause."""
    mine = holding(pod, budgets)
    stays = f"{_name(pod)} is held by the budget {_names(mine)} for {seconds} s"
    if why := next(filter(None, map(pod_trouble, _counted(mine, beside))), ""):
        return f"{stays}, as long as another does not run ({why}); mend that, then run this again"
    return f"{stays}; let it have one more replica, or delete the budget, then run this again"


def _names(budgets: Sequence[k8s.V1PodDisruptionBudget]) -> str:
    return ", ".join(each.metadata.name for each in budgets) or "that nobody can see"


def _counted(
    budgets: Sequence[k8s.V1PodDisruptionBudget], pods: Sequence[k8s.V1Pod]
) -> list[k8s.V1Pod]:
    """The pods, all of one namespace, that one of its budgets counts."""
    return [
        pod
        for pod in pods
        if any(selects(each.spec.selector, pod.metadata.labels or {}) for each in budgets)
    ]


def unwatched(servers: Sequence[k8s.V1Pod], now: datetime) -> str | None:
    """Why kube-proxy, the doors and DNS may not see which pods go, or None; `servers` are the API
    servers' pods.

    A watch that broke, because the only API server was away, is not back as soon as that is.
    """
    since = [
        each.state.running.started_at
        for pod in servers
        if is_ready(pod)
        for each in pod.status.container_statuses or []
        if each.state.running
    ]
    if not since:
        return "no API server is ready"
    seconds = (now - min(since)).total_seconds()
    if seconds >= _WATCHES_BACK:
        return None
    return (
        f"the API server started {seconds:.0f} s ago, and to see which pods go they may take"
        f" {_WATCHES_BACK} s"
    )


def drain(host: Host, api: Api, node_name: str, limit: int) -> str | None:
    """Cordon the node and evict its pods, for `limit` seconds at most, or two minutes in which
    nothing moves because budgets do not let it.

    None: it is empty. Else a sentence that says what holds it; it is left cordoned.
    """
    _cordon(api, node_name, yes=True)
    if why := alone(leaving(_pods(api, node_name))):
        return why
    began = said = moved = time.monotonic()
    before: set[str] = set()
    while going := leaving(_pods(api, node_name)):
        refused = [pod for pod in going if not _evicted(api, pod)]
        now = time.monotonic()
        if before != {each.metadata.uid for each in going}:
            before, moved = {each.metadata.uid for each in going}, now
        # A budget that lets nobody go while nothing else moves will not do so later.
        stuck = refused and now - moved > _PATIENCE and not _moves(api, going, refused[0])
        if now - began > limit or stuck:
            return _stuck(api, going, refused, int(now - began))
        if now - said > 15:
            said = now
            names = ", ".join(_name(pod) for pod in going[:3])
            if refused:
                holders = holding(refused[0], _budgets(api, refused[0]))
                names += f"; {_name(refused[0])} is held by the budget {_names(holders)}"
            host.log(f"draining {node_name}, {now - began:.0f} s of {limit} s: {names}")
        time.sleep(1)
    return None


def empty(api: Api, node_name: str) -> bool:
    """Whether no pod would have to leave the node."""
    return not leaving(_pods(api, node_name))


def uncordon(api: Api, node_name: str) -> None:
    """Let the node take pods again."""
    _cordon(api, node_name, yes=False)


def _cordon(api: Api, node_name: str, *, yes: bool) -> None:
    api.core.patch_node(node_name, {"spec": {"unschedulable": yes or None}})


def _pods(api: Api, node_name: str) -> list[k8s.V1Pod]:
    field = f"spec.nodeName={node_name}"
    pods: list[k8s.V1Pod] = api.core.list_pod_for_all_namespaces(field_selector=field).items
    return pods


def _evicted(api: Api, pod: k8s.V1Pod) -> bool:
    """Ask for the pod to go; False if a budget does not let it go now."""
    if pod.metadata.deletion_timestamp:
        return True
    name, space = pod.metadata.name, pod.metadata.namespace
    body = k8s.V1Eviction(metadata=k8s.V1ObjectMeta(name=name, namespace=space))
    try:
        found(api.core.create_namespaced_pod_eviction, name, space, body)
    except ApiException as error:
        # 429: a budget; 500: more than one budget holds it; or its namespace is just deleted.
        if error.status in (429, 500) or "NamespaceTerminating" in str(error.body):
            return False
        raise
    return True


def _moves(api: Api, going: Sequence[k8s.V1Pod], refused: k8s.V1Pod) -> bool:
    """Whether a pod still ends, or the budgets of the refused one let it go by now, or will: one
    that they count still starts, on a node."""
    if any(each.metadata.deletion_timestamp for each in going):
        return True
    holders = holding(refused, _budgets(api, refused))
    pods = _beside(api, refused)
    return not holders or any(
        recovers(each) and not any(map(nowhere, _counted([each], pods))) for each in holders
    )


def _budgets(api: Api, pod: k8s.V1Pod) -> list[k8s.V1PodDisruptionBudget]:
    """Those of its namespace."""
    listed = k8s.PolicyV1Api(api.client).list_namespaced_pod_disruption_budget
    budgets: list[k8s.V1PodDisruptionBudget] = listed(pod.metadata.namespace).items
    return budgets


def _beside(api: Api, pod: k8s.V1Pod) -> list[k8s.V1Pod]:
    """The pods of its namespace."""
    pods: list[k8s.V1Pod] = api.core.list_namespaced_pod(pod.metadata.namespace).items
    return pods


def _stuck(api: Api, going: Sequence[k8s.V1Pod], refused: Sequence[k8s.V1Pod], seconds: int) -> str:
    if not refused:
        return f"{_name(going[0])} does not end in {seconds} s; look at `kubectl describe` of it"
    pod = refused[0]
    return held(pod, _budgets(api, pod), _beside(api, pod), seconds)


def _name(pod: k8s.V1Pod) -> str:
    return f"pod {pod.metadata.namespace}/{pod.metadata.name}"
