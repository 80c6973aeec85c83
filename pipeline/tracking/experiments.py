"""What MLflow's pages show of an experiment by themselves: its description, its columns and their order.

A column set is what MLflow saves when a person shares a view of an experiment: a tag that `?viewStateShareKey=NAME` opens.
"""
import functools
import json
from collections.abc import Callable
from pathlib import Path

from pipeline import paper
from pipeline.paper.rows import TITLES, TRAININGS

VIEW = "paper"            # the name of the column set that each experiment's description links to
COLUMNS = {"table4": ["metrics.`top1_error_paper`", "metrics.`top1_error`", "metrics.`top5_error_paper`", "metrics.`top5_error`",
                      "metrics.`parameters`"],
           TRAININGS: ["metrics.`training/miou`", "metrics.`training/top1_error`", "metrics.`curve/loss`",
                       "metrics.`system/images_per_second`", "metrics.`training/seconds`", "params.`training.steps`"]}
ROWS = ["metrics.`miou_paper`", "metrics.`miou`", "metrics.`miou_low`", "metrics.`miou_high`", "metrics.`madds_paper`",
        "metrics.`madds_counted_as_paper`", "params.`run.decoder`", "params.`run.low_level_channels`",
        "params.`run.output_stride`", "params.`strategy.output_stride`", "params.`strategy.scales`", "params.`strategy.flip`"]


@functools.lru_cache(maxsize=32)  # for as long as one client is used
def experiment(client, table: str, artifacts: Path | None) -> str:
    """The id of the experiment, made and described where it is not. `artifacts`: the folder for its files; None: the server's."""
    title = TITLES[table]
    folder = (artifacts / table).absolute().as_uri() if artifacts else None
    found = insist(lambda: client.get_experiment_by_name(title)
                   or client.get_experiment(client.create_experiment(title, folder)))
    for key, value in _described(table, found.experiment_id).items():
        if found.tags.get(key) != value:
            insist(client.set_experiment_tag, found.experiment_id, key, value)
    return found.experiment_id


def insist(call: Callable, *arguments, **options):
    """Call once more where it fails: a server looks before it enters something, and another writer may have been faster."""
    from mlflow.exceptions import MlflowException
    try:
        return call(*arguments, **options)
    except MlflowException:
        return call(*arguments, **options)


def _described(table: str, experiment_id: str) -> dict[str, str]:
    published = paper.tables().get(table)
    section = f" (section {published.section})" if published and published.section else ""
    note = f"{published.title}. {published.setting}{section}" if published else {
        TRAININGS: "Every network once: curves, machine, checkpoint. Those that are training now are drawn while they do.",
        }.get(table, "Runs and strategies that params.yaml evaluates and no table of the paper has.")
    metric = {"table4": "top1_error", TRAININGS: "training/miou"}.get(table, "miou")
    view = {"selectedColumns": ["tags.`scale`", *COLUMNS.get(table, ROWS)], "runsHiddenMode": "SHOW_ALL",
            "orderByKey": "tags.`place`", "orderByAsc": True}
    page = f"#/experiments/{experiment_id}/runs?viewStateShareKey={VIEW}&workflowType=machine_learning"  # else made for chats
    links = [f"[The paper's columns and order]({page})"]
    if table == TRAININGS:
        links.append(f"[curves]({page}&compareRunsMode=CHART)")
    return {"mlflow.note.content": f"{' · '.join(links)}\n\n{note}",  # it opens collapsed to about one line
            "mlflow.experimentKind": "custom_model_development", "mlflow.experiment.primaryMetric.name": metric,
            "mlflow.experiment.primaryMetric.greaterIsBetter": str(table != "table4"),
            f"mlflow.sharedViewState.{VIEW}": json.dumps(view)}
