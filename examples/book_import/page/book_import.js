// The client of the book import: start one, and follow it over lost connections.
//
//   const job = await startImport({isbn: "9780441013593", source: "google_books"});
//   const ended = await followImport(job.jobId, {onProgress: frame => show(frame.status)});
//
// followImport resolves with the last frame (completed or failed).  It remembers the number of the last frame, so
// after a lost connection it gets each of the others once.

const ENDS = new Set(["completed", "failed"]);
const FIRST_WAIT_MS = 200;
const MOST_WAIT_MS = 5000;

export class ImportRefused extends Error {
  constructor(status, error) {
    super(error.message);
    this.status = status;
    this.code = error.code;
  }
}

async function ask(url, options) {
  const response = await fetch(url, options);
  const answer = await response.json();
  if (!answer.success) throw new ImportRefused(response.status, answer.error);
  return answer.data;
}

export function startImport(order, {base = location.origin} = {}) {
  return ask(new URL("/v2/import/workflow", base), {
    method: "POST",
    headers: {"Content-Type": "application/json"},
    body: JSON.stringify(order),
  });
}

export function importStatus(jobId, {base = location.origin} = {}) {
  return ask(new URL(`/v2/import/status/${encodeURIComponent(jobId)}`, base));
}

export function followImport(jobId, options = {}) {
  const {base = location.origin, onProgress = () => {}, onLost = () => {}, since = 0, signal} = options;
  return new Promise((resolve, reject) => {
    let last = since;
    let waitMs = FIRST_WAIT_MS;
    let socket = null;
    let timer = null;
    const end = (settle, value) => {
      clearTimeout(timer);
      if (socket !== null) { socket.onclose = null; socket.close(); }
      settle(value);
    };
    const connect = () => {
      const url = new URL("/ws/progress", base);
      url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
      url.search = new URLSearchParams({jobId, since: last});
      socket = new WebSocket(url);
      socket.onmessage = ({data}) => {
        const frame = JSON.parse(data);
        waitMs = FIRST_WAIT_MS;
        if (frame.number <= last) return;
        last = frame.number;
        onProgress(frame);
        if (ENDS.has(frame.status)) end(resolve, frame);
      };
      socket.onclose = async () => {
        onLost();
        // A browser doesn't say why a connection was refused; the status does.
        const gone = await importStatus(jobId, {base}).then(() => null, error => error);
        if (signal?.aborted) return;
        if (gone instanceof ImportRefused && gone.status === 404) return end(reject, gone);
        timer = setTimeout(connect, waitMs);
        waitMs = Math.min(2 * waitMs, MOST_WAIT_MS);
      };
    };
    signal?.addEventListener("abort", () => end(reject, signal.reason), {once: true});
    connect();
  });
}
