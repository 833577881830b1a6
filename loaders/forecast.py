"""What a model will take in memory, device by device, before it is loaded. Sizes in bytes. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DeviceForecast:
    """One device: what goes to it, what stays free on purpose (`margin`), and what is free there now."""

    name: str  # "memory", or the card's name
    weights: int
    cache: int
    buffers: int
    free: int
    margin: int = 0

    @property
    def total(self) -> int:
        """What the model takes there."""
        return self.weights + self.cache + self.buffers

    @property
    def fits(self) -> bool:
        return self.total + (self.margin if self.total else 0) <= self.free


@dataclass(frozen=True, slots=True)
class Forecast:
    """All devices, and in a sentence what goes where and why."""

    devices: tuple[DeviceForecast, ...]
    sentence: str

    @property
    def total(self) -> int:
        return sum(device.total for device in self.devices)

    @property
    def fits(self) -> bool:
        return all(device.fits for device in self.devices)
