"""Where an encoder goes inside a Ray actor: on what Ray has given the actor, and on no more."""

from __future__ import annotations

from vlt.integrations.absent import absent

try:
    import ray
except ImportError as error:
    raise absent(__name__, "ray", "ray", error) from error


def place(device: str, num_threads: int | None) -> tuple[str, int | None]:
    """The device and threads of an encoder, where they are left to Ray.

    Parameters
    ----------
    device : str
        "auto" becomes "cuda" where the actor has a GPU, whose number Ray has put into
        CUDA_VISIBLE_DEVICES, and "cpu" where it has none, though the machine may have one.
    num_threads : int or None
        None becomes the actor's CPUs, at least one. An encoder by itself would take all cores of
        the machine, and every other actor there as well.
    """
    if not ray.is_initialized():
        return device, num_threads
    context = ray.get_runtime_context()
    if context.worker.mode != ray.WORKER_MODE:  # a driver, which Ray gives nothing
        return device, num_threads
    assigned = context.get_assigned_resources()
    if device == "auto":
        device = "cuda" if assigned.get("GPU") else "cpu"
    if num_threads is None and device == "cpu" and "CPU" in assigned:
        num_threads = max(int(assigned["CPU"]), 1)
    return device, num_threads
