"""data/ingest/report.json: what ingest found, and the folder of the images."""

from steps.reports.base import Report


class IngestReport(Report):
    """Counts of what ingest read. ingest records faults, and validate judges them."""

    root: str = "."  # the folder of the manifest's paths: as in params, or "." for data/ingest
    layout: str = ""
    images: int = 0
    classes: int = 0
    ready_splits: dict[str, int] = {}
    sources: dict[str, int] = {}
    faults: dict[str, int] = {}
    classes_without_train: tuple[str, ...] = ()  # in ready-made splits: classes in val or test only
    skipped: int = 0  # files and folders that are clearly no images, such as hidden files and notes
    skipped_examples: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
