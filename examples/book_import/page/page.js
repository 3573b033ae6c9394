// The form: starts an import and shows what is told of it.
import {followImport, startImport} from "./book_import.js";

const form = document.getElementById("import");
const list = document.getElementById("progress");
const note = document.getElementById("note");

function show(frame) {
  const line = document.createElement("li");
  line.dataset.status = frame.status;
  line.dataset.number = frame.number;
  const told = frame.data.title ?? frame.data.coverKey ?? frame.data.error ?? frame.data.isbn ?? "";
  line.textContent = told ? `${frame.status}: ${told}` : frame.status;
  list.append(line);
  note.textContent = "";
}

async function follow(jobId) {
  list.replaceChildren();
  location.hash = jobId;
  const ended = await followImport(jobId, {
    onProgress: show,
    onLost: () => { note.textContent = "The connection is lost; trying again."; },
  });
  note.textContent = ended.status === "completed" ? "Done." : "The import failed.";
}

form.addEventListener("submit", async event => {
  event.preventDefault();
  note.textContent = "";
  try {
    const order = {isbn: form.isbn.value, source: form.source.value};
    await follow((await startImport(order)).jobId);
  } catch (error) {
    note.textContent = error.message;
  }
});

if (location.hash.length > 1) {
  follow(location.hash.slice(1)).catch(error => { note.textContent = error.message; });
}
