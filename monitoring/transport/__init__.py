"""One HTTP request under one deadline: connections, proxies, TLS, statuses, and what sinks say."""
