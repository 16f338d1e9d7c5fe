"""The modules of the load benchmark, which live beside the package."""

import checked_clients as checked_clients
import load_client as load_client
import router_fuzz as router_fuzz
import router_load as router_load
import routers as routers
