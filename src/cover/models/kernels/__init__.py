"""The operations of a block as GPU kernels: one file an operation, the plain form of it and the kernel side by side.

Each file has a function to call, which takes the kernel where one can run and else the plain form, in torch's own
operations. Both compute the same function (tests/models/kernels compares them); the plain form says which.

    residual.py   tokens += residual, and their normalisation, in one pass
    folding.py    the affine part of a LayerNorm, multiplied into the linear map behind it
    temporal.py   temporal attention, reading packed queries, keys and values in place
    qkv.py        queries, keys and values whose gradients are packed again in one pass
    mlp.py        the MLP, which keeps one tensor for its backward pass instead of two

    reductions.py       the second stage of sums over rows
    backend.py    whether a kernel can run here

What they save is memory traffic: between the matrix products of a block eager torch reads and writes every token once
an operation (docs/performance.md).
"""
