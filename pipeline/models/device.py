"""Where tensors live: the GPU if there is one."""
import contextlib
import os

import torch

from pipeline import memory
from pipeline.study import StudyError


def count() -> int:
    """GPUs that torch can use. Raises StudyError where there are some, but it cannot: NVML counts them, CUDA does not start."""
    gpus = torch.cuda.device_count()
    if gpus and not torch.cuda.is_available():
        raise StudyError(f"{gpus} GPUs are here, but torch cannot use them: the driver is too old for this torch (CUDA "
                         f"{torch.version.cuda}), or a service that it needs (nvidia-fabricmanager) does not run. The CPU "
                         "computes after  export CUDA_VISIBLE_DEVICES=")
    return gpus


def pick(deterministic: bool = False, autotune: bool = True) -> torch.device:
    """The current CUDA device, else the CPU. On CUDA, float32 convolutions use TF32, torch's default.

    On a CPU this process keeps freed memory from then on. deterministic: on CUDA, only kernels that torch knows to give the same
    bytes every time. A CPU gives them anyway. autotune: on CUDA, cuDNN tries its kernels on each new size of input and keeps the
    fastest, which pays where sizes come again. Raises StudyError as `count` does.
    """
    if not count():
        memory.keep()
        return torch.device("cpu")
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS reads it when it starts
        torch.use_deterministic_algorithms(True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # with NaN, every new tensor
    torch.backends.cudnn.benchmark = autotune and not deterministic
    return torch.device("cuda", torch.cuda.current_device())


def autocast(device: torch.device, cpu_bfloat16: bool = False):
    """bfloat16 activations with float32 weights on a GPU that has it, and on such a CPU if asked for; else plain float32."""
    wanted = (device.type == "cuda" or cpu_bfloat16) and has_bfloat16(device)
    return torch.autocast(device.type, torch.bfloat16) if wanted else contextlib.nullcontext()


def has_bfloat16(device: torch.device) -> bool:
    """Whether this device multiplies in bfloat16: a GPU from NVIDIA's Ampere (8.0) on, a CPU by AVX-512 or AMX.

    cuDNN has no bfloat16 convolution for older GPUs (torch.cuda.is_bf16_supported, which autocast asks, counts what is emulated).
    Other CPUs would compute it by way of float32, more slowly.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    has = torch.cpu.get_capabilities()
    return any(has.get(name, False) for name in ("avx512_bf16", "amx_bf16"))


@contextlib.contextmanager
def memory_explained(advice: str = "Lower evaluate_batch of the data set (params.yaml)"):
    """StudyError with `advice` and torch's own words where the block (or function) runs out of the GPU's or machine's memory."""
    try:
        yield
    except RuntimeError as error:  # torch.OutOfMemoryError and torch.AcceleratorError are such
        if not any(words in str(error) for words in ("out of memory", "can't allocate memory", "ALLOC_FAILED",  # cuBLAS
                                                     "unable to find an engine")):  # cuDNN: none runs in what is left
            raise
        # cuDNN may have no engine for another reason, and what is free may be little because of another program
        raise StudyError(f"out of memory. {advice} (torch: {str(error).splitlines()[0]})") from error


def describe(device: torch.device) -> str:
    """The GPU's name, or CPU: for records, and for what only the same hardware may go on with."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"


def gauges(device: torch.device) -> dict[str, float]:
    """gpu_memory_gb (the most since the last reading, 1e9 bytes; first with cuDNN's trials), gpu_utilisation (%); {} on a CPU."""
    if device.type != "cuda":
        return {}
    readings = {"gpu_memory_gb": torch.cuda.max_memory_allocated(device) / 1e9}
    torch.cuda.reset_peak_memory_stats(device)
    with contextlib.suppress(Exception):  # no nvidia-ml-py, or a driver (a MIG slice's, say) that does not tell: NVMLError
        readings["gpu_utilisation"] = float(torch.cuda.utilization(device))
    return readings


def random_state() -> dict[str, torch.Tensor]:
    """The states of torch's generators: the CPU's and, where there is one, the current GPU's."""
    return {"cpu": torch.get_rng_state()} | ({"cuda": torch.cuda.get_rng_state()} if torch.cuda.is_available() else {})


def set_random_state(state: dict[str, torch.Tensor]) -> None:
    """Continue from `random_state()`'s result, which may lie on any device."""
    torch.set_rng_state(state["cpu"].cpu())
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"].cpu())
