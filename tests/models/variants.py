"""The authors' name of a network -> our family and size."""
from pipeline.schema import BackboneSize

VARIANTS = {
    "resnet_v1_50_beta": ("resnet", BackboneSize(units=(3, 4, 6, 3))),
    "resnet_v1_101_beta": ("resnet", BackboneSize(units=(3, 4, 23, 3))),
    "xception_41": ("xception", BackboneSize(middle=8)),
    "xception_65": ("xception", BackboneSize(middle=16)),
    "xception_71": ("xception", BackboneSize(middle=16, entry=5)),
    "mobilenet_v2": ("mobilenet", BackboneSize()),
}
