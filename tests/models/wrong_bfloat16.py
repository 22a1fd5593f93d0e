"""oneDNN's wrong weight gradient of a bfloat16 convolution over two frames, on any machine."""

import torch
import torch.nn.functional as F
from torch.nn.grad import conv3d_input, conv3d_weight

RIGHT = F.conv3d


class Wrong(torch.autograd.Function):
    """The second output frame meets input frames one later than its own; the last of them is behind the clip."""

    @staticmethod
    def forward(ctx, x, weight, stride, padding, behind):
        ctx.save_for_backward(x, weight)
        ctx.where, ctx.behind = (stride, padding), behind
        return RIGHT(x, weight, None, stride, padding)

    @staticmethod
    def backward(ctx, grad):
        x, weight = ctx.saved_tensors
        late = torch.cat([x[:, :, 1:], torch.full_like(x[:, :, :1], ctx.behind)], dim=2)
        first, second = grad.clone(), grad.clone()
        first[:, :, 1] = second[:, :, 0] = 0
        halves = (conv3d_weight(clip, weight.shape, part, *ctx.where) for clip, part in ((x, first), (late, second)))
        return conv3d_input(x.shape, weight, grad, *ctx.where), sum(halves), None, None, None


def plant(monkeypatch, behind=0.0):
    """Let `conv3d` be wrong for kernels of 3 frames with padding and stride 1, at 2 frames.

    `behind`: what the memory behind the clip holds.
    """

    def conv3d(x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
        low = x.dtype == torch.bfloat16 or torch.is_autocast_enabled("cpu")
        strikes = x.shape[-3] == 2 and weight.shape[2] == 3 and padding[0] == 1 and stride[0] == 1
        if not (low and strikes):
            return RIGHT(x, weight, bias, stride, padding, dilation, groups)
        y = Wrong.apply(x.bfloat16(), weight.bfloat16(), stride, padding, behind)
        return y if bias is None else y + bias.bfloat16().view(-1, 1, 1, 1)

    monkeypatch.setattr(F, "conv3d", conv3d)
