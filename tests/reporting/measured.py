"""The numbers of a made-up study: as the report takes them from MLflow, without MLflow; its tables and report; and mIOU by plain
arithmetic."""
import numpy as np

from pipeline.paper.rows import rows
from pipeline.reporting import ledger, page, tables
from pipeline.tracking import entries
from tests import changed


def measured(study):
    """What reading back MLflow gives, without MLflow."""
    found = {}
    for name, table in rows(study).items():
        for row in table:
            if row.run and (one := entries.of_row(study, row, nested=False)):
                curves = {curve: {step: value for step, value, _ in points} for curve, points in one.curves.items()
                          if curve.startswith("trimap")}
                found[name, row.key] = {"metrics": one.metrics, "curves": curves}
    return found


def compiled(study):
    """The tables, by name; they are in reports/tables, too."""
    built = tables.build(study, measured(study)) | {"claims": ledger.build(study)}
    tables.save(built)
    return built


def report(study):
    """Writes the tables and the report; the paths of the report's files."""
    compiled(study)
    return page.write(study)


def scoring(study, classes):
    """The study with mIOU over these classes of VOC only (None: all)."""
    return changed.dataset(study, "voc", evaluate=study.settings.voc.evaluate.model_copy(update={"classes": classes}))


def score(matrices, only):
    """mIOU of confusion matrices (..., classes, classes) over the classes with these numbers (None: all) that occur."""
    hits = np.diagonal(matrices, axis1=-2, axis2=-1)
    unions = matrices.sum(-1) + matrices.sum(-2) - hits
    ious = np.where(unions > 0, hits / np.maximum(unions, 1), np.nan)
    return 100 * np.nanmean(ious if only is None else ious[..., only], axis=-1)


def draws(images):
    """The bootstrap's: how often each image is in each of 10,000 resamples."""
    return np.random.default_rng(0).multinomial(images, [1 / images] * images, size=10_000)
