"""The scale tiny with other sources."""
from pipeline import schema, study


def change(monkeypatch, settings, name, **source):
    """Give data set `name` of scale tiny another source (None: none)."""
    dataset = settings.settings.voc.model_copy(update={"source": schema.Source(**source) if source else None})
    scale = settings.settings.model_copy(update={name: dataset})
    changed = settings.model_copy(update={"scales": {**settings.scales, "tiny": scale}})
    monkeypatch.setattr(study, "load", lambda: changed)
