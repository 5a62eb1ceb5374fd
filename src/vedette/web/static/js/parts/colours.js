// Colours that the drawing library needs as values: it paints on a canvas, which knows no style sheet.
import { useEffect, useState } from "../html.js";

export const SERIES_COLOURS = 8;

// The CSS variable of the i-th series; after eight they repeat, with another dash (see `dashOf`).
export const seriesColour = (i) => `var(--series-${(i % SERIES_COLOURS) + 1})`;

const DASHES = [undefined, [6, 4], [2, 3], [10, 3, 2, 3]];
export const dashOf = (i) => DASHES[Math.floor(i / SERIES_COLOURS) % DASHES.length];

// A CSS colour expression -> the colour it has now, `rgb(...)`. `light-dark()` resolves only through an element.
export function resolve(expression) {
  const probe = document.createElement("span");
  probe.style.color = expression;
  document.body.append(probe);
  const colour = getComputedStyle(probe).color;
  probe.remove();
  return colour;
}

// `rgb(r, g, b)` with another opacity.
export const faded = (colour, alpha) => colour.replace(/^rgba?\(([^,]+,[^,]+,[^,)]+).*\)$/, `rgba($1, ${alpha})`);

// The theme in force, "light" or "dark"; the component is drawn again when it changes.
export function useTheme() {
  const [theme, setTheme] = useState(themeNow);
  useEffect(() => {
    const update = () => setTheme(themeNow());
    const system = matchMedia("(prefers-color-scheme: dark)");
    system.addEventListener("change", update);
    addEventListener("vedette:theme", update);
    return () => {
      system.removeEventListener("change", update);
      removeEventListener("vedette:theme", update);
    };
  }, []);
  return theme;
}

export function themeNow() {
  return document.documentElement.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
}

// "light", "dark", or "auto" to follow the system.
export function chooseTheme(choice) {
  if (choice === "auto") {
    localStorage.removeItem("vedette.theme");
    delete document.documentElement.dataset.theme;
  } else {
    localStorage.setItem("vedette.theme", choice);
    document.documentElement.dataset.theme = choice;
  }
  dispatchEvent(new Event("vedette:theme"));
}

export const chosenTheme = () => document.documentElement.dataset.theme ?? "auto";
