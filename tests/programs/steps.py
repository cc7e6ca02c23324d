"""The steps of random programs: lines of Python in which a random operand and random parameters are put.

{0} is an operand, {1} another one, {out} and {more} are what the step makes. Of operand 0, {d} and {e} are dimensions,
{n} is the length of {d}, {i} and {j} are places along it, {lo}:{hi} some of it, {idx} any places, {perm} all of them in
another order, {mask} a truth value for each; {k} is a small number, {c} a real one. A line that does not run with what
was drawn is drawn again, so that none has to say what it needs.
"""

from __future__ import annotations

import random

import torch

STEPS: dict[str, list[str]] = {
    "views": """
        {out}, {more} = {0}.split([{lo}, {n} - {lo}], {d})
        {out}, {more} = {0}.chunk(2, {d})
        {out}, {more}, *_ = {0}.unbind({d})
        {out}, {more} = {0}.tensor_split([{i}], {d})
        {out} = {0}.narrow({d}, {lo}, {hi} - {lo})
        {out} = {0}[{along}]
        {out} = {0}[{at}]
        {out} = {0}.select({d}, {i})
        {out} = {0}.reshape({other})
        {out} = {0}.flatten()
        {out} = {0}.transpose({d}, {e})
        {out} = {0}.permute({dims})
        {out} = {0}.movedim({d}, {e})
        {out} = {0}.unsqueeze({d})
        {out} = {0}.squeeze()
        {out} = {0}.expand(2, {shape})
        {out} = {0}.diagonal()
        {out} = {0}.unfold({d}, {k}, {k2})
        {out} = {0}.mT
        {out} = {0}[None, ..., None]
        {out} = {0}.view_as({1})
        {out} = {0}.expand_as({1})
        {out} = {0}.clone(memory_format=torch.contiguous_format).as_strided(({k}, 2), (1, {k2}), {k3})
    """.strip().splitlines(),
    "moves": """
        {out} = {0}.roll({k}, {d})
        {out} = {0}.flip({d})
        {out} = torch.cat([{0}, {1}], {d})
        {out} = torch.cat([{0}, {0}, {1}], {d})
        {out} = torch.cat([{1}, {0}, {0}], {d})
        {out} = torch.stack([{0}, {1}], {d})
        {out} = torch.stack([{1}, {0}], -1)
        {out} = torch.cat([{0}, like({0})], {d})
        {out} = F.pad({0}, ({k}, {k2}))
        {out} = F.pad({0}, (1, -1), value={c})
        {out} = F.pad({0}[None, None].flatten(2), (1, {k}), mode="{padding}")[0]
        {out} = {0}.repeat({k}, *[1] * ({0}.dim() - 1))
        {out} = {0}.repeat_interleave({k}, {d})
        {out} = {0}.tril()
        {out} = {0}.triu({k})
        {out} = torch.diag_embed({0})
        {out} = {0}.rot90(1, (0, 1))
        {out} = torch.block_diag({0}, {1})
        {out} = torch.slice_scatter({0}, {1}[:1], 0, {i}, {i} + 1)
        {out} = torch.select_scatter({0}, {1}, {d}, {i})
        {out} = torch.diagonal_scatter({0}, {1})
        {out} = torch.meshgrid({0}.flatten(), {1}.flatten(), indexing="ij")[{which}]
        {out} = torch.hstack([{0}, {1}])
        {out} = torch.column_stack([{0}, {1}])
    """.strip().splitlines(),
    "gathers": """
        {out} = {0}[torch.tensor({idx})]
        {out} = {0}[..., {last}]
        {out} = {0}.index_select({d}, torch.tensor({idx}))
        {out} = {0}.take(torch.tensor({idx}))
        {out} = {0}[torch.tensor({mask})]
        {out} = {0}[torch.tensor({idx}), torch.tensor({idx})]
        {out} = {0}[:, torch.tensor({idx})[:, None], :]
        {out} = {0}.gather({d}, torch.tensor({perm}).reshape([-1 if d == {d} else 1 for d in range({0}.dim())]).expand_as({0}))
        {out} = torch.take_along_dim({0}, torch.tensor({idx}).reshape([-1 if d == {d} else 1 for d in range({0}.dim())]), {d})
        {out} = {0}.masked_select(like({0}) > 0)
        {out} = {0}[{0} > {c}].sum()
        {out} = {0}[{0} > {c}].sin().sum() * {1}
        {out} = {0}.gather({d}, {1}.argsort({d}))
        {out} = {0}[{0}.argmax()] * {0}
        {out} = {0}.index_select({d}, {0}.flatten().argsort()[:{k}] % {n})
        {out} = {0}.take({1}.flatten().argsort() % {0}.numel())
        {out} = {0}[{1}.argmax({d})]
        {out} = F.embedding({1}.flatten().argsort() % {n}, {0})
        {out} = torch.take_along_dim({0}, {1}.argsort({d}), {d})
        {out} = F.max_unpool1d(*F.max_pool1d({0}.flatten()[None], 2, return_indices=True), 2)[0]
        {out} = F.cross_entropy({0}, {0}.argmax(1))
        {out} = F.one_hot({0}.argmax({d}), {0}.shape[{d}]) * {1}
        {out} = F.embedding(torch.tensor({idx}), {0})
        {out} = {0}.sort({d}).values
        {out}, {more} = {0}.topk({k}, {d}).values, {0}.sort({d}, descending=True).values
        {out} = {0}.kthvalue({k}, {d}).values
        {out} = {0}.median({d}).values
        {out} = {0}.max({d}).values
        {out} = {0}.amin({d}, keepdim=True)
        {out} = {0}.cummax({d}).values
        {out} = torch.searchsorted({0}.flatten().sort().values, {1}) * {1}
    """.strip().splitlines(),
    "writes": """
        {out} = {0}.clone()\\n{out}[{along}] = {c}
        {out} = {0}.clone()\\n{out}[{along}] *= {c}
        {out} = {0}.clone()\\n{out}[{at}] = {1}
        {out} = {0}.clone()\\n{out}[{along}] += {1}
        {out} = {0} * 1\\n{out}[{0} > {c}] = 0.5
        {out} = {0} * 1\\n{out}[{out} > {c}] *= 0.2
        {out} = {0} * 1\\n{out}[{0} > {c}] = {1}[{0} > {c}]
        {out} = {0} * 1\\n{out}[like({0}) > 0] = {1}.flatten()[0]
        {out} = {0}.index_add({d}, {1}.flatten().argsort()[:{n}] % {n}, {0})
        {out} = {0}.index_put(({1}.flatten().argsort()[:1] % {n},), {0}.flatten()[0])
        {out} = {0}.index_copy({d}, {1}.argmax()[None] % {n}, {0}.narrow({d}, 0, 1))
        {out} = {0}.masked_fill({0} > {c}, 0.0)
        {out} = {0}.masked_fill(like({0}) > 0, {1}.sum())
        {out} = {0}.masked_scatter(like({0}) > 0, {1})
        {out} = {0}.masked_scatter({0} > {c}, {0}.flip(0))
        {out} = torch.where({0} > {1}, {0}, {1})
        {out} = torch.where(like({0}) > 0, {0}, {c})
        {out} = torch.where({0} > {c}, {0} * {1}, {0}.new_zeros(()))
        {out} = torch.zeros_like({0}).index_add({d}, torch.tensor({same}), {0})
        {out} = {0}.index_add({d}, torch.tensor({idx}), {0}.index_select({d}, torch.tensor({idx})), alpha={c})
        {out} = {0}.index_copy({d}, torch.tensor([{i}]), {1}.narrow({d}, 0, 1))
        {out} = {0}.index_fill({d}, torch.tensor({idx}), {c})
        {out} = {0}.index_put((torch.tensor({idx}),), {0}[torch.tensor({idx})] * {0}[0], accumulate=True)
        {out} = {0}.index_put((torch.tensor({perm}),), {1})
        {out} = {0}.scatter({d}, torch.tensor({perm}).reshape([-1 if d == {d} else 1 for d in range({0}.dim())]).expand_as({0}), {1})
        {out} = {0}.scatter_add({d}, torch.tensor({same}).reshape([-1 if d == {d} else 1 for d in range({0}.dim())]).expand_as({0}), {1})
        {out} = {0}.scatter({d}, {0}.argmax({d}, keepdim=True), {c})
        {out} = {0}.scatter({d}, {0}.argsort({d}), {1})
        {out} = {0}.scatter_reduce({d}, torch.tensor({same}).reshape([-1 if d == {d} else 1 for d in range({0}.dim())]).expand_as({0}), {1}.view_as({0}), "{reduce}")
        {out} = {0}.new_zeros({n}).put_(torch.tensor({idx}), {0}.flatten()[:len({idx})], accumulate=True)
        {out} = {0}.clone()\\n{out}.diagonal().mul_({c})
        {out} = {0}.clone()\\n{out}.T[0] = {1}
        {out} = {0} + {1}\\n{out}.view(-1)[::2].add_({0}.flatten()[::2])
        {out} = {0} * {1}\\n{out}.sin_().add_({0})
        {out} = torch.empty_like({0})\\n{out}.copy_({1})
        {out} = torch.empty_like({0})\\ntorch.mul({0}, {1}, out={out}) if False else {out}.copy_({0} * {1})
        {out} = {0} * 1\\n{out}.narrow({d}, {lo}, {hi} - {lo}).copy_({1}.narrow({d}, {lo}, {hi} - {lo}))
        {out} = {0} * 1\\n{out}.unbind({d})[{i}].mul_({1}.select({d}, {j}))
        {out} = {0} * 1\\n{out}.add_({1}).mul_({0}).clamp_(-2, 2)
        {out} = {0} * 1\\n{out}.fill_({c})
        {out} = {0} * 1\\n{out}.zero_().add_({1})
        {0}.mul_({c})
        {0}[{along}] = {1}
        {0}[{at}] += {1}
        {0}.add_({1})
        {0}[{0} > {c}] = 0.1
    """.strip().splitlines(),
    "pointwise": """
        {out} = {0}.sin()
        {out} = {0}.tanh() * {c}
        {out} = {0}.sigmoid()
        {out} = {0}.relu()
        {out} = {0}.abs()
        {out} = {0}.exp().clamp(max=5)
        {out} = ({0} ** 2 + 1).log()
        {out} = ({0} * {0} + 0.5).sqrt()
        {out} = {0} ** 3
        {out} = {0} * {0}
        {out} = -{0}
        {out} = {0} - {1}
        {out} = {0} + {1}
        {out} = {0} * {1}
        {out} = {0} / (2 + {1} ** 2)
        {out} = {c} - {0}
        {out} = torch.rsub({0}, {1}, alpha={c})
        {out} = {0} * {c}
        {out} = {0} * like({0})
        {out} = {0} + like({0})
        {out} = {0} * 0
        {out} = {0} * (like({0}) > 0)
        {out} = {0} * ({1} > {0})
        {out} = {0} * {1}.detach()
        {out} = torch.maximum({0}, {1})
        {out} = torch.minimum({0}, {c} + {1})
        {out} = torch.atan2({0}, {1} ** 2 + 1)
        {out} = torch.hypot({0}, {1} ** 2 + 0.5)
        {out} = {0}.clamp(-0.5, 0.7)
        {out} = torch.clamp({0}, max={1})
        {out} = {0}.lerp({1}, 0.3)
        {out} = torch.addcmul({0}, {1}, {0}, value={c})
        {out} = torch.addcdiv({0}, {1}, {0} ** 2 + 1)
        {out} = {0}.float().double() * {1}
        {out} = {0}.float() * {c}
        {out} = {0}.double() * {1}
        {out} = {0}.to({1}.dtype) + {1}
        {out} = {0}[..., None] * {1}
        {out} = {0}.flatten()[:, None] - {1}.flatten()
        {out} = {0}.floor() + {0}
        {out} = {0}.round() * {1}
        {out} = {0}.sign() * {1}
        {out} = torch.fmod({0}, 0.7) * 1
        {out} = torch.remainder({0}, 0.9) * 1
        {out} = F.gelu({0})
        {out} = F.silu({0})
        {out} = F.softplus({0})
        {out} = F.elu({0})
        {out} = F.leaky_relu({0})
        {out} = F.hardtanh({0})
        {out} = F.logsigmoid({0})
        {out} = F.mish({0})
        {out} = F.hardswish({0})
        {out} = F.softshrink({0})
        {out} = F.threshold({0}, 0.1, {c})
        {out} = F.glu({0}, {d})
        {out} = torch.erf({0})
        {out} = torch.sinc({0})
        {out} = torch.nan_to_num({0})
        {out} = torch.xlogy({0}, {1} ** 2 + 1)
        {out} = torch.logaddexp({0}, {1})
        {out} = torch.polar({0} ** 2 + 0.1, {0}).real
        {out} = torch.complex({0}, {0}.roll(1)).abs()
        {out} = torch.view_as_real(torch.complex({0}, {0}.flip(0)) ** 2)
        {out} = (({0} * 1j).exp() * {0}).imag
        {out} = cube({0})
        {out} = straight({0} * 2)
        {out}, {more} = joined({0} * 1, {1} * 1)
        {out} = F.dropout({0}, 0.5, training=False)
        {out} = F.mse_loss({0}, {1}, reduction="none")
        {out} = F.huber_loss({0}, {1})
        {out} = F.smooth_l1_loss({0}, {1}, reduction="sum")
    """.strip().splitlines(),
    "reductions": """
        {out} = {0}.sum({d})
        {out} = {0}.sum({d}, keepdim=True)
        {out} = {0}.sum()
        {out} = {0}.mean({d}, keepdim=True)
        {out} = {0}.mean()
        {out} = {0} - {0}.mean({d}, keepdim=True)
        {out} = {0}.var({d})
        {out} = ({0}.std({d}) + 1)
        {out} = {0}.prod({d})
        {out} = {0}.norm()
        {out} = {0}.norm(dim={d})
        {out} = {0}.norm(p=1, dim={d}, keepdim=True)
        {out} = torch.linalg.vector_norm({0}, 3, {d})
        {out} = {0}.logsumexp({d})
        {out} = {0}.cumsum({d})
        {out} = {0}.cumprod({d})
        {out} = {0}.logcumsumexp({d})
        {out} = {0}.diff(dim={d})
        {out} = {0}.amax({d})
        {out}, {more} = {0}.aminmax(dim={d})
        {out} = {0}.nansum({d})
        {out} = {0}.trace()
        {out} = torch.trapezoid({0}, dim={d})
        {out} = {0}.softmax({d})
        {out} = {0}.log_softmax({d})
        {out} = F.normalize({0}, dim={d})
        {out} = F.softmin({0}, dim={d})
        {out} = F.layer_norm({0}, {0}.shape[-1:])
        {out} = F.group_norm({0}, 1)
        {out} = F.instance_norm({0}[None])[0]
        {out} = F.rms_norm({0}, {0}.shape[-1:])
        {out} = F.cross_entropy({0}, torch.zeros({0}.shape[0], dtype=torch.long))
        {out} = F.cosine_similarity({0}, {1}, dim={d})
        {out} = torch.cdist({0}, {1})
        {out} = F.pairwise_distance({0}, {1})
        {out} = torch.var_mean({0}, {d})[{which}]
        {out} = {0}.quantile(0.3)
        {out} = {0}.flatten().histc(3) * {1}.sum()
        {out} = {0}.renorm(2, {d}, 1.5)
    """.strip().splitlines(),
    "products": """
        {out} = {0} @ {1}
        {out} = {0} @ {1}.mT
        {out} = {0} @ constant({0}.shape[-1], {k}, dtype={0}.dtype)
        {out} = constant({k}, {0}.shape[0], dtype={0}.dtype) @ {0}
        {out} = torch.outer({0}.flatten(), {1}.flatten())
        {out} = torch.einsum("i...,i->...", {0}, {1}.flatten())
        {out} = torch.einsum("ij,ij->i", {0}, {0})
        {out} = torch.einsum("ij,kj->ik", {0}, {1})
        {out} = torch.tensordot({0}, {1}, 1)
        {out} = torch.linalg.multi_dot([{0}, {0}.mT, {1}])
        {out} = torch.dot({0}.flatten(), {1}.flatten())
        {out} = torch.addmm({0}, {1}, {0}, alpha={c}, beta=0.5)
        {out} = torch.baddbmm({0}, {0}, {1}, beta=0.5)
        {out} = torch.bmm({0}, {1}.mT)
        {out} = torch.kron({0} * 1, {1} * 1)
        {out} = torch.linalg.cross({0}, {1}, dim={d})
        {out} = F.linear({0}, constant({k}, {0}.shape[-1], dtype={0}.dtype), constant({k}, dtype={0}.dtype))
        {out} = F.bilinear({0}, {1}, constant(2, {0}.shape[-1], {1}.shape[-1], dtype={0}.dtype))
        {out} = torch.linalg.solve(({0} @ {0}.mT) + 3 * torch.eye({0}.shape[-2], dtype={0}.dtype), {1})
        {out} = torch.linalg.inv({0} @ {0}.mT + 2 * torch.eye({0}.shape[-2], dtype={0}.dtype))
        {out} = torch.linalg.det(0.1 * {0} @ {0}.mT + torch.arange(1, {0}.shape[-2] + 1).diag().to({0}.dtype))
        {out} = torch.linalg.slogdet({0} @ {0}.mT + 1.5 * torch.eye({0}.shape[-2], dtype={0}.dtype))[1]
        {out} = torch.linalg.cholesky({0} @ {0}.mT + 2 * torch.eye({0}.shape[-2], dtype={0}.dtype))
        {out} = torch.linalg.solve_triangular({0}.tril() * 0.1 + torch.eye({0}.shape[-2], dtype={0}.dtype), {1}, upper=False)
        {out} = torch.linalg.matrix_exp({0} * 0.3)
        {out} = torch.matrix_power({0}, 2)
        {out} = torch.linalg.eigvalsh(0.1 * ({0} + {0}.mT) + torch.arange({n}).diag().to({0}.dtype))
        {out} = torch.linalg.svdvals(0.1 * ({0} + {0}.mT) + torch.arange(1, {n} + 1).diag().to({0}.dtype))
        {out} = F.conv1d({0}.flatten()[None, None], constant(2, 1, {k}, dtype={0}.dtype), padding={k2})[0]
        {out} = F.conv1d({0}[None], constant(2, {0}.shape[0], {k}, dtype={0}.dtype), stride={k2}, dilation=1)[0]
        {out} = F.conv1d(constant(1, 1, 5, dtype={0}.dtype), {0}.flatten()[None, None, :3])[0, 0]
        {out} = F.conv_transpose1d({0}[None], constant({0}.shape[0], 2, {k}, dtype={0}.dtype), stride={k2})[0]
        {out} = F.conv2d({0}[None, None], constant(1, 1, 2, 2, dtype={0}.dtype), padding=1)[0, 0]
        {out} = F.unfold({0}[None, None], (2, 2), padding={k2})[0]
        {out} = F.fold({0}.reshape(1, 4, -1), (3, {k} + 1), 2)[0, 0]
        {out} = F.avg_pool1d({0}.flatten()[None], {k}, 1)[0]
        {out} = F.max_pool1d({0}.flatten()[None], {k})[0]
        {out} = F.max_pool2d({0}[None], 2, 1)[0]
        {out} = F.adaptive_avg_pool1d({0}.flatten()[None], {k})[0]
        {out} = F.adaptive_max_pool1d({0}.flatten()[None], {k})[0]
        {out} = F.lp_pool1d({0}.flatten()[None] ** 2 + 0.1, 2, {k})[0]
        {out} = F.interpolate({0}.flatten()[None, None], {k} + 3, mode="linear")[0, 0]
        {out} = F.interpolate({0}[None, None], (2, 3), mode="{resize}")[0, 0]
        {out} = F.grid_sample(constant(1, 1, 3, 3, dtype={0}.dtype), {0}.reshape(1, 1, -1, 2).tanh(), align_corners=True)
        {out} = F.scaled_dot_product_attention({0}[None], {1}[None], {0}[None])[0]
        {out} = layer("Linear", {0}, {0}.shape[-1], {k})({0})
        {out} = layer("Linear", {0}, {0}.shape[-1], 2)({0}).tanh() @ constant(2, dtype={0}.dtype)
        {out} = layer("Conv1d", {0}, {0}.shape[0], 2, 2, padding=1)({0}[None])[0]
        {out} = layer("LayerNorm", {0}, {0}.shape[-1])({0})
        {out} = layer("BatchNorm1d", {0}, {0}.shape[-1])({0})
        {out} = layer("GRUCell", {0}, {0}.shape[-1], 2)({0})
        {out} = layer("LSTM", {0}, {0}.shape[-1], 2)({0})[0]
        {out} = layer("PReLU", {0})({0})
        {out} = layer("MultiheadAttention", {0}, {0}.shape[-1], 1)({0}, {0}, {0})[0]
        {out} = torch.fft.rfft({0}.flatten()).abs()
        {out} = torch.fft.fft({0}, dim={d}).real
        {out} = torch.fft.irfft(torch.fft.rfft({0}, dim={d}) * 2, dim={d})
    """.strip().splitlines(),
    "control": """
        {out} = {0}\\nfor _ in range({k}):\\n    {out} = {out} * 0.5 + {out}.roll(1) * {0}
        {out} = {0} * 1\\nfor k in range({n} - 1):\\n    {out}.select({d}, k + 1).add_({out}.select({d}, k) * 0.5)
        {out} = sum({0}.select({d}, k) * k for k in range({n}))
        {out} = torch.stack([row.sin() * row.sum() for row in {0}])
        {out} = {0} * 2 if {0}.shape[{d}] > 2 else {0} - {1}
        {out} = {0} * {1} if {0}.sum() > 0 else {0} - 1
        {out} = {0} * {0}.max().item()
        {out} = {0} * len({0})
        {out} = torch.cat([row[:{k}] for row in {0}])
        {out} = {0}.new_zeros(3)\\nfor k in range(3):\\n    {out}[k] = {0}.flatten()[:k + 1].sum() * {1}.flatten()[0]
        {out} = torch.stack([{0}.flatten()[k] * {1}.flatten()[-1 - k] for k in range(2)])
        {out} = torch.vmap(lambda row: row * row.sum())({0})
        {out} = torch.func.grad(lambda t: (t ** 3).sum())({0})
        {out} = torch.utils.checkpoint.checkpoint(torch.sin, {0}, use_reentrant=False)
        {out} = {0}.detach() * {1}
    """.strip().splitlines(),
}
STEPS = {kind: [line.strip().replace("\\n", "\n") for line in lines] for kind, lines in STEPS.items()}


def parameters(random: random.Random, t: torch.Tensor) -> dict[str, object]:
    """Something for each name that a line may have, drawn for an operand t."""
    dims = t.dim()
    d, e = (random.randrange(dims), random.randrange(dims)) if dims else (0, 0)
    n = t.shape[d] if dims else 1
    few = random.randint(1, max(n, 1))
    lo = random.randint(0, n)
    hi = random.randint(lo, n)
    i, j = (random.randrange(max(n, 1)) for _ in range(2))
    last = t.shape[-1] if dims else 1
    before = [":"] * d
    return {
        "d": d - dims * random.randint(0, 1) if dims else 0,
        "e": e,
        "n": n,
        "i": i,
        "j": j,
        "lo": lo,
        "hi": hi,
        "k": random.randint(1, 3),
        "k2": random.randint(1, 2),
        "k3": random.randint(0, 2),
        "c": round(random.uniform(-1.5, 1.5), 1),
        "idx": [random.randrange(max(n, 1)) for _ in range(few)],
        "same": [random.randrange(max(n, 1)) for _ in range(n)],
        "perm": random.sample(range(n), n),
        "mask": [random.random() < 0.6 for _ in range(n)],
        "last": [random.randrange(max(last, 1)) for _ in range(random.randint(1, 3))],
        "along": ", ".join([*before, f"{lo}:{hi}:{random.choice([1, 1, 2])}"]) if dims else "...",
        "at": ", ".join([*before, str(i)]) if dims else "...",
        "dims": ", ".join(map(str, random.sample(range(dims), dims))),
        "shape": ", ".join(map(str, t.shape)),
        "other": ", ".join(map(str, _reshaped(random, t.numel()))),
        "which": random.randint(0, 1),
        "padding": random.choice(["reflect", "replicate", "circular"]),
        "reduce": random.choice(["sum", "mean", "amax", "amin"]),
        "resize": random.choice(["nearest", "bilinear", "bicubic", "area"]),
    }


def _reshaped(random: random.Random, count: int) -> list[int]:
    """A shape for so many numbers."""
    if count == 0:
        return [0, 2]
    first = random.choice([k for k in range(1, count + 1) if count % k == 0])
    return [first, count // first] if random.random() < 0.7 else [count // first, 1, first]
