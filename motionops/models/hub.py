"""Weights from and to the Hugging Face hub by name: ``hf:OWNER/NAME``, at a revision ``hf:OWNER/NAME@REVISION``.

A repository there holds what :func:`~motionops.models.save_backbone` writes, as ``backbone.safetensors``, and a card.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from pathlib import Path

from motionops.errors import UserError
from motionops.extras import require
from motionops.models.check_sums import KEY, other_part

PREFIX = "hf:"
FILE = "backbone.safetensors"
_NAME = re.compile(r"(?P<repository>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?")

CARD = """\
---
library_name: motionops
license: {license}
tags: [video, self-supervised-learning, {network}]
---

# {name}

A `{network}` of motionops (`pip install "motionops[train,hub]"`): feature maps of video clips, learnt without labels.

```python
import motionops

backbone = motionops.models.load_backbone("hf:{name}")  # [B, 3, T, S, S] -> [B, C, T', H', W']
features = motionops.evaluation.extract_features(backbone, videos)  # with the clips of the training
```

| | |
|---|---|
{rows}
"""


def local_file(path: str | os.PathLike) -> Path:
    """The file of weights that a path or a name means: itself, that of a folder, or what is fetched once for ``hf:…``.

    Raises:
        UserError: a name that is none, no such repository, revision or file, no network; ImportError without the extra.
    """
    if not (isinstance(path, str) and path.startswith(PREFIX)):
        return Path(path) / FILE if Path(path).is_dir() else Path(path)
    name = _NAME.fullmatch(path.removeprefix(PREFIX))
    if name is None:
        raise UserError(f"backbone: {path} must be {PREFIX}OWNER/NAME or {PREFIX}OWNER/NAME@REVISION")
    require(f"{PREFIX}… as a backbone", "huggingface_hub", extra="hub")
    import huggingface_hub

    try:
        return Path(huggingface_hub.hf_hub_download(name["repository"], FILE, revision=name["revision"]))
    except (OSError, ValueError) as error:  # the hub's errors are either
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"backbone: {path} cannot be fetched: {reason}") from error


def push_backbone(
    path: str | os.PathLike, name: str, *, license: str, private: bool = False, message: str = "Weights and card"
) -> str:
    """Upload a file of ``save_backbone`` to the hub, with a card made from its header; the repository is made.

    Args:
        path: a ``backbone.safetensors``, of a trainer or of ``save_backbone``.
        name: ``"OWNER/NAME"`` there. Who you are, the hub's own ``hf auth login`` has kept.
        license: of the weights, as the hub names it (``"apache-2.0"``, ``"cc-by-nc-4.0"``): that of the videos, often.
        private: of a repository that is made now.
        message: of the commit.

    Returns:
        The revision, a commit: ``load_backbone(f"hf:{name}@{revision}")`` gives these weights and no later ones.

    Raises:
        UserError: no such file, or one that does not say which network it is.
    """
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise UserError(f"push_backbone: name must be OWNER/NAME, got {name!r}")
    require("push_backbone", "huggingface_hub", "safetensors", extra="hub")
    import huggingface_hub

    with tempfile.TemporaryDirectory() as folder:
        write_repository(path, folder, name=name, license=license)
        api = huggingface_hub.HfApi()
        api.create_repo(name, private=private, exist_ok=True)
        return api.upload_folder(repo_id=name, folder_path=folder, commit_message=message).oid


def write_repository(path: str | os.PathLike, folder: str | os.PathLike, *, name: str, license: str) -> None:
    """What a repository holds, as files of a folder: weights, a card, and ``config.json``, by which downloads count."""
    from safetensors import SafetensorError, safe_open

    path, folder = Path(path), Path(folder)
    try:
        with safe_open(path, framework="pt") as file:
            written = file.metadata() or {}
            part = other_part(written, {name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise UserError(f"push_backbone: {path} is not a safetensors file ({error})") from error
    if part is not None:
        raise UserError(f"push_backbone: {path} is damaged: its {part} are not those that were written")
    header = {key: text for key, text in written.items() if key != KEY}
    if "backbone" not in header:
        raise UserError(f"push_backbone: {path} does not say which network it is: save_backbone writes files that do")
    rows = "\n".join(f"| {key} | {value} |" for key, value in sorted(header.items()))
    card = CARD.format(license=license, network=header["backbone"], name=name, rows=rows)
    (folder / "README.md").write_text(card, encoding="utf-8")
    (folder / "config.json").write_text(json.dumps(header, indent=2, sort_keys=True) + "\n")
    (folder / FILE).write_bytes(path.read_bytes())
