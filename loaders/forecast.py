"""What a model will take in memory, per device, before it is loaded. Sizes in bytes. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class DeviceForecast:
    """One device: what is loaded onto it, what stays free on purpose (`margin`), and what is free there now. `spare`:
    the part of it that is pages of a file not read again, which the system frees when needed.
    """

    name: str  # "memory", or the GPU's name
    weights: int
    cache: int
    buffers: int
    free: int
    margin: int = 0
    spare: int = 0

    @property
    def total(self) -> int:
        """What the model takes there."""
        return self.weights + self.cache + self.buffers

    @property
    def needed(self) -> int:
        """What must be free for it."""
        return self.total - self.spare

    @property
    def fits(self) -> bool:
        return self.needed + (self.margin if self.total else 0) <= self.free


def describe_forecast(devices: tuple[DeviceForecast, ...], reason: str) -> str:
    """Whether it fits, how much of what is free, and the reason for the placement."""
    parts = [f"{each.needed / 1e9:.2f} of {each.free / 1e9:.1f} GB free {_where(each)}" for each in devices]
    tight = [each for each in devices if not each.fits]
    verdict = f"Too big for {_where(tight[0]).partition(' ')[2]}" if tight else "It fits"
    return f"{verdict}: {', '.join(parts)}. {reason[:1].upper()}{reason[1:]}."


def _where(device: DeviceForecast) -> str:
    return "in main memory" if device.name == "memory" else f"on {device.name}"


@dataclass(frozen=True, slots=True)
class Forecast:
    """All devices, and a sentence about what goes where and why. `whole`: everything that can be on a GPU is."""

    devices: tuple[DeviceForecast, ...]
    sentence: str
    whole: bool = False

    @property
    def total(self) -> int:
        return sum(device.total for device in self.devices)

    @property
    def fits(self) -> bool:
        return all(device.fits for device in self.devices)

    def joined(self, other: Forecast, reason: str) -> Forecast:
        """Both models together; `other` is loaded first, so what is free is what it found."""
        before = {device.name: device for device in other.devices}
        mine = [device.name for device in self.devices]
        devices = tuple(
            [_sum_of(device, before.get(device.name)) for device in self.devices]
            + [device for device in other.devices if device.name not in mine]
        )
        return Forecast(devices, describe_forecast(devices, reason), self.whole)


def _sum_of(device: DeviceForecast, before: DeviceForecast | None) -> DeviceForecast:
    if before is None:
        return device
    return replace(
        before,
        weights=before.weights + device.weights,
        cache=before.cache + device.cache,
        buffers=before.buffers + device.buffers,
        margin=max(before.margin, device.margin),
        spare=before.spare + device.spare,
    )
