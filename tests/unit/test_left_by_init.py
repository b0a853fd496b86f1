"""What an API that does not say is not taken for: an init or a join that was cut off."""

from types import SimpleNamespace
from typing import Any

import pytest
from kubernetes import client as k8s
from kubernetes.client.exceptions import ApiException

from barekube import left_by_init


def _api(monkeypatch: pytest.MonkeyPatch, status: int) -> Any:  # noqa: ANN401
    """An API whose every object is there, but that answers `status` when asked for one more."""

    def late(*_: object) -> None:
        raise ApiException(status=status)

    def there(*_: object) -> object:
        return object()

    role = SimpleNamespace(read_namespaced_role_binding=there)
    monkeypatch.setattr(k8s, "RbacAuthorizationV1Api", lambda client: role)
    core = SimpleNamespace(read_namespaced_config_map=there, read_node=late)
    apps = SimpleNamespace(read_namespaced_deployment=there, read_namespaced_daemon_set=late)
    return SimpleNamespace(core=core, apps=apps, client=None)


@pytest.mark.parametrize("status", [429, 500, 503, 504])
def test_what_an_api_is_late_with_is_not_lost(monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    api = _api(monkeypatch, status)
    with pytest.raises(ApiException):
        left_by_init.lost(api)
    with pytest.raises(ApiException):
        left_by_init.registered(api, "cp-1")


def test_before_admin_conf_has_its_rights_init_has_not_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    api = _api(monkeypatch, 403)
    assert left_by_init.lost(api) == ["the rights of /etc/kubernetes/admin.conf (403)"]
    assert not left_by_init.registered(api, "cp-1")


def test_what_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert left_by_init.lost(_api(monkeypatch, 404)) == ["kube-proxy"]
