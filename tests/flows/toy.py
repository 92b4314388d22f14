"""A small line of shell stages in a separate repository."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

from tests.reference_params import REFERENCE

ROOT = Path(__file__).parents[2]
SCRIPTS = Path(sys.executable).parent
LINE = """
stages:
  ingest:
    cmd: ./step ingest data/ingest
    deps: ["${ingest.source}", step]
    outs: [data/ingest]
  split:
    cmd: ./step split data/split
    deps: [data/ingest]
    params: [split]
    outs: [data/split]
  build:
    foreach: ${engines}
    do:
      cmd: ./step build data/build/${item}
      deps: [data/split]
      outs: ["data/build/${item}"]
  evaluate-engine:
    foreach: ${engines}
    do:
      cmd: ./step evaluate data/evaluate ${item}
      deps: ["data/build/${item}"]
      outs: ["data/evaluate/${item}.json", "data/evaluate/${item}.parquet"]
  gate:
    cmd: ./step gate data/gate
    deps: [data/evaluate]
    params: [gate, engines]
    outs: [data/gate]
"""
# Each call is recorded in ran.txt; a file named after the step decides how the step ends.
STEP = """#!/bin/sh
echo "$1" >> ran.txt
echo "$1: at work"
if [ -e "crash.$1" ]; then
    [ "$(cat "crash.$1")" = once ] && rm "crash.$1"
    exit 1
fi
[ -e "bad.$1" ] && echo "$1: the flag is wrong." && exit 2
if [ "$3" ]; then
    mkdir -p "$2"; echo "$3" > "$2/$3.parquet"; echo '{"form": "'"$3"'", "top1": 0.5}' > "$2/$3.json"; exit 0
fi
mkdir -p "$2"
if [ -e "sleep.$1" ]; then
    trap 'echo cleared up > cleared.txt; exit 130' INT
    echo $$ > pid.txt; sleep 600
fi
if [ -e "refuse.$1" ]; then
    cp "refuse.$1" "$2/report.json"; echo "$1: said otherwise"; exit 3
fi
cat source > "$2/out"
[ "$1" = gate ] && echo '{"judgement": "pass", "forms": []}' > "$2/verdict.json"
exit 0
"""


class Line:
    """The toy repository: change one of its files, run it, and read which steps ran."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, name: str, text: str) -> None:
        (self.root / name).write_text(text)

    def refuse(self, step: str, sentence: str) -> None:
        self.write(f"refuse.{step}", json.dumps({"refused": sentence, "images": 3}))

    def ran(self) -> list[str]:
        """Return the steps that ran since the last call."""
        log = self.root / "ran.txt"
        steps = log.read_text().split() if log.exists() else []
        log.unlink(missing_ok=True)
        return steps

    def dvc(self, *arguments: str) -> None:
        subprocess.run([SCRIPTS / "dvc", *arguments], cwd=self.root, check=True, capture_output=True)

    def engines(self, *names: str) -> None:
        lines = (self.root / "params.yaml").read_text().splitlines()
        listed = [f"engines: [{', '.join(names)}]" if line.startswith("engines:") else line for line in lines]
        self.write("params.yaml", "\n".join(listed) + "\n")

    def source(self, path: str) -> None:
        params = (self.root / "params.yaml").read_text()
        self.write("params.yaml", re.sub(r"source: \S+", f"source: {path}", params))

    def copy(self, root: Path) -> "Line":
        """Return a copy of the line in another folder, with all results so far."""
        shutil.copytree(self.root, root)
        return Line(root)

    def forget(self, stage: str) -> None:
        """Turn the line into one in which this stage, which writes one folder, has not run yet."""
        shutil.rmtree(self.root / "data" / stage)
        shutil.rmtree(self.root / ".dvc/cache/runs")
        lock = yaml.safe_load(self.lock)
        del lock["stages"][stage]
        self.write("dvc.lock", yaml.safe_dump(lock, sort_keys=False))

    def prune(self) -> None:
        command = [sys.executable, "-m", "tools.prune"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        subprocess.run(command, cwd=self.root, check=True, capture_output=True, env=environment)

    def outputs(self) -> set[str]:
        return {str(path.relative_to(self.root)) for path in (self.root / "data").rglob("*") if path.is_file()}

    @property
    def lock(self) -> bytes:
        return (self.root / "dvc.lock").read_bytes()


def make_line(root: Path) -> Line:
    root.mkdir(parents=True, exist_ok=True)
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    params = REFERENCE.read_text()
    (root / "params.yaml").write_text(re.sub(r"source: \S+", "source: source", params))
    line = Line(root)
    line.write("dvc.yaml", LINE)
    line.write(".gitignore", "/data/\n")
    line.write("source", "images\n")
    line.write("step", STEP)
    (root / "step").chmod(0o755)
    line.dvc("init", "-q")
    line.engines("onnxruntime-fp32", "openvino-fp32")
    return line
