"""What a model will take in memory, device by device, before it is loaded. Sizes in bytes. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DeviceForecast:
    """One device: what goes to it, what stays free on purpose (`margin`), and what is free there now. `spare`: of what
    goes to it, pages of a file that is not read again, which the system takes back as it needs them.
    """

    name: str  # "memory", or the card's name
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
        """What must be there for it."""
        return self.total - self.spare

    @property
    def fits(self) -> bool:
        return self.needed + (self.margin if self.total else 0) <= self.free


def in_words(devices: tuple[DeviceForecast, ...], reason: str) -> str:
    """Whether it fits, what of what is free, and why it goes where it goes."""
    parts = [f"{each.needed / 1e9:.2f} of {each.free / 1e9:.1f} GB free {_where(each)}" for each in devices]
    tight = [each for each in devices if not each.fits]
    verdict = f"Too big for {_where(tight[0]).partition(' ')[2]}" if tight else "It fits"
    return f"{verdict}: {', '.join(parts)}. {reason[:1].upper()}{reason[1:]}."


def _where(device: DeviceForecast) -> str:
    return "in the machine's memory" if device.name == "memory" else f"on {device.name}"


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
