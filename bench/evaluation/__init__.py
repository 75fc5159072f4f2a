"""From a trained model to scores: one pass over the images, all metrics, arrays for figures."""
