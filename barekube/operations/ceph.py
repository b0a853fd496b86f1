"""Ceph, waited for before a machine that carries some of it goes away, and after it is back.

Rook looks at it every minute and says in its CephCluster what it found. That one such machine is
away at a time is in its budgets too, and while one is drained it sets noout there by itself.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from kubernetes import client as k8s

from barekube import rook
from barekube.api import Api, found
from barekube.manifests import Object
from barekube.operations.order import wait

LIMIT = 1800
_GROUP, _VERSION, _PLURAL = "ceph.rook.io", "v1", "cephclusters"


def carried(api: Api, node: str) -> list[str]:
    """What of Ceph is bound to a node: 'mon.a', 'osd.3'."""
    there: list[Any] = api.apps.list_namespaced_deployment(
        rook.SPACE, label_selector=rook.BOUND
    ).items
    return rook.carried(node, there)


def _cluster(api: Api) -> Object:
    kinds = k8s.CustomObjectsApi(api.client)
    listed = found(kinds.list_namespaced_custom_object, _GROUP, _VERSION, rook.SPACE, _PLURAL)
    return next(iter((listed or {}).get("items", [])), {})


def awaited(connect: Callable[[], Api], node: str, *, back: bool) -> str | None:
    """Wait until Ceph is well, if some of it is bound to `node`; a sentence if it is not in time.

    `back`: the node was away, so that what Rook saw until now says nothing.
    """
    api = connect()
    if not carried(api, node):
        return None
    seen = rook.checked(_cluster(api)) if back else None
    why = wait(
        "Ceph",
        LIMIT,
        lambda: rook.unsettled(_cluster(connect()), datetime.now(UTC), seen),
    )
    return why and (
        f"Ceph is not well after {LIMIT} s: {why}; look at `kubectl -n {rook.SPACE} exec"
        " deploy/ceph-tools -- ceph health detail`, then run this again"
    )
