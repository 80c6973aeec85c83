"""TensorFlow's checkpoint formats against bytes that TensorFlow wrote, hand-made tables, and damage.

`pytest -m tensorflow` also lets TensorFlow write whole checkpoints: with the interpreter that TENSORFLOW_PYTHON names, or in an
environment made for the test (about a minute and 2 GB).
"""
import base64
import os
import subprocess
import sys
import tarfile
import zlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as some
from safetensors.torch import save_file

from pipeline.models import checkpoints, deeplab, slices, sstables, tensorflow
from pipeline.schema import BackboneSize, Network, Run
from pipeline.study import StudyError
from tests.models import bundle

# Written by TensorFlow 2.21, tf.compat.v1.train.Saver: xception_65/a/weights and its Momentum, xception_65/a/BatchNorm/beta,
# counts, global_step; in V1 also the partitioned variable "parted". zlib, then base 85.
V2_INDEX = (
    'c-'
    'muNVB=tvV&Y(AVB=5DFU>0{=3o|L5n|$C*5ENMIN`pKftxoyCqF4MC%(8OwSa?Dh(UozgTvJIv)dO28NrI=)Pj=C{JeNGQ~gAJr^J%v48Q!MT>Yffl0*(hut'
    'BT}A{rv5JhwO>@v)1Rr)H*S0PSED;s8o9f$UMx(2y|oJ$b-flv7mSH$OKuucR~=MS%lQLAIUM3I-'
    'rx1Q9c?@&>>;2R<#_z`)2{$*_eHF7~?e#^arg9LE^>83=;#-woX=rS7)@iKR9y')
V2_DATA = (
    'c-s5-|Nnm-Mg|5}1_p)#K_CMR8ukMT`wjdHO*FFe{21V%!44$Oz~BJH4M4mAN@HRGEq4&5')
V1 = (
    'c-'
    'muNc*)51jFC%(i!C|7G_Rysh((BrgIR)EiHVDWOPGs0JtsdYF(<ybB(*?@L4s3>flG^vtst?eBsE2d1E>_DoKcB`i%Eb9h?$kRxL7!#Y@k}1isaOSlFa<Pcr'
    '#P|M17~klH?4({Gwd_q|}l`uw|@3-5|>}xkORbmZxT>X8>IUvW5w24GT~q1D6q(99E_JzWKSSc_pQ}n0kP0Mh0Ga28b^i7#SHG>V;(Cz6Lr#ir<R&-'
    '+w4zT*Ji5$R~m1dj>`ZAu+V@kYWvD{;-'
    'IJk<S1UB0yuA8k!oKh4c_%1Pd1_DJ=;GFlev`5)MEF#0@~az=4~^s0pOa0Im%w5Fr{502Mv}Vg^SB1_2;e0Ad42MkO13;S2Sq6@gd)d0tFQ1n8RmKnv_Q@Gm'
    'sc$j<Wvxs{*a8XC4>ztsaxv&0oo;BZFrrX9#Ipf~LyUS41?Cg=i>A-Hi)1mhCP+y;B>m;o3&K(O#vx+R=*;M2kl42;Z-'
    '3};#4Vum>mIhR;D?z8eU5Cq}B8@g3W-ERW`vK_H9')
# Likewise, with fixed_size_partitioner: parted in 3 rows, cols/parted in 2 columns, tall in 2 rows; whole is in one piece.
SLICED_INDEX = (
    'c-muNVB=tvV&Y(A5D{ib&d({<FGwsZNljs3WMpb+X=vhL6ygwK;$Q({CJhDC2VLiu2r-E^H6n>KDkx|On6CW!sh*Kf6iIheLo-wr6A&{i7-&eC'
    '9=L5Q&dmbU50_&E%Xw(<n7(rpiUG<sqsxT=<>DTEI>E>*R+5;L12+4BH{5C7APW={G;Xk%K51o==42B;;Ef@@gB2vdj%C(T25u!JZz6ev*@}aU'
    'Nq_~2nXI_LEEWzX0Y(NkJse7zfS4Jm6s!!+W`?jCSd>AI1#03HV&<3z@(B}Imp9Y`77lL+n}JoRJR?6R6{r*($_f*>G&oH2X1@H+00fL6BJiL+'
    '7o2n8)4~l5jLa1bOPJwe?_>AATFK0@jhUZ;APE26(5+JHej5NYZ&v#')
SLICED_DATA = (
    'c-muN0D%U31_lQQAPvL^fcOCr3pg?`C;%}7ki7ti8Gvj9M+UfhkT^`w0wjGPbuhg!^}_*x{5%{mDBgwxb{HnOVVK|r!vur!h=KzE3wo+_')
SLICED = {"parted": np.arange(12, dtype="f").reshape(4, 3), "cols/parted": np.arange(12, dtype="f").reshape(4, 3),
          "tall": (np.arange(300) // 50).astype("f").reshape(150, 2), "whole": np.array([1, 2.5], "f")}
EXPECTED = {"xception_65/a/weights": np.arange(6, dtype="f").reshape(2, 3) / 4, "counts": np.array([-2, 300, 5], "i4"),
            "xception_65/a/BatchNorm/beta": np.array([-1, .5, 3e-7, 1e9, 0], "f")}
PARTED = {"parted": np.arange(12, dtype="f").reshape(4, 3)}


def unpacked(text):
    return zlib.decompress(base64.b85decode(text))


@pytest.fixture
def tiny(tmp_path):
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "model.ckpt.index").write_bytes(unpacked(V2_INDEX))
    (tmp_path / "two" / "model.ckpt.data-00000-of-00001").write_bytes(unpacked(V2_DATA))
    (tmp_path / "sliced").mkdir()
    (tmp_path / "sliced" / "model.ckpt.index").write_bytes(unpacked(SLICED_INDEX))
    (tmp_path / "sliced" / "model.ckpt.data-00000-of-00001").write_bytes(unpacked(SLICED_DATA))
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "model.ckpt").write_bytes(unpacked(V1))
    return tmp_path


def same(found, expected):
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert found[name].dtype == value.dtype and np.array_equal(found[name], value), name


@pytest.mark.parametrize("name", ["two/model.ckpt", "two/model.ckpt.index", "two"])
def test_v2_as_tensorflow_wrote_it(tiny, name):
    same(checkpoints.read(tiny / name), EXPECTED)


def test_partitioned_variables_of_v2_are_put_together(tiny):
    same(checkpoints.read(tiny / "sliced"), SLICED)


def pieces(**parts):
    """A V2 checkpoint's entries: variable v, 4 x 2, in slices of rows, each (start, length)."""
    full = bundle.field(1, 1) + bundle.field(2, bundle.shape_of((4, 2)))
    pairs, data = [(b"", bundle.field(1, 1))], b""
    for start, length in parts["rows"]:
        values = np.full((length, 2), start, "f")
        extents = [bundle.field(1, start) + bundle.field(2, length), b""]  # no length: the whole of the axis
        full += bundle.field(7, b"".join(bundle.field(1, extent) for extent in extents))
        if (start, length) not in parts.get("lost", ()):
            pairs.append((slices.key("v", [(start, length), (0, -1)]), bundle.entry(values, len(data))))
        data += values.tobytes()
    return [*sorted(pairs), (b"v", full)], data


@pytest.mark.parametrize("parts, message", [
    ({"rows": [(0, 2), (2, 2)]}, None), ({"rows": [(0, 2), (2, 2)], "lost": [(2, 2)]}, "a slice of v is not in it"),
    ({"rows": [(0, 2)]}, "do not make its shape"), ({"rows": [(0, 2), (1, 2)]}, "overlap"),
    ({"rows": [(0, 2), (3, 2)]}, r"has shape \[2, 2\], not \[1, 2\]")])
def test_slices_have_to_cover_their_variable(tmp_path, parts, message):
    pairs, data = pieces(**parts)
    (tmp_path / "m.index").write_bytes(bundle.table([pairs]))
    (tmp_path / "m.data-00000-of-00001").write_bytes(data)
    if message:
        with pytest.raises(StudyError, match=message):
            checkpoints.read(tmp_path / "m")
    else:
        assert checkpoints.read(tmp_path / "m")["v"].tolist() == [[0, 0], [0, 0], [2, 2], [2, 2]]


numbers = some.one_of(some.integers(-200, 200), some.integers(-(1 << 60), 1 << 60))


@given(some.tuples(some.text(max_size=5), numbers, numbers), some.tuples(some.text(max_size=5), numbers, numbers))
def test_keys_of_slices_are_in_the_order_of_what_they_say(one, other):
    # That is what TensorFlow's ordered code is for.
    def key(name, start, length):
        return slices.key(name, [(start, length)])
    def said(name, *extent):
        return (name.encode(), *extent)
    assert (key(*one) < key(*other)) == (said(*one) < said(*other)) and (key(*one) == key(*other)) == (one == other)


@pytest.mark.parametrize("name", ["one/model.ckpt", "one"])
def test_v1_as_tensorflow_wrote_it(tiny, name):
    same(checkpoints.read(tiny / name), EXPECTED | PARTED)


@pytest.mark.parametrize("kind, expected", [("one", EXPECTED | PARTED), ("two", EXPECTED)])
def test_an_archive_and_its_url(tiny, kind, expected):
    archive = tiny / "weights.tar.gz"
    with tarfile.open(archive, "w:gz") as file:
        file.add(tiny / kind, "some_model")
    same(checkpoints.read(archive), expected)
    same(checkpoints.read(archive.as_uri()), expected)


@pytest.mark.parametrize("text, name", [(V2_INDEX, "two/model.ckpt.index"), (V2_DATA, "two/model.ckpt.data-00000-of-00001"),
                                        (SLICED_INDEX, "sliced/model.ckpt.index"), (V1, "one/model.ckpt")])
def test_every_flipped_byte_is_noticed_or_does_not_matter(tiny, text, name):
    good, where = unpacked(text), tiny / name
    whole = checkpoints.read(where.parent)
    noticed = 0
    for position in range(len(good)):
        where.write_bytes(good[:position] + bytes([good[position] ^ 0x41]) + good[position + 1:])
        try:
            same(checkpoints.read(where.parent), whole)
        except StudyError as error:
            noticed += 1
            assert str(where.parent) in str(error)
    assert noticed > 0.6 * len(good)  # bytes of slots and counters are not read, nor is the padding of the footer


@pytest.mark.parametrize("text, name", [(V2_INDEX, "two/model.ckpt.index"), (V2_DATA, "two/model.ckpt.data-00000-of-00001"),
                                        (V1, "one/model.ckpt")])
@pytest.mark.parametrize("keep", [0, 7, 40, 60])
def test_files_cut_short(tiny, text, name, keep):
    (tiny / name).write_bytes(unpacked(text)[:keep])
    with pytest.raises(StudyError):
        checkpoints.read(tiny / name.removesuffix(".index").removesuffix(".data-00000-of-00001"))


def test_no_checkpoint_and_too_many(tiny):
    with pytest.raises(StudyError, match="no checkpoint at .*nothing"):
        checkpoints.read(tiny / "nothing")
    with pytest.raises(StudyError, match="found none"):
        (tiny / "empty").mkdir()
        checkpoints.read(tiny / "empty")
    (tiny / "two" / "other.index").write_bytes(unpacked(V2_INDEX))
    with pytest.raises(StudyError, match="one checkpoint, found sliced/model.ckpt, two/model.ckpt, two/other"):
        checkpoints.read(tiny)
    (tiny / "picture").write_bytes(b"no table at all")
    with pytest.raises(StudyError, match="no table magic"):
        checkpoints.read(tiny / "picture")


# ---- tables made by hand, after LevelDB's description of its format

def table(blocks, **options):
    return bundle.table(blocks, crc=slow_crc, **options)


def slow_crc(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


@given(some.dictionaries(some.binary(max_size=20), some.binary(max_size=300), min_size=1, max_size=60), some.integers(1, 20),
       some.integers(1, 17))
@settings(max_examples=60, deadline=None)
def test_tables_come_back(tmp_path_factory, content, size, restart):
    pairs = sorted(content.items())
    path = tmp_path_factory.mktemp("table") / "t"
    path.write_bytes(table([pairs[i:i + size] for i in range(0, len(pairs), size)], restart=restart))
    assert [(key, bytes(value)) for key, value in sstables.entries(path)] == pairs


def test_compressed_blocks_are_refused_by_name(tmp_path):
    (tmp_path / "t").write_bytes(table([[(b"key", b"value")]], compression=1))
    with pytest.raises(StudyError, match="compressed"):
        list(sstables.entries(tmp_path / "t"))


@given(some.binary(min_size=48, max_size=400))
@settings(max_examples=200, deadline=None)
def test_rubbish_behind_the_magic(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("rubbish") / "t"
    path.write_bytes(data + bytes.fromhex("57fb808b247547db"))
    with pytest.raises(StudyError):
        checkpoints.read(path)


def test_crc32c():
    assert sstables.crc32c(b"123456789") == 0xE3069283  # the check value of RFC 3720
    assert sstables.crc32c(b"\0" * 32) == 0x8A9136AA     # its appendix B.4
    for size in (0, 1, 5000, 1 << 16, (1 << 17) + 12345):  # long data goes another way
        data = np.random.default_rng(size).integers(0, 256, size, np.uint8).tobytes()
        assert sstables.crc32c(data) == slow_crc(data)


# ---- weights into networks

def small():
    run = Run(dataset="voc", backbone="it", start="weights/it", output_stride=16, decoder="[3x3,256]x2", low_level=("conv2",),
              low_level_channels=48, separable=True, image_level=True)
    sizes = {"it": BackboneSize(middle=1, width=0.03125)}
    return deeplab.build(run, "xception", Network(width=0.0625, atrous_rates=(2, 4, 6), backbones=sizes), 5)


def values_for(network, scope="xception_65"):
    rng, state = np.random.default_rng(0), network.state_dict()
    def shape(name, ours):
        if len(ours) != 4:
            return ours
        return (*ours[2:], ours[0], 1) if "depthwise_weights" in name else (*ours[2:], ours[1], ours[0])
    return {name: rng.standard_normal(shape(name, tuple(state[key].shape))).astype("f")
            for key, name in tensorflow.names(network, scope).items()}


def test_published_leaves_what_training_starts_from(tmp_path):
    size = BackboneSize(middle=1, width=0.03125, weights=str(tmp_path / "timm.safetensors"))
    source = deeplab.build_backbone("xception", size, 32)
    kept = {name: torch.rand_like(value) for name, value in source.state_dict().items() if "num_batches" not in name}
    save_file(kept | {"head.fc.weight": torch.zeros(3, 4)}, size.weights)
    metrics = checkpoints.published(size, "xception", tmp_path / "out")
    assert metrics == {"parameters": sum(value.numel() for value in source.parameters())}
    from safetensors.torch import load_file
    source.load_state_dict(load_file(tmp_path / "out" / "weights.safetensors"))
    assert all(torch.equal(source.state_dict()[name], value) for name, value in kept.items())


def test_safetensors_that_do_not_fit_are_listed(tmp_path):
    backbone = small().backbone
    state = dict(backbone.state_dict())
    first, *_ = state
    del state[first]
    save_file(state | {"stem.1.bn.weight": torch.zeros(99), "odd": torch.zeros(1)}, tmp_path / "w.safetensors")
    with pytest.raises(StudyError, match=f"(?s)missing: {first}.*left over: odd.*stem.1.bn.weight: .99. there"):
        checkpoints.load_backbone_weights(tmp_path / "w.safetensors", backbone)
    (tmp_path / "w.safetensors").write_bytes(b"no such thing")
    with pytest.raises(StudyError, match="cannot be read"):
        checkpoints.load_backbone_weights(tmp_path / "w.safetensors", backbone)


def test_the_wrong_family_is_named(tiny):
    resnet = deeplab.build_backbone("resnet", BackboneSize(units=(2, 2, 1, 1), width=0.0625), 32)
    with pytest.raises(StudyError, match="xception_65.*ResNet"):
        checkpoints.load_backbone_weights(tiny / "one", resnet)


WRITER = """
import sys
import numpy as np, tensorflow as tf
v1 = tf.compat.v1
v1.disable_eager_execution()
arrays, version, out = np.load(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
with v1.Session() as session:
    for name in arrays.files:
        variable = v1.get_variable(name.replace("|", "/"), initializer=arrays[name], use_resource=False)
        if arrays[name].ndim == 4:
            v1.get_variable(name.replace("|", "/") + "/Momentum", initializer=np.zeros_like(arrays[name]), use_resource=False)
    v1.train.get_or_create_global_step()
    session.run(v1.global_variables_initializer())
    v1.train.Saver(write_version=version).save(session, out, global_step=30000)
"""


@pytest.fixture(scope="session")
def tensorflow_python(request, tmp_path_factory):
    if os.environ.get("TENSORFLOW_PYTHON"):
        return os.environ["TENSORFLOW_PYTHON"]
    if "tensorflow" not in request.config.getoption("-m"):
        pytest.skip("TensorFlow did not write checkpoints to read: run pytest -m tensorflow, or set TENSORFLOW_PYTHON")
    folder = tmp_path_factory.mktemp("tensorflow")
    python = folder / "bin" / "python"
    commands = [sys.executable, "-m", "venv", folder], [python, "-m", "pip", "install", "--quiet", "tensorflow-cpu"]
    for command in commands:
        done = subprocess.run(command, capture_output=True, text=True, timeout=900)
        if done.returncode:
            pytest.skip(f"TensorFlow cannot be installed here: {done.stderr[-300:]}")
    return str(python)


@pytest.mark.tensorflow
@pytest.mark.parametrize("version", [1, 2])
def test_checkpoints_that_tensorflow_writes(tensorflow_python, tmp_path, version):
    network = small()
    variables = values_for(network)
    np.savez(tmp_path / "values.npz", **{name.replace("/", "|"): value for name, value in variables.items()})
    command = [tensorflow_python, "-c", WRITER, tmp_path / "values.npz", str(version), tmp_path / "model" / "model.ckpt"]
    (tmp_path / "model").mkdir()
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    same(checkpoints.read(tmp_path / "model"), variables)
    tensorflow.load(network, checkpoints.read(tmp_path / "model" / "model.ckpt-30000"))
    expected = small()
    tensorflow.load(expected, variables)
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in expected.state_dict().items())
