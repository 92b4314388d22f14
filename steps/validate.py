"""Judge the images and labels before training; refuse the data when a fault occurs more often than allowed.

polars finds the faulty rows. Great Expectations checks the number of faults in the whole manifest, and checks a
sample of the rows against the manifest's contract. The step writes all issues to issues.parquet and readable Data
Docs to .foldline/data_docs.
"""

import logging
import os
import shutil
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import polars as pl

from steps.cli import run_step
from steps.errors import BadInput, Refused
from steps.images import statistics
from steps.images.issues import SCHEMA, write_issues
from steps.images.manifest import SPLITS, read_manifest
from steps.images.statistics import ClassFigure, Rows, Statistics
from steps.params.validate import ValidateParams
from steps.progress import say
from steps.reports.classes import Classes
from steps.reports.validate import Finding, ValidateReport

DATA_DOCS = Path(".foldline/data_docs")
SAMPLE_ROWS = 10_000
EXAMPLES = 3
NEVER_NULL = ("name", "file", "label", "length")


@dataclass(frozen=True)
class Expectation:
    """The expectation that `rows` is empty. `key` in params.yaml allows some images, which are kept or dropped."""

    check: str
    key: str
    rows: Rows
    action: Literal["kept", "dropped"]
    fault: str
    advice: str


@dataclass(frozen=True)
class ClassExpectation:
    """The expectation that `figure` counts no class. `key` in params.yaml allows some classes."""

    check: str
    key: str
    figure: ClassFigure
    fault: str
    advice: str


# fmt: off
# The worst fault comes first, because a refusal's sentence is about the first fault that exceeds its allowance.
IMAGES = (
    Expectation("label_out_of_range", "max_label_out_of_range", statistics.out_of_range, "dropped",
                "{have} a label outside 0 .. {last} (class_num: {class_num})", "{numbering}"),
    Expectation("unreadable", "max_unreadable", statistics.with_fault("unreadable"), "dropped",
                "{are} unreadable", "Repair or remove the files, or raise {key} to leave them out."),
    Expectation("conflicting_duplicates", "max_conflicting_duplicates", statistics.conflicting, "dropped",
                "{have} the same bytes as an image of another class", "Keep each image only in its right class."),
    Expectation("too_small", "max_too_small", statistics.too_small, "kept",
                "{have} a side of fewer than {min_side} pixels", "Remove them, or lower validate.min_side."),
    Expectation("animated", "max_animated", statistics.with_fault("animated"), "kept",
                "{have} several frames, but only the first is used", "Split the frames, or raise {key}."),
    Expectation("elongated", "max_elongated", statistics.with_fault("elongated"), "kept",
                "{are} so long that only the middle is used", "Crop them to the relevant part, or raise {key}."),
    Expectation("wrong_extension", "max_wrong_extension", statistics.with_fault("extension"), "kept",
                "{have} a format that does not match the file's name", "Rename the files, or raise {key}."),
    Expectation("unusual_modes", "max_unusual_modes", statistics.with_fault("mode"), "kept",
                "{are} not plain grey or RGB, and will be converted", "Convert them, or raise {key}."),
    Expectation("duplicates", "max_duplicates", statistics.duplicates, "kept",
                "{have} the same bytes as another image of the same class", "Remove them, or raise {key}."),
)
CLASSES = (
    ClassExpectation("unused_ids", "max_unused_ids", statistics.unused_ids,
                     "{have} no readable image, so the last layer could not learn these classes", "{numbering}"),
    ClassExpectation("small_classes", "max_small_classes", statistics.small_classes,
                     "{have} fewer images than the largest class / validate.max_imbalance ({max_imbalance})",
                     "Add images, or raise {key}."),
)
# fmt: on


def validate(params: ValidateParams, class_num: int | Literal["auto"], ingest: Path, out: Path) -> None:
    """Judge ingest's manifest; write report.json and issues.parquet, or refuse with the worst fault."""
    manifest = read_manifest(ingest / "manifest.parquet")
    classes = Classes.read(ingest / "classes.json")
    data = Statistics(manifest, classes.resolve(class_num), classes.names, params.min_side, params.max_imbalance)
    if data.class_num < 2:
        raise Refused(_printable(statistics.only_class(data)))
    issues = pl.concat([_issues(expectation, data) for expectation in IMAGES])
    write_issues(issues, out / "issues.parquet")
    findings = _findings(params, data, issues)
    failed = _failed(findings, manifest)
    report = _report(data, findings, issues)
    for finding in findings:
        if finding.count and finding not in failed[:1]:
            say(f"validate: {finding.sentence}")
    if failed:
        more = ", ".join(f"{finding.check} ({finding.count})" for finding in failed[1:])
        raise Refused(
            failed[0].sentence + (f" More faults exceed their allowance: {more}." if more else ""), report
        )
    report.write(out / "report.json")
    say(f"validate: {manifest.height} images of {data.class_sizes.height} classes; {report.dropped} dropped.")


def _issues(expectation: Expectation, data: Statistics) -> pl.DataFrame:
    check = pl.lit(expectation.check).alias("check")
    dropped = pl.lit(expectation.action == "dropped").alias("dropped")
    return expectation.rows(data).with_columns(check, dropped).select(list(SCHEMA))


def _findings(params: ValidateParams, data: Statistics, issues: pl.DataFrame) -> list[Finding]:
    found = []
    for expectation in IMAGES:
        rows = issues.filter(pl.col("check") == expectation.check).sort("name", "detail")
        examples = [f"{name} ({detail})" for name, detail in rows.head(EXAMPLES).select("name", "detail").rows()]
        found.append(_finding(params, data, expectation, rows.height, examples))
    return found + [_finding(params, data, classes, *classes.figure(data)) for classes in CLASSES]


def _finding(
    params: ValidateParams,
    data: Statistics,
    expectation: Expectation | ClassExpectation,
    count: int,
    examples: list[str],
) -> Finding:
    """Return the finding, with a sentence for people: the fault, its count, first examples, and what to do."""
    allowed: int | None = getattr(params, expectation.key)
    shown = [_printable(example) for example in examples[:EXAMPLES]]
    total = (
        f"{data.manifest.height} images" if isinstance(expectation, Expectation) else f"{data.class_num} class ids"
    )
    words = {
        "have": f"{count} of {total} {'has' if count == 1 else 'have'}",
        "are": f"{count} of {total} {'is' if count == 1 else 'are'}",
        "last": data.class_num - 1,
        "class_num": data.class_num,
        "min_side": data.min_side,
        "max_imbalance": data.max_imbalance,
        "key": f"validate.{expectation.key}",
        "numbering": _printable(statistics.numbering(data)),
    }
    more = f" and {count - len(shown)} more" if count > len(shown) else ""
    listed = f": {', '.join(shown)}{more}" if shown else ""
    sentence = f"{expectation.fault.format(**words)}{listed}."
    if allowed is not None and count > allowed:
        sentence += f" validate.{expectation.key} allows {allowed}. {expectation.advice.format(**words)}"
    key = f"validate.{expectation.key}"
    return Finding(
        check=expectation.check, key=key, count=count, allowed=allowed, examples=tuple(shown), sentence=sentence
    )


def _printable(text: str) -> str:
    """Return the text on one line, because a file's name may contain any character."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def _report(data: Statistics, findings: list[Finding], issues: pl.DataFrame) -> ValidateReport:
    return ValidateReport(
        class_num=data.class_num,
        images=data.manifest.height,
        findings=tuple(findings),
        images_per_class={data.name(label): images for label, images in data.class_sizes.rows()},
        imbalance=statistics.imbalance(data),
        unused_ids=statistics.first_unused(data),
        dropped=issues.filter("dropped").get_column("name").n_unique(),
    )


def _failed(findings: list[Finding], manifest: pl.DataFrame) -> list[Finding]:
    """Return the findings that Great Expectations fails; raise BadInput if the manifest breaks its contract."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Great Expectations uses deprecated parts of Python
        os.environ["GX_ANALYTICS_ENABLED"] = "false"  # Great Expectations reads this at its import
        import great_expectations as gx

        gxe: Any = gx.expectations

        logging.getLogger("great_expectations").setLevel(logging.ERROR)
        figures = pl.DataFrame({finding.check: [finding.count] for finding in findings}).to_pandas()
        sample = manifest.bottom_k(SAMPLE_ROWS, by="checksum").drop("faults").to_pandas()
        at_most = [
            gxe.ExpectColumnMaxToBeBetween(column=finding.check, min_value=0, max_value=finding.allowed)
            for finding in findings
        ]
        contract = [
            *(gxe.ExpectColumnValuesToNotBeNull(column=column) for column in NEVER_NULL),
            gxe.ExpectColumnValuesToBeUnique(column="name"),
            gxe.ExpectColumnValuesToMatchRegex(column="checksum", regex="^[0-9a-f]{64}$"),
            gxe.ExpectColumnValuesToBeInSet(column="split", value_set=list(SPLITS)),
            *(gxe.ExpectColumnMinToBeBetween(column=column, min_value=1) for column in ("width", "height")),
        ]
        context: Any = gx.get_context(mode="ephemeral")
        context.variables.progress_bars = {"globally": False}
        failed = _run(gx, context, "figures", figures, at_most)
        broken = _run(gx, context, "sample", sample, contract)
        _write_data_docs(context)
    if broken:
        raise BadInput(
            f"ingest's manifest breaks its contract in column(s) {', '.join(broken)}; run ingest again."
        )
    return [finding for finding in findings if finding.check in failed]


def _run(gx: Any, context: Any, name: str, table: Any, expectations: list[Any]) -> list[str]:
    """Return the columns whose expectations fail; raise RuntimeError if an expectation cannot be evaluated."""
    asset = context.data_sources.add_pandas(name).add_dataframe_asset(name)
    batch = asset.add_batch_definition_whole_dataframe(name)
    suite = context.suites.add(gx.ExpectationSuite(name=name, expectations=expectations))
    validation = context.validation_definitions.add(gx.ValidationDefinition(name=name, data=batch, suite=suite))
    result = validation.run(batch_parameters={"dataframe": table}, result_format="SUMMARY")
    raised = [message for one in result.results for message in _raised(one.exception_info)]
    if raised or len(result.results) != len(expectations):
        raise RuntimeError(f"Great Expectations could not evaluate {name}: {raised}")
    return [one.expectation_config.kwargs["column"] for one in result.results if not one.success]


def _raised(information: dict[str, Any]) -> list[str]:
    """Return the messages of an expectation's exceptions; `information` is about one metric or several metrics."""
    metrics = [information] if "raised_exception" in information else list(information.values())
    return [str(metric["exception_message"]) for metric in metrics if metric["raised_exception"]]


def _write_data_docs(context: Any) -> None:
    """Replace the Data Docs of the last run. These pages contain times and paths, so DVC does not track them."""
    shutil.rmtree(DATA_DOCS, ignore_errors=True)
    store = {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(DATA_DOCS.resolve())}
    index = {"class_name": "DefaultSiteIndexBuilder"}
    site = {"class_name": "SiteBuilder", "site_index_builder": index, "store_backend": store}
    context.add_data_docs_site("foldline", site)
    context.build_data_docs(site_names=["foldline"])


if __name__ == "__main__":
    run_step(validate)
