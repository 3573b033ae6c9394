// What pages do beyond what the server made of them: stay up to date, shortcuts, saved views, the slider.
// Without it everything works by loading the page again.
// @ts-check

/** @type {<T extends Element = HTMLElement>(selector: string, within?: ParentNode) => T[]} */
const all = (selector, within = document) => Array.from(within.querySelectorAll(selector));

/** @param {string} id @returns {HTMLElement | null} */
const byId = (id) => document.getElementById(id);

// -- parts that are fetched again --------------------------------------------------------------------------

/** Whether somebody is at work in a part: what they wrote, or are about to press, must not go away.
 * @param {Element} part */
const inUse = (part) => {
  const active = document.activeElement;
  if (active && active !== document.body && part.contains(active) && active.matches("input, select, textarea")) return true;
  return all("details[open] form", part).length > 0;
};

/** Put the parts of a page that was fetched in the place of those that are shown; false when one was left alone.
 * @param {Document} fresh @param {string} selector */
const replaceParts = (fresh, selector) => {
  let whole = true;
  for (const part of all(selector)) {
    const other = fresh.getElementById(part.id);
    if (!other || other.outerHTML === part.dataset.was) continue;
    if (inUse(part)) {
      whole = false;
      continue;
    }
    const was = other.outerHTML;
    const open = new Set(all("details[open]", part).map((one) => one.id));
    const focused = part.contains(document.activeElement) ? document.activeElement : null;
    const link = focused?.getAttribute("href") ?? null;
    const focusedId = focused?.closest("[id]")?.id ?? "";
    for (const one of all("details", other)) if (open.has(one.id)) one.setAttribute("open", "");
    part.replaceChildren(...Array.from(other.childNodes));
    part.dataset.was = was;
    if (focused) {
      const again = link !== null
        ? all("a", part).find((one) => one.getAttribute("href") === link)
        : focused.tagName === "SUMMARY" ? byId(focusedId)?.querySelector("summary") : null;
      again?.focus({ preventScroll: true });
    }
  }
  return whole;
};

/** @param {string} address @returns {Promise<Document | null>} */
const fetchPage = async (address) => {
  // What is shown already isn't made again: 204.
  const version = byId("content")?.dataset.version ?? "";
  const response = await fetch(address, { credentials: "same-origin", headers: { "X-Version": version } });
  if (response.redirected && new URL(response.url).pathname.endsWith("/sign-in")) {
    location.reload(); // the session is over
    return null;
  }
  if (!response.ok || response.status === 204) return null;
  return new DOMParser().parseFromString(await response.text(), "text/html");
};

let fetching = false;
let again = false;

/** Fetch this page and replace its live parts; one at a time. */
const refresh = async () => {
  if (fetching) {
    again = true;
    return;
  }
  fetching = true;
  try {
    const fresh = await fetchPage(location.href);
    const version = fresh?.getElementById("content")?.dataset.version;
    // A part that was left alone is behind: then the page isn't what its version says.
    if (fresh && replaceParts(fresh, "[data-live]") && version) byId("content")?.setAttribute("data-version", version);
  } catch {
    // The next change asks again.
  } finally {
    fetching = false;
  }
  if (again) {
    again = false;
    setTimeout(refresh, 1000);
  }
};

const startLive = () => {
  const changes = document.body.dataset.changes;
  const shown = byId("live");
  if (!changes || !shown || all("[data-live]").length === 0) return;
  /** @type {EventSource | null} */
  let source = null;
  const tell = (/** @type {boolean} */ on) => {
    shown.hidden = false;
    shown.classList.toggle("off", !on);
    const text = shown.querySelector(".live-text");
    if (text) text.textContent = on ? "live" : "not connected";
  };
  const connect = () => {
    source = new EventSource(changes);
    source.addEventListener("open", () => tell(true));
    source.addEventListener("error", () => tell(false));
    source.addEventListener("changed", refresh);
  };
  const follow = () => {
    if (document.visibilityState === "visible") {
      if (!source) {
        connect();
        refresh();
      }
    } else if (source) {
      source.close(); // a browser has six connections to a host for all its tabs
      source = null;
    }
  };
  document.addEventListener("visibilitychange", follow);
  connect();
  // Time goes on for what is at work, also when nothing is committed.
  const seconds = Math.min(...all("[data-live-seconds]").map((one) => Number(one.dataset.liveSeconds)));
  if (Number.isFinite(seconds)) {
    setInterval(() => {
      if (document.visibilityState === "visible" && document.querySelector("[data-live-seconds]")) refresh();
    }, seconds * 1000);
  }
};

// -- keyboard ----------------------------------------------------------------------------------------------

const startKeyboard = () => {
  const dialog = /** @type {HTMLDialogElement | null} */ (byId("shortcuts"));
  const button = byId("shortcuts-button");
  if (!dialog || !button) return;
  button.hidden = false;
  button.addEventListener("click", () => dialog.showModal());
  let goes = 0;
  /** @param {number} step */
  const toRow = (step) => {
    const rows = all(".row-link");
    const at = rows.indexOf(/** @type {HTMLElement} */ (document.activeElement));
    rows[Math.max(0, Math.min(rows.length - 1, at + step))]?.focus();
  };
  document.addEventListener("keydown", (event) => {
    const target = /** @type {HTMLElement} */ (event.target);
    if (event.ctrlKey || event.metaKey || event.altKey || dialog.open) return;
    if (target.matches("input, select, textarea")) {
      return;
    }
    const key = event.key;
    if (Date.now() - goes < 1500) {
      goes = 0;
      const link = /** @type {HTMLAnchorElement | undefined} */ (
        all("#menu a[data-key]").find((one) => one.dataset.key === key)
      );
      if (link) location.href = link.href;
      return;
    }
    if (key === "g") goes = Date.now();
    else if (key === "?") dialog.showModal();
    else if (key === "j") toRow(1);
    else if (key === "k") toRow(-1);
    else if (key === "/") {
      const field = document.querySelector("#filters input, #filters select");
      if (field instanceof HTMLElement) {
        event.preventDefault();
        field.focus();
      }
    }
  });
};

// -- saved views: of this browser alone --------------------------------------------------------------------

const VIEWS = "holdfast-views";
const MAX_VIEWS = 30;

/** @returns {{name: string, query: string}[]} */
const readViews = () => {
  try {
    const stored = JSON.parse(localStorage.getItem(VIEWS) ?? "[]");
    return Array.isArray(stored) ? stored : [];
  } catch {
    return [];
  }
};

const startViews = () => {
  const views = byId("views");
  const list = byId("views-list");
  const form = byId("views-form");
  const name = /** @type {HTMLInputElement | null} */ (byId("views-name"));
  if (!views || !list || !form || !name) return;
  /** @param {{name: string, query: string}[]} stored */
  const store = (stored) => {
    localStorage.setItem(VIEWS, JSON.stringify(stored.slice(-MAX_VIEWS)));
    show();
  };
  const show = () => {
    list.replaceChildren(
      ...readViews().map((view) => {
        const item = document.createElement("li");
        const link = document.createElement("a");
        link.href = `${location.pathname}?${view.query}`;
        link.textContent = view.name;
        const remove = document.createElement("button");
        remove.type = "button";
        remove.textContent = "×";
        remove.setAttribute("aria-label", `Forget view ${view.name}`);
        remove.addEventListener("click", () => store(readViews().filter((one) => one.name !== view.name)));
        item.append(link, remove);
        return item;
      }),
    );
  };
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const wanted = name.value.trim();
    if (!wanted) return;
    const kept = readViews().filter((one) => one.name !== wanted);
    const query = new URLSearchParams(location.search);
    query.delete("after");
    store([...kept, { name: wanted, query: query.toString() }]);
    name.value = "";
  });
  views.hidden = false;
  show();
};

// -- the slider of a history -------------------------------------------------------------------------------

const startTravel = () => {
  const form = /** @type {HTMLFormElement | null} */ (byId("travel"));
  const slider = /** @type {HTMLInputElement | null} */ (byId("at"));
  const shown = byId("at-shown");
  if (!form || !slider || !shown) return;
  let wanted = slider.value;
  let busy = false;
  const look = async () => {
    if (busy) return;
    busy = true;
    try {
      while (wanted !== form.dataset.at) {
        const at = wanted;
        const fresh = await fetchPage(`${location.pathname}?at=${at}`);
        if (!fresh) break;
        form.dataset.at = at;
        replaceParts(fresh, "[data-part]");
        history.replaceState(null, "", `?at=${at}`);
        for (const rel of ["prev", "next"]) {
          const link = form.querySelector(`[rel=${rel}]`);
          link?.setAttribute("href", fresh.querySelector(`#travel [rel=${rel}]`)?.getAttribute("href") ?? "");
        }
      }
    } catch {
      // Moving the slider again asks again.
    } finally {
      busy = false;
    }
  };
  slider.addEventListener("input", () => {
    wanted = slider.value;
    shown.textContent = `${wanted} of ${slider.max}`;
    look();
  });
};

startLive();
startKeyboard();
startViews();
startTravel();
