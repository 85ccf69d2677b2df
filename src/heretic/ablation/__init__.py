"""Pure maths: residuals, directions, kernels, edits. Tensors in, tensors out; no I/O, no transformers, no printing."""
