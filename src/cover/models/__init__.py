"""Models: a clip encoder of any family, with one classification head per dataset.

    backbone.py      the interface of a clip encoder: packed clips in, one feature per clip out
    family.py        what a family of backbones provides: settings, variants, weight formats, exporters
    classifier.py    VideoClassifier: a backbone, its heads and the normalisation of pixels
    config.py        a model as plain data, as in config.json
    packing.py       the clips of all datasets in one tensor
    create.py        models with fresh weights
    weights.py       models on disk
    sources.py       weights in files of several code bases, as one of our models
    loading.py       starting a model from a source
    head_rows.py     a head for other classes: which rows of the old head it takes
    info.py          what `cover info` prints
    linear.py        linear layers that prepare their weights once, or in every forward pass
    drop_path.py     stochastic depth

    checkpoints/     files of weights: opening, recognising and checking them
    export/          models for programs that run without cover
    kernels/         GPU kernels for blocks of any family

Every other folder is a family, with all that is special to it.
"""
