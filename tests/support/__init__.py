"""What several tests share: real servers, hosts as processes, records, and where the repository lies."""

from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
