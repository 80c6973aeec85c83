"""Checkpoints that TensorFlow wrote, as text, and the variables in them."""
import base64
import zlib

import numpy as np

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


def same(found, expected):
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert found[name].dtype == value.dtype and np.array_equal(found[name], value), name
