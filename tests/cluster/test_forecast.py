"""How long a study takes: the work that is counted, the rate that is measured, and what follows from both."""
import time

import pytest

from pipeline import study as studies
from pipeline.doctor import calibration, forecast
from pipeline.doctor.calibration import Rate
from tests import changed


@pytest.fixture(scope="module")
def tiny() -> studies.Study:
    return changed.at("tiny")


@pytest.fixture(scope="module")
def works(tiny) -> list[forecast.Work]:
    return forecast.works(tiny)


def test_every_stage_that_computes_is_counted(tiny, works):
    """And no other: a run without a line under `evaluate` is trained alone."""
    runs = {name for name in tiny.runs if not tiny.skipped(name)}
    assert runs - tiny.evaluate.keys() >= {"coco-x65"}
    stages = {f"pretrain@{name}" for name in tiny.settings.network.backbones if name in ("resnet101", "xception65", "xception71")}
    chosen = {f"evaluate@{name}" for name in runs & tiny.evaluate.keys()}
    assert sorted(work.stage for work in works) == sorted(stages | chosen | {f"train@{name}" for name in runs})
    assert {work.after for work in works} <= stages | {f"train@{name}" for name in runs} | {""}


def test_work_is_steps_times_batch_times_the_networks_multiply_adds(tiny, works):
    from pipeline.models import cost, deeplab
    run, training = tiny.runs["t1-c48"], tiny.settings.voc.train
    network = cost.on_meta(lambda: deeplab.build(run, "resnet", tiny.settings.network, 21))
    one = cost.cost(network, (training.crop, training.crop)).madds_executed
    work, = (work for work in works if work.stage == "train@t1-c48")
    assert work.training == pytest.approx(training.steps * training.batch * one)


def test_a_training_infers_at_each_validation(tiny):
    """On the images that the curve shows at most, each on the whole canvas; the last validation comes after the last step."""
    def inference(**settings):
        study = changed.of_runs(changed.training(tiny, "voc", steps=10, **settings), "t2-x2")
        work, = (work for work in forecast.works(study) if work.stage == "train@t2-x2")
        voc = study.settings.voc
        height, width = voc.evaluate.canvas
        step = work.training / (10 * voc.train.batch * voc.train.crop ** 2)  # multiply-adds of a pixel
        return work.inference / (voc.source.generate.val * height * width * step)
    assert [inference(validate_every=every) for every in (10, 5, 3, 100)] == pytest.approx([1, 2, 4, 1])


def test_passes_that_strategies_share_are_counted_once(tiny):
    """os16-ms-flip's passes contain those of os16 and os16-ms."""
    def inference(names):
        study = tiny.model_copy(update={"runs": {"t2-x2": tiny.runs["t2-x2"]}, "evaluate": {"t2-x2": names}})
        return next(work.inference for work in forecast.works(study) if work.stage == "evaluate@t2-x2")
    everything = inference(("os16", "os16-ms", "os16-ms-flip"))
    assert everything == inference(("os16-ms-flip",)) == pytest.approx(2 * inference(("os16-ms",)))
    squares = sum(scale ** 2 for scale in tiny.strategies["os16-ms"].scales)
    assert inference(("os16-ms",)) == pytest.approx(squares * inference(("os16",)))


def test_the_images_of_a_folder_are_counted(tiny, tmp_path):
    from pipeline.datasets import miniature
    from pipeline.schema import Generate, Source
    def inference(folder):
        study = changed.of_runs(changed.dataset(tiny, "voc", source=Source(folder=str(folder))), "t2-x2")
        return next(work.inference for work in forecast.works(study) if work.stage == "evaluate@t2-x2")
    miniature.generate("voc", Generate(train=2, val=3, size=49, seed=0), tmp_path / "voc")
    published = inference(tmp_path / "not there")
    assert inference("~nobody-of-that-name/voc") == published
    assert inference(tmp_path / "voc") == pytest.approx(published * 3 / 1449)


def test_memory_is_that_of_the_largest_pass_of_all_strategies(tiny):
    from pipeline.models import cost
    study = changed.of_runs(tiny, "t2-x2", "t7-x71")
    costs = cost.Costs(study, "tiny")
    each = [costs.of(study.runs[name], study.strategies[strategy])[0].activation_bytes
            * study.dataset(study.runs[name].dataset).evaluate_batch for name, chosen in study.evaluate.items() for strategy in chosen]
    assert forecast.evaluation_memory(study) == max(each) > min(each)


def test_published_networks_are_timed_without_a_training(tiny):
    zoo = changed.scale(changed.at("zoo"), network=tiny.settings.network)
    name = next(name for name, run in zoo.runs.items() if run.published and not zoo.skipped(name) and run.backbone == "xception65")
    rate = calibration.rate(zoo, "xception65", name, 0.1)
    assert rate.training == float("inf") and 0 < rate.inference < 1e15


def test_time_is_shared_out_but_no_shorter_than_what_waits(tiny, works):
    rates = {work.kind: Rate(1e9, 3e9, 0) for work in works}
    alone = forecast.total(tiny, works, rates, 1, 5)
    assert alone == pytest.approx(sum(forecast.seconds(work, rates) + 5 for work in works))
    assert forecast.total(tiny, works, rates, 2, 5) == pytest.approx(alone / 2)
    seconds = {work.stage: forecast.seconds(work, rates) + 5 for work in works}
    chain = ("pretrain@xception65", "train@coco-x65", "train@t5-coco", "evaluate@t5-coco")
    assert forecast.total(tiny, works, rates, 1000, 5) == pytest.approx(sum(seconds[stage] for stage in chain))


def test_the_rate_of_a_step_is_what_a_step_takes(tiny, monkeypatch):
    monkeypatch.setattr(time, "perf_counter", time.process_time)  # other programs would have a pass take longer than a step
    rate = calibration.rate(tiny, "resnet101", "t2-x2", 1.0)
    assert 0 < rate.training < rate.inference < 1e15 and rate.memory > 1e8
    assert calibration.rate(tiny, "resnet101", None, 0.1).training > 0


def test_a_smaller_step_is_measured_where_a_cpu_would_take_long_and_its_memory_grows_with_the_step(tiny, monkeypatch):
    large = changed.training(tiny, "voc", batch=16, crop=257)
    used = iter([1e9, 1.5e9])
    monkeypatch.setattr(calibration, "_memory", lambda device: next(used))
    monkeypatch.setattr(calibration, "ON_CPU", 1e6)
    rate = calibration.rate(large, "resnet101", "t2-x2", 0.2)
    assert rate.memory == pytest.approx(1e9 + 0.5e9 * (16 * 257 ** 2) / (calibration.SMALL_BATCH * calibration.SMALL_CROP ** 2))


@pytest.mark.parametrize("seconds, said", [(95, "95 seconds"), (612, "10 minutes"), (150, "2.5 minutes"), (7 * 3600, "7.0 hours"), (5e6, "58 days")])
def test_time_is_said_as_people_say_it(seconds, said):
    assert forecast.spoken(seconds) == said
