"""Cityscapes' whole canvas, plain, MS and flips at once, in the memory that strategies.py promises.

Of what is alive: a CPU that keeps freed memory (memory.keep) has gaps besides, docs/performance.md says how large.
"""
import os
import subprocess
import sys

from pipeline.study import ROOT
from tests.processes import proc

MEASURE = """
import torch
from pipeline.evaluation.strategies import predict
from pipeline.schema import Strategy
from tests.processes import peak
torch.set_num_threads(1)
network = torch.nn.Conv2d(3, 19, 1, stride=16)
plain, scales = Strategy(output_stride=16, scales=(1.0,), flip=False), (0.5, 1.0, 1.75)
strategies = {"os16": plain, "os16-ms": plain.model_copy(update={"scales": scales}),
              "os16-ms-flip": plain.model_copy(update={"scales": scales, "flip": True})}
with torch.inference_mode():
    predict({16: network}, torch.randn(1, 3, 65, 65), strategies)
    before = peak()
    labels = predict({16: network}, torch.zeros(1, 3, 1025, 2049).normal_(), strategies)
assert {tuple(each.shape) for each in labels.values()} == {(1, 1025, 2049)}
print(peak() - before)
"""


@proc
def test_beside_the_network_there_are_three_maps_of_probabilities_at_most():
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", MEASURE], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    largest = int(1.75 * 1024) + 1, int(1.75 * 2048) + 1
    one_map, inputs = 19 * 1025 * 2049 * 4 / 2**20, 3 * largest[0] * largest[1] * 4 / 2**20  # float32, in MiB: 152 and 74
    more = float(done.stdout)
    print(f"{more:.0f} MiB more; a map {one_map:.0f}, the largest inputs {inputs:.0f}")
    assert more < 3 * one_map + 1.5 * inputs  # the canvas, logits and label maps take less than one of the largest inputs
