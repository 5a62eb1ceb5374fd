// The frame around every page: the brand, the way between pages, the theme. Each page is a module of its own.
import { html, render, useEffect, useRef, useState } from "./html.js";
import { Link, useRoute } from "./router.js";
import { chooseTheme, chosenTheme } from "./parts/colours.js";
import { Compiling } from "./parts/compiling.js";
import { Icon, Mark } from "./parts/icons.js";
import { Empty } from "./parts/states.js";
import { Who } from "./parts/who.js";
import { Alerts } from "./pages/alerts.js";
import { Explore } from "./pages/explore.js";
import { Logs } from "./pages/logs.js";
import { Overview } from "./pages/overview.js";
import { Status } from "./pages/status.js";
import { Targets } from "./pages/targets.js";

const PAGES = [
  { path: "/", name: "Overview", icon: "overview", page: Overview },
  { path: "/explore", name: "Explore", icon: "explore", page: Explore },
  { path: "/alerts", name: "Alerts", icon: "alerts", page: Alerts },
  { path: "/logs", name: "Logs", icon: "logs", page: Logs },
  { path: "/targets", name: "Targets", icon: "targets", page: Targets },
  { path: "/status", name: "Status", icon: "status", page: Status },
];

const THEMES = { auto: "light", light: "dark", dark: "auto" };
const THEME_ICONS = { auto: "auto", light: "sun", dark: "moon" };

function ThemeButton() {
  const [theme, setTheme] = useState(chosenTheme);
  const turn = () => {
    chooseTheme(THEMES[theme]);
    setTheme(THEMES[theme]);
  };
  const word = (choice) => (choice === "auto" ? "as the system" : choice);
  const says = `Theme: ${word(theme)}. Change to ${word(THEMES[theme])}.`;
  return html`<button type="button" class="icon-button" onClick=${turn} aria-label=${says} title=${says}><${Icon}
      name=${THEME_ICONS[theme]} size=${18} /></button>`;
}

function Frame() {
  const { path } = useRoute();
  const here = PAGES.find((p) => p.path === path);
  const main = useRef(null);
  const first = useRef(true);
  const [opened, setOpened] = useState(0);
  useEffect(() => {
    document.title = `${here ? here.name : "No such page"} – Vedette`;
    // A new page is announced by moving the focus to it, as a page load would; not on the first, which is one.
    if (!first.current) main.current.focus({ preventScroll: true });
    first.current = false;
  }, [path]);
  return html`
    <a class="skip" href="#main">Skip to the page</a>
    <header class="top">
      <${Link} to="/" class="brand" aria-label="Vedette: overview"><${Mark} /><span>Vedette</span><//>
      <nav class="pages" aria-label="Pages">${PAGES.map(
        (p) =>
          html`<${Link} key=${p.path} to=${p.path} aria-current=${p === here ? "page" : null}><${Icon} name=${p.icon}
              size=${18} /><span>${p.name}</span><//>`,
      )}</nav>
      <${Who} />
      <${ThemeButton} />
    </header>
    <main id="main" tabindex="-1" ref=${main}>
      <${Compiling} onReady=${() => setOpened((n) => n + 1)} />
      ${here ? html`<${here.page} key=${`${path} ${opened}`} />` : html`<div class="page"><${Empty} title="There is no page here.">Go to the <${Link}
          to="/">overview<//>.<//></div>`}
    </main>`;
}

render(html`<${Frame} />`, document.getElementById("app"));
