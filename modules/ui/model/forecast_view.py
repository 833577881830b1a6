"""Shows the memory forecast as HTML: a bar for each device with a sentence under it."""

from __future__ import annotations

from loaders.forecast import DeviceForecast, Forecast
from modules.ui.parts.formatting import escape
from modules.ui.parts.sentences import translated
from modules.ui.texts import tr

_PARTS = ("weights", "cache", "buffers", "margin")


def forecast_html(forecast: Forecast | None, taken: int = 0) -> str:
    """The bars; `taken`: the model's actual memory in bytes, if it is loaded."""
    if forecast is None:
        return ""
    bars = "".join(_bar(device) for device in forecast.devices)
    really = " " + tr("forecast.loaded", n=taken / 1e9) if taken else ""
    kind = "" if forecast.fits else " class='warning' role='alert'"
    return f"<div class='forecast'>{bars}<p{kind}>{escape(translated(forecast.sentence) + really)}</p></div>"


def _bar(device: DeviceForecast) -> str:
    margin = device.margin if device.total else 0
    whole = max(device.free, device.total + margin, 1)
    name = tr("forecast.memory") if device.name == "memory" else device.name
    pieces, told = [], []
    for field in _PARTS:
        size = margin if field == "margin" else getattr(device, field)
        if size:
            pieces.append(f"<span class='f-{field}' style='width:{100 * size / whole:.2f}%'></span>")
            told.append(f"<li class='f-{field}'>{tr(f'forecast.part.{field}', n=size / 1e9)}</li>")
    left = device.free - device.total - margin
    told.append(f"<li>{tr('forecast.left' if left >= 0 else 'forecast.missing', n=abs(left) / 1e9)}</li>")
    label = escape(tr("forecast.bar", name=name, total=device.total / 1e9, free=device.free / 1e9))
    return (
        f"<div class='device'><b>{escape(name)}</b>"
        f"<div class='bar' role='img' aria-label='{label}'>{''.join(pieces)}</div><ul>{''.join(told)}</ul></div>"
    )
