"""Data sets: native layouts (voc, coco, cityscapes, imagenet), the generated miniature, archives, and Arrow shards."""
