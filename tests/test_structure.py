"""The house: who imports whom, what dvc.yaml declares, and what never enters a file."""
import ast
import re
import subprocess
from functools import cache
from pathlib import Path
from typing import get_args

import pytest
import yaml

from pipeline.schema import DatasetName

ROOT = Path(__file__).resolve().parents[1]
FLOORS = ["datasets", "models", "evaluation", "training", "doctor", "tracking", "reporting"]  # each imports only itself and those before it
WITHOUT_EFFECT = {"pipeline.schema", "pipeline.study", "pipeline.written",  # they check values that are params
                  "pipeline.progress", "pipeline.memory"}  # bars, and freed memory that is kept: no result is another for them
GROUND = ["schema", "written", "study", "files", "records", "progress", "memory", "paper"]
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
DATASETS = get_args(DatasetName)
BY_NAME = ["prepare", "cost", "compile", "report"]  # they import the modules of data sets by their names
WITHOUT_TORCH = ["download", "prepare", "compile", "report", "ui", "scale", "console", "checks", "engine/dag", "engine/guard"]


def tracked(*patterns: str) -> list[Path]:
    """Files that git knows or would take, so no build products."""
    listed = subprocess.check_output(["git", "ls-files", "-co", "--exclude-standard", "--", *patterns], cwd=ROOT, text=True)
    return sorted(path for path in {ROOT / line for line in listed.splitlines()} if path.is_file())


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def file_of(module: str) -> Path | None:
    """The file behind dotted `module` of this repository."""
    base = ROOT.joinpath(*module.split("."))
    return next((path for path in (base.with_suffix(".py"), base / "__init__.py") if path.is_file()), None)


def names(nodes) -> set[str]:
    """Dotted names that import statements among `nodes` mention, with their parents: `a.b` gives a and a.b."""
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute here"
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return {".".join(parts[:count]) for parts in (name.split(".") for name in found) for count in range(1, len(parts) + 1)}


def imported(path: Path) -> set[str]:
    return names(ast.walk(tree(path)))


def at_import(path: Path) -> set[str]:
    """Names that are imported when the module is, not later inside a function."""
    todo, found = list(tree(path).body), []
    while todo:
        node = todo.pop()
        found.append(node)
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            todo += ast.iter_child_nodes(node)
    return names(found)


def reach(path: Path, look) -> set[str]:
    """All modules that `path` leads to through this repository; `look` gives a file's imports."""
    seen, todo = set(), [path]
    while todo:
        for name in look(todo.pop()) - seen:
            seen.add(name)
            if name.split(".")[0] in ("pipeline", "stages") and (found := file_of(name)):
                todo.append(found)
    return seen


def needed(stage: str, datasets=DATASETS) -> set[Path]:
    """The modules of pipeline/ that decide what a stage does: all it can import, but those WITHOUT_EFFECT and files with only a docstring."""
    script = ROOT / "stages" / f"{stage}.py"
    modules = reach(script, lambda path: {name for name in imported(path) if not name.startswith("stages")})
    for name in datasets if stage in BY_NAME else ():
        modules |= {f"pipeline.datasets.{name}"} | reach(ROOT / f"pipeline/datasets/{name}.py", imported)
    without = WITHOUT_EFFECT - ({"pipeline.study"} if stage in ("compile", "report") else set())  # it says why rows are missing
    files = {file_of(name) for name in modules if name.startswith("pipeline") and name not in without and file_of(name)}
    return {path for path in files if any(not isinstance(node, ast.Expr) for node in tree(path).body)}


def declared(stage: str, datasets=DATASETS) -> set[Path]:
    listed = [path for path in STAGES[stage].get("do", STAGES[stage])["deps"] if not path.startswith(("artifacts", "reports"))]
    return {ROOT / path.replace("${item}", name) for path in listed for name in datasets}


@pytest.mark.parametrize("stage", ["download", "prepare"])
def test_every_data_set_of_the_schema_has_its_stages(stage):
    assert STAGES[stage]["foreach"] == list(DATASETS)


@pytest.mark.parametrize("stage", STAGES)
def test_declared_dependencies_cover_the_imports(stage):
    listed = STAGES[stage].get("do", STAGES[stage])["deps"]
    assert len(set(listed)) == len(listed), f"dvc.yaml, {stage}.deps names something twice"
    paths = declared(stage)
    assert not (absent := [path for path in paths if not path.exists()]), f"dvc.yaml, {stage}: not there: {absent}"
    script = ROOT / "stages" / f"{stage}.py"
    assert script in paths
    each = [[name] for name in DATASETS] if stage == "prepare" else [DATASETS]
    lacking = {path for some in each for path in needed(stage, some) if not declared(stage, some) & {path, *path.parents}}
    assert not lacking, f"dvc.yaml, {stage}.deps lacks {sorted(str(path.relative_to(ROOT)) for path in lacking)}"


@pytest.mark.parametrize("stage", STAGES)
def test_declared_dependencies_are_used(stage):
    needs = needed(stage)
    needless = {path for path in declared(stage) if path.suffix == ".py" and path.parent.name != "stages" and path not in needs}
    needless |= {path for path in declared(stage) if path.is_dir() and not any(path in need.parents for need in needs)}
    assert not needless, f"dvc.yaml, {stage}.deps: not imported: {sorted(str(path.relative_to(ROOT)) for path in needless)}"


@pytest.mark.parametrize("path", tracked("pipeline/*.py"), ids=lambda path: str(path.relative_to(ROOT)))
def test_floors(path):
    own = path.relative_to(ROOT / "pipeline").with_suffix("").parts[0]
    modules = {name.split(".")[1] for name in imported(path) if name.startswith("pipeline.")}
    allowed = {"__init__": set(), "schema": {"written"}, "written": set(), "study": {"schema", "written"}, "files": {"study"}, "records": {"files"}, "progress": set(), "memory": set(), "paper": set(GROUND)}.get(own)
    if allowed is None:
        allowed = set(GROUND) | set(FLOORS[:FLOORS.index(own) + 1])
    assert modules <= allowed | {own}, f"{own} must not import {sorted(modules - allowed - {own})}"
    assert not any(name.split(".")[0] == "stages" for name in imported(path)), "pipeline never imports stages"


@pytest.mark.parametrize("stage", WITHOUT_TORCH)
def test_stages_that_need_no_torch_do_not_import_it(stage):
    if stage in ("compile", "report"):  # they import inside main what they use anyway
        reached = reach(ROOT / "stages" / f"{stage}.py", imported)
    else:
        reached = reach(ROOT / "stages" / f"{stage}.py", at_import)
    assert not {"torch", "torchvision", "timm"} & reached


@pytest.mark.parametrize("stage", [*STAGES, "ui", "scale"])
def test_a_skip_is_decided_before_the_slow_imports(stage):
    slow = {"torch", "torchvision", "timm", "mlflow", "pandas", "matplotlib"} & reach(ROOT / "stages" / f"{stage}.py", at_import)
    assert not slow, f"python -m stages.{stage} --help imports {sorted(slow)}"


@pytest.mark.parametrize("stage", [stage for stage in STAGES if stage not in ("compile", "report")])
def test_what_is_measured_does_not_depend_on_the_papers_numbers(stage):
    """Nor on what checks them: another column of a table evaluates nothing again."""
    assert not {path.name for path in needed(stage) if path.parent.name == "paper"}


def test_training_never_imports_mlflow():
    for stage in ("pretrain", "train", "evaluate"):
        assert "mlflow" not in reach(ROOT / "stages" / f"{stage}.py", imported)


@pytest.mark.parametrize("stage", [*STAGES, "ui", "scale"])
def test_help_has_an_example(stage):
    text = ast.get_docstring(tree(ROOT / "stages" / f"{stage}.py")) + "".join(
        ast.get_docstring(node) or "" for node in tree(ROOT / "stages" / f"{stage}.py").body if isinstance(node, ast.FunctionDef))
    assert f"python -m stages.{stage}" in text


def test_files_can_be_read_in_one_sitting():
    files = tracked("pipeline/*.py", "stages/*.py", "tests/*.py", "Snakefile")
    lines = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in files}
    assert not {path: count for path, count in lines.items() if count > 200}


def test_every_module_says_what_it_is_for():
    assert not [path for path in tracked("pipeline/*.py", "stages/*.py") if tree(path).body and not ast.get_docstring(tree(path))]


def test_lock_file_pins_and_names_no_registry():
    text = (ROOT / "requirements.txt").read_text()
    assert not re.findall(r"https?://\S+|--(?:extra-)?index-url|--find-links", text)
    entries = [line for line in text.splitlines() if line and not line.startswith((" ", "#"))]
    assert entries and all(re.match(r"[\w.-]+(\[.*\])?==", line) for line in entries)
    assert text.count("--hash=sha256:") >= len(entries)
    assert not (ROOT / "uv.lock").exists()


def test_outputs_are_whole_folders_under_the_scale():
    for stage, body in STAGES.items():
        for out in body.get("do", body)["outs"]:
            name, options = (out, {}) if isinstance(out, str) else next(iter(out.items()))
            for_people = name.startswith("reports/") and options == {"cache": False}
            assert for_people or name.startswith("artifacts/${scale}/"), (stage, name)
            assert "persist" not in options, "persist kills the run cache"


def test_the_docs_say_what_a_report_is_made_of():
    needs = {Path(path).name for stage in ("compile", "report") for path in STAGES[stage]["deps"] if path.startswith("artifacts/")}
    said = (ROOT / "docs/report.md").read_text().partition("`make report` takes")[2].partition(".")[0]
    assert set(re.findall(r"`(\w+)`", said)) == needs
