from pathlib import Path
from report import Report
def draw(report: Report, path: Path) -> None:
    """."""
