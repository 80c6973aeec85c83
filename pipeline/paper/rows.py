"""The rows of the paper's tables, and of runs that are in none, as this study names them: one MLflow run, one line each."""
from dataclasses import dataclass

from pipeline import paper
from pipeline.study import Study, StudyError

TITLES = {"table1": "Table 1", "table2": "Table 2", "table3": "Table 3", "table4": "Table 4", "table5": "Table 5",
          "table6": "Table 6", "table7a": "Table 7a", "table7b": "Table 7b", "figure5": "Figure 5",
          "zoo": "Model zoo", "own": "Runs of your own", "trainings": "Trainings"}
TRAININGS = "trainings"  # no table: each network once, while it is trained and after


@dataclass(frozen=True)
class Row:
    """One row. `published`: the paper's own fields. `run`: a backbone in Table 4; None where nobody outside can run the row."""
    table: str
    published: dict
    run: str | None
    strategy: str | None

    @property
    def stage(self) -> str:
        """The stage of dvc.yaml that measures it."""
        return f"{'pretrain' if self.table == 'table4' else 'evaluate'}@{self.run}"

    @property
    def key(self) -> str:
        """What tells this row from the others of its table, among those that can be run."""
        return f"{self.run}/{self.strategy}" if self.strategy else str(self.run)

    @property
    def name(self) -> str:
        """The row as the paper's table writes it."""
        row, marks = self.published, []
        if self.table == "table1":
            return f"[1x1, {row['channels']}]"
        if self.table == "table2":
            features = [name for key, name in (("conv2", "Conv2"), ("conv3", "Conv3")) if row[key]]
            return " ".join(["[1x1,48]", row["conv"], *features])
        if self.table == "zoo":
            marks = [row["model"], f"eval OS {row['eval_os']}", *(["MS"] if row["scales"] != "1" else [])]
        if self.table in ("table3", "table5"):
            marks = [f"OS {row['train_os']} to {row['eval_os']}"]  # MLflow and phones cut long names
        for key, mark in (("backbone", None), ("dec", "Decoder"), ("ms", "MS"), ("flip", "Flip"), ("sc", "SC"), ("coco", "COCO"),
                          ("jft", "JFT"), ("aspp", "ASPP"), ("image_level", "Image-Level")):
            if row.get(key) and self.table != "table4":
                marks.append(mark or str(row[key]))
        return ", ".join(marks) or str(row.get("model") or row.get("curve") or row.get("method") or self.key)


def rows(study: Study) -> dict[str, list[Row]]:
    """Every row by table, in the paper's order; under "own" the runs and strategies that `params.yaml` evaluates and no table
    of the paper has. The model zoo's rows are there at scales that evaluate published networks."""
    found = {}
    for name, table in paper.tables().items():
        if name not in TITLES:
            raise StudyError(f"{paper.TABLES.name}: {name}: no table of the paper: a row of your own goes into one of those")
        found[name] = [Row(name, dict(row), row["backbone"] if name == "table4" else row.get("run"),
                           row.get("strategy") if "run" in row else None) for row in table.rows]
    if study.settings.trains:
        del found["zoo"]
    known = {(row.run, row.strategy) for table in found.values() for row in table}
    found["own"] = [Row("own", {}, run, strategy) for run, strategies in study.evaluate.items()
                    if study.skipped(run) is None for strategy in strategies if (run, strategy) not in known]
    return found
