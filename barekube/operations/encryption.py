"""Another key for Secrets in etcd: told to every API server, used, and the old one forgotten."""

from datetime import datetime

from kubernetes.client.exceptions import ApiException
from paramiko import SSHException
from pyinfra.api import Host, State, StringCommand

from barekube import api as cluster_api
from barekube import encryption, kubeadm_config, remote, settings
from barekube.api import API_ERRORS, Api, found, phrase
from barekube.cluster import Cluster
from barekube.operations import files
from barekube.operations.order import changing, wait
from barekube.text import TextFile

_FILE = kubeadm_config.ENCRYPTION
_LIMIT = 300
_PAGE = 200
# Ends it by a signal, with time for the requests that it serves; kubelet starts it again.
RESTART = (
    "crictl ps -q --name '^kube-apiserver$'"
    " | xargs -r crictl --timeout 120s stop --timeout 90 >/dev/null"
)


def rotated(state: State, host: Host, cluster: Cluster, wanted: str) -> bool:
    """Every API server encrypts with the key `wanted`, and none has another one. False, with a
    sentence logged, where that cannot go on; a re-run goes on from there."""
    try:
        why = _rotate(host, cluster, wanted)
    except API_ERRORS as error:
        why = phrase(error)
    if why is None:
        return True
    host.log(f"{why}; nothing is lost, run this again to go on from here")
    return False


def _rotate(host: Host, cluster: Cluster, wanted: str) -> str | None:
    masters = settings.control_plane_hosts()
    known: dict[str, dict[str, str]] = {}
    for each in masters:
        text = remote.read_secret(each, _FILE) if remote.reach(each) else None
        try:
            known[each.name] = encryption.keys(text or "")
        except encryption.Unreadable:
            return f"{each.name}: {_FILE} cannot be read"
    everything = {name: key for own in known.values() for name, key in own.items()}
    everything.setdefault(wanted, encryption.fresh())
    there = {name: list(own) for name, own in known.items()}
    started: set[str] = set()
    while step := encryption.step(there, wanted):
        if set(step.names) <= set(there[step.host]):
            # An API server whose file was written just before a cut may not have read it.
            for each in masters:
                if each.name not in started and (why := _start(host, cluster, each, started)):
                    return why
        if step.rewrite:
            host.log("every Secret is written anew")
            _rewrite(cluster_api.connect(cluster))
        host.log(f"{step.host}: keys {', '.join(step.names)}")
        text = kubeadm_config.encryption_configuration({k: everything[k] for k in step.names})
        target = next(each for each in masters if each.name == step.host)
        if not _run(target, files.write(TextFile(_FILE, text, mode="600")), text):
            return f"{step.host}: {_FILE} cannot be written"
        if why := _start(host, cluster, target, started):
            return why
        there[step.host] = list(step.names)
    return None


def names(other: Host) -> list[str]:
    """The names of the keys that a host has, the one that it writes with first."""
    try:
        return list(encryption.keys(remote.read_secret(other, _FILE) or ""))
    except encryption.Unreadable:
        return []


def _run(target: Host, command: StringCommand, stdin: str = "") -> bool:
    try:
        done, _ = target.run_shell_command(
            command,
            print_output=False,
            print_input=False,
            _sudo=remote.sudo(target),
            **({"_stdin": stdin} if stdin else {}),
        )
    except (OSError, SSHException):
        return False
    return bool(done)


def _start(host: Host, cluster: Cluster, target: Host, started: set[str]) -> str | None:
    """Start the API server of a control plane anew; why it is not ready with that, or None."""
    before = _began(cluster_api.connect(cluster), target.name)
    if not _run(target, changing(RESTART)):
        return f"the API server of {target.name} cannot be restarted"

    def lacking() -> str | None:
        now = _began(cluster_api.connect(cluster), target.name)
        return "it is not ready" if now in (None, before) else None

    if why := wait(f"the API server of {target.name}", _LIMIT, lacking):
        return f"the API server of {target.name} is not back after {_LIMIT} s: {why}"
    started.add(target.name)
    return None


def _began(api: Api, name: str) -> datetime | None:
    """Since when the API server of a control plane runs and is ready."""
    pod = found(api.core.read_namespaced_pod, f"kube-apiserver-{name}", "kube-system")
    for each in (pod and pod.status.container_statuses) or []:
        if each.ready and each.state.running:
            began: datetime = each.state.running.started_at
            return began
    return None


def _rewrite(api: Api) -> None:
    """Write every Secret as it is, so that it is encrypted with the first key. One that somebody
    else writes or deletes meanwhile needs no more."""
    more = ""
    while True:
        page = api.core.list_secret_for_all_namespaces(limit=_PAGE, _continue=more)
        for each in page.items:
            metadata = each.metadata
            try:
                api.core.replace_namespaced_secret(metadata.name, metadata.namespace, each)
            except ApiException as error:
                if error.status not in (404, 409):
                    raise
        more = page.metadata._continue
        if not more:
            return
