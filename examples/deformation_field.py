"""Bend a rubber bar with a neural field that must not change areas: a loss made of Jacobians.

python examples/deformation_field.py [POINTS]

A small network moves the points of the plane. It is trained to take a few marks to where they were seen, and to keep
every area: the determinant of its Jacobian shall be 1 at each of many points of the bar. The Jacobian of all points
together is block diagonal, 2 x 2 a point: two products are enough for all, and the loss is differentiated through them.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import torch
from torch import Tensor, nn

import torchjac as tj

BEND = 1.2  # radians, over the length of the bar


@dataclass
class Fit:
    """The trained field; how far marks are off, and how far the area changes, on average over new points."""

    field: nn.Module
    distance: float
    stretch: float


class Field(nn.Module):
    """Where each point of the plane goes, (..., 2) -> (..., 2): itself, and what a network adds."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        layers = nn.Linear(2, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 2)
        self.network = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.network(x)


def bar(count: int) -> Tensor:
    """Points in the bar, [-1, 1] x [-0.2, 0.2]."""
    return (2 * torch.rand(count, 2, dtype=torch.float64) - 1) * torch.tensor([1.0, 0.2], dtype=torch.float64)


def bent(x: Tensor) -> Tensor:
    """Where the marks are seen: the middle line on an arc."""
    angle = BEND * x[:, 0]
    along, across = torch.stack([angle.sin(), 1 - angle.cos()], 1), torch.stack([-angle.sin(), angle.cos()], 1)
    return along / BEND + x[:, 1:] * across


def fit(count: int, steps: int, weight: float) -> Fit:
    """Train on ``count`` points; ``weight`` is that of the areas in the loss."""
    torch.manual_seed(0)
    field = Field().double()
    optimizer = torch.optim.Adam(field.parameters(), lr=5e-3)
    ends = torch.linspace(-1, 1, 5, dtype=torch.float64)
    marks = torch.stack([ends, torch.zeros_like(ends)], 1)  # on the middle line alone: they leave the thickness open
    seen = bent(marks)
    plan = tj.plan_jacobian(field, bar(count), mode="reverse")  # once: shapes stay, points and weights change
    for _ in range(steps):
        determinants = torch.linalg.det(plan.values(bar(count)).reshape(count, 2, 2))
        loss = (field(marks) - seen).square().sum(1).mean() + weight * (determinants - 1).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        new = torch.linalg.det(plan.values(bar(count)).reshape(count, 2, 2))
        return Fit(field, (field(marks) - seen).norm(dim=1).mean().item(), (new - 1).abs().mean().item())


def main(count: int = 500, steps: int = 600) -> dict[str, Fit]:
    found = {"marks alone": fit(count, steps, 0.0), "marks and areas": fit(count, steps, 0.3)}
    for name, result in found.items():
        print(f"{name:<16} marks off by {result.distance:.4f}, areas change by {100 * result.stretch:.1f}%")
    return found


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
