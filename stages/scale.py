"""Choose the scale of the study: rewrites the one line `scale:` of params.yaml.

Example:  python -m stages.scale paper
"""
import re
from typing import Annotated

import typer

from pipeline import records, study as studies
from stages import console


def main(scale: Annotated[str, typer.Argument(help="a key of `scales` in params.yaml")]):
    """Choose the scale of the study.

    Example:  python -m stages.scale paper
    """
    study, path = studies.load(), studies.ROOT / "params.yaml"
    console.pick("scale", scale, study.scales)
    if scale == study.scale:
        return
    with records.atomic(path) as partial:
        partial.write_text(re.sub(r"(?m)^scale:\s*[\w-]+", f"scale: {scale}", path.read_text(), count=1))
    print(f"params.yaml: scale is now {scale}; it was {study.scale}")


if __name__ == "__main__":
    console.run(main)
