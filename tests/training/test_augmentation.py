"""One resampling against the paper's order done plainly: resize the whole image, pad, crop, flip; and what is drawn."""
import torch
import torch.nn.functional as F
from hypothesis import given, settings, strategies as st

from pipeline.training import cutting
from pipeline.training.augmentation import SCALES, Crops
from pipeline.training.cutting import Draw, Packed
from tests.training.small import Memory


def plainly(image, label, scale, top, left, flip, crop):
    height, width = (max(int(side * scale), 1) for side in label.shape)
    pixels = F.interpolate(image.permute(2, 0, 1)[None].double(), (height, width), mode="bilinear", align_corners=True)[0]
    at_y, at_x = (torch.floor(torch.arange(n).double() * ((side - 1) / (n - 1) if n > 1 else 0) + 0.5).long()
                  for n, side in ((height, label.shape[0]), (width, label.shape[1])))
    labels = label[at_y][:, at_x]
    pad = (0, max(crop - width, 0), 0, max(crop - height, 0))
    pixels, labels = F.pad(pixels, pad, value=127.5), F.pad(labels, pad, value=255)
    y, x = int(top * (pixels.shape[1] - crop + 1)), int(left * (pixels.shape[2] - crop + 1))
    pixels, labels = pixels[:, y:y + crop, x:x + crop], labels[y:y + crop, x:x + crop]
    if flip:
        pixels, labels = pixels.flip(-1), labels.flip(-1)
    return pixels.permute(1, 2, 0), labels


places = st.floats(0, 1, exclude_max=True, width=32)


@settings(max_examples=150)
@given(st.integers(1, 60), st.integers(1, 60), st.sampled_from(SCALES), places, places, st.booleans(), st.integers(1, 50),
       st.integers(0, 99))
def test_one_resampling_equals_scale_pad_crop_flip(height, width, scale, top, left, flip, crop, seed):
    generator = torch.Generator().manual_seed(seed)
    image = torch.randint(256, (height, width, 3), generator=generator, dtype=torch.uint8)
    label = torch.randint(256, (height, width), generator=generator, dtype=torch.uint8)
    expected_pixels, expected_labels = plainly(image, label, scale, top, left, flip, crop)
    block = Packed(image.view(-1, 3), label.view(-1), [0], [label.shape])
    found = [cutting.crops(examples, [Draw(scale, top, left, flip)], crop) for examples in ([(image, label)], block)]
    for pixels, labels in found:
        assert torch.allclose(pixels[0].double(), expected_pixels, atol=5e-3)
        # a coordinate that falls on a tie between two pixels may round either way in float32
        same = labels[0] == expected_labels
        assert same.float().mean() > 0.9 if labels.numel() > 40 else same.shape == (crop, crop)
    assert torch.equal(found[0][1], found[1][1]), "a GPU cuts the labels that a CPU does"


def test_a_picture_far_behind_in_the_block_is_cut_like_the_first():
    """float32 tells no odd numbers beyond 2^24 apart, and that many pixels are 90 photos of VOC."""
    generator, shape = torch.Generator().manual_seed(0), (9, 7)
    pixels, labels = (torch.randint(256, size, generator=generator, dtype=torch.uint8) for size in ((63, 3), (63,)))
    far, draws = 2 ** 24 + 1, [Draw(1.5, 0.3, 0.6, True)]
    behind = Packed(*(torch.cat([torch.zeros(far, *part.shape[1:], dtype=torch.uint8), part]) for part in (pixels, labels)), [far], [shape])
    found, expected = (cutting.crops(block, draws, 8) for block in (behind, Packed(pixels, labels, [0], [shape])))
    assert torch.equal(found[0], expected[0]) and torch.equal(found[1], expected[1])


def test_the_stream_visits_every_image_once_an_epoch_and_resumes_exactly():
    examples = Memory([(torch.full((9, 9, 3), number, dtype=torch.uint8), torch.zeros(9, 9, dtype=torch.uint8)) for number in range(6)])
    stream = Crops(examples, crop=5, batch=3, seed=1)
    assert sorted(stream()[2] + stream()[2]) == list(range(6))
    state = stream.state()
    expected = [stream() for _ in range(5)]
    again = Crops(examples, crop=5, batch=3, seed=77)
    again.resume(state)
    for (pixels, label, chosen), (pixels2, label2, chosen2) in zip(expected, (again() for _ in range(5))):
        assert chosen == chosen2 and torch.equal(pixels, pixels2) and torch.equal(label, label2)


def test_the_draws_are_the_papers(monkeypatch):
    """Scales 0.5 to 2 by 0.25, alike often; places uniform and independent; every other crop flipped; each by its own numbers."""
    drawn = []
    monkeypatch.setattr(cutting, "cut", lambda image, label, draw, *target: drawn.append(draw))
    examples = Memory([(torch.zeros(9, 9, 3, dtype=torch.uint8), torch.zeros(9, 9, dtype=torch.uint8))] * 7)
    stream, other = (Crops(examples, crop=5, batch=10, seed=seed) for seed in (0, 1))
    orders = [stream()[2] for _ in range(700)]
    scales, top, left, flip = (torch.tensor(each, dtype=torch.double) for each in zip(*drawn))
    values, counts = scales.unique(return_counts=True)
    assert values.tolist() == [0.5, 0.75, 1, 1.25, 1.5, 1.75, 2] and 900 < counts.min() and counts.max() < 1100
    assert 0.47 < flip.mean() < 0.53
    for place in (top, left):
        assert 0 <= place.min() < 0.01 and 0.99 < place.max() < 1 and 0.48 < place.mean() < 0.52
    assert torch.corrcoef(torch.stack([scales, top, left, flip])).fill_diagonal_(0).abs().max() < 0.06
    assert len(set(drawn)) == len(drawn)
    numbers = sum(orders, [])
    assert len({tuple(numbers[start:start + 7]) for start in range(0, 7000, 7)}) > 800, "each epoch in an order of its own"
    assert [other()[2] for _ in range(3)] != orders[:3]
