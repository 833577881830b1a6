"""What a model will take, as a bar for each device with a sentence under it: plain data made into HTML."""

from __future__ import annotations

from loaders.forecast import DeviceForecast, Forecast
from modules.ui.words import escape

_PARTS = (("weights", "weights"), ("cache", "context"), ("buffers", "buffers"), ("margin", "kept free"))


def forecast_html(forecast: Forecast | None, taken: int = 0) -> str:
    """The bars; `taken`: bytes that the same model really takes, if it is loaded ("0.32 GB are taken")."""
    if forecast is None:
        return ""
    bars = "".join(_bar(device) for device in forecast.devices)
    really = f" It is loaded, and has taken {taken / 1e9:.2f} GB." if taken else ""
    kind = "" if forecast.fits else " class='warning' role='alert'"
    return f"<div class='forecast'>{bars}<p{kind}>{escape(forecast.sentence + really)}</p></div>"


def _bar(device: DeviceForecast) -> str:
    margin = device.margin if device.total else 0
    whole = max(device.free, device.total + margin, 1)
    name = "Memory" if device.name == "memory" else device.name
    pieces, told = [], []
    for field, word in _PARTS:
        size = margin if field == "margin" else getattr(device, field)
        if size:
            pieces.append(f"<span class='f-{field}' style='width:{100 * size / whole:.2f}%'></span>")
            told.append(f"<li class='f-{field}'>{word} {size / 1e9:.2f} GB</li>")
    left = device.free - device.total - margin
    told.append(f"<li>{'left' if left >= 0 else 'missing'} {abs(left) / 1e9:.1f} GB</li>")
    label = escape(f"{name}: {device.total / 1e9:.2f} of {device.free / 1e9:.1f} GB free")
    return (
        f"<div class='device'><b>{escape(name)}</b>"
        f"<div class='bar' role='img' aria-label='{label}'>{''.join(pieces)}</div><ul>{''.join(told)}</ul></div>"
    )
