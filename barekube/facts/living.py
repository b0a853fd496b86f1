"""What kubeadm would write on a control plane, beside what is there."""

from pyinfra.api import FactBase, FactProcessError, QuoteString, StringCommand

WANTED = "wanted/"
WRITTEN = "written"
KEYS = "keys"
KEPT = "kept"
# What is there before a change, with the sums of what is written in its place.
BEFORE = "/var/lib/barekube/before-change"
_LOOK = rf"""
d=$(mktemp -d) && trap 'rm -rf "$d"' EXIT && mkdir "$d/out" && printf %s "$config" >"$d/config"
KUBEADM_INIT_DRYRUN_DIR="$d/out" kubeadm init phase control-plane all --dry-run \
  --config "$d/config" >"$d/log" 2>&1 || {{ cat "$d/log" >&2; exit 1; }}
cd "$d/out" && for f in *.yaml; do echo "== wanted/$f"; cat "$f"; done
for f in /etc/kubernetes/manifests/kube-*.yaml /etc/kubernetes/audit-policy.yaml \
  /etc/kubernetes/pki/apiserver.crt; do [ ! -e "$f" ] || {{ echo "== $f"; cat "$f"; }}; done
echo "== kept"; find {BEFORE} -name '*.written' -exec stat -c '%Y %n' {{}} + 2>/dev/null
echo "== written"; stat -c '%Y %n' /etc/kubernetes/audit-policy.yaml /etc/kubernetes/encryption.yaml
echo "== keys"; sed -n 's/^ *-* *name: *//p' /etc/kubernetes/encryption.yaml
echo "== end"
"""


class SettingsFact(FactBase[dict[str, str] | None]):
    """Texts by path: kubeadm's static pods for `config` below "wanted/", and the files that are
    there; below "written" the Unix times of files that an API server reads at its start only; below
    "kept" those of what a change that was cut off was to write; below "keys" the names of those
    that encrypt Secrets, never the keys.

    None: not known. kubeadm writes into a directory that is removed again.
    """

    def command(self, config: str) -> StringCommand:
        return StringCommand("config=", QuoteString(config), ";", _LOOK.strip(), _separator="")

    def process(self, output: list[str]) -> dict[str, str]:
        if output[-1] != "== end":
            raise FactProcessError("the host's answer was cut off; run again")
        result: dict[str, str] = {}
        path = ""
        for line in output[:-1]:
            if line.startswith("== "):
                path = line[3:]
                result[path] = ""
            else:
                result[path] += line + "\n"
        return result
