"""Call torch.numa.binding's own functions, whichever torch it is, and tell its answers from our mistakes.

torch 2.13 takes ``gpu_index=`` and asks ``torch.cuda``; 2.14 takes ``device_index=`` and asks ``torch.accelerator`` and the
module of its device. An error of ours, such as a name that one of them does not know, must never count as what torch
answers. Nothing here imports more than Python's own, since it runs where hwnuma may not be installed.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Sequence
from typing import Any

# What torch takes the index of the GPU by, the newest first.
INDEX_NAMES = ("device_index", "gpu_index")
# What a wrong call of ours or a stand-in that lacks something raises. torch answers with none of these: what it cannot
# place is a ValueError, RuntimeError, ZeroDivisionError or OSError.
OUR_MISTAKES = (TypeError, AttributeError, NameError, ImportError)


def index_name(function: Callable[..., Any]) -> str:
    """Return the parameter by which a function of torch.numa.binding takes the index of the GPU.

    Raises:
        TypeError: it has none that is known here, so that every call would fail.
    """
    parameters = inspect.signature(function).parameters
    for name in INDEX_NAMES:
        if name in parameters:
            return name
    raise TypeError(f"{function.__name__} takes {', '.join(parameters)}, and none of {' or '.join(INDEX_NAMES)}")


def call(function: Callable[..., Any], gpu: int, options: object) -> Any:
    """Call a function of torch.numa.binding for a GPU.

    Raises:
        AssertionError: the call was wrong, or what stands in for CUDA lacks something: not an answer of torch's.
        Exception: whatever torch answers with.
    """
    try:
        return function(**{index_name(function): gpu}, numa_options=options)
    except OUR_MISTAKES as error:
        raise AssertionError(f"torch was asked wrongly, so this is no answer of its: {error!r}") from error


def answer_for_devices(torch: Any, addresses: Sequence[str]) -> None:
    """Answer for CUDA what torch asks it: how many GPUs there are and at which PCI addresses."""
    properties = [_properties(address) for address in addresses]
    torch.cuda.is_available = lambda: True
    torch.cuda.device_count = lambda: len(properties)
    torch.cuda.get_device_properties = lambda index: properties[index]
    torch.accelerator.is_available = lambda: True
    torch.accelerator.device_count = lambda: len(properties)
    torch.accelerator.current_accelerator = lambda: "cuda"
    torch.get_device_module = lambda _device=None: torch.cuda


def _properties(address: str) -> types.SimpleNamespace:
    domain, bus, device = address.split(".")[0].split(":")
    return types.SimpleNamespace(pci_domain_id=int(domain, 16), pci_bus_id=int(bus, 16), pci_device_id=int(device, 16))
