"""The numbers of a made-up study as the report takes them from MLflow, without MLflow."""
from pipeline.tracking import entries
from pipeline.tracking.rows import rows


def measured(study):
    """What reading back MLflow gives, without MLflow."""
    found = {}
    for name, table in rows(study).items():
        for row in table:
            if row.run and (one := entries.line(study, row, nested=False)):
                curves = {curve: {step: value for step, value, _ in points} for curve, points in one.curves.items()
                          if curve.startswith("trimap")}
                found[name, row.key] = {"metrics": one.metrics, "curves": curves}
    return found
