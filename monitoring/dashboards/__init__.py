"""Dashboards and alert rules: declared here, held to the catalogue, and rendered to files for Grafana and Prometheus.

Its libraries come with the extra ``dashboards``; a host's process needs none of them.
"""
