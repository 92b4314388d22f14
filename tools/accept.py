"""Make the release that passed the gate the champion, which is the release in production.

`python -m tools.accept` (make accept) copies data/release to data/champion/release. The next `split` keeps each
image in the split of the champion's ledger. The next `gate` refuses a model that is worse than the champion.
"""

import argparse
import shutil
import sys
from pathlib import Path

from steps.errors import BadInput, StepError
from steps.files import replace_folder
from steps.progress import say
from steps.reports.base import read_refusal
from steps.reports.champion import Champion
from steps.reports.release import INDEX, SUMS, check_sums
from steps.reports.verdict import Verdict
from tools.releases import VERDICT, check_release, keep_out_of_releases, refuse_a_folder_of_others


def accept(release: Path, champion: Path) -> None:
    """Copy the release, whole or not at all, and then write champion.json.

    Raises BadInput if `release` did not pass its gate, or was changed afterwards, and if the champion's folder is
    not empty and holds no release.
    """
    keep_out_of_releases("--champion", champion)
    _check_passed(release)
    target = champion / "release"
    refuse_a_folder_of_others(target, all((target / name).is_file() for name in (SUMS, INDEX)), "--champion")
    copy = champion / ".release.tmp"
    shutil.rmtree(copy, ignore_errors=True)
    try:
        shutil.copytree(release, copy)
        check_sums(copy)
        replace_folder(copy, target)
    finally:
        shutil.rmtree(copy, ignore_errors=True)
    Champion(accepted=True).write(champion / "champion.json")


def _check_passed(release: Path) -> None:
    refused = read_refusal(release / "report.json")
    if refused is not None:
        raise BadInput(f"{release} holds a refusal, not a release: {refused}")
    check_release(release)
    if Verdict.read(release / VERDICT).judgement != "pass":
        raise BadInput(f"{release / VERDICT} is no passing verdict; run the line again.")
    _check_of_the_last_run(release)


def _check_of_the_last_run(release: Path) -> None:
    """Raise BadInput if the gate beside the release judged a later run: a refused run leaves the old release."""
    last = release.parent / "gate" / VERDICT
    if last.is_file() and last.read_bytes() != (release / VERDICT).read_bytes():
        verdict = Verdict.read(last)
        reason = f": {verdict.refused.rstrip('.')}" if verdict.refused else ""
        raise BadInput(
            f"{release} is of an earlier run; the gate's last verdict is {verdict.judgement.upper()}{reason}. "
            "Run the line until the gate passes, or accept a copy of the release in another folder with --release."
        )


def main() -> None:
    """Accept the release that the flags name, and report that."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.accept", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--release", type=Path, default=Path("data/release"), metavar="PATH")
    parser.add_argument("--champion", type=Path, default=Path("data/champion"), metavar="PATH")
    flags = parser.parse_args()
    try:
        accept(flags.release, flags.champion)
    except (StepError, OSError) as error:
        say(f"accept: {error}")
        sys.exit(2)
    say(
        f"accept: {flags.release} is now the champion, in {flags.champion}. Commit this folder, so that others "
        "get the champion too."
    )


if __name__ == "__main__":
    main()
