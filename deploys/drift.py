"""What differs from site.py, for a cron job: run it with --dry (and --json, for a report).

Exit status 0: nothing; 3: something; 1: trouble (a refusal, a host not reached, no API, or what no
run would change: a node that is not Ready or was left cordoned, nodes that Weave does not connect,
Ceph not well).
"""

from pyinfra import local

local.include("deploys/site.py")
