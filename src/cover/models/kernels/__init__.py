"""The operations of a transformer block as GPU kernels, one file per operation.

Each file has a function to call. It runs the Triton kernel if it can, and otherwise the plain form of the operation, in
torch's own operations. The plain form defines what the kernel computes; tests/models/kernels compares the two.

    residual.py   tokens += residual, and the normalisation of the tokens, in one pass
    folding.py    the affine part of a LayerNorm, multiplied into the linear layer after it
    temporal.py   temporal attention, which reads packed queries, keys and values in place
    window.py     attention in windows; window_attention.py has its kernels, relative_bias.py its bias
    qkv.py        queries, keys and values, with a backward pass that packs their gradients in one pass
    mlp.py        the MLP, which keeps one hidden tensor for its backward pass instead of two
    products.py   the matrix products of these operations, in the type of the tensors or in float8
    float8.py     matrices in float8: rounding, transposition and products
    backend.py    what all kernels use: whether Triton can run, and sums over rows

The kernels save memory traffic: between the matrix products of a block, eager torch reads and writes every token once
per operation (docs/performance.md).
"""
