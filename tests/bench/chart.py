"""Charts of lines, as SVG, and the places of figures in pages."""

import math
import re
import sys

WIDTH, HEIGHT = 640, 360
LEFT, RIGHT, TOP, BOTTOM = 64, 120, 40, 48
COLOURS = {"host": "#0b6cb8", "floor": "#7a7a7a"}
FURTHER = ["#b85c0b", "#2d8a4e", "#8a3fa0"]


def fill(page, mark, text):
    """Replaces what is between the comments `mark` and `end of mark`."""
    pattern = re.compile(rf"(<!-- {mark}[^>]*-->\n).*?(<!-- end of {mark} -->)", re.DOTALL)
    if not pattern.search(page):
        sys.exit(f"the page has no place for {mark}")
    return pattern.sub(lambda found: found[1] + (text + "\n" if text else "") + found[2], page)


def picture(path, title, across, up, lines, linear=False):
    """A chart of lines: by name, points (x, y). The vertical axis begins at 0; the horizontal one is logarithmic with a mark for each x,
    or `linear`, from 0 on."""
    xs = sorted({x for line in lines.values() for x, _ in line})
    top = nice(max(y for line in lines.values() for _, y in line) or 1)
    scale = float if linear else math.log
    low, high = scale(0 if linear else xs[0]), scale(xs[-1])
    marks = [xs[-1] * step / 6 for step in range(7)] if linear else xs
    place_x = lambda x: LEFT + (scale(x) - low) / (high - low) * (WIDTH - LEFT - RIGHT)
    place_y = lambda y: HEIGHT - BOTTOM - y / top * (HEIGHT - TOP - BOTTOM)
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}"'
        ' font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        text(LEFT, 22, title, "#202020", "start", 'font-size="14"'),
        text(LEFT, HEIGHT - 8, across, "#505050"),
        text(LEFT - 8, TOP - 6, up, "#505050", "end"),
    ]
    for step in range(5):
        y = top * step / 4
        out.append(f'<path d="M{LEFT} {place_y(y):.1f}H{WIDTH - RIGHT}" stroke="#e2e2e2"/>')
        out.append(text(LEFT - 8, place_y(y) + 4, f"{y:,.10g}", "#505050", "end"))
    for x in marks:
        out.append(text(place_x(x), HEIGHT - BOTTOM + 18, f"{x:,.0f}", "#505050", "middle"))
    further = iter(FURTHER)
    labels = []
    for server, line in lines.items():
        colour = COLOURS.get(server) or next(further)
        path_data = "L".join(f"{place_x(x):.1f} {place_y(y):.1f}" for x, y in line)
        out.append(f'<path d="M{path_data}" fill="none" stroke="{colour}" stroke-width="2"/>')
        if not linear:
            out += [f'<circle cx="{place_x(x):.1f}" cy="{place_y(y):.1f}" r="3" fill="{colour}"/>' for x, y in line]
        labels.append((place_y(line[-1][1]), server, colour))
    above = -math.inf
    for y, server, colour in sorted(labels):
        above = max(y + 4, above + 14)  # Labels of lines that end close to each other do not overlap.
        out.append(text(WIDTH - RIGHT + 10, above, server, colour))
    path.write_text("\n".join([*out, "</svg>", ""]))


def text(x, y, words, colour, anchor="start", more=""):
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}" text-anchor="{anchor}" {more}>{words}</text>'.replace(" >", ">")


def nice(value):
    """The next of 1, 2, 4, 5 or 8 times a power of ten, which four steps divide well."""
    power = 10 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 4, 5, 8, 10) if step * power >= value)
