// <holdfast-runs src="https://host/_holdfast" token="..." workflow="Order" status="failed stuck" limit="10">
//
// The newest runs of a service, in a page of anybody's: one file that needs nothing else.  The page's origin must
// be one of the service's `origins`.  The token goes along as a header and never stands in an address; give a
// viewer's, and of a tenant where there are several.  It asks again every `every` seconds (5) while it is seen.
//
// A click on a run is the event "holdfast-run", whose detail is the run.
// @ts-check

const STYLE = `
:host { display: block; font: 14px/1.5 system-ui, sans-serif; font-variant-numeric: tabular-nums; color: #15201f; }
table { border-collapse: collapse; width: 100%; }
caption { text-align: left; color: #52605f; font-size: 12.5px; padding-bottom: 4px; }
th { text-align: left; font-weight: 500; font-size: 12px; color: #52605f; }
th, td { padding: 6px 12px 6px 0; border-bottom: 1px solid #dae1e2; vertical-align: top; overflow-wrap: anywhere; }
button { all: unset; cursor: pointer; color: #0b6476; }
button:focus-visible { outline: 2px solid currentcolor; outline-offset: 2px; }
.status { white-space: nowrap; font-weight: 600; color: #4a5866; }
.running { color: #1b57b5; } .complete { color: #23693a; } .retrying { color: #855000; }
.stuck { color: #76379f; } .failed { color: #b0251d; }
p { margin: 0; color: #b0251d; }
@media (prefers-color-scheme: dark) {
  :host { color: #e4ebeb; } th, caption { color: #9badad; } th, td { border-color: #283335; } button { color: #62c6d6; }
  .status { color: #b4c1cc; } .running { color: #93bbff; } .complete { color: #86d59c; } .retrying { color: #f1c06c; }
  .stuck { color: #d5a8f6; } .failed, p { color: #ff9f96; }
}`;
const EVERY_SECONDS = 5;
const MAX_ROWS = 100;

/** @typedef {{workflow: string, id: string, status: string, state: string | null, created_at: string}} Run */

class HoldfastRuns extends HTMLElement {
  static observedAttributes = ["src", "token", "workflow", "status", "limit", "every"];

  constructor() {
    super();
    /** @type {number | undefined} */
    this.timer = undefined;
    /** @type {AbortController | undefined} */
    this.asking = undefined;
    const style = new CSSStyleSheet();
    style.replaceSync(STYLE);
    this.shown = this.attachShadow({ mode: "open" });
    this.shown.adoptedStyleSheets = [style];
    this.follow = () => this.look();
  }

  connectedCallback() {
    document.addEventListener("visibilitychange", this.follow);
    this.look();
  }

  disconnectedCallback() {
    document.removeEventListener("visibilitychange", this.follow);
    this.stop();
  }

  attributeChangedCallback() {
    if (this.isConnected) this.look();
  }

  stop() {
    clearTimeout(this.timer);
    this.asking?.abort();
    this.asking = undefined;
  }

  /** Ask now, and again after a while. */
  async look() {
    this.stop();
    const src = this.getAttribute("src");
    if (!src || document.visibilityState !== "visible") return;
    const asking = (this.asking = new AbortController());
    try {
      const runs = await this.ask(src, asking.signal);
      if (this.asking === asking) this.show(runs);
    } catch (error) {
      if (this.asking !== asking) return;
      const text = document.createElement("p");
      text.setAttribute("role", "alert");
      text.textContent = error instanceof TypeError ? "The service can't be reached." : `${error instanceof Error ? error.message : error}`;
      this.shown.replaceChildren(text);
    }
    const seconds = Math.max(1, Number(this.getAttribute("every")) || EVERY_SECONDS);
    if (this.asking === asking) this.timer = setTimeout(() => this.look(), seconds * 1000);
  }

  /** @param {string} src @param {AbortSignal} signal @returns {Promise<Run[]>} */
  async ask(src, signal) {
    const address = new URL(`${src.replace(/\/+$/, "")}/runs`, document.baseURI);
    const limit = Math.min(MAX_ROWS, Math.max(1, Number(this.getAttribute("limit")) || 10));
    address.searchParams.set("limit", String(limit));
    address.searchParams.set("newest", "1");
    const workflow = this.getAttribute("workflow");
    if (workflow) address.searchParams.set("workflow", workflow);
    for (const status of (this.getAttribute("status") ?? "").split(/\s+/).filter(Boolean)) address.searchParams.append("status", status);
    const response = await fetch(address, {
      headers: { Authorization: `Bearer ${this.getAttribute("token") ?? ""}` },
      credentials: "omit",
      signal,
    });
    const told = await response.json();
    if (!response.ok) throw new Error(told.detail ?? response.statusText);
    return told.runs;
  }

  /** @param {Run[]} runs */
  show(runs) {
    const table = document.createElement("table");
    const caption = table.createCaption();
    caption.textContent = runs.length ? (this.getAttribute("caption") ?? "Newest runs") : "No runs";
    if (runs.length) {
      const head = table.createTHead().insertRow();
      for (const name of ["Status", "Run", "State", "Created"]) {
        const cell = document.createElement("th");
        cell.scope = "col";
        cell.textContent = name;
        head.append(cell);
      }
      const body = table.createTBody();
      for (const run of runs) {
        const row = body.insertRow();
        const status = document.createElement("span");
        status.className = `status ${run.status}`;
        status.textContent = run.status;
        row.insertCell().append(status);
        const name = document.createElement("button");
        name.type = "button";
        name.textContent = `${run.workflow} ${run.id}`;
        name.addEventListener("click", () =>
          this.dispatchEvent(new CustomEvent("holdfast-run", { detail: run, bubbles: true, composed: true })),
        );
        row.insertCell().append(name);
        row.insertCell().textContent = run.state ?? "";
        const at = document.createElement("time");
        at.dateTime = run.created_at;
        at.textContent = new Date(run.created_at).toLocaleString();
        row.insertCell().append(at);
      }
    }
    const at = /** @type {HTMLElement | null} */ (this.shown.activeElement)?.textContent;
    this.shown.replaceChildren(table);
    if (at) Array.from(this.shown.querySelectorAll("button")).find((one) => one.textContent === at)?.focus();
  }
}

customElements.define("holdfast-runs", HoldfastRuns);
