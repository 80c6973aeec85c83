"""Generated data in the native layouts of VOC, COCO, Cityscapes and ImageNet: small, deterministic, learnable in minutes.

`looks` says what each class looks like, `scenes` composes pictures of them, `street` draws road scenes, `borders` lays void
around objects, `layouts` writes it all the way the real data sets lie on disk.
"""
from pipeline.datasets.miniature.layouts import generate

__all__ = ["generate"]
