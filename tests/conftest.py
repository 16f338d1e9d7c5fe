"""What all tests share. This file also puts the tests folder on the path, for `tiny_model`."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test may reach the network
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
