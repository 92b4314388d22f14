"""Make the release that passed the gate the champion: the one in production.

`python -m tools.accept` (make accept) copies data/release to data/champion/release. The next `split` keeps what
its ledger placed, and the next `gate` refuses what is worse than its model.
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
    """Copy the release, whole or not at all, and then say in champion.json that there is one.

    Raises BadInput for what is no release that passed its gate, or was changed since; and where what stands in the
    champion's place is no release.
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
    """Raise BadInput where the gate beside the release has judged since: a refused run leaves the old release."""
    last = release.parent / "gate" / VERDICT
    if last.is_file() and last.read_bytes() != (release / VERDICT).read_bytes():
        verdict = Verdict.read(last)
        said = f": {verdict.refused.rstrip('.')}" if verdict.refused else ""
        raise BadInput(
            f"{release} is of an earlier run; the gate's last verdict is {verdict.judgement.upper()}{said}. "
            "Run the line until it passes, or accept a copy of the release that lies elsewhere with --release."
        )


def main() -> None:
    """Accept the release that the flags name, and say so."""
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
        f"accept: {flags.release} is now the champion, in {flags.champion}. Commit it, so that others have it too."
    )


if __name__ == "__main__":
    main()
