"""Weave's own report, which it gives on its host's loopback only."""

import json
from typing import Any

from pyinfra.api import FactBase, StringCommand

_ASK = (
    'exec 3<>/dev/tcp/127.0.0.1/6784 && printf "GET /report HTTP/1.0\\r\\n'
    'Accept: application/json\\r\\n\\r\\n" >&3 && cat <&3'
)


class WeaveReport(FactBase[dict[str, Any] | None]):
    """The JSON of Weave's /report; None: it does not answer."""

    def command(self) -> StringCommand:
        # bash opens the connection: a host need not have curl.
        return StringCommand(f"timeout 10 bash -c '{_ASK}' 2>/dev/null || true")

    def process(self, output: list[str]) -> dict[str, Any] | None:
        # What is cut off is no answer: it gets the warning of a Weave that is silent.
        body = "\n".join(output).partition("{")
        try:
            report = json.loads(body[1] + body[2])
        except json.JSONDecodeError:
            return None
        return report if isinstance(report, dict) and "Router" in report else None
