"""SBD's masks in .mat files: what scipy reads, and other .mat files are refused."""
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy.io import loadmat, savemat
from scipy.sparse import csc_matrix

from pipeline.datasets import native, voc


@settings(max_examples=60)
@given(shape=st.tuples(st.integers(1, 40), st.integers(1, 40)), kind=st.sampled_from(["uint8", "uint16", "int32", "float64"]),
       seed=st.integers(0, 99), compressed=st.booleans(), form=st.sampled_from([1, 3]))
def test_masks_of_sbd_are_what_scipy_reads(tmp_path_factory, shape, kind, seed, compressed, form):
    path = tmp_path_factory.mktemp("mat") / "a.mat"
    boundaries, labels = np.empty((20, 1), object), np.random.default_rng(seed).integers(0, 21, shape).astype(kind)
    for number in range(20):
        boundaries[number, 0] = csc_matrix(labels == number)
    struct = {"Boundaries": boundaries, "Segmentation": labels, "CategoriesPresent": np.array([[form]])}
    savemat(path, {"other": labels, "GTcls": struct}, do_compression=compressed)
    expected = loadmat(path)["GTcls"]["Segmentation"][0, 0]
    found = voc.label(native.Item("a", path, path))
    assert found.dtype == np.uint8 and found.flags.c_contiguous
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("kind", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64"])
def test_numbers_of_every_type_are_read(tmp_path, kind):
    mask = np.array([[0, 1, 2], [3, 19, 20]], kind)
    savemat(tmp_path / "a.mat", {"GTcls": {"Segmentation": mask}})
    np.testing.assert_array_equal(voc.label(native.Item("a", tmp_path / "a.mat", tmp_path / "a.mat")), mask)


@pytest.mark.parametrize("content, said", [({"GTinst": {"Segmentation": 1}}, "no GTcls"), ({"GTcls": {"Boundaries": 1}}, "no field Segmentation"),
                                           ({"GTcls": np.ones((2, 2))}, "not a 1x1 struct"), ({"GTcls": {"Segmentation": "text"}}, "not a mask"),
                                           ({"GTcls": {"Segmentation": np.full((2, 2), 300)}}, "beyond 255")])
def test_other_mat_files_are_refused(tmp_path, content, said):
    savemat(tmp_path / "a.mat", content)
    with pytest.raises(OSError, match=said):
        voc.label(native.Item("a", tmp_path / "a.mat", tmp_path / "a.mat"))


@pytest.mark.parametrize("compressed", [False, True])
def test_a_file_that_was_cut_short_is_refused_though_the_mask_is_whole(tmp_path, compressed):
    savemat(tmp_path / "a.mat", {"GTcls": {"Segmentation": np.ones((9, 9), np.uint8), "CategoriesPresent": np.ones((9, 9))}}, do_compression=compressed)
    (tmp_path / "a.mat").write_bytes((tmp_path / "a.mat").read_bytes()[:-16])
    with pytest.raises(OSError, match="longer than what holds it"):
        voc.label(native.Item("a", tmp_path / "a.mat", tmp_path / "a.mat"))
