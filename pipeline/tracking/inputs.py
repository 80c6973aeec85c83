"""Data sets as MLflow's run inputs: which split, with a digest of what is in it."""
import json

from pipeline import files
from pipeline.study import Study

SCHEMA = json.dumps({"mlflow_colspec": [{"name": name, "type": kind, "required": required} for name, kind, required in (
    ("id", "string", True), ("height", "integer", True), ("width", "integer", True), ("image", "binary", True),
    ("label", "binary", False), ("distance", "binary", False), ("target", "integer", False))]})


def describe(study: Study, dataset: str, name: str, context: str) -> dict[str, dict[str, str]]:
    """{context: the fields of an mlflow.entities.Dataset} for one prepared split; {} where it has no data sheet.

    The digest covers what the data sheet counts (images, sizes, pixels of each class) and the listing of the native files.
    """
    sheet = study.artifacts("shards", dataset) / "sheet.json"
    source = study.artifacts("data", dataset) / "source.json"
    if not sheet.exists():
        return {}
    content = files.read_json(sheet, classes=list, splits=dict)
    counts = content["splits"].get(name)
    if counts is None:
        return {}
    listing = files.read_json(source).get("digest") if source.exists() else None
    digest = files.digest([content["classes"], counts, listing])[:32]
    return {context: {"name": f"{dataset} {name}", "digest": digest, "source_type": "local", "schema": SCHEMA,
                      "source": json.dumps({"uri": str(sheet.with_name(f"{name}.arrow"))}),
                      "profile": json.dumps({"images": counts["images"], "classes": len(content["classes"])})}}
