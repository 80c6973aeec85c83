"""What MLflow should hold of the study that conftest.py mirrors, and what it holds."""
from pipeline.paper.rows import rows
from pipeline.tracking import store

WITHOUT = ("coco-x65", "t5-coco", "t1-c16", "t7-x71", "t7-noilf", "t7-dec", "t7-nodec", "t2-x3", "t2-128", "t2-1x1", "t2-conv3",
           "t5-dec", "t5-sc",
           "t5-nodec", "t3-os32-dec", "t3-os32-nodec", "t1-c64", "t1-c32")  # a study that is not finished: quick to mirror


def expected(study):
    """(table, key) of the rows that were run, of the networks that several rows of Table 3 share, and of the trainings."""
    found = {(row.table, row.key) for table in rows(study).values() for row in table
             if row.run and (row.table == "table4" or row.run not in WITHOUT)}
    found |= {("table3", "t2-x2"), ("table3", "t3-os16-nodec")}
    return found | {("trainings", name) for name in ("resnet101", "xception65", "xception71", "t2-x2", "t1-c8", "t1-c48",
                                                     "t3-os16-nodec")}


def runs(study):
    """Active runs by (experiment, row), straight from MLflow."""
    client, found = store.connect(), {}
    for experiment in client.search_experiments():
        for run in client.search_runs([experiment.experiment_id], f"tags.scale = '{study.scale}'", max_results=1000):
            found.setdefault((experiment.name, run.data.tags["row"]), []).append(run)
    return found
