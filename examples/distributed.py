"""One Jacobian by two processes.

torchrun --nproc-per-node 2 examples/distributed.py

Rank 0 finds the pattern and colors it; the other ranks get its plan. Then each runs some of the products, and keeps a
block of rows. At the end every rank checks its rows against a plan of its own.
"""

from __future__ import annotations

import torch
import torch.distributed as dist

import torchjac as tj


def diffusion(u: torch.Tensor) -> torch.Tensor:
    """Of heat, faster where it is hot, on a periodic square: (N, N) -> (N, N)."""
    flux = [u.square() * (torch.roll(u, -1, axis) - u) for axis in (0, 1)]
    return sum(f - torch.roll(f, 1, axis) for axis, f in enumerate(flux))


def main(size: int = 60) -> None:
    dist.init_process_group("gloo")
    torch.manual_seed(0)  # the same arguments on every rank
    u = torch.rand(size, size, dtype=torch.float64)
    plan = tj.distributed.plan_jacobian(diffusion, u, layout=torch.sparse_csr, ravel=True)
    rows = tj.distributed.jacobian(plan, u, gather="rows")
    share = tj.distributed.jacobian(plan, u, gather="none")
    right = torch.equal(rows.local.to_dense(), plan.matrix(u).to_dense()[rows.start : rows.stop])

    network = torch.nn.Sequential(torch.nn.Linear(300, 300), torch.nn.Tanh(), torch.nn.Linear(300, 300)).double()
    network.requires_grad_(False)
    x = torch.rand(300, dtype=torch.float64)
    dense = tj.distributed.plan_jacobian(network, x, sparsity=None)
    J = tj.distributed.jacobian(dense, x, gather="rows").to_dtensor()
    near = torch.allclose(J.full_tensor(), dense(x))

    for rank in range(dist.get_world_size()):
        dist.barrier()
        if rank == dist.get_rank():
            print(
                f"rank {rank}: {share.values.numel():,} of {plan.pattern.nnz:,} entries from its own products, "
                f"rows {rows.start:,} to {rows.stop - 1:,}: {'right' if right else 'WRONG'}; "
                f"{tuple(J.to_local().shape)} of the dense {tuple(J.shape)}: {'right' if near else 'WRONG'}",
                flush=True,
            )
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
