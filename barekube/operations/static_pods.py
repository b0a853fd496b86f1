"""A control plane's static pods after their files have changed: waited for, or put back."""

from dataclasses import dataclass
from datetime import datetime

from pyinfra.api import Host, State

from barekube import api as cluster_api
from barekube import remote, versions
from barekube.api import Api, found
from barekube.cluster import Cluster
from barekube.operations import change as kept
from barekube.operations.order import wait

_SETTLED_LIMIT, _BACK_LIMIT = 300, 180


@dataclass(frozen=True)
class Container:
    """One that runs and is ready."""

    identity: str
    started: datetime


def running(api: Api, name: str) -> dict[str, Container]:
    """{component: its container} of a control plane."""
    result = {}
    for component in versions.SERVERS:
        pod = found(api.core.read_namespaced_pod, f"{component}-{name}", "kube-system")
        for each in (pod and pod.status.container_statuses) or []:
            if each.ready and each.state.running:
                result[component] = Container(each.container_id, each.state.running.started_at)
    return result


def await_new(
    state: State,
    host: Host,
    cluster: Cluster,
    before: dict[str, Container],
    touched: list[str],
) -> bool:
    """Wait for containers that are not those of `before`; in vain, and their former files are put
    back: while the only API server is down, no re-run could compare, or tell it, anything."""

    def late(former: dict[str, Container]) -> str | None:
        now = running(cluster_api.connect(cluster), host.name)
        names = [each for each in touched if now.get(each) in (None, former.get(each))]
        return f"{', '.join(names)} not ready" if names else None

    why = wait("its control plane", _SETTLED_LIMIT, lambda: late(before))
    if why is None:
        return True
    said = f"{why} {_SETTLED_LIMIT} s after its settings changed{_last_words(host, touched)}"
    if kept.put_back(host):
        again = wait("its control plane as it was", _BACK_LIMIT, lambda: late({}))
        still = f" and still: {again}" if again else ""
        host.log(f"{said}; its files are as before{still}; correct group_data and run this again")
    else:
        host.log(
            f"{said}; correct group_data and run this again, or look at `crictl ps -a` and"
            " `crictl logs` on it"
        )
    return False


def _last_words(host: Host, components: list[str]) -> str:
    """The last error of the first of the components that has ended with one."""
    for each in components:
        said = remote.lines(
            host,
            f"crictl ps -aq --state Exited --name '^{each}$' | head -n 1"
            " | xargs -r crictl logs --tail 20 2>&1 | grep -i err | tail -n 1",
        )
        if said:
            return f" ({each}: {said[0][:300]})"
    return ""
