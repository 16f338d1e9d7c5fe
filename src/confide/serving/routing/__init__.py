"""The decision path of one request: models behind the router, retries, routing."""
