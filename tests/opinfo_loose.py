"""The ops of the database whose detected pattern is larger than what was observed, and why."""

from __future__ import annotations

TRIANGLES = "a triangular factor is followed as triangular solves, not as the zeros of a triangle times a triangle"
CONSTANT = "the derivative is exactly zero for these samples, although the inputs take part"
MASKED = "masked places take part in the sum, with weight exp(-inf)"
DRAWN = "a random mask multiplies: what it drops takes part, times zero"
HERMITIAN = "an imaginary part that a Hermitian transform does not read takes part as one number with its real part"
KERNEL = "a backward kernel without forward formula, followed at the level of rows"
WINDOWS = "the random windows are not followed: any place of a plane may be the largest"
SPARSE = "where the elements of a sparse result are is not followed"

LOOSE = {
    "__rpow__": CONSTANT,
    "_segment_reduce.lengths": KERNEL,
    "_segment_reduce.offsets": KERNEL,
    "as_strided_scatter": "PyTorch's backward passes some overwritten places and not others: all are kept",
    "cdist": CONSTANT,
    "cholesky": TRIANGLES,
    "clamp": "bounds that cross at the sample are seldom observed the other way round",
    "corrcoef": CONSTANT,
    "fft.hfft": HERMITIAN,
    "fft.hfft2": HERMITIAN,
    "fft.hfftn": HERMITIAN,
    "fft.irfft": HERMITIAN,
    "fft.irfft2": HERMITIAN,
    "fft.irfftn": HERMITIAN,
    "grid_sampler_3d": KERNEL,
    "index_add": "scaled by alpha = 0",
    "linalg.cholesky": TRIANGLES,
    "linalg.cholesky_ex": TRIANGLES,
    "linalg.lu": TRIANGLES,
    "linalg.lu_factor": TRIANGLES,
    "linalg.lu_factor_ex": TRIANGLES,
    "linalg.lu_solve": TRIANGLES,
    "linalg.pinv": CONSTANT,
    "linalg.qr": TRIANGLES,
    "lu": TRIANGLES,
    "masked.log_softmax": MASKED,
    "masked.softmax": MASKED,
    "masked.softmin": MASKED,
    "native_dropout_backward": DRAWN,
    "native_group_norm": "mean and rstd are outputs too, and constant over parts of a group",
    "nn.functional.alpha_dropout": DRAWN,
    "nn.functional.cosine_similarity": CONSTANT,
    "nn.functional.dropout": DRAWN,
    "nn.functional.dropout2d": DRAWN,
    "nn.functional.fractional_max_pool2d": WINDOWS,
    "nn.functional.fractional_max_pool3d": WINDOWS,
    "nn.functional.hardtanh": CONSTANT,
    "nn.functional.layer_norm": CONSTANT,
    "nn.functional.multi_head_attention_forward": MASKED,
    "nn.functional.multi_margin_loss": CONSTANT,
    "nn.functional.multilabel_margin_loss": KERNEL,
    "qr": TRIANGLES,
    "sparse.mm.reduce": SPARSE,
    "sparse.sampled_addmm": SPARSE,
    "to_sparse": SPARSE,
    "triangular_solve": TRIANGLES,
}
