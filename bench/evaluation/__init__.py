"""From a trained model to scores: one pass over the images, every metric, what is kept to see."""
