"""Make the archive that a test set's evaluation server takes."""
import shutil
from pathlib import Path
from typing import Annotated

import typer

from pipeline import files, records, study as studies
from pipeline.study import StudyError
from stages import console


def main(run: Annotated[str, typer.Argument(help="a trained run of params.yaml")],
         strategy: Annotated[str | None, typer.Option(help="one of params.yaml; else the run's last in `evaluate`")] = None,
         split: Annotated[str, typer.Option(help="test, or val for an archive that can be scored here")] = "test",
         bf16: Annotated[bool, typer.Option("--bf16", help="in bfloat16: faster on a GPU, labels differ a little")] = False):
    """Label the test images of RUN's data set and pack them as the VOC or Cityscapes server takes them:
    artifacts/SCALE/submissions/RUN-STRATEGY-SPLIT.tar (Cityscapes: .zip).

    Interrupted, the same command goes on without labelling finished images again. The score that the server gives goes into
    params.yaml, `test_scores`, and from there into Table 6 or 7b.

    Example, at scale paper:  python -m stages.submit t6-test --strategy os8-ms-flip
    """
    study = studies.load()
    wanted = console.pick("run", run, study.runs)
    from pipeline.evaluation import submission
    if wanted.dataset not in submission.ENDINGS:
        raise StudyError(f"{run} is trained on {wanted.dataset}: only {' and '.join(submission.ENDINGS)} have a test server here")
    if not (name := strategy or study.evaluate.get(run, ("",))[-1]):
        raise StudyError(f"`evaluate` has no line for {run}: name one of {', '.join(study.strategies)} by --strategy")
    chosen, data = console.pick("strategy", name, study.strategies), study.dataset(wanted.dataset)
    downloaded, folder = study.artifacts("data", wanted.dataset), study.artifacts("runs", run)
    if reason := study.skipped(run) or console.upstream_skipped(downloaded, folder):
        raise StudyError(f"there is nothing to submit: {reason}")
    root = Path(files.read_json(downloaded / "source.json", root=str)["root"])
    items = submission.images(wanted.dataset, root, split, complete=split == "test" and data.source.generate is None)

    from pipeline.evaluation import trained
    from pipeline.models import device as devices
    device, found = devices.pick(), trained.described(folder)
    what = [each.model_dump(mode="json") for each in (found.run, found.sizes, data.evaluate, chosen)]
    what += [bf16, devices.describe(device), [(item.id, item.image.stat().st_size) for item in items]]
    digest = files.digest(what, folder / records.MODEL, *trained.CODE)[:16]
    unfinished = study.artifacts("unfinished", f"submit-{run}-{name}-{split}")
    models = trained.load(study, folder, {chosen.output_stride}, device)
    submission.label(models, items, wanted.dataset, chosen, data.evaluate.canvas, data.evaluate_batch,
                     unfinished / digest, f"{run} {name} {split}", bf16)
    out = study.artifacts("submissions") / f"{run}-{name}-{split}.{submission.ENDINGS[wanted.dataset]}"
    submission.pack(items, wanted.dataset, split, unfinished / digest, out)
    shutil.rmtree(unfinished)
    print(f"submit {run}: {len(items)} label maps in {out}")
    if split == "test":
        print(f"its score goes into params.yaml:  test_scores: {{{study.scale}: {{{wanted.dataset}: "
              f"{{run: {run}, strategy: {name}, miou: ...}}}}}}")


if __name__ == "__main__":
    console.run(main)
