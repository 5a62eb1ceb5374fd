// The one place that knows which view library draws the pages: Preact, with htm templates in place of JSX.
import { createContext, Fragment, h, render } from "../vendor/preact.js";
import htm from "../vendor/htm.js";

export * from "../vendor/preact-hooks.js";
export { createContext, Fragment, render };

// Tagged template -> virtual nodes. Values are inserted as text nodes or properties, never as markup.
export const html = htm.bind(h);
