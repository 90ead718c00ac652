// Numbers as people read them.

const whole = new Intl.NumberFormat("en");
const short = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });

export const count = (number) => whole.format(number);

/** `2.2 Mbit/s` */
export function bitrate(kilobits) {
  return kilobits >= 1000 ? `${short.format(kilobits / 1000)} Mbit/s` : `${whole.format(Math.round(kilobits))} kbit/s`;
}

/** `1.2 GiB` */
export function bytes(number) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (number >= 1024 && unit < units.length - 1) {
    number /= 1024;
    unit += 1;
  }
  return `${short.format(number)} ${units[unit]}`;
}

/** `3 d 4 h`, `12 min 5 s` */
export function duration(seconds) {
  const parts = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const first = parts.findIndex(([size]) => seconds >= size);
  if (first < 0) return "0 s";
  const shown = [];
  for (const [size, unit] of parts.slice(first, first + 2)) {
    const number = Math.floor(seconds / size);
    if (number > 0) shown.push(`${number} ${unit}`);
    seconds -= number * size;
  }
  return shown.join(" ");
}
