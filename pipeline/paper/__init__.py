"""The paper as data: its published tables, and which run and strategy of the study measures each row."""
import functools
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from pipeline.study import Study, StudyError
from pipeline.written import mistakes, read, suggest

TABLES = Path(__file__).with_name("tables.yaml")
# What a row may have or not; the other columns are those of its table.
OPTIONAL = {"run", "strategy", "status", "same_network_as", "test_server", "note", "miou", "madds"}


class Table(BaseModel):
    """One table (or Figure 5) of the paper. `rows` keep the paper's order; their fields are the table's own columns."""
    model_config = ConfigDict(extra="forbid", frozen=True)
    title: str
    section: str
    setting: str
    rows: tuple[dict, ...]
    widths: tuple[int, ...] | None = None


def named(path: Path) -> dict:
    """What a YAML file holds by name. StudyError where it holds something else, as `read` has it."""
    if not isinstance(found := read(path), dict):
        raise StudyError(f"{path.name}: entries by their names are wanted in it")
    return found


@functools.cache
def tables() -> dict[str, Table]:
    """table1 ... table7b and figure5, in the paper's order."""
    return {name: checked(Table, table, f"{TABLES.name}: {name}") for name, table in named(TABLES).items()}


def checked(kind: type[BaseModel], values: dict, where: str):
    """An object of `kind`. StudyError that names the place and the key where the values are wrong."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise StudyError("\n".join(f"{where}: {words}" for words in mistakes(error, set(kind.model_fields)))) from None


def check(study: Study) -> None:
    """Raise StudyError listing every row whose run, strategy or backbone the study does not have or does not evaluate."""
    problems = []
    for name, table in tables().items():
        for number, row in enumerate(table.rows):
            where = f"{TABLES.name}: {name}.rows[{number}]"
            if odd := sorted((set(row) ^ set(table.rows[0])) - OPTIONAL):
                said = ", ".join(f"has {key}" if key in row else f"lacks {key}" for key in odd)
                problems.append(f"{where}: unlike the table's first row, it {said}")
            elif name == "table4":
                if row["backbone"] not in study.backbones:
                    problems.append(f"{where}.backbone: there is no backbone {row['backbone']!r} in params.yaml")
            elif "run" in row:
                run, strategy = row["run"], row.get("strategy")
                if run not in study.runs:
                    problems.append(f"{where}.run: there is no run {run!r} in params.yaml{suggest(run, study.runs)}")
                elif strategy not in study.evaluate.get(run, ()):
                    problems.append(f"{where}.strategy: evaluate.{run} in params.yaml lacks {strategy!r}")
            elif "status" not in row:
                problems.append(f"{where}: names neither a run nor a status that says why there is none")
    if problems:
        raise StudyError("\n  ".join(["rows of the paper that the study does not cover:", *problems]) + "\nThe paper's runs and "
                         "strategies stay in params.yaml. To run some of them only: dvc repro evaluate@RUN ..., then make report")
