"""``python -m monitoring.cli`` is ``leglength-monitor``."""

from monitoring.cli import main

if __name__ == "__main__":
    main()
