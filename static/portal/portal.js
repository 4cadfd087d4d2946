// Small manners of every page: the theme, questions before a step that cannot be undone, notices that go away, and a
// live part that says so when it lost the server. Every page works without this file, only less comfortably.

const root = document.documentElement;

function useTheme(theme) {
  root.dataset.theme = theme;
  // A cookie and no localStorage, so that the server writes the theme into the page and nothing flashes.
  document.cookie = `theme=${theme};path=/;max-age=31536000;samesite=lax`;
  for (const button of document.querySelectorAll("[data-set-theme]")) {
    button.setAttribute("aria-pressed", String(button.dataset.setTheme === theme));
  }
  document.dispatchEvent(new CustomEvent("portal:theme"));
}

function ask(form, submitter) {
  const dialog = document.querySelector("#confirm");
  const yes = dialog.querySelector("[value=yes]");
  dialog.querySelector("p").textContent = form.dataset.confirm;
  yes.textContent = submitter.textContent.trim();
  yes.classList.toggle("danger", submitter.classList.contains("danger"));
  yes.classList.toggle("filled", submitter.classList.contains("danger"));
  yes.classList.toggle("primary", !submitter.classList.contains("danger"));
  dialog.returnValue = "no";
  dialog.onclose = () => {
    if (dialog.returnValue !== "yes") return;
    form.dataset.confirmed = "";
    form.requestSubmit(submitter);
  };
  dialog.showModal();
}

function dismiss(toast) {
  toast.classList.add("leaving");
  setTimeout(() => toast.remove(), 250);
}

document.addEventListener("click", (event) => {
  const target = event.target.closest("[data-set-theme], [data-dismiss]");
  if (!target) return;
  if (target.dataset.setTheme) useTheme(target.dataset.setTheme);
  else dismiss(target.closest("li"));
});

document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.dataset.confirm && !("confirmed" in form.dataset)) {
    event.preventDefault();
    ask(form, event.submitter);
  } else if (form.method === "post") {
    // A second press must not launch or upload a second time. Later, so that the button's own value still goes out.
    setTimeout(() => event.submitter?.setAttribute("aria-busy", "true"));
  }
});

// Back from the browser's cache: buttons that were busy when the page was left are free again.
window.addEventListener("pageshow", () => {
  for (const button of document.querySelectorAll("[aria-busy=true]")) button.removeAttribute("aria-busy");
  for (const form of document.querySelectorAll("[data-confirmed]")) delete form.dataset.confirmed;
});

for (const toast of document.querySelectorAll(".toasts [data-fades]")) {
  let timer;
  const start = () => { timer = setTimeout(dismiss, 6000, toast); };
  const stop = () => clearTimeout(timer);
  for (const [name, act] of [["mouseenter", stop], ["focusin", stop], ["mouseleave", start], ["focusout", start]]) {
    toast.addEventListener(name, act);
  }
  start();
}

// Parts outside the polled one (status, buttons) are swapped only when they changed: a button that is replaced every
// second loses the press and the focus.
document.addEventListener("htmx:oobBeforeSwap", (event) => {
  const { target, fragment } = event.detail;
  const incoming = fragment.querySelector?.(`#${target.id}`) ?? fragment.firstElementChild;
  if (incoming?.dataset.state === target.dataset.state) event.detail.shouldSwap = false;
});

function setTouch(lost) {
  for (const notice of document.querySelectorAll("[data-lost-touch]")) notice.hidden = !lost;
}
document.addEventListener("htmx:sendError", () => setTouch(true));
document.addEventListener("htmx:responseError", () => setTouch(true));
document.addEventListener("htmx:afterRequest", (event) => { if (event.detail.successful) setTouch(false); });

// Places for further texts of a mail: those without words are hidden until one is asked for.
function words(place) {
  return [...place.querySelectorAll("input:not([type=number]), textarea")];
}

function foldVariants(part) {
  const places = [...part.querySelectorAll("[data-variant]")];
  for (const place of places) {
    place.hidden = !("used" in place.dataset) && words(place).every((field) => !field.value.trim());
    place.querySelector("[data-clear-variant]").hidden = false;
  }
  part.querySelector("[data-add-variant]").hidden = places.every((place) => !place.hidden);
}

document.addEventListener("click", (event) => {
  const target = event.target.closest("[data-add-variant], [data-clear-variant]");
  if (!target) return;
  const part = target.closest("[data-variants]");
  if ("addVariant" in target.dataset) {
    const place = part.querySelector("[data-variant][hidden]");
    place.dataset.used = "";
    foldVariants(part);
    words(place)[0].focus();
  } else {
    const place = target.closest("[data-variant]");
    for (const field of words(place)) field.value = "";
    delete place.dataset.used;
    foldVariants(part);
  }
});

for (const part of document.querySelectorAll("[data-variants]")) foldVariants(part);

// Rows of a form that are added and taken out. A row that was taken out is still sent, with the mark that it is.
const rows = document.querySelector("[data-rows]");

function renumber() {
  const shown = [...rows.querySelectorAll("[data-step]")].filter((row) => !row.hidden);
  shown.forEach((row, index) => {
    row.querySelector("[data-number]").textContent = String(index + Number(rows.dataset.first));
  });
}

if (rows) {
  const form = rows.closest("form");
  const total = form.querySelector("[name$=TOTAL_FORMS]");
  const template = form.querySelector("template[data-row]");
  for (const button of form.querySelectorAll("[data-add-row], [data-remove-row]")) button.hidden = false;
  form.querySelector("[data-add-row]").addEventListener("click", () => {
    const made = document.createElement("div");
    made.innerHTML = template.innerHTML.replaceAll("__prefix__", total.value);
    const row = made.querySelector("[data-step]");
    row.querySelector("[data-remove-row]").hidden = false;
    total.value = String(Number(total.value) + 1);
    rows.append(row);
    foldVariants(row.querySelector("[data-variants]"));
    renumber();
    row.querySelector("input:not([type=hidden])").focus();
  });
  rows.addEventListener("click", (event) => {
    const row = event.target.closest("[data-remove-row]")?.closest("[data-step]");
    if (!row) return;
    row.querySelector("[name$=DELETE]").value = "on";
    row.hidden = true;
    renumber();
  });
}
