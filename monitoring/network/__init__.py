"""The way to a backend: connections under one deadline, proxies, TLS, and what went wrong in words."""
