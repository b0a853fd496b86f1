"""Everything, in order. Run it whenever you like: it changes what is not as wanted."""

from pyinfra import local

local.include("deploys/preflight.py")
local.include("deploys/host.py")
local.include("deploys/runtime.py")
local.include("deploys/kubernetes_packages.py")
local.include("deploys/control_plane.py")
local.include("deploys/workers.py")
local.include("deploys/network.py")
local.include("deploys/ingress.py")
local.include("deploys/storage.py")
