"""Published weights and networks: the authors' TensorFlow checkpoints, read without it, and safetensors with timm's names."""
