"""What an upgrade asks a host: kubeadm's files, etcd's health, and the packages on offer."""

from collections.abc import Sequence

from pyinfra.api import FactBase, FactProcessError, QuoteString, StringCommand

from barekube.etcd import IN_CONTAINER
from barekube.upgrade import BACKUPS, Remains

ETCDCTL = (
    f"{IN_CONTAINER} etcdctl --endpoints https://127.0.0.1:2379"
    " --cacert /etc/kubernetes/pki/etcd/ca.crt"
    " --cert /etc/kubernetes/pki/etcd/server.crt --key /etc/kubernetes/pki/etcd/server.key"
)


def _whole(output: list[str]) -> list[str]:
    if output[-1] != "end":
        raise FactProcessError("the host's answer was cut off; run again")
    return output[:-1]


class RemainsFact(FactBase[Remains | None]):
    """The files that an upgrade rewrites or keeps copies of, and its static pods' images; None:
    not known."""

    def command(self) -> StringCommand:
        return StringCommand(
            "export LC_ALL=C; find /etc/kubernetes /var/lib/kubelet/config.yaml"
            f" /var/lib/kubelet/kubeadm-flags.env {BACKUPS} -path /etc/kubernetes/tmp -prune"
            r" -o -type f -printf 'file %s %p\n' 2>/dev/null;"
            " sed -n 's/^ *image: */image /p' /etc/kubernetes/manifests/*.yaml 2>/dev/null;"
            " echo end"
        )

    def process(self, output: list[str]) -> Remains:
        rows = [line.split(" ", 2) for line in _whole(output)]
        return Remains(
            {row[2]: int(row[1]) for row in rows if row[0] == "file"},
            tuple(row[1] for row in rows if row[0] == "image"),
        )


class EtcdFact(FactBase[tuple[list[str], str] | None]):
    """The lines of `etcdctl member list`, and the JSON of the members' health; None: not known.

    A member that does not answer is asked three times: one that is busy elects a leader, or waits
    for its disk, longer than etcdctl's 5 s.
    """

    def command(self) -> StringCommand:
        return StringCommand(
            f'etcdctl() {{ {ETCDCTL} "$@" 2>/dev/null; }}; etcdctl member list; echo; echo health;'
            " for pause in 0 5 5; do sleep $pause;"
            " health=$(etcdctl endpoint health --cluster -w json) && break;"
            ' done; echo "$health"; echo end'
        )

    def process(self, output: list[str]) -> tuple[list[str], str]:
        lines = [line for line in _whole(output) if line.strip()]
        cut = lines.index("health")
        return lines[:cut], "".join(lines[cut + 1 :])


class Offered(FactBase[set[str] | None]):
    """Those of `packages` ("kubelet=1.37.2-1.1") that an apt source has; None: not known.

    `source` is its text. It is asked beside the host's own lists, which stay as they are.
    """

    def command(self, source: str, packages: Sequence[str]) -> StringCommand:
        options = (
            '-o Dir::State::lists="$d/lists" -o Dir::Etc::sourcelist="$d/x.sources"'
            ' -o Dir::Etc::sourceparts=- -o Dir::Cache="$d" -o APT::Sandbox::User=root'
        )
        return StringCommand(
            "export LC_ALL=C; d=$(mktemp -d) && trap 'rm -rf \"$d\"' EXIT;",
            'mkdir -p "$d/lists/partial"; printf %s',
            QuoteString(source),
            f'>"$d/x.sources"; apt-get -qq {options} update >/dev/null 2>&1;',
            f"for p in {' '.join(packages)}; do apt-cache {options} madison ${{p%%=*}}",
            '| awk \'{print $3}\' | grep -qxF "${p#*=}" && echo "$p"; done; echo end',
        )

    def process(self, output: list[str]) -> set[str]:
        return set(_whole(output))
