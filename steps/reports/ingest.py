"""data/ingest/report.json: what was found, and where the images lie."""

from steps.reports.base import Report


class IngestReport(Report):
    """Counts of what ingest read; faults are recorded here and judged by validate."""

    root: str = "."  # where manifest paths start: as in params, or "." for data/ingest itself
    layout: str = ""
    images: int = 0
    classes: int = 0
    ready_splits: dict[str, int] = {}
    sources: dict[str, int] = {}
    faults: dict[str, int] = {}
    classes_without_train: tuple[str, ...] = ()  # of ready-made splits: classes seen in val or test only
    skipped: int = 0  # files and folders that are clearly no images: hidden ones, notes
    skipped_examples: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
