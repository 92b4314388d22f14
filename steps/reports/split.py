"""data/split/report.json: how the images were dealt out."""

from steps.reports.base import Report


class SplitReport(Report):
    """Images per split and class; what the champion's ledger kept in place; classes kept in train only."""

    images: dict[str, int] = {}
    per_class: dict[str, dict[str, int]] = {}
    memory: str = ""  # "ledger of <n> keys" or "none: no accepted release yet"
    kept_in_place: int = 0
    train_only: tuple[str, ...] = ()
    untested: tuple[str, ...] = ()  # classes without an image in test: nothing will be shown for them
    off_quota: dict[str, int] = {}  # class -> how far its most unequal split is from what it is due
    ready_made: tuple[str, ...] = ()  # splits that came with the images and were kept
    left_out: int = 0  # images that validate dropped
    leaked: int = 0  # images of val and test whose group or content is in another split too
    quarantined: tuple[str, ...] = ()  # new images that tie together what stands in different splits
