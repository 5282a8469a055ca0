"""Decoding as part of the network: maps stay on the device, a few kilobytes of candidates leave it.

Computes what ``samkr_edge.pose.decode.decode`` does up to pose NMS, which stays on the host
(samkr_edge/pose/proposals.py). Only static shapes, and only operators that TensorRT 8.5 to 11 and ONNX Runtime run:
MaxPool, TopK, GatherElements, Round, Floor, Clip and arithmetic. Conventions as there: map pixel i is centred on input
pixel ``stride * i``, joint = location - offset.

In an engine with FP16 this module stays FP32 (samkr_edge/builder/tensorrt/full_precision.py): half precision resolves a
quarter of a pixel at 512. Its nodes are those after the tensors ``heatmap`` and ``offset``.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from samkr_edge.pose.decode_settings import DecodeSettings

# Below every threshold, and finite in FP16.
_NO_PEAK = -1e4
# The heatmap is sampled at quarter map pixels: samkr_edge.pose.decode.sample.
_QUARTERS = 4.0
# Squared heat in a window that counts as a clear response, and the least divisor: samkr_edge.pose.decode.refine.
_CLEAR, _LEAST = 0.05, 1e-12


class DecodeGraph(nn.Module):
    """heatmap (N, K+1, h, w), offset (N, 2K, h, w) -> poses (N, P, K, 3), scores (N, P)[, proposals (N, P, K, 2)].

    Args:
        settings: the card's; P = ``max_people``, at most h * w.
        keypoints: K.
        stride: input pixels per map pixel.
        map_size: (h, w).
    """

    grid: Tensor
    steps: Tensor
    planes: Tensor
    no_peak: Tensor
    zero: Tensor

    def __init__(
        self, settings: DecodeSettings, keypoints: int, stride: int, map_size: tuple[int, int]
    ) -> None:
        super().__init__()
        self.keypoints = keypoints
        self.settings = settings
        self.stride = stride
        self.height, self.width = map_size
        self.people = min(settings.max_people, self.height * self.width)
        ys, xs = torch.meshgrid(torch.arange(self.height), torch.arange(self.width), indexing="ij")
        # A table of coordinates avoids integer division, which runtimes define differently.
        self.register_buffer("grid", torch.stack([xs, ys]).reshape(2, -1).float(), persistent=False)
        # Where each offset channel begins in the flattened maps, (2K, 1).
        starts = torch.arange(2 * keypoints)[:, None] * (self.height * self.width)
        self.register_buffer("planes", starts, persistent=False)
        # Scalars as buffers: the exporter would wrap them into shape arithmetic.
        self.register_buffer("no_peak", torch.full((1, 1, 1, 1), _NO_PEAK), persistent=False)
        self.register_buffer("zero", torch.zeros(1, 1, 1), persistent=False)
        radius = settings.refine_radius
        self.register_buffer("steps", torch.arange(-radius, radius + 1).float(), persistent=False)

    def forward(self, heatmap: Tensor, offset: Tensor) -> tuple[Tensor, ...]:
        batch, keypoints = int(heatmap.shape[0]), self.keypoints
        scores, index = self._peaks(heatmap[:, keypoints:])
        places = (index[:, None] + self.planes).reshape(batch, -1)
        at = offset.reshape(batch, -1).gather(1, places).reshape(batch, keypoints, 2, self.people)
        # (N, K, P) each, map pixels
        x = self.grid[0][index][:, None] - at[:, :, 0]
        y = self.grid[1][index][:, None] - at[:, :, 1]
        maps = heatmap[:, :keypoints].reshape(batch, keypoints, -1)
        # A NaN offset reaches the host, which refuses it; as an index it would crash the runtime.
        look_x, look_y = self._place(x), self._place(y)
        heat = self._sample(maps, look_x, look_y)
        if not self.settings.refine_radius:
            return self._rows(x, y, heat), scores
        move_x, move_y = self._refine(maps, look_x, look_y)
        return self._rows(x + move_x, y + move_y, heat), scores, self._rows(x, y)

    def _place(self, x: Tensor) -> Tensor:
        """0 in place of NaN."""
        return torch.where(x == x, x, self.zero)

    def _peaks(self, center: Tensor) -> tuple[Tensor, Tensor]:
        """Values and flat places (N, P) of the strongest local maxima of (N, 1, h, w), best first."""
        # DEKR's neighbourhood grows with the map: samkr_edge.pose.decode.find_peaks.
        mean_side = (self.height + self.width) / 2
        side = 7 if mean_side > 300 else 5 if mean_side > 200 else 3
        pooled = nn.functional.max_pool2d(center, side, stride=1, padding=side // 2)
        peaks = torch.where(center == pooled, center, self.no_peak)
        values, index = peaks.reshape(int(center.shape[0]), -1).topk(self.people, dim=1)
        return values, index

    def _flat(self, x: Tensor, y: Tensor) -> Tensor:
        """Places of whole, clamped coordinates in a flattened map; the product is taken in integers, exact in FP16."""
        return y.long() * self.width + x.long()

    def _sample(self, maps: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """Bilinear values (N, K, P) of map k at (x, y), clamped to the map."""
        x = (torch.floor(x * _QUARTERS) / _QUARTERS).clamp(0, self.width - 1)
        y = (torch.floor(y * _QUARTERS) / _QUARTERS).clamp(0, self.height - 1)
        x0, y0 = torch.floor(x), torch.floor(y)
        x1, y1 = (x0 + 1).clamp(max=self.width - 1), (y0 + 1).clamp(max=self.height - 1)
        corners = [self._flat(a, b) for b in (y0, y1) for a in (x0, x1)]
        found = maps.gather(2, torch.cat(corners, dim=2))
        top_left, top_right, low_left, low_right = found.split(self.people, dim=2)
        fx, fy = x - x0, y - y0
        top = top_left * (1 - fx) + top_right * fx
        low = low_left * (1 - fx) + low_right * fx
        return top * (1 - fy) + low * fy

    def _refine(self, maps: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """How far the heatmap's centre of mass around each joint pulls it, (N, K, P): samkr_edge.pose.decode.refine."""
        batch, keypoints = int(maps.shape[0]), self.keypoints
        side = 2 * self.settings.refine_radius + 1
        xs = torch.round(x)[..., None] + self.steps  # (N, K, P, S)
        ys = torch.round(y)[..., None] + self.steps
        inner_x, inner_y = xs.clamp(0, self.width - 1), ys.clamp(0, self.height - 1)
        inside = (xs == inner_x).float()[..., None, :] * (ys == inner_y).float()[..., None]
        places = self._flat(inner_x[..., None, :], inner_y[..., None])  # (N, K, P, S, S)
        window = maps.gather(2, places.reshape(batch, keypoints, -1))
        weight = torch.relu(window.reshape(batch, keypoints, self.people, side, side)) * inside
        weight = weight * weight
        total = weight.sum(dim=(3, 4))
        share = self.settings.refine_blend * (total / _CLEAR).clamp(0, 1)
        total = total.clamp(min=_LEAST)
        found_x = (weight.sum(dim=3) * xs).sum(dim=3) / total
        found_y = (weight.sum(dim=4) * ys).sum(dim=3) / total
        return share * (found_x - x), share * (found_y - y)

    def _rows(self, x: Tensor, y: Tensor, *heat: Tensor) -> Tensor:
        """(N, K, P) each -> (N, P, K, 2 or 3), coordinates in network-input pixels."""
        return torch.stack([x * self.stride, y * self.stride, *heat], dim=3).permute(0, 2, 1, 3)


class DeployPoses(nn.Module):
    """uint8 (N, H, W, 3) RGB -> heatmap (N, K+1, h, w), offset (N, 2K, h, w), and everything ``DecodeGraph`` gives.

    The maps are outputs only while an export is checked; the written file outputs the candidates.
    """

    def __init__(self, deployed: nn.Module, decode: DecodeGraph) -> None:
        super().__init__()
        self.deployed = deployed
        self.decode = decode

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        heatmap, offset = self.deployed(image)
        return heatmap, offset, *self.decode(heatmap, offset)
