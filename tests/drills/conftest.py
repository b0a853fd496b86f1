"""The lab's fixtures, for drills that begin where a deploy ends."""

from tests.lab.conftest import deploy, kubectl, names, site

__all__ = ["deploy", "kubectl", "names", "site"]
