"""The model: loading, its gate, attention and fused operations under the model's own forward code."""
