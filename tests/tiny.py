"""A protocol for tests: a few epochs on a few of the bundled images."""

TINY = """
name = "tiny"
description = "a few epochs on a few of the bundled images, for tests"
dataset = "fashion_mnist_mini"
models = ["mean_image", "pca", "fc_ae"]
latent_dims = [4]
seeds = [0, 1]
[split]
kind = "pooled"
validation = 100
test = 7000
[train]
epochs = 3
batch_size = 64
lr = 0.003
schedule = "one_cycle"
"""
