"""rasterize_motion_vectors beside the same formula in PyTorch, and beside painting pixels and pooling them."""

import torch

from motionops.codec.rasterize_motion_vectors import rasterize_motion_vectors, rasterize_motion_vectors_reference
from tests.codec.samples import covering_vectors

FRAMES, HEIGHT, WIDTH, CELL = 32, 240, 320, 8


def painted(vectors):
    """Each block's displacement at each of its pixels, then the mean of each cell: what loops over blocks do."""
    picture = torch.zeros(FRAMES, 2, HEIGHT, WIDTH)
    for frame, source, w, h, x, y, u, v, scale in vectors.tolist():
        left, top = x - w // 2, y - h // 2
        picture[frame, 0, top : top + h, left : left + w] = u / (scale * source)
        picture[frame, 1, top : top + h, left : left + w] = v / (scale * source)
    return torch.nn.functional.avg_pool2d(picture, CELL)


def bench_forward(comparison):
    vectors = covering_vectors(FRAMES, HEIGHT, WIDTH).to(comparison.device)
    on_cpu = vectors.cpu()
    comparison(
        f"{FRAMES} frames of {WIDTH} x {HEIGHT}, {len(vectors)} blocks",
        ours=lambda: (rasterize_motion_vectors(vectors, FRAMES, HEIGHT, WIDTH, cell=CELL),),
        reference=lambda: (rasterize_motion_vectors_reference(vectors, FRAMES, HEIGHT, WIDTH, cell=CELL),),
        peers={
            "eager": lambda: (rasterize_motion_vectors_reference(vectors, FRAMES, HEIGHT, WIDTH, cell=CELL),),
            "painted": lambda: (painted(on_cpu).to(comparison.device),),
        },
        rtol=1e-5,
        moved_bytes=vectors.nbytes + FRAMES * 2 * (HEIGHT // CELL) * (WIDTH // CELL) * 4,
    )
